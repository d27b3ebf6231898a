"""Recorded nodes and dumps, damaged in every way a copy, an editor or a disk can, through the whole program.

Whatever comes in, an answer or an error of netk8s comes out: never another exception, never an endless walk.
By hand, from the project's folder: ``.venv/bin/python tests/fuzz/mutate.py --count 10000``.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import random
import signal
import sys
import tarfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from netk8s import decode, dialects, findings, render, snapshot
from netk8s.errors import Netk8sError
from netk8s.model import Ask, Report, Snapshot, Trace, World
from netk8s.trace import trace

SECONDS = 60
"""A question that takes longer than this walks in circles."""
LARGEST = 400_000
"""Larger dumps are the same rules again; they would only make the round slow."""
NAMES = frozenset({"case.json", "observed.jsonl", "README.md", "iptables-save-counters.txt", "nft-ruleset.txt"})

LONG = "9" * 5000
TOKENS = [
    "!", '"', "'", "\\", "-", "--", "-j", "-g", "-m", "-A", "-c", ":", "*nat", "*filter", "COMMIT", "#", "[0:0]", "[", "{", "null", "true",
    "0", "-1", "1", "65535", "65536", "4294967296", "9" * 30, LONG, "0x" + "f" * 40, "1e999999999", "NaN", "0.5", "1/0",
    "0.0.0.0/0", "255.255.255.255", "127.0.0.1", "10.0.0.0/33", "fd00::1", "[fd00::1]:80", "::/0", "::ffff:1.2.3.4", "fe80::1%eth0",
    "ACCEPT", "DROP", "RETURN", "REJECT", "DNAT", "SNAT", "MASQUERADE", "REDIRECT", "MARK", "CONNMARK", "NETMAP", "LOG", "NFQUEUE",
    "KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-POSTROUTING", "KUBE-MARK-MASQ", "PREROUTING", "POSTROUTING", "OUTPUT", "FORWARD", "INPUT",
    "--weird", "--to-destination", "--probability", "--mark", "--dport", "--ctstate", "lo", "eth0", "cni0", "+", "src,dst", "NEW", "é", "\u2028",
]  # fmt: skip
RULES = [
    "-A {chain} -j {other}",
    "-A {chain} -g {other}",
    "-A {chain} -j {chain}",
    "-A {chain} -m statistic --mode random --probability 0.5 -j {other}",
    "-A {chain} -m geoip --source-country DE -j {other}",
    "-A {chain} -m recent --name x --rcheck --seconds 9 -j {other}",
    "-A {chain} -m set --match-set gone src,dst -j {other}",
    "-A {chain} -p tcp -m tcp ! --dport 1:65535 -j REDIRECT --to-ports 9",
    "-A {chain} -j DNAT --to-destination 10.0.0.1-10.0.0.9:1-9",
    "-A {chain} -j SNAT --to-source fd00::1",
    "-A {chain} -j NETMAP --to 10.0.0.0/8",
    "-A {chain} -j NFQUEUE --queue-num 1",
    "-A {chain} -j TPROXY --on-port 1 --tproxy-mark 0x1/0x1",
    "-A {chain} -j CONNMARK --restore-mark --mask 0xffffffff",
    "-A {chain} -m mark --weird",
    "-A {chain} -m physdev --weird -m policy --pol none -m owner --uid-owner 0",
    "-A {chain} -s 0.0.0.0/0,10.0.0.0/8 -d 1.1.1.1,2.2.2.2",
]
"""Rules that a ruleset of Kubernetes has not: circles, dice, doubts, other targets."""


@dataclass(frozen=True)
class Case:
    """The dumps of one recorded cluster, by path within it, and questions that its objects allow."""

    name: str
    files: dict[str, bytes]
    asks: tuple[Ask, ...]


@dataclass(frozen=True)
class Defect:
    """A question that ended in something else than an answer or an error of netk8s."""

    seed: int
    what: str
    where: str
    told: str


class Endless(BaseException):
    """Raised by the alarm; no Exception, so that nothing on the way takes it for an error of its own."""


# ---------------------------------------------------------------- what there is


def cases(corpus: Path) -> list[Case]:
    """Every recorded cluster of the corpus."""
    return [found for path in sorted(corpus.iterdir()) if (path / "nodes").is_dir() and (found := _case(path))]


def _case(path: Path) -> Case | None:
    files: dict[str, bytes] = {}
    for file in sorted(path.glob("*/**/*")):
        name = str(file.relative_to(path))
        if (
            file.is_file()
            and name.startswith(("nodes/", "cluster/"))
            and file.name not in NAMES
            and file.stat().st_size <= LARGEST
        ):
            files[name] = file.read_bytes()
    if not any("tables-save" in name for name in files):
        return None
    world = decode.decode(_snapshot(files))
    return Case(path.name, files, tuple(_asks(world)))


def _asks(world: World) -> Iterator[Ask]:
    nodes = list(world.nodes)
    pods = [f"pod/{p.namespace}/{p.name}" for p in world.cluster.pods if p.node in world.nodes]
    for i, service in enumerate(world.cluster.services):
        name = f"svc/{service.namespace}/{service.service}"
        via = nodes[i % len(nodes)]
        if service.node_port:
            yield Ask(name, str(service.node_port), source="client", via=via)
            yield Ask(name, str(service.node_port), source=f"node/{via}")
        if service.cluster_ips:
            yield Ask(name, str(service.port), source=pods[i % len(pods)] if pods else f"node/{via}")
            ip = service.cluster_ips[-1]
            yield Ask(f"[{ip}]:{service.port}" if ip.version == 6 else f"{ip}:{service.port}", source=f"node/{via}")
        for ip in (*service.lb_ips, *service.external_ips):
            yield Ask(f"[{ip}]:{service.port}" if ip.version == 6 else f"{ip}:{service.port}", via=via)
    for pod in world.cluster.pods[:4]:
        yield Ask(f"pod/{pod.namespace}/{pod.name}", "8080", source=f"node/{nodes[0]}")
    yield Ask("192.0.2.1:443", source=f"node/{nodes[-1]}")
    yield Ask("127.0.0.1:30000", source="127.0.0.1", node=nodes[0])


def _snapshot(files: dict[str, bytes]) -> Snapshot:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    packed.seek(0)
    return snapshot.read(["-"], stdin=packed)


# ---------------------------------------------------------------- damage


def mutate(data: bytes, rng: random.Random) -> bytes:
    """A dump with one to five damages."""
    for _ in range(rng.choice((1, 1, 2, 3, 5))):
        data = rng.choice(_DAMAGES)(data, rng)
    return data


def _flip(data: bytes, rng: random.Random) -> bytes:
    raw = bytearray(data)
    for _ in range(rng.choice((1, 2, 20))):
        if raw:
            raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
    return bytes(raw)


def _cut(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] if rng.random() < 0.7 else data[at:]


def _lines(data: bytes, rng: random.Random) -> bytes:
    lines = data.split(b"\n")
    i, j = rng.randrange(len(lines)), rng.randrange(len(lines))
    action = rng.randrange(5)
    if action == 0:
        del lines[i : i + rng.choice((1, 1, 5))]
    elif action == 1:
        lines.insert(i, lines[j])
    elif action == 2:
        lines[i], lines[j] = lines[j], lines[i]
    elif action == 3:
        lines[i] = lines[i][: rng.randrange(len(lines[i]) + 1)]
    else:
        lines[i : i + 2] = [b" ".join(lines[i : i + 2])]
    return b"\n".join(lines)


def _token(data: bytes, rng: random.Random) -> bytes:
    lines = data.split(b"\n")
    i = rng.randrange(len(lines))
    words = lines[i].split(b" ")
    k = rng.randrange(len(words))
    if rng.random() < 0.3:
        other = lines[rng.randrange(len(lines))].split(b" ")
        words[k] = other[rng.randrange(len(other))]
    elif rng.random() < 0.5:
        words[k] = rng.choice(TOKENS).encode()
    elif rng.random() < 0.5:
        words.insert(k, rng.choice(TOKENS).encode())
    else:
        del words[k]
    lines[i] = b" ".join(words)
    return b"\n".join(lines)


def _number(data: bytes, rng: random.Random) -> bytes:
    """A number somewhere becomes another one."""
    spots = [i for i in range(0, len(data), max(1, len(data) // 997)) if data[i : i + 1].isdigit()]
    if not spots:
        return data
    start = end = rng.choice(spots)
    while start > 0 and data[start - 1 : start].isdigit():
        start -= 1
    while data[end : end + 1].isdigit():
        end += 1
    number = rng.choice(
        (b"0", b"-1", b"255", b"256", b"65536", b"4294967296", b"9" * 25, LONG.encode(), b"1e9", b"0x10", b"007")
    )
    return data[:start] + number + data[end:]


def _rule(data: bytes, rng: random.Random) -> bytes:
    """A rule that makes a circle, or is of a kind the recordings have not."""
    lines = data.split(b"\n")
    spots = [i for i, line in enumerate(lines) if line.startswith(b"-A ")]
    if not spots:
        return data
    i = rng.choice(spots)
    chain = lines[i].split(b" ")[1].decode("utf-8", "replace")
    other = lines[rng.choice(spots)].split(b" ")[1].decode("utf-8", "replace")
    lines.insert(i, rng.choice(RULES).format(chain=chain, other=other).encode())
    return b"\n".join(lines)


_DAMAGES = (_flip, _cut, _lines, _lines, _token, _token, _token, _number, _number, _rule, _rule, _rule)


def damaged(case: Case, rng: random.Random) -> dict[str, bytes]:
    """The files of a case, some of them damaged, some gone, mostly the rules."""
    files = dict(case.files)
    names = list(files)
    rules = [n for n in names if "tables-save" in n]
    for _ in range(rng.choice((1, 1, 2, 4))):
        name = rng.choice(rules if rng.random() < 0.6 else names)
        if name in files:
            files[name] = mutate(files[name], rng)
    for name in names:
        if rng.random() < 0.02:
            files.pop(name)
    kind = rng.random()
    if kind < 0.1 and rules:
        # One dump of rules by itself, as somebody pastes it.
        name = rng.choice(rules)
        return {name: files.get(name, b"") or case.files[name]}
    if kind < 0.15:
        return {name: data for name, data in files.items() if not name.startswith("cluster/")}
    return files


# ---------------------------------------------------------------- the whole program


def run(case: Case, seed: int) -> Defect | None:
    """One damaged cluster and one question, through everything. None: an answer or an error of netk8s."""
    rng = random.Random(f"{case.name}:{seed}")  # noqa: S311 - chance that can be repeated, no secret
    files = damaged(case, rng)
    ask = rng.choice(case.asks)
    unwrap = rng.random() < 0.1
    try:
        with _limited():
            answer(files, ask, unwrap, rng)
    except Netk8sError as error:
        str(error).encode()
    except Endless:
        return Defect(seed, f"more than {SECONDS} s", case.name, str(ask))
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(last.filename).name}:{last.lineno} {last.name}"
        return Defect(seed, type(error).__name__, where, f"{case.name} {ask}: {error}"[:300])
    return None


def answer(files: dict[str, bytes], ask: Ask, unwrap: bool, rng: random.Random) -> None:
    world = decode.decode(_snapshot(files), unwrap=unwrap)
    dialects.programmed(world)
    flow = dialects.resolve(world, ask)
    traced = dialects.label(world, trace(world, flow))
    check_odds(traced)
    report = Report(traced, findings.check(world, traced))
    for name in ("json", "text", rng.choice(render.formats())):
        assert render.render(report, name, width=rng.choice((40, 100))).encode()


def check_odds(traced: Trace) -> None:
    """Even of a damaged cluster the outcomes' odds are no more than one."""
    odds = [o.odds for o in traced.outcomes if o.odds is not None]
    assert sum(odds) <= 1, f"the odds of the outcomes come to {sum(odds)}"
    assert all(o >= 0 for o in odds)


@contextlib.contextmanager
def _limited() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise Endless

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def rounds(found: list[Case], count: int, start: int = 0) -> Iterator[Defect]:
    """The defects of ``count`` seeds from ``start``, spread over the cases."""
    for seed in range(start, start + count):
        defect = run(found[seed % len(found)], seed)
        if defect is not None:
            yield defect


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--corpus", type=Path, default=os.environ.get("NETK8S_CORPUS") or Path("../shared/corpus"))
    words = parser.parse_args()
    began = time.monotonic()
    found = cases(words.corpus)
    kinds: Counter[str] = Counter()
    for defect in rounds(found, words.count, words.start):
        kind = f"{defect.what} at {defect.where}" if ":" in defect.where else defect.what
        kinds[kind] += 1
        if kinds[kind] == 1:
            print(f"seed {defect.seed}: {defect.what} at {defect.where}: {defect.told}", flush=True)
    for kind, times in kinds.most_common():
        print(f"{times:6} {kind}")
    seconds = time.monotonic() - began
    print(
        f"{words.count} damaged clusters of {len(found)}, {sum(kinds.values())} defects of {len(kinds)} kinds, {seconds:.0f} s"
    )
    return 1 if kinds else 0


if __name__ == "__main__":
    sys.exit(main())
