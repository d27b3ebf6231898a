"""Commands of nft (nft(8)): ``add table``, ``add chain`` and ``add``, ``insert`` or ``delete rule``, for one node.

What they add is read by the decoder of ``nft list ruleset``; a word that it does not know is refused here, where in a dump
it would be an open question.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from msgspec import Struct
from msgspec.structs import replace

from netk8s.errors import DecodeError, NotFound, NotKnown, UsageError
from netk8s.model import At, NftChain, NftElement, NftExpr, NftRule, NftStatement, NftTable, NftValue, NftVerdict, Node
from netk8s.whatif._as_iptables import as_iptables
from netk8s.whatif._listed import placed, tables
from netk8s.whatif._save import apply
from netk8s.whatif._saves import Saves
from netk8s.whatif._wanted import near

_COMMAND = re.compile(r"\s*(?:nft\s+)?(add|insert|delete)\s+(table|chain|rule)\s+(\S.*)", re.DOTALL)
_FOLLOWED = ("ip", "ip6", "inet")
_OTHERS = ("arp", "bridge", "netdev")
_ADDED = At("--rule")
_TRANSLATIONS = frozenset({"dnat", "snat", "masquerade", "redirect"})


def is_command(words: str) -> bool:
    """Whether words are for nft and not for iptables."""
    return words.split()[:1] in (["nft"], ["add"], ["insert"], ["delete"], ["create"], ["flush"], ["replace"])


def run(node: Node, saves: Saves, words: str) -> Node:
    """The node after one command. A table that iptables-nft keeps is changed in the text of its dump, in ``saves``.

    Raises UsageError for other commands, NotFound for a table, chain, set or rule that is not there, NotKnown where a dump
    of iptables has the table and the rule has no form there.
    """
    found = _COMMAND.fullmatch(words.replace("\\;", ";"))
    if found is None:
        raise UsageError(
            f"rule {words!r}: of nft's commands expected add, insert or delete rule [FAMILY] TABLE CHAIN RULE, "
            "add table [FAMILY] TABLE or add chain [FAMILY] TABLE CHAIN [{ … }]"
        )
    verb, kind, rest = found.groups()
    family, _, more = rest.partition(" ")
    if family in _OTHERS:
        raise UsageError(f"rule {words!r}: packets are not followed through tables of family {family}", _FOLLOWED)
    family, rest = (family, more) if family in _FOLLOWED else ("ip", rest)
    names = rest.split(None, 1 if kind == "table" else 2)
    if len(names) < {"table": 1, "chain": 2, "rule": 3}[kind] or (kind != "rule" and verb != "add"):
        raise UsageError(f"rule {words!r}: {verb} {kind} is not known, or not all of it is there; see nft(8)")
    if kind == "table":
        return _with_table(node, _opened(f"table {family} {rest}", words))
    if kind == "chain":
        return _with_chain(node, family, names, words)
    return _rule(node, saves, _Place(verb, family, names[0], names[1], words), names[2])


class _Place(Struct, frozen=True):
    """Where a rule is to come or go. ``words``: the whole command."""

    verb: str
    family: str
    table: str
    chain: str
    words: str


# ---------------------------------------------------------------- tables and chains


def _opened(head: str, words: str, body: Sequence[str] = ()) -> NftTable:
    """A table as decoded. Raises UsageError where the words cannot be read."""
    try:
        (table,) = tables("\n".join((f"{head} {{", *body, "}", "")), str(_ADDED))
    except (DecodeError, ValueError) as error:
        why = error.why if isinstance(error, DecodeError) else "not as nft writes it"
        raise UsageError(f"rule {words!r}: {why}") from None
    return table


def _with_table(node: Node, table: NftTable) -> Node:
    if any((t.family, t.name) == (table.family, table.name) for t in node.nft):
        return node
    index = max((t.index for t in node.nft), default=-1) + 1
    return replace(node, nft=(*node.nft, replace(table, index=index)))


def _of(node: Node, family: str, name: str) -> NftTable:
    for table in node.nft:
        if (table.family, table.name) == (family, name):
            return table
    known = [f"{t.family} {t.name}" for t in node.nft]
    raise NotFound(f"table {family} {name} of {node.name}", near(f"{family} {name}", known) or known)


def _with_chain(node: Node, family: str, names: Sequence[str], words: str) -> Node:
    table = _of(node, family, names[0])
    name, body = names[1], names[2].strip() if len(names) > 2 else "{ }"
    expected = UsageError(f"rule {words!r}: expected {{ type … hook … priority … ; }} behind the chain's name")
    if not (body.startswith("{") and body.endswith("}")):
        raise expected
    inner, known = body[1:-1].strip(), table.chains.get(name)
    policy = re.fullmatch(r"policy (accept|drop)\s*;?", inner)
    if known is not None and (known.hook if policy else not inner):
        # Of a chain that is there nothing but the policy can be made another one.
        return _exchanged(node, table, replace(known, policy=policy[1]) if policy else known)
    lines = [f"\tchain {name} {{", *([f"\t\t{inner}"] if inner else []), "\t}"]
    chain = _opened(f"table {family} {names[0]}", words, lines).chains.get(name)
    if known is not None or chain is None or chain.rules or (inner and not chain.hook):
        raise expected
    return _exchanged(node, table, placed(chain, str(_ADDED)))


def _exchanged(node: Node, table: NftTable, chain: NftChain) -> Node:
    new = replace(table, chains={**table.chains, chain.name: chain})
    return replace(node, nft=tuple(new if t is table else t for t in node.nft))


# ---------------------------------------------------------------- rules


def _rule(node: Node, saves: Saves, place: _Place, text: str) -> Node:
    version = {"ip": 4, "ip6": 6}.get(place.family)
    kept = any(
        t.family == version and t.name == place.table and t.backend != "legacy" and place.chain in t.chains
        for t in node.tables
    )
    index, text = _index(place, text)
    rule = _read(place, text)
    native = next((t for t in node.nft if (t.family, t.name) == (place.family, place.table)), None)
    if kept and not (native is not None and native.told_by_nft):
        _in_iptables(node, saves, place, rule, index)
        return node
    table = _of(node, place.family, place.table)
    if place.chain not in table.chains:
        raise NotFound(f"chain {place.chain} of table {place.family} {place.table}", near(place.chain, table.chains))
    chain = table.chains[place.chain]
    if place.verb != "delete":
        _possible(place, table, chain, rule)
    return _exchanged(node, table, replace(chain, rules=_placed(place, chain.rules, rule, index)))


def _index(place: _Place, text: str) -> tuple[int | None, str]:
    found = re.match(r"(index|handle|position)\s+(\d{1,6})\b\s*", text)
    if found is not None and found[1] != "index":
        raise UsageError(f"rule {place.words!r}: a dump does not tell handles; give the rule itself, or index N")
    return (int(found[2]), text[found.end() :]) if found else (None, text)


def _read(place: _Place, text: str) -> NftRule:
    lines = (f"\tchain {place.chain} {{", f"\t\t{' '.join(text.split()).rstrip(' ;')}", "\t}")
    chain = _opened(f"table {place.family} {place.table}", place.words, lines).chains.get(place.chain)
    rules = chain.rules if chain is not None else ()
    if len(rules) != 1 or not rules[0].statements:
        raise UsageError(f"rule {place.words!r}: expected one rule, as `nft list ruleset` prints it")
    for s in rules[0].statements:
        if s.kind in ("unknown", "xt"):
            raise UsageError(f"rule {place.words!r}: {s.words[0]!r} is not understood; write it as nft lists it")
        for value in _values(s):
            if isinstance(value, NftExpr) and value.op == "unknown":
                raise UsageError(f"rule {place.words!r}: {value.words[0]!r} is not understood")
        if s.kind == "match" and _is_port(s.args[0]) and any(isinstance(v, str) for v in _constants(s.args[1])):
            raise UsageError(f"rule {place.words!r}: give ports as numbers")
    return replace(rules[0], at=_ADDED)


def _values(s: NftStatement | NftValue) -> Iterator[NftValue]:
    """Every operand, however deep."""
    args = s.args if isinstance(s, NftStatement | NftExpr) else (s.value,) if isinstance(s, NftElement) else ()
    for value in args:
        if value is not None and not isinstance(value, NftStatement):
            yield value
        if value is not None:
            yield from _values(value)


def _constants(value: object) -> Iterator[object]:
    if isinstance(value, NftExpr) and value.op in ("set", "range", "list"):
        for each in value.args:
            yield from _constants(getattr(each, "key", each))
    elif not isinstance(value, NftExpr):
        yield value


def _is_port(value: object) -> bool:
    return isinstance(value, NftExpr) and value.op == "payload" and value.words[-1] in ("dport", "sport")


def _possible(place: _Place, table: NftTable, chain: NftChain, rule: NftRule) -> None:
    """Raises where the kernel would not take a rule: it leads nowhere, or translates where nothing is translated."""
    for s in rule.statements:
        if s.kind in _TRANSLATIONS and chain.hook and chain.type != "nat":
            raise UsageError(
                f"rule {place.words!r}: {s.kind} needs a chain of type nat, {chain.name} is one of {chain.type}"
            )
        for value in _values(s):
            if isinstance(value, NftVerdict) and value.chain and value.chain not in table.chains:
                raise NotFound(f"chain {value.chain} of table {table.name}", near(value.chain, table.chains))
            if isinstance(value, NftExpr) and value.op == "@" and value.words[0] not in table.sets:
                raise NotFound(f"set {value.words[0]} of table {table.name}", near(value.words[0], table.sets))
        for end in _ends(table, s):
            if (end in table.chains and table.chains[end].hook) or _leads(table, end, chain.name):
                raise UsageError(
                    f"rule {place.words!r}: the kernel lets no rule lead to a base chain, or back to its own"
                )


def _leads(table: NftTable, start: str, goal: str) -> bool:
    """Whether a chain leads to another, or is that one."""
    seen, todo = {start}, [start]
    while todo and goal not in seen:
        chain = table.chains.get(todo.pop())
        for rule in chain.rules if chain is not None else ():
            ends = {end for s in rule.statements for end in _ends(table, s)} - seen
            seen |= ends
            todo += ends
    return goal in seen


def _ends(table: NftTable, s: NftStatement) -> Iterator[str]:
    """The chains that a statement leads to, by a named map too."""
    for value in _values(s):
        if isinstance(value, NftVerdict) and value.chain:
            yield value.chain
        elif isinstance(value, NftExpr) and value.op == "@" and s.kind == "vmap" and value.words[0] in table.sets:
            elements = table.sets[value.words[0]].elements
            yield from (e.value.chain for e in elements if isinstance(e.value, NftVerdict) and e.value.chain)


def _placed(place: _Place, rules: Sequence[NftRule], rule: NftRule, index: int | None) -> tuple[NftRule, ...]:
    if place.verb == "delete":
        same = next((i for i, each in enumerate(rules) if each.statements == rule.statements), None)
        if same is None:
            raise NotFound(f"rule {rule.raw}", near(rule.raw, [each.raw for each in rules]))
        return (*rules[:same], *rules[same + 1 :])
    if index is not None and index >= len(rules):
        raise UsageError(f"rule {place.words!r}: chain {place.chain} has {len(rules)} rules, the first is index 0")
    at = (len(rules) if index is None else index + 1) if place.verb == "add" else index or 0
    return (*rules[:at], rule, *rules[at:])


def _in_iptables(node: Node, saves: Saves, place: _Place, rule: NftRule, index: int | None) -> None:
    """Changes the dump of iptables that has the table; there it is the rule that iptables would print."""
    words = as_iptables(rule)
    found = saves.of(node.name, 6 if place.family == "ip6" else 4)
    if words is None or len(found) != 1:
        raise NotKnown(
            f"rule {place.words!r}: table {place.family} {place.table} of {node.name} is taken from its iptables-save, and "
            "there this rule has no form that is known; say it as iptables does (-A CHAIN …), or in a table of its own"
        )
    number = {"add": index + 2, "insert": index + 1}.get(place.verb) if index is not None else None
    option = "-D" if place.verb == "delete" else "-A" if place.verb == "add" and number is None else "-I"
    apply(found[0], " ".join(("-t", place.table, option, place.chain, *([str(number)] if number else []), words)))
