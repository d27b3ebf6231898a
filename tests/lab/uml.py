"""Runs the lab inside Debian's user-mode Linux: a kernel with IPVS, ipvlan and dummy, where this machine's may have none.

::

    results = boot([Case("ipvs", "lab.uml_cases:ipvs"), Case("l3s", "lab.uml_cases:ipvlan", {"mode": "l3s"})], folder)
    results["ipvs"].value, folder / "ipvs"

That kernel is an ordinary process of ours (``linux.uml``) and boots in two seconds. Its root is this machine's own file
system, read-only, so the same Python runs the same library there; only the folder given can be written to. One boot runs
all the cases, one after the other. A case is a function that takes a folder of its own and its arguments, and returns
what JSON can hold.

The kernel has legacy iptables only: it is built without nftables' ip family, and so without the lab's observer
(:meth:`lab.cluster.Cluster.probe`). Connections and snapshots work as everywhere.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .agent import PR_SET_PDEATHSIG, LabError, close_all

KERNEL = "linux.uml"
MODULES = Path("/usr/lib/uml/modules")
MEMORY_MB = 768
PATIENCE = 150.0
"""Seconds after which the watchdog ends a boot. All of this repository's cases together take about a quarter of that."""

# Everything that is mounted inside lies below /dev, which is a devtmpfs there: nothing of the machine's is hidden by it,
# so the repository may lie anywhere, in /tmp and /run too.
INSIDE = "/dev/netk8s"
SHARED_MEMORY = "/dev/shm"  # noqa: S108 the kernel's own choice for its memory; the file has no name
_POWER_OFF = 0x4321FEDC
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Case:
    """One thing to run inside. ``function`` is ``module:name``; it is called with its folder and the arguments."""

    name: str
    function: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a case: what it returned, or the traceback it ended with."""

    value: Any = None
    error: str = ""
    seconds: float = 0.0


def available() -> str:
    """ "" when the lab can be booted here, else why not."""
    if os.geteuid() != 0:
        return "needs root: hostfs shows files with their owners' rights, and what runs inside is root"
    absent = [tool for tool in (KERNEL, "modprobe", "iptables-legacy", "ipset", "ipvsadm") if not shutil.which(tool)]
    if absent:
        return f"not installed: {', '.join(absent)} (Debian: user-mode-linux kmod iptables ipset ipvsadm)"
    if not (MODULES / _release()).is_dir():
        return f"{KERNEL} is {_release()}, and its modules are not in {MODULES}"
    return ""


def boot(cases: Iterable[Case], folder: Path, patience: float = PATIENCE, memory: int = MEMORY_MB) -> dict[str, Result]:
    """Runs cases inside one boot with ``memory`` MB. Each finds ``folder/<its name>`` made; LabError when the kernel did
    not get through.

    Nothing is left but the folder, which keeps ``console.txt`` and what the cases wrote.
    """
    cases = tuple(cases)
    folder = folder.resolve()
    results = folder / "results"
    results.mkdir(parents=True, exist_ok=True)
    for case in cases:
        (folder / case.name).mkdir(exist_ok=True)
    (folder / "cases.json").write_text(json.dumps([asdict(case) for case in cases]))
    _link_modules(folder)
    started = time.monotonic()
    # The kernel's own small folder (its pid, its control socket; ~/.uml else). A socket's path has to be short.
    with tempfile.TemporaryDirectory(prefix="nk-uml-") as own, (folder / "console.txt").open("wb") as console:
        init = Path(own) / "init"
        init.write_text(_init(folder))
        init.chmod(0o755)
        argv = [
            KERNEL,
            "rootfstype=hostfs",
            "rootflags=/",
            "ro",
            f"init={init}",
            f"mem={memory}M",
            "con=null",
            "con0=null,fd:1",
            f"uml_dir={own}/",
            "umid=uml",
            # A panic would else sit there until the watchdog comes.
            "panic=-1",
        ]
        ended = _run(argv, {**os.environ, **_temporary(own, memory)}, console, patience)
    told = _results(results, cases)
    if len(told) < len(cases):
        lines = (folder / "console.txt").read_text(errors="replace").splitlines()
        lost = ", ".join(case.name for case in cases if case.name not in told)
        raise LabError(
            f"{KERNEL} {ended} after {time.monotonic() - started:.0f} s without an answer from {lost}; "
            "the end of its console:\n" + "\n".join(lines[-40:])
        )
    return told


def _results(folder: Path, cases: Iterable[Case]) -> dict[str, Result]:
    told = {}
    for case in cases:
        # A file whose writing was cut off is one that is not there.
        with contextlib.suppress(OSError, ValueError):
            told[case.name] = Result(**json.loads((folder / f"{case.name}.json").read_text()))
    return told


def _release() -> str:
    done = subprocess.run([KERNEL, "--version"], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _link_modules(folder: Path) -> None:
    """A folder as modprobe wants it. The package brings the index files; depmod only where one comes without."""
    release = _release()
    where = folder / "modules" / "lib" / "modules"
    where.mkdir(parents=True, exist_ok=True)
    link = where / release
    if link.exists():
        return
    if (MODULES / release / "modules.dep.bin").exists():
        link.symlink_to(MODULES / release)
        return
    link.mkdir()
    (link / "kernel").symlink_to(MODULES / release / "kernel")
    subprocess.run(["depmod", "-b", str(folder / "modules"), release], check=True, capture_output=True)


def _temporary(own: str, memory: int) -> dict[str, str]:
    """Where the kernel keeps its memory, a file that has no name. /dev/shm, unless it is too small (as in containers):
    then the first page beyond it would end the kernel with SIGBUS."""
    try:
        room = os.statvfs(SHARED_MEMORY)
    except OSError:
        return {"TMPDIR": own}
    enough = room.f_bavail * room.f_frsize > memory << 20
    return {"TMPDIR": SHARED_MEMORY if enough else own}


def _init(folder: Path) -> str:
    """The script that is the first process inside."""
    here = Path(__file__).resolve().parents[1]
    inside = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "PYTHONPATH": f"{here}:{here.parent / 'src'}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOME": INSIDE,
        "TMPDIR": f"{INSIDE}/scratch",
        "LC_ALL": "C.UTF-8",
    }
    exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in inside.items())
    return f"""#!/bin/sh
{exports}
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mkdir {INSIDE}
mount -t tmpfs tmpfs {INSIDE}
mkdir {INSIDE}/scratch {INSIDE}/work
mount -t hostfs -o {shlex.quote(str(folder))} hostfs {INSIDE}/work
# The kernel and iptables ask this program for modules; the usual one would look in /lib/modules.
printf '#!/bin/sh\\nexec /sbin/modprobe -d {INSIDE}/work/modules "$@"\\n' >{INSIDE}/modprobe
chmod +x {INSIDE}/modprobe
echo {INSIDE}/modprobe >/proc/sys/kernel/modprobe
# Asked for by nobody, because all that is looked at of them is settings below /proc/sys. The rest comes by itself.
{INSIDE}/modprobe -a ipv6 br_netfilter nf_conntrack
ip link set lo up
exec {shlex.quote(sys.executable)} -m lab.uml {INSIDE}/work
"""


def _run(argv: list[str], environment: Mapping[str, str], console: Any, patience: float) -> str:
    """Runs the kernel until it ends or the watchdog ends it; says how it ended."""

    def first_in_child() -> None:
        # It has one processor and takes turns with the processes it traces; on two of ours each turn costs a wake-up.
        allowed = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {allowed[os.getpid() % len(allowed)]})
        # SIGTERM, which the kernel heeds, and ends its own helper processes; SIGKILL would leave them behind.
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)

    process = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=console,
        stderr=subprocess.STDOUT,
        env=dict(environment),
        start_new_session=True,
        preexec_fn=first_in_child,
    )
    try:
        status = process.wait(patience)
    except subprocess.TimeoutExpired:
        return f"was ended by the watchdog ({patience:.0f} s)"
    finally:
        _end(process)
    return f"ended with status {status}"


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends the kernel and the processes it traces. They are its session, which is nobody else's."""
    for sent, wait in ((signal.SIGTERM, 2.0), (signal.SIGKILL, 5.0)):
        if process.poll() is not None:
            break
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, sent)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(wait)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


