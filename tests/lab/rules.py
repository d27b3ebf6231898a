"""Rules as iptables-save prints them, looked up by the numbers a kernel trace gives."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from .worker import Matched

TABLES = ("raw", "mangle", "nat", "filter", "security")
HOOKS = {
    "raw": ("PREROUTING", "OUTPUT"),
    "mangle": ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"),
    "nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"),
    "filter": ("INPUT", "FORWARD", "OUTPUT"),
    "security": ("INPUT", "FORWARD", "OUTPUT"),
}


def restore_text(
    policies: Mapping[tuple[str, str], str], chains: Iterable[tuple[str, str]], rules: Iterable[tuple[str, str]]
) -> str:
    """iptables-restore text of every table: chains and rules are (table, chain) and (table, rule).

    Every built-in chain is named: iptables-legacy-restore would leave the policy of another as an earlier load set it.
    """
    chains, rules = list(chains), list(rules)
    lines = []
    for table in TABLES:
        lines.append(f"*{table}")
        lines += [f":{hook} {policies.get((table, hook), 'ACCEPT')}" for hook in HOOKS[table]]
        lines += [f":{name} -" for of, name in chains if of == table]
        lines += [rule for of, rule in rules if of == table]
        lines.append("COMMIT")
    return "\n".join(lines) + "\n"


EMPTY_RULES = restore_text({}, (), ())


@dataclass(frozen=True, slots=True)
class PathStep:
    """A rule that matched, in the dump's words. ``mark`` as the trace had it there.

    The legacy trace speaks before the target acts, nft's after it: the mark of a MARK rule itself differs between them.
    """

    table: str
    chain: str
    rule: str
    mark: int = 0


def parse_saved(text: str) -> dict[tuple[str, str], list[str]]:
    """(table, chain) → its rules, of an iptables-save dump."""
    found: dict[tuple[str, str], list[str]] = {}
    table = ""
    for line in text.splitlines():
        if line.startswith("*"):
            table = line[1:].strip()
        elif line.startswith("-A "):
            found.setdefault((table, line.split(" ", 2)[1]), []).append(line.strip())
    return found


def dropped_by(matched: Iterable[Matched], saved: str) -> bool:
    """Whether the last thing a trace tells is a DROP: a rule's, or a chain policy's."""
    last = list(matched)[-1:]
    if not last:
        return False
    table, chain, number = last[0].table, last[0].chain, last[0].number
    rules = parse_saved(saved).get((table, chain), [])
    if 1 <= number <= len(rules):
        return rules[number - 1].endswith("-j DROP")
    section = saved.split(f"*{table}\n", 1)[-1].split("COMMIT", 1)[0]
    return f":{chain} DROP" in section


def named(matched: Iterable[Matched], saved: str) -> tuple[PathStep, ...]:
    """The rules of a trace in the dump's words. A number behind the last rule is the chain's policy or end, no rule."""
    rules = parse_saved(saved)
    steps = []
    for event in matched:
        chain = rules.get((event.table, event.chain), [])
        if 1 <= event.number <= len(chain):
            steps.append(PathStep(event.table, event.chain, chain[event.number - 1], event.mark))
    return tuple(steps)
