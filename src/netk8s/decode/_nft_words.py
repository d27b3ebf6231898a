"""The rule language of nft: a rule's text to statements (nft(8), STATEMENTS and EXPRESSIONS) and back.

Sources: nftables src/parser_bison.y for what may be written, src/{statement,expression,payload,meta,ct,fib}.c for how
``nft list`` prints it (1.0.6). What is not understood becomes an ``unknown`` statement that holds its text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping

from netk8s.decode._json import whole
from netk8s.model import NftElement, NftExpr, NftStatement, NftValue, NftVerdict

MOST_NESTED = 24
"""Deeper nested expressions than any that nft accepts are not understood."""

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|==|!=|<=|>=|<<|>>|[{}(),<>&|^!]|[^\s{}(),"<>&|^!]+|\S')
COUNTER = re.compile(r"\bcounter packets \d+ bytes \d+")
_HANDLE = re.compile(r" # handle \d+$")

VERDICTS = frozenset({"accept", "drop", "continue", "return"})
OPERATORS = frozenset({"==", "!=", "<", ">", "<=", ">=", "!"})
FLAGS = frozenset({("ct", "state"), ("ct", "status"), ("ct", "label"), ("payload", "flags")})
"""Expressions whose words are bits: without an operator a match asks whether one of them is set."""

_PROTOCOLS = frozenset(
    {
        "ip", "ip6", "tcp", "udp", "udplite", "sctp", "dccp", "th", "icmp", "icmpv6", "igmp", "ether", "vlan", "arp",
        "ah", "esp", "comp", "gre", "vxlan", "geneve", "gretap",
    }
)  # fmt: skip
_BARE_META = frozenset(
    {"iif", "oif", "iifname", "oifname", "iiftype", "oiftype", "iifgroup", "oifgroup", "mark", "skuid", "skgid",
     "rtclassid", "nftrace", "cgroup", "ibrname", "obrname"}
)  # fmt: skip
_EXTENSION_HEADERS = frozenset({"hbh", "frag", "dst", "mh", "srh"})
_NAT_FLAGS = frozenset({"random", "fully-random", "persistent"})
_STARTS = frozenset(
    {"accept", "drop", "continue", "return", "jump", "goto", "queue", "counter", "log", "limit", "quota", "reject",
     "masquerade", "redirect", "dnat", "snat", "notrack", "comment", "xt"}
)  # fmt: skip
"""Words that can only begin a statement: reading goes on there behind something that was not understood."""


class NotUnderstood(Exception):
    """A rule's words are of no known shape; raised and caught within this package."""


# ---------------------------------------------------------------- text to statements


class _Words:
    """The tokens of a rule, a set's elements, or a part of one, with the place reached."""

    def __init__(self, text: str) -> None:
        self.tokens = _TOKEN.findall(text)
        self.i = 0
        self.nested = 0

    def peek(self, ahead: int = 0) -> str:
        i = self.i + ahead
        return self.tokens[i] if i < len(self.tokens) else ""

    def next(self) -> str:
        if self.i >= len(self.tokens):
            raise NotUnderstood
        self.i += 1
        found: str = self.tokens[self.i - 1]
        return found

    def took(self, *words: str) -> bool:
        if tuple(self.tokens[self.i : self.i + len(words)]) == words:
            self.i += len(words)
            return True
        return False

    def need(self, word: str) -> None:
        if self.next() != word:
            raise NotUnderstood

    def number(self) -> int:
        found = whole(self.next())
        if found is None:
            raise NotUnderstood
        return found


def rule(text: str) -> tuple[tuple[NftStatement, ...], str]:
    """(statements, comment) of a rule as ``nft list`` prints it. Never raises: what is not understood is unknown."""
    words = _Words(text)
    out: list[NftStatement] = []
    comment = ""
    while words.peek():
        if words.peek() == "comment" and words.peek(1).startswith('"'):
            words.next()
            comment = unquoted(words.next())
            continue
        start = words.i
        try:
            words.nested = 0
            out.append(_statement(words))
        except NotUnderstood:
            words.i = max(start + 1, words.i if words.i <= start else start + 1)
            depth = 0
            while words.peek() and (depth > 0 or words.peek() not in _STARTS):
                depth += {"{": 1, "}": -1}.get(words.next(), 0)
            out.append(NftStatement("unknown", (" ".join(words.tokens[start : words.i]),)))
    return tuple(out), comment


