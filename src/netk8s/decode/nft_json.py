"""``nft -j list ruleset``: tables, chains, rules, sets and maps of nftables (libnftables-json(5)).

A chain's rules and a set's elements are decoded when they are asked for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, cast

from msgspec import Raw, Struct, field
from msgspec.structs import replace

from netk8s.decode._json import JsonObject, clean, kind, member, outer_keys, spelled, values
from netk8s.decode._nft_words import FLAGS, MOST_NESTED, VERDICTS, told
from netk8s.decode._nftables import Late
from netk8s.errors import DecodeError
from netk8s.model import (
    At,
    Coverage,
    Dump,
    Fact,
    NftChain,
    NftElement,
    NftExpr,
    NftRule,
    NftSet,
    NftStatement,
    NftTable,
    NftValue,
    NftVerdict,
)

NAME = "nft-json"
COMMAND = "nft -j list ruleset"


def sniff(dump: Dump) -> bool:
    """An outer JSON object with the key ``nftables``."""
    return "nftables" in outer_keys(dump, "{")


class _Open(Struct):
    """A table whose objects are still being collected: they may come in any grouping."""

    at: At
    dormant: bool | None = False
    chains: dict[str, JsonObject | None] = field(default_factory=dict)
    rules: dict[str, list[Mapping[str, object] | Raw]] = field(default_factory=dict)
    sets: dict[str, NftSet] = field(default_factory=dict)


class _Spelled(NamedTuple):
    """A chain without a hook, or a rule that is not read yet: then with the object ``{"rule": …}`` as it is spelled."""

    family: str
    table: str
    chain: str
    text: Raw | None


TABLE_FLAGS = frozenset({"dormant", "owner", "persist"})
"""What a table may be (src/rule.c). Up to nft 1.0.9 a single flag's word is lost, and any other text stands there."""

_SPELLED = re.compile(
    rb'\{"(?:rule|(chain))": \{"family": "(\w+)", "table": "([ !#-\[\]-~]+)", "(?:chain|name)": "([ !#-\[\]-~]+)",'
    rb'(?(1) "handle": \d+\}\})'
)
"""Rules and plain chains as libnftables spells them (src/json.c), with names that need no unescaping."""


def decode(dump: Dump) -> Iterator[Fact]:
    """One NftTable per table, after Coverage "nft"; tables of iptables-nft are among them. Raises DecodeError."""
    for at, listed in _listings(dump):
        yield Coverage("nft", at)
        tables: dict[tuple[str, str], _Open] = {}
        for item in listed:
            if isinstance(item, _Spelled):
                table = _opened(tables, item.family, item.table, at)
                if item.text is not None:
                    table.rules.setdefault(item.chain, []).append(item.text)
                else:
                    table.chains[item.chain] = None
                continue
            # `nft -j monitor` and the echo of commands wrap each object in {"add": …}.
            for word in ("table", "chain", "rule", "set", "map"):
                found = item.child(word) if word in item.members else None
                if found is not None:
                    _collect(tables, word, found, at)
        for i, ((family, name), table) in enumerate(tables.items()):
            yield _table(family, name, i, table)


def _listings(dump: Dump) -> Iterator[tuple[At, Iterator[JsonObject | _Spelled]]]:
    """The objects of each listing in a dump; of a large one the rules are passed over."""
    quick = spelled(dump, "nftables")
    if quick is not None:
        at, _, items = quick
        yield at, _quick(items, at)
        return
    for at, value in values(dump, COMMAND):
        if not isinstance(value, dict) or not isinstance(value.get("nftables"), list):
            why = f"expected an object with the array `nftables`, as `{COMMAND}` prints it, found {kind(value)}"
            raise DecodeError(at.origin, at.line, why)
        yield at, JsonObject(value, at).children("nftables")


