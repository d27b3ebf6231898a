"""``nft list hooks``: which functions a kernel calls at each hook, in the order of their calls (nft's src/mnl.c).

Kernels with nfnetlink_hook have it (Linux 5.14, CONFIG_NETFILTER_NETLINK_HOOK), nft prints it from 1.0.1 on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from netk8s.decode._text import first_lines, lines
from netk8s.errors import DecodeError
from netk8s.model import At, Coverage, Dump, Fact, Hook

NAME = "nft-hooks"

_FAMILY = re.compile(r"family (\w+) \{\s*$")
_HOOK = re.compile(r"\s*hook (\w+)(?: device (\S+))? \{\s*$")
_ENTRY = re.compile(r"\s*([-+]?)(\d{1,10})(?:\s+(\S.*?))?(?:\s+\[([^\[\]]+)\])?\s*$")


def sniff(dump: Dump) -> bool:
    """The first line opens a family, and the next one a hook."""
    found = first_lines(dump)
    return len(found) > 1 and _FAMILY.match(found[0]) is not None and _HOOK.match(found[1]) is not None


def decode(dump: Dump) -> Iterator[Fact]:
    """One Hook per line, after Coverage "hooks". Raises DecodeError."""
    yield Coverage("hooks", At(dump.origin))
    family, hook, device = "", "", ""
    for number, line in lines(dump):
        at = At(dump.origin, number)
        if not line.strip():
            continue
        if opened := _FAMILY.match(line):
            family, hook = opened[1], ""
        elif family and (opened := _HOOK.match(line)):
            hook, device = opened[1], opened[2] or ""
        elif line.strip() == "}":
            family, hook = (family, "") if hook else ("", "")
        elif hook and (entry := _ENTRY.match(line)):
            priority = int(entry[1] + entry[2])
            yield _entry(Hook(family, hook, priority, device=device, module=entry[4] or "", at=at), entry[3] or "")
        else:
            raise DecodeError(
                dump.origin, number, "expected what `nft list hooks` prints: family, hook, then priority and function"
            )


def _entry(empty: Hook, what: str) -> Hook:
    words = what.split()
    if len(words) == 4 and words[0] == "chain":
        chain = (words[1], words[2], words[3])
        return Hook(
            empty.family, empty.hook, empty.priority, chain=chain, device=empty.device, module=empty.module, at=empty.at
        )
    return Hook(
        empty.family, empty.hook, empty.priority, function=what, device=empty.device, module=empty.module, at=empty.at
    )