def unquoted(word: str) -> str:
    """A word without its quotes; nft does not escape what is in them."""
    return word[1:-1] if len(word) > 1 and word[0] == word[-1] == '"' else word


def _statement(words: _Words) -> NftStatement:
    word = words.peek()
    if word in VERDICTS or word in ("jump", "goto", "queue"):
        return NftStatement("verdict", (), (_verdict(words),))
    read = _STATEMENTS.get(word)
    if read is not None:
        words.next()
        return read(words)
    if word in ("add", "update", "delete") and words.peek(1).startswith("@"):
        return _set_statement(words)
    if word == "ct" and words.peek(1) == "count":
        words.i += 2
        over = words.took("over")
        return NftStatement("ct count", ("over" if over else "", str(words.number())))
    if word == "ct" and words.peek(2) == "set" and words.peek(1) in ("helper", "timeout", "expectation"):
        words.i += 3
        return NftStatement(f"ct {words.peek(-2)}", (unquoted(words.next()),))
    if word == "tcp" and words.peek(1) == "option":
        return _tcp_option(words)
    left = _expression(words)
    if not isinstance(left, NftExpr):
        raise NotUnderstood
    if words.took("set"):
        return NftStatement("mangle", (), (left, _expression(words)))
    if words.took("vmap"):
        return NftStatement("vmap", (), (left, _data(words)))
    operator = words.next() if words.peek() in OPERATORS else ""
    return _match(words, left, operator)


def _match(words: _Words, left: NftValue, operator: str) -> NftStatement:
    if words.peek() == "{" or (words.peek().startswith("@") and "," not in words.peek()):
        return NftStatement("match", (operator or "==",), (left, _data(words)))
    right = _constants(words)
    if isinstance(left, NftExpr) and left.words[:1] == ("expiration",) and isinstance(right, str):
        right = seconds(right) or right
    if words.took("/"):
        # "tcp flags syn / fin,syn,rst,ack" is "tcp flags & (fin | syn | rst | ack) == syn".
        left = NftExpr("&", (), (left, _constants(words)))
        return NftStatement("match", (operator or "==",), (left, right))
    flags = (
        isinstance(left, NftExpr)
        and (left.op, left.words[-1 if left.op == "payload" else 0] if left.words else "") in FLAGS
    )
    return NftStatement("match", (operator or ("in" if flags else "=="),), (left, right))


def _verdict(words: _Words) -> NftVerdict:
    kind = words.next()
    if kind in VERDICTS:
        return NftVerdict(kind)
    if kind in ("jump", "goto"):
        return NftVerdict(kind, unquoted(words.next()))
    if kind != "queue":
        raise NotUnderstood
    if words.took("flags"):
        _flag_list(words)
    if words.took("to") or words.took("num"):
        _constants(words)
    if words.peek() in ("bypass", "fanout"):
        _flag_list(words)
    return NftVerdict("queue")


def _flag_list(words: _Words) -> tuple[str, ...]:
    out = [words.next()]
    while words.took(","):
        out.append(words.next())
    return tuple(out)


def _counter(words: _Words) -> NftStatement:
    if words.took("name"):
        words.next()
    elif words.took("packets"):
        words.number()
        words.need("bytes")
        words.number()
    return NftStatement("counter")


def _log(words: _Words) -> NftStatement:
    start = words.i
    while words.peek() in ("prefix", "level", "group", "snaplen", "queue-threshold", "flags"):
        if words.next() != "flags":
            words.next()
        elif words.took("tcp") or words.took("ip"):
            _flag_list(words)
        else:
            words.next()
    return NftStatement("log", tuple(words.tokens[start : words.i]))