def _quick(items: list[Raw], at: At) -> Iterator[JsonObject | _Spelled]:
    outer = JsonObject({}, at)
    for i, text in enumerate(items):
        found = _SPELLED.match(text)
        if found:
            plain, family, table, chain = found.groups()
            yield _Spelled(family.decode(), table.decode(), chain.decode(), None if plain else text)
        else:
            yield outer.item("nftables", i, member(text))


def _opened(tables: dict[tuple[str, str], _Open], family: str, name: str, at: At) -> _Open:
    table = tables.get((family, name))
    if table is None:
        table = tables[family, name] = _Open(at)
    return table


def _collect(tables: dict[tuple[str, str], _Open], word: str, found: JsonObject, at: At) -> None:
    family = found.need("family")
    name = found.need("name" if word == "table" else "table")
    table = _opened(tables, family, name, at)
    if word == "table":
        flags = _words(found.members.get("flags"))
        table.dormant = "dormant" in flags or (None if set(flags) - TABLE_FLAGS else False)
    elif word == "rule":
        table.rules.setdefault(found.need("chain"), []).append(found.members)
    elif word == "chain":
        table.chains[found.need("name")] = found
    else:
        table.sets[found.need("name")] = _set(found, word == "map")


def _table(family: str, name: str, index: int, table: _Open) -> NftTable:
    chains = {n: _chain(n, c, table.rules.get(n, []), table.at) for n, c in table.chains.items()}
    for n, rules in table.rules.items():
        if n not in chains:
            chains[n] = NftChain(n, _rules(n, rules, table.at), table.at)
    sets = dict(table.sets)
    for n in _added_to(table) if sets else ():
        if n in sets:
            sets[n] = replace(sets[n], dynamic=True)
    return NftTable(family, name, chains, sets, table.at, index, dormant=table.dormant)


_ADDS = re.compile(rb'"op"\s*+:\s*+"(?:add|update)"')


def _added_to(table: _Open) -> Iterator[str]:
    """The sets and maps that rules add elements to: nft 1.0.6 leaves out the flag that says so (nft_dynset_init)."""
    for rule in (rule for rules in table.rules.values() for rule in rules):
        if isinstance(rule, Raw) and _ADDS.search(rule) is None:
            continue
        listed = _members(rule).get("expr")
        for key, inner in map(_one, listed if isinstance(listed, list) else ()):
            if key in ("set", "map") and isinstance(inner, dict) and inner.get("op") in ("add", "update"):
                yield clean(str(inner.get(key))).removeprefix("@")


def _chain(name: str, chain: JsonObject | None, rules: list[Mapping[str, object] | Raw], at: At) -> NftChain:
    listed = _rules(name, rules, at)
    hook = chain.text("hook") if chain is not None else None
    if chain is None or not hook:
        return NftChain(name, listed, at)
    number = chain.number("prio", -(1 << 31), (1 << 31) - 1)
    if number is None:
        raise chain.wrong("prio", "the priority of the hook")
    return NftChain(name, listed, at, chain.text("type") or "filter", hook, number, chain.text("policy") or "accept")


def _rules(chain: str, rules: list[Mapping[str, object] | Raw], at: At) -> Sequence[NftRule]:
    if not rules:
        return ()
    return Late(lambda: [_rule(chain, rule, at) for rule in rules], passing=True)


def _members(rule: Mapping[str, object] | Raw) -> Mapping[str, object]:
    return cast(dict[str, Any], member(rule))["rule"] if isinstance(rule, Raw) else rule


def _rule(chain: str, rule: Mapping[str, object] | Raw, at: At) -> NftRule:
    members = _members(rule)
    listed = members.get("expr")
    statements = tuple(_statement(s) for s in listed) if isinstance(listed, list) else ()
    if members.get("family") in ("ip", "ip6"):
        statements = tuple(_PLAIN_REJECT if s in _OWN_REJECTS else s for s in statements)
    comment = members.get("comment")
    comment = clean(comment) if isinstance(comment, str) else ""
    return NftRule(chain, statements, at, told(statements, comment), comment)


