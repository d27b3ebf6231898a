"""Hook priorities by name, as nftables prints them (src/rule.c, ``prio_tags`` and ``bridge_prio_tags``)."""

from __future__ import annotations

from collections.abc import Mapping

PRIORITIES: Mapping[str, int] = {
    "raw": -300,
    "mangle": -150,
    "dstnat": -100,
    "filter": 0,
    "security": 50,
    "srcnat": 100,
}
BRIDGE_PRIORITIES: Mapping[str, int] = {"dstnat": -300, "filter": -200, "out": 100, "srcnat": 300}


def priority(family: str, name: str, sign: str, offset: str) -> int | None:
    """``dstnat``, ``dstnat - 10`` or a number, as a number; None when it is none of these."""
    if not name:
        value: int | None = 0
    else:
        value = (BRIDGE_PRIORITIES if family == "bridge" else PRIORITIES).get(name)
    if value is None:
        return None
    step = int(offset) if offset else 0
    found = value - step if sign == "-" else value + step
    return found if -(1 << 31) <= found < 1 << 31 else None