def _limit(words: _Words) -> NftStatement:
    if words.took("name"):
        return NftStatement("limit", ("", f"name {words.next()}"))
    words.need("rate")
    over = words.took("over")
    amount = words.next()
    if amount.isdecimal() and words.peek():
        amount += f" {words.next()}"
    if words.took("burst"):
        words.number()
        words.next()
    return NftStatement("limit", ("over" if over else "", amount))


def _quota(words: _Words) -> NftStatement:
    if words.took("name"):
        return NftStatement("quota", ("over", f"name {words.next()}"))
    over = words.took("over")
    if not over:
        words.took("until")
    amount = f"{words.number()} {words.next()}"
    if words.took("used"):
        words.number()
        words.next()
    return NftStatement("quota", ("over" if over else "", amount))


def _reject(words: _Words) -> NftStatement:
    if not words.took("with"):
        return NftStatement("reject", ("", ""))
    if words.took("tcp", "reset"):
        return NftStatement("reject", ("tcp reset", ""))
    kind = words.next()
    if kind not in ("icmp", "icmpv6", "icmpx"):
        raise NotUnderstood
    words.took("type")
    return NftStatement("reject", (kind, words.next()))


def _translate(kind: str) -> Callable[[_Words], NftStatement]:
    def read(words: _Words) -> NftStatement:
        family = words.next() if words.peek() in ("ip", "ip6") else ""
        flags: list[str] = []
        if words.took("addr", ".", "port") or words.took("interval"):
            pass
        elif words.took("prefix"):
            flags.append("netmap")
        address: NftValue = ""
        port: NftValue = ""
        if words.took("to"):
            address, port = _destination(words)
        while words.peek() in _NAT_FLAGS:
            flags.extend(_flag_list(words))
        if kind in ("dnat", "snat"):
            return NftStatement(kind, (family, *flags), (address, port))
        return NftStatement(kind, tuple(flags), (port,))

    return read


def _destination(words: _Words) -> tuple[NftValue, NftValue]:
    """What follows ``to``: an address, a port or both, each one or a range, or an expression."""
    word = words.peek()
    if not re.fullmatch(r"(?:[0-9a-fA-F.:\[\]/-]+)", word):
        return _expression(words), ""
    words.next()
    host, port = word, ""
    bracketed = re.fullmatch(r"\[([^\]]*)\](?:-\[([^\]]*)\])?(?::([\d-]+))?", word)
    if bracketed:
        host = bracketed[1] + (f"-{bracketed[2]}" if bracketed[2] else "")
        port = bracketed[3] or ""
    elif word.count(":") == 1:
        host, _, port = word.partition(":")
    if words.peek() == "." and port == "":
        words.next()
        return _constant(host), _constant(words.next())
    return _constant(host) if host else "", _constant(port) if port else ""


def _set_statement(words: _Words) -> NftStatement:
    operation = words.next()
    name = words.next()[1:]
    words.need("{")
    key = _expression(words)
    nested: list[NftStatement] = []
    while not words.took("}"):
        if words.took("timeout") or words.took("expires"):
            words.next()
        elif words.took(":"):
            _expression(words)
        else:
            nested.append(_statement(words))
    return NftStatement("set", (operation, name), (key, *nested))


def _tproxy(words: _Words) -> NftStatement:
    family = words.next() if words.peek() in ("ip", "ip6") else ""
    words.need("to")
    return NftStatement("tproxy", (family,), _destination(words))


def _xt(words: _Words) -> NftStatement:
    kind = words.next()
    return NftStatement("xt", (kind, unquoted(words.next())))


def _flow(words: _Words) -> NftStatement:
    words.need("add")
    return NftStatement("flow", (words.next(),))


def _dup(words: _Words) -> NftStatement:
    words.need("to")
    _expression(words)
    if words.took("device"):
        _expression(words)
    return NftStatement("dup")


def _tcp_option(words: _Words) -> NftStatement:
    words.i += 2
    left = NftExpr("exthdr", ("tcp option", words.next(), *([words.next()] if _is_name(words.peek()) else [])))
    if words.took("set"):
        return NftStatement("mangle", (), (left, _expression(words)))
    return _match(words, left, words.next() if words.peek() in OPERATORS else "")


