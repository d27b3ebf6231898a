"""A question answered beside the data: netk8s itself, in a process of its own that has an end in time and memory."""

from __future__ import annotations

import asyncio
import os
import resource
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress

from msgspec import Struct

from netk8s import snapshot
from netk8s.model import Dump, Snapshot

SECONDS = 30.0
CHECK_SECONDS = 240.0
"""For every flow of every Service: a node with a million rules takes its time."""
MOST_MEMORY = 1 << 30
BEHIND = 10
"""How much nicer than the agent (nice(2)) an answer is: what the node is there for goes first."""
STATUSES = {0: 200, 1: 200, 6: 200, 2: 400, 3: 422, 4: 404}
"""HTTP's status of each exit status of the command line."""

WORDS = {
    "trace": ("port", "protocol", "from", "sport", "family", "via", "namespace"),
    "check": ("service", "code", "severity"),
}
"""The words of a question that are options of the command line, by command."""


SEVERAL = ("service", "code")
"""Those that may be given more than once."""


class Answered(Struct, frozen=True):
    status: int
    document: bytes = b""
    why: str = ""


def command(verb: str, node: str, question: Mapping[str, object], output: str = "json") -> list[str]:
    """The words of the command line. Raises ValueError for a question that is not of words."""
    target = question.get("target")
    unknown = set(question) - {*WORDS[verb], *(("target",) if verb == "trace" else ())}
    if unknown:
        raise ValueError(f"unknown in a question: {', '.join(sorted(map(str, unknown)))}")
    words = [verb, "-o", output]
    for name in WORDS[verb]:
        value = question.get(name)
        if value is None:
            continue
        for each in value if isinstance(value, list) and name in SEVERAL else [value]:
            if isinstance(each, bool) or not isinstance(each, str | int):
                raise ValueError(f"{name}: expected a word or a number")
            words.append(f"--{name}={each}")
    if verb == "trace":
        if not isinstance(target, str):
            raise ValueError("target: expected a word, as svc/NAMESPACE/NAME")
        if "via" not in question and "from" not in question:
            words.append(f"--via={node}")
        words += ["--", target]
    return words


def objects_packed(objects: bytes) -> bytes:
    """kubectl's lists as a bundle; nothing for nothing."""
    return snapshot.packed(Snapshot((Dump("cluster/objects.json", objects),))) if objects.strip() else b""


async def answer(words: Sequence[str], packed: bytes, cluster: bytes, seconds: float = SECONDS) -> Answered:
    """What netk8s answers on a node's packed snapshot and a bundle of the API's objects."""
    files = [_in_memory(name, data) for name, data in (("node", packed), ("cluster", cluster)) if data]
    try:
        dumps = [f"--dump=/proc/self/fd/{file}" for file in files]
        verb, *rest = words
        code = "import sys; from netk8s.cli import main; main()"
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, verb, *dumps, *rest,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            pass_fds=files,
        )  # fmt: skip
    finally:
        for file in files:
            os.close(file)
    with suppress(ProcessLookupError):
        resource.prlimit(process.pid, resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
        os.setpriority(os.PRIO_PROCESS, process.pid, min(os.getpriority(os.PRIO_PROCESS, 0) + BEHIND, 19))
    try:
        out, said = await asyncio.wait_for(process.communicate(), seconds)
    except TimeoutError:
        return Answered(504, why=f"no answer within {seconds:g} s; take the snapshot and ask it elsewhere")
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    status = STATUSES.get(process.returncode or 0, 500)
    if status == 200:
        return Answered(200, out)
    return Answered(status, why=said.decode("utf-8", "replace").strip()[:2000])


def _in_memory(name: str, data: bytes) -> int:
    # The name is what the links in /proc lead to, and two dumps at one place are taken for one.
    file = os.memfd_create(f"netk8s-{name}")
    with os.fdopen(os.dup(file), "wb") as writing:
        writing.write(data)
    os.lseek(file, 0, os.SEEK_SET)
    return file