def _words(value: object) -> tuple[str, ...]:
    """Flags: a word, an array of words, or nothing."""
    if isinstance(value, str):
        return (clean(value),)
    return tuple(clean(v) for v in value if isinstance(v, str)) if isinstance(value, list) else ()


def _set(found: JsonObject, is_map: bool) -> NftSet:
    name, flags, timeout = found.need("name"), _words(found.members.get("flags")), found.number("timeout")
    types = _words(found.members.get("type"))
    listed = found.members.get("elem")
    elements: Sequence[NftElement] = ()
    if isinstance(listed, list):
        items = listed
        elements = Late(lambda: [_element(item, is_map, 0) for item in items])
    # nft 1.0.6 leaves the flag "dynamic" out; what times out was added while the set was in use.
    return NftSet(name, types, elements, found.at, is_map, "dynamic" in flags or timeout is not None, timeout)


# ---------------------------------------------------------------- statements


def _one(value: object) -> tuple[str, object]:
    """The only member of an object, ("", None) for anything else."""
    if isinstance(value, dict) and len(value) == 1:
        ((key, inner),) = value.items()
        return str(key), inner
    return "", None


def _unknown(value: object) -> str:
    return clean(json.dumps(value, ensure_ascii=True))[:200]


def _statement(value: object) -> NftStatement:
    key, inner = _one(value)
    try:
        if key in VERDICTS or key in ("jump", "goto", "queue"):
            return NftStatement("verdict", (), (_verdict(key, inner),))
        members: dict[str, object] = inner if isinstance(inner, dict) else {}
        read = _STATEMENTS.get(key)
        if read is not None and isinstance(inner, dict):
            return read(inner)
        if key in ("dnat", "snat"):
            family = str(members.get("family", ""))
            return NftStatement(key, (family, *_nat_flags(members)), (_side(members, "addr"), _side(members, "port")))
        if key in ("masquerade", "redirect"):
            return NftStatement(key, _nat_flags(members), (_side(members, "port"),))
        if key in ("limit", "quota") and isinstance(inner, str):
            return NftStatement(key, ("over" if key == "quota" else "", f'name "{clean(inner)}"'))
        if key in ("counter", "log", "notrack", "flow", "dup", "last") or (key.startswith("ct ") and key != "ct count"):
            return NftStatement(key)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError):
        pass
    if value in ("notrack", "accept", "drop", "return", "continue"):
        return NftStatement("notrack") if value == "notrack" else NftStatement("verdict", (), (NftVerdict(str(value)),))
    return NftStatement("unknown", (_unknown(value),))


def _verdict(key: str, inner: object) -> NftVerdict:
    if key in ("jump", "goto"):
        target = inner.get("target") if isinstance(inner, dict) else None
        if not isinstance(target, str):
            raise ValueError(key)
        return NftVerdict(key, clean(target))
    return NftVerdict(key)


def _match(members: dict[str, object]) -> NftStatement:
    left, right = _value(members["left"], 1), _value(members["right"], 1)
    operator = str(members.get("op") or "==")
    if operator == "==" and "op" not in members and isinstance(left, NftExpr) and (left.op, left.words[0]) in FLAGS:
        operator = "in"
    return NftStatement("match", (operator,), (left, right))


def _vmap(members: dict[str, object]) -> NftStatement:
    return NftStatement("vmap", (), (_value(members["key"], 1), _data(members["data"], True, 1)))


def _mangle(members: dict[str, object]) -> NftStatement:
    return NftStatement("mangle", (), (_value(members["key"], 1), _value(members["value"], 1)))


def _nat_flags(members: dict[str, object]) -> tuple[str, ...]:
    flags = _words(members.get("flags"))
    return (*(f for f in flags if f == "netmap"), *(f for f in flags if f != "netmap"))


def _side(members: dict[str, object], key: str) -> NftValue:
    return _value(members[key], 1) if key in members else ""