def _is_name(word: str) -> bool:
    return word.isidentifier() and word not in ("set", "exists", "missing")


def _last(words: _Words) -> NftStatement:
    if words.took("used"):
        words.next()
    return NftStatement("last")


_STATEMENTS: Mapping[str, Callable[[_Words], NftStatement]] = {
    "counter": _counter,
    "log": _log,
    "limit": _limit,
    "quota": _quota,
    "reject": _reject,
    "dnat": _translate("dnat"),
    "snat": _translate("snat"),
    "masquerade": _translate("masquerade"),
    "redirect": _translate("redirect"),
    "notrack": lambda words: NftStatement("notrack"),
    "tproxy": _tproxy,
    "xt": _xt,
    "flow": _flow,
    "dup": _dup,
    "last": _last,
}


# ---------------------------------------------------------------- expressions


def _expression(words: _Words) -> NftValue:
    """An expression: concatenated parts, each with its bit arithmetic, maybe looked up in a map."""
    words.nested += 1
    if words.nested > MOST_NESTED:
        raise NotUnderstood
    parts = [_arithmetic(words)]
    while words.took("."):
        parts.append(_arithmetic(words))
    out: NftValue = parts[0] if len(parts) == 1 else NftExpr("concat", (), tuple(parts))
    if words.took("map"):
        out = NftExpr("map", (), (out, _data(words)))
    words.nested -= 1
    return out


# nft's scanner (src/scanner.l) takes either spelling; xtables' translation of MARK prints the words.
_BITS = {"and": "&", "or": "|", "xor": "^", "lshift": "<<", "rshift": ">>"}


def _arithmetic(words: _Words) -> NftValue:
    left = _primary(words)
    while words.peek() in ("&", "|", "^", "<<", ">>", *_BITS):
        operator = words.next()
        left = NftExpr(_BITS.get(operator, operator), (), (left, _primary(words)))
    return left


def _primary(words: _Words) -> NftValue:
    word = words.next()
    if word == "(":
        inner = _expression(words)
        words.need(")")
        return inner
    if word == "meta":
        return NftExpr("meta", (words.next(),))
    if word == "ct":
        return _ct(words)
    if word == "fib":
        return _fib(words)
    if word == "rt":
        family = f"{words.next()} " if words.peek() in ("ip", "ip6") else ""
        return NftExpr("rt", (family + words.next(),))
    if word == "socket":
        return NftExpr("socket", (words.next(),))
    if word == "numgen":
        mode = words.next()
        words.need("mod")
        modulus = words.number()
        return NftExpr("numgen", (mode,), (modulus, words.number() if words.took("offset") else 0))
    if word in ("jhash", "symhash"):
        return _hash(words, word)
    if word.startswith("@"):
        if "," in word or words.peek() == ",":
            return _raw_payload(words, word)
        return NftExpr("@", (word[1:],))
    if word in _PROTOCOLS and re.match(r"[a-z]", words.peek()):
        return NftExpr("payload", (word, words.next()))
    if word in _BARE_META:
        return NftExpr("meta", (word,))
    if word == "exthdr" or (word in _EXTENSION_HEADERS and re.match(r"[a-z]", words.peek())):
        return NftExpr("exthdr", (words.next(),) if word == "exthdr" else (word, words.next()))
    if word in "{}(),<>&|^!" or word in OPERATORS or word in _STARTS:
        raise NotUnderstood
    return _constant(word)


def _ct(words: _Words) -> NftExpr:
    direction = words.next() if words.peek() in ("original", "reply") else ""
    family = f"{words.next()} " if words.peek() in ("ip", "ip6") else ""
    return NftExpr("ct", (family + words.next(), direction))


def _fib(words: _Words) -> NftExpr:
    flags = [words.next()]
    while words.took("."):
        flags.append(words.next())
    result = words.next()
    if result == "check":
        result = "oif"
    return NftExpr("fib", (result, *flags))


