"""Whether packets come to the rules that kube-proxy has on a node in iptables mode at all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from netk8s.model import At, Node, Programmed, Table

SERVICES = "KUBE-SERVICES"
_HOOKS = ("PREROUTING", "OUTPUT")


def unentered(node: Node, rows: Iterable[Programmed]) -> Iterator[tuple[int, str, At]]:
    """(family, what keeps packets from the rules, where) for each family of a node whose Services none of its tables serves.

    ``rows``: what the node's rules program. Where another mode has rules too, these may be what it left behind.
    """
    if any(row.mode != "iptables" for row in rows):
        return
    for family in (4, 6):
        tables = [t for t in node.tables if t.name == "nat" and t.family == family and SERVICES in t.chains]
        found = [_broken(table) for table in tables]
        broken = [each for each in found if each is not None]
        if broken and len(broken) == len(found):
            yield (family, *broken[0])


def _broken(table: Table) -> tuple[str, At] | None:
    chain = table.chains[SERVICES]
    if not len(chain.rules):
        return f"{SERVICES} has no rules", chain.at
    lost = [hook for hook in _HOOKS if hook in table.chains and not _leads(table, hook)]
    if not lost:
        return None
    why = f"{' and '.join(lost)} of nat {'do' if len(lost) > 1 else 'does'} not lead to {SERVICES}"
    return why, table.chains[lost[0]].at


def _leads(table: Table, hook: str) -> bool:
    """Whether a rule of the hook's chain, or of those it leads to, jumps to KUBE-SERVICES."""
    seen, left = {hook}, [hook]
    while left:
        chain = table.chains[left.pop()]
        if any(True for _ in chain.rules.mentioning(f" {SERVICES}")):
            return True
        for rule in chain.rules:
            name = rule.target.name if rule.target is not None else ""
            if name in table.chains and name not in seen:
                seen.add(name)
                left.append(name)
    return False