_PLAIN = "port-unreachable"
_PLAIN_REJECT = NftStatement("reject", ("", ""))
_OWN_REJECTS = tuple(NftStatement("reject", (kind, _PLAIN)) for kind in ("icmp", "icmpv6"))
"""In a table of one family the text leaves this family's usual kind out; in an inet table it asks for the family too."""


def _reject(members: dict[str, object]) -> NftStatement:
    code = members.get("expr")
    if members.get("type") != "tcp reset" and (code is None or (members.get("type"), code) == ("icmpx", _PLAIN)):
        return _PLAIN_REJECT
    return NftStatement("reject", (str(members.get("type") or ""), clean(str(code)) if code is not None else ""))


def _set_statement(members: dict[str, object]) -> NftStatement:
    element = _value(members["elem"], 1)
    key = element.key if isinstance(element, NftElement) else element
    nested = members.get("stmt")
    statements = tuple(_statement(s) for s in nested) if isinstance(nested, list) else ()
    return NftStatement("set", (str(members["op"]), clean(str(members["set"])).removeprefix("@")), (key, *statements))


def _limit(members: dict[str, object]) -> NftStatement:
    unit = f" {members['rate_unit']}" if "rate_unit" in members else ""
    rate = f"{_int(members['rate'])}{unit}/{members['per']}"
    return NftStatement("limit", ("over" if members.get("inv") else "", clean(rate)))


def _quota(members: dict[str, object]) -> NftStatement:
    amount = f"{_int(members['val'])} {members['val_unit']}"
    return NftStatement("quota", ("over" if members.get("inv") else "", clean(amount)))


def _ct_count(members: dict[str, object]) -> NftStatement:
    return NftStatement("ct count", ("over" if members.get("inv") else "", str(_int(members["val"]))))


def _log(members: dict[str, object]) -> NftStatement:
    out: list[str] = []
    for key in ("prefix", "group", "snaplen", "queue-threshold", "level", "flags"):
        if key in members:
            value = members[key]
            flags = ",".join(_words(value)) or clean(str(value))
            out += [key, f'"{flags}"' if key == "prefix" else flags]
    return NftStatement("log", tuple(out))


def _tproxy(members: dict[str, object]) -> NftStatement:
    return NftStatement("tproxy", (str(members.get("family", "")),), (_side(members, "addr"), _side(members, "port")))


def _xt(members: dict[str, object]) -> NftStatement:
    return NftStatement("xt", (str(members["type"]), clean(str(members["name"]))))


_STATEMENTS = {
    "match": _match,
    "vmap": _vmap,
    "mangle": _mangle,
    "reject": _reject,
    "set": _set_statement,
    "limit": _limit,
    "quota": _quota,
    "ct count": _ct_count,
    "log": _log,
    "tproxy": _tproxy,
    "xt": _xt,
}


# ---------------------------------------------------------------- expressions


def _value(value: object, depth: int) -> NftValue:
    if isinstance(value, bool):
        return "exists" if value else "missing"
    if isinstance(value, int):
        return value
    if isinstance(value, str):
        if value.startswith("@"):
            return NftExpr("@", (clean(value[1:]),))
        if value.isdecimal() and len(value) < 12:
            return int(value)
        return NftExpr("*") if value == "*" else clean(value)
    if depth > MOST_NESTED:
        return NftExpr("unknown", ("nested too deeply",))
    if isinstance(value, list):
        return NftExpr("list", (), tuple(_value(v, depth + 1) for v in value))
    key, inner = _one(value)
    if key == "elem" or (key == "" and isinstance(value, dict) and "val" in value):
        return _element(value, False, depth)
    try:
        if key in VERDICTS or key in ("jump", "goto", "queue"):
            return _verdict(key, inner)
        return _expr(key, inner, depth)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError):
        return NftExpr("unknown", (_unknown(value),))