def _hash(words: _Words, word: str) -> NftExpr:
    of: tuple[NftValue, ...] = (_expression(words),) if word == "jhash" else ()
    words.need("mod")
    modulus, seed, offset = words.number(), "", 0
    while words.peek() in ("seed", "offset"):
        if words.next() == "seed":
            seed = words.next()
        else:
            offset = words.number()
    if word == "symhash":
        return NftExpr(word, (), (modulus, offset))
    return NftExpr(word, (), (modulus, offset, _constant(seed) if seed else "", *of))


def _raw_payload(words: _Words, word: str) -> NftExpr:
    text = word
    while words.peek() == "," and text.count(",") < 2:
        text += words.next() + words.next()
    return NftExpr("payload", tuple(text.split(",")))


_NUMERIC_RANGE = re.compile(r"(0x[0-9a-fA-F]+|\d+)-(0x[0-9a-fA-F]+|\d+)")
_ADDRESS_RANGE = re.compile(r"([\d.]+)-([\d.]+)|([0-9a-fA-F:.]*:[0-9a-fA-F:.]*)-([0-9a-fA-F:.]*:[0-9a-fA-F:.]*)")
_PREFIX = re.compile(r"([\d.]+|[0-9a-fA-F:.]*:[0-9a-fA-F:.]*)/(\d{1,3})")


def _constant(word: str) -> NftValue:
    """A word as a value: a number, a range, a prefix, or the word itself."""
    if word[:1] == '"':
        return unquoted(word)
    number = whole(word)
    if number is not None:
        return number
    if word == "*":
        return NftExpr("*")
    if word[:1].isdigit() or ":" in word:
        found = _NUMERIC_RANGE.fullmatch(word)
        if found:
            low, high = whole(found[1]), whole(found[2])
            if low is not None and high is not None:
                return NftExpr("range", (), (low, high))
        found = _ADDRESS_RANGE.fullmatch(word)
        if found:
            return NftExpr("range", (), (found[1] or found[3], found[2] or found[4]))
        found = _PREFIX.fullmatch(word)
        if found:
            return NftExpr("prefix", (), (found[1], int(found[2])))
    return word


def _constants(words: _Words) -> NftValue:
    """The right side of a match: a constant, concatenated ones, or flags by comma or ``|``."""
    first = _concatenated(words)
    if words.peek() != ",":
        return first
    items = [first]
    while words.took(","):
        items.append(_constant(words.next()))
    return NftExpr("list", (), tuple(items))


def _concatenated(words: _Words) -> NftValue:
    parts = [_plain(words)]
    while words.took("."):
        parts.append(_plain(words))
    return parts[0] if len(parts) == 1 else NftExpr("concat", (), tuple(parts))


def _plain(words: _Words) -> NftValue:
    """A constant, flags joined with ``|``, or a range of quoted times."""
    word = words.next()
    if word == "(":
        inner = _plain(words)
        words.need(")")
        return inner
    if word in "{}(),<>&|^!" or word in OPERATORS:
        raise NotUnderstood
    out = _constant(word)
    if words.peek() == "-" and words.peek(1).startswith('"'):
        words.next()
        return NftExpr("range", (), (out, unquoted(words.next())))
    while words.took("|"):
        out = NftExpr("|", (), (out, _constant(words.next())))
    return out


def _data(words: _Words) -> NftValue:
    """A named set, or the elements between braces."""
    if words.peek().startswith("@"):
        return NftExpr("@", (words.next()[1:],))
    words.need("{")
    out = tuple(_elements(words))
    words.need("}")
    return NftExpr("set", (), out)


_ATTRIBUTES = frozenset({"timeout", "expires", "comment", "counter", "limit", "quota", "last", "size"})