# ------------------------------------------------------------ inside


def _inside(work: Path) -> None:
    for given in json.loads((work / "cases.json").read_text()):
        case = Case(**given)
        started = time.monotonic()
        try:
            module, _, name = case.function.partition(":")
            function = getattr(importlib.import_module(module), name)
            result = Result(function(work / case.name, **case.arguments))
        except Exception:
            result = Result(error=traceback.format_exc())
        finally:
            close_all()
        seconds = round(time.monotonic() - started, 2)
        done = {"value": result.value, "error": result.error, "seconds": seconds}
        # Each at once: should a later case bring the kernel down, the earlier answers are there.
        (work / "results" / f"{case.name}.json").write_text(json.dumps(done))
        print(f"case {case.name}: {'failed' if result.error else 'done'} in {seconds} s", flush=True)


def main() -> None:
    """The first process inside; there is no one to return to."""
    try:
        _inside(Path(sys.argv[1]))
    except BaseException:
        traceback.print_exc()
    finally:
        os.sync()
        _libc.reboot(_POWER_OFF)


if __name__ == "__main__":
    # The last thing it does is to switch its machine off, so that has to be the right one.
    if os.getpid() != 1 or "rootfstype=hostfs" not in Path("/proc/cmdline").read_text():
        sys.exit("lab.uml runs inside the kernel that lab.uml.boot() starts")
    main()