def _expr(key: str, inner: object, depth: int) -> NftExpr:
    if isinstance(inner, list):
        if key == "set":
            return NftExpr("set", (), tuple(_element(v, False, depth) for v in inner))
        if key in ("&", "|", "^", "<<", ">>", "concat", "range"):
            parts = tuple(_value(v, depth + 1) for v in inner)
            if len(parts) < 2 or (key == "range" and len(parts) > 2):
                raise ValueError(key)
            if key in ("&", "|", "^", "<<", ">>") and len(parts) > 2:
                # Newer versions print a chain of one operator as one array.
                out = NftExpr(key, (), parts[:2])
                for part in parts[2:]:
                    out = NftExpr(key, (), (out, part))
                return out
            return NftExpr(key, (), parts)
    if key in ("meta", "ct") and isinstance(inner, str):
        return NftExpr(key, (clean(inner),) if key == "meta" else (clean(inner), ""))
    if not isinstance(inner, dict):
        raise ValueError(key)
    if key == "payload":
        if "base" in inner:
            return NftExpr(key, (f"@{inner['base']}", str(inner["offset"]), str(inner["len"])))
        return NftExpr(key, (clean(str(inner["protocol"])), clean(str(inner["field"]))))
    if key == "meta":
        return NftExpr(key, (clean(str(inner["key"])),))
    if key == "ct":
        family = f"{inner['family']} " if inner.get("family") else ""
        return NftExpr(key, (family + clean(str(inner["key"])), clean(str(inner.get("dir", "")))))
    if key == "fib":
        return NftExpr(key, (clean(str(inner["result"])), *_words(inner.get("flags"))))
    if key in ("rt", "socket"):
        family = f"{inner['family']} " if inner.get("family") else ""
        return NftExpr(key, (family + clean(str(inner["key"])),))
    if key == "numgen":
        return NftExpr(key, (str(inner["mode"]),), (_int(inner["mod"]), _int(inner.get("offset", 0))))
    if key in ("exthdr", "ip option", "sctp chunk", "dccp option", "tcp option"):
        name = clean(str(inner.get("name", inner.get("type", ""))))
        field = (clean(str(inner["field"])),) if "field" in inner else ()
        return NftExpr("exthdr", (*((key,) if key != "exthdr" else ()), name, *field))
    if key == "symhash":
        return NftExpr(key, (), (_int(inner["mod"]), _int(inner.get("offset", 0))))
    if key == "jhash":
        seed = inner.get("seed")
        of = _value(inner["expr"], depth + 1)
        return NftExpr(
            key, (), (_int(inner["mod"]), _int(inner.get("offset", 0)), seed if isinstance(seed, int) else "", of)
        )
    if key == "prefix":
        return NftExpr(key, (), (_value(inner["addr"], depth + 1), _int(inner["len"])))
    if key == "map":
        return NftExpr(key, (), (_value(inner["key"], depth + 1), _data(inner["data"], True, depth + 1)))
    raise ValueError(key)


def _int(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(value)
    return value


def _data(value: object, pairs: bool, depth: int) -> NftValue:
    key, inner = _one(value)
    if key == "set" and isinstance(inner, list):
        return NftExpr("set", (), tuple(_element(v, pairs, depth) for v in inner))
    return _value(value, depth)


def _element(value: object, pairs: bool, depth: int) -> NftElement:
    """An element: bare, in a pair with its value, or wrapped with comment and times."""
    if pairs and isinstance(value, list) and len(value) == 2:
        first = _element(value[0], False, depth)
        return NftElement(first.key, _value(value[1], depth + 1), first.comment, first.timeout, first.expires)
    key, inner = _one(value)
    members = inner if key == "elem" else value
    if isinstance(members, dict) and "val" in members:
        comment, timeout, expires = members.get("comment"), members.get("timeout"), members.get("expires")
        return NftElement(
            _value(members["val"], depth + 1),
            None,
            clean(comment) if isinstance(comment, str) else "",
            timeout if isinstance(timeout, int) else None,
            expires if isinstance(expires, int) else None,
        )
    return NftElement(_value(value, depth + 1))