def _elements(words: _Words) -> Iterator[NftElement]:
    while words.peek() not in ("}", ""):
        key = _concatenated(words)
        comment, timeout, expires = "", None, None
        while words.peek() in _ATTRIBUTES:
            word = words.next()
            if word == "comment":
                comment = unquoted(words.next())
            elif word == "timeout":
                timeout = seconds(words.next())
            elif word == "expires":
                expires = seconds(words.next())
            else:
                _STATEMENTS[word](words) if word in _STATEMENTS else words.next()
        value: NftValue | None = None
        if words.took(":"):
            value = _verdict(words) if _is_verdict(words.peek()) else _concatenated(words)
        yield NftElement(key, value, comment, timeout, expires)
        if not words.took(","):
            return


def _is_verdict(word: str) -> bool:
    return word in VERDICTS or word in ("jump", "goto", "queue")


def elements(text: str) -> tuple[NftElement, ...]:
    """The elements between the braces of a set. Raises NotUnderstood."""
    words = _Words(text)
    out = tuple(_elements(words))
    if words.peek():
        raise NotUnderstood
    return out


_TIME = re.compile(r"(\d+)(ms|[wdhms])")
_UNITS = {"w": 604800, "d": 86400, "h": 3600, "m": 60, "s": 1, "ms": 0}


def seconds(text: str) -> int | None:
    """ "1d2h3m4s500ms" in whole seconds, None when it is no time."""
    parts = _TIME.findall(text[:64])
    if not parts or "".join(n + u for n, u in parts) != text:
        return whole(text)
    return sum(int(n[:15]) * _UNITS[u] for n, u in parts)


def bare(text: str) -> str:
    """A rule as a dump has it, without counters and handle."""
    return COUNTER.sub("counter", _HANDLE.sub("", text)).strip()


# ---------------------------------------------------------------- statements to text


def told(statements: tuple[NftStatement, ...], comment: str = "") -> str:
    """A rule's statements in nft's words."""
    out = [_told(s) for s in statements]
    if comment:
        out.append(f'comment "{comment}"')
    return " ".join(out)


def _told(s: NftStatement) -> str:
    kind, words, args = s.kind, s.words, s.args
    if kind == "verdict":
        return _value(args[0])
    if kind == "vmap":
        return f"{_value(args[0])} vmap {_value(args[1], args[0])}"
    if kind == "mangle":
        return f"{_value(args[0])} set {_value(args[1], args[0])}"
    if kind == "match":
        operator = words[0]
        if operator == "==" and isinstance(args[0], NftExpr) and args[0].op == "&" and _is_list(args[0].args[1]):
            return f"{_value(args[0].args[0])} {_value(args[1])} / {_value(args[0].args[1])}"
        arithmetic = isinstance(args[0], NftExpr) and args[0].op in ("&", "|", "^", "<<", ">>")
        between = " " if operator == "in" or (operator == "==" and not arithmetic) else f" {operator} "
        return f"{_value(args[0])}{between}{_value(args[1], args[0])}"
    if kind in ("dnat", "snat", "masquerade", "redirect", "tproxy"):
        return _told_translation(s)
    if kind == "reject":
        if not words[0] or words == ("icmpx", "port-unreachable"):
            return "reject"
        return f"reject with {words[0]}{f' {words[1]}' if words[1] else ''}"
    if kind == "set":
        inner = " ".join([_value(args[0]), *(_told(n) for n in args[1:] if isinstance(n, NftStatement))])
        return f"{words[0]} @{words[1]} {{ {inner} }}"
    if kind == "xt":
        return f'xt {words[0]} "{words[1]}"'
    if kind in ("limit", "quota"):
        rate = "rate " if kind == "limit" and not words[1].startswith("name ") else ""
        return f"{kind} {rate}{'over ' if words[0] else ''}{words[1]}"
    if kind == "unknown":
        return words[0]
    return " ".join([kind, *(w for w in words if w)])


def _is_list(value: object) -> bool:
    return isinstance(value, NftExpr) and value.op in ("list", "|")


def _told_translation(s: NftStatement) -> str:
    two = s.kind in ("dnat", "snat", "tproxy")
    family, flags = (s.words[0], s.words[1:]) if two else ("", s.words)
    address = _value(s.args[0]) if two else ""
    port = _value(s.args[1] if two else s.args[0])
    out = [s.kind, *([family] if family else []), *(["prefix"] if "netmap" in flags else [])]
    if address or port:
        if port and ":" in address:
            address = f"[{address}]"
        out.append(f"to {address}{f':{port}' if port else ''}")
    plain = [f for f in flags if f != "netmap"]
    return " ".join([*out, *([",".join(plain)] if plain else [])])


_QUOTED = frozenset({"iif", "oif", "iifname", "oifname", "iifkind", "oifkind", "day", "hour", "time"})


def _value(value: object, of: object = None) -> str:
    """A value in nft's words; ``of`` is the expression that it is compared with."""
    if isinstance(value, NftVerdict):
        return f"{value.kind} {value.chain}".strip()
    if isinstance(value, NftElement):
        about = f' comment "{value.comment}"' if value.comment else ""
        data = f" : {_value(value.value)}" if value.value is not None else ""
        return f"{_value(value.key, of)}{about}{data}"
    if isinstance(value, NftExpr):
        return _expr(value, of)
    if isinstance(value, int):
        return f"{value:#010x}" if _is_mark(of) else f"{value:#x}" if _is_raw(of) else str(value)
    text = str(value)
    base = of.words[0] if isinstance(of, NftExpr) and of.op == "meta" else ""
    named = base in _QUOTED or (isinstance(of, NftExpr) and of.op == "fib" and of.words[0] == "oifname")
    return f'"{text}"' if named else text


def _is_raw(of: object) -> bool:
    if isinstance(of, NftExpr) and of.op == "&":
        of = of.args[0]
    return isinstance(of, NftExpr) and of.op == "payload" and of.words[0].startswith("@")


def _is_mark(of: object) -> bool:
    if not isinstance(of, NftExpr):
        return False
    if of.op in ("&", "|", "^", "<<", ">>") and of.args:
        return _is_mark(of.args[0])
    return of.op in ("meta", "ct") and of.words[0] == "mark"


def _expr(e: NftExpr, of: object) -> str:
    op, words, args = e.op, e.words, e.args
    if op == "payload":
        return ",".join(words) if words[0].startswith("@") else " ".join(words)
    if op == "meta":
        return (
            words[0] if words[0] in ("iif", "oif", "iifname", "oifname", "iiftype", "iifgroup") else f"meta {words[0]}"
        )
    if op == "ct":
        return " ".join(w for w in ("ct", words[1] if len(words) > 1 else "", words[0]) if w)
    if op == "fib":
        return f"fib {' . '.join(words[1:])} {words[0]}"
    if op == "exthdr":
        return f"exthdr {words[0]}" if len(words) == 1 else " ".join(words)
    if op in ("rt", "socket"):
        return f"{op} {words[0]}"
    if op == "numgen":
        return f"numgen {words[0]} mod {args[0]}{f' offset {args[1]}' if args[1] else ''}"
    if op in ("jhash", "symhash"):
        key = f" {_value(args[3])}" if op == "jhash" and len(args) > 3 else ""
        seed = f" seed {args[2]:#x}" if op == "jhash" and isinstance(args[2], int) else ""
        return f"{op}{key} mod {args[0]}{seed}{f' offset {args[1]}' if args[1] else ''}"
    if op in ("&", "|", "^", "<<", ">>"):
        beside = of if of is not None else args[0]
        return f" {op} ".join(_value(a, beside if isinstance(a, int) else of) for a in args)
    if op == "concat":
        parts = of.args if isinstance(of, NftExpr) and of.op == "concat" else ()
        return " . ".join(_value(a, parts[i] if i < len(parts) else None) for i, a in enumerate(args))
    if op == "list":
        return ",".join(_value(a, of) for a in args)
    if op == "prefix":
        return f"{args[0]}/{args[1]}"
    if op == "range":
        return f"{_value(args[0], of)}-{_value(args[1], of)}"
    if op == "set":
        return f"{{ {', '.join(_value(a, of) for a in args)} }}"
    if op == "@":
        return f"@{words[0]}"
    if op == "map":
        return f"{_value(args[0])} map {_value(args[1], args[0])}"
    if op == "unknown":
        return words[0]
    return op
