"""Words of one iptables rule: quoting, options, negation, and which module owns an option.

Grammar: iptables 1.8.9 ``iptables/xshared.c`` (add_param_to_argv, xtables_save_string) and the option tables of
``extensions/libxt_*.c``, ``libipt_*.c``, ``libip6t_*.c``. Nothing here knows what an option does to a packet.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from netk8s.model import Match, Option, Target

MANY = -1

MOST_DIGITS = 20
"""Counters are numbers of 64 bits."""

BUILTIN: Mapping[str, str] = {
    "-s": "-s", "--source": "-s", "--src": "-s",
    "-d": "-d", "--destination": "-d", "--dst": "-d",
    "-i": "-i", "--in-interface": "-i", "-o": "-o", "--out-interface": "-o",
    "-p": "-p", "--protocol": "-p", "--proto": "-p",
    "-f": "-f", "--fragment": "-f",
}  # fmt: skip
"""The options every rule has, by their canonical name."""

_PORTS = {
    "--sport": 1, "--source-port": 1, "--dport": 1, "--destination-port": 1, "--sports": 1, "--dports": 1, "--ports": 1,
}  # fmt: skip

MATCHES: Mapping[str, Mapping[str, int]] = {
    "": {"-s": 1, "-d": 1, "-i": 1, "-o": 1, "-p": 1, "-f": 0},
    "tcp": {**_PORTS, "--tcp-flags": 2, "--syn": 0, "--tcp-option": 1},
    "udp": _PORTS,
    "udplite": _PORTS,
    "sctp": {**_PORTS, "--chunk-types": MANY},
    "dccp": {**_PORTS, "--dccp-types": 1, "--dccp-option": 1},
    "multiport": {
        "--sports": 1, "--source-ports": 1, "--dports": 1, "--destination-ports": 1, "--ports": 1,
    },
    "icmp": {"--icmp-type": 1},
    "icmp6": {"--icmpv6-type": 1},
    "comment": {"--comment": 1},
    "mark": {"--mark": 1},
    "connmark": {"--mark": 1},
    "conntrack": {
        "--ctstate": 1, "--ctproto": 1, "--ctorigsrc": 1, "--ctorigdst": 1, "--ctreplsrc": 1, "--ctrepldst": 1,
        "--ctorigsrcport": 1, "--ctorigdstport": 1, "--ctreplsrcport": 1, "--ctrepldstport": 1,
        "--ctstatus": 1, "--ctexpire": 1, "--ctdir": 1,
    },
    "state": {"--state": 1},
    "addrtype": {"--src-type": 1, "--dst-type": 1, "--limit-iface-in": 0, "--limit-iface-out": 0},
    "statistic": {"--mode": 1, "--probability": 1, "--every": 1, "--packet": 1},
    "recent": {
        "--set": 0, "--rcheck": 0, "--update": 0, "--remove": 0, "--seconds": 1, "--reap": 0, "--hitcount": 1,
        "--rttl": 0, "--name": 1, "--rsource": 0, "--rdest": 0, "--mask": 1,
    },
    "set": {
        "--match-set": 2, "--return-nomatch": 0, "--update-counters": 0, "--update-subcounters": 0,
        "--packets-eq": 1, "--packets-lt": 1, "--packets-gt": 1, "--bytes-eq": 1, "--bytes-lt": 1, "--bytes-gt": 1,
    },
    "physdev": {
        "--physdev-in": 1, "--physdev-out": 1, "--physdev-is-in": 0, "--physdev-is-out": 0, "--physdev-is-bridged": 0,
    },
    "rpfilter": {"--loose": 0, "--validmark": 0, "--accept-local": 0, "--invert": 0},
    "iprange": {"--src-range": 1, "--dst-range": 1},
    "limit": {"--limit": 1, "--limit-burst": 1},
    "hashlimit": {
        "--hashlimit-upto": 1, "--hashlimit-above": 1, "--hashlimit": 1, "--hashlimit-burst": 1, "--hashlimit-mode": 1,
        "--hashlimit-srcmask": 1, "--hashlimit-dstmask": 1, "--hashlimit-name": 1, "--hashlimit-htable-size": 1,
        "--hashlimit-htable-max": 1, "--hashlimit-htable-expire": 1, "--hashlimit-htable-gcinterval": 1,
        "--hashlimit-rate-match": 0, "--hashlimit-rate-interval": 1,
    },
    "owner": {
        "--uid-owner": 1, "--gid-owner": 1, "--socket-exists": 0, "--suppl-groups": 0,
        "--pid-owner": 1, "--sid-owner": 1, "--cmd-owner": 1,
    },
    "socket": {"--transparent": 0, "--nowildcard": 0, "--restore-skmark": 0},
    "pkttype": {"--pkt-type": 1},
    "u32": {"--u32": 1},
    "length": {"--length": 1},
    "ttl": {"--ttl-eq": 1, "--ttl-lt": 1, "--ttl-gt": 1, "--ttl": 1},
    "hl": {"--hl-eq": 1, "--hl-lt": 1, "--hl-gt": 1},
    "mac": {"--mac-source": 1},
    "tos": {"--tos": 1},
    "dscp": {"--dscp": 1, "--dscp-class": 1},
    "nfacct": {"--nfacct-name": 1},
    "cgroup": {"--path": 1, "--cgroup": 1},
    "ipvs": {
        "--ipvs": 0, "--vproto": 1, "--vaddr": 1, "--vport": 1, "--vdir": 1, "--vmethod": 1, "--vportctl": 1,
    },
    "bpf": {"--object-pinned": 1, "--bytecode": 1},
    "string": {
        "--from": 1, "--to": 1, "--algo": 1, "--string": 1, "--hex-string": 1, "--icase": 0,
    },
    "connlimit": {
        "--connlimit-upto": 1, "--connlimit-above": 1, "--connlimit-mask": 1, "--connlimit-saddr": 0,
        "--connlimit-daddr": 0,
    },
    "connbytes": {"--connbytes": 1, "--connbytes-dir": 1, "--connbytes-mode": 1},
    "policy": {
        "--dir": 1, "--pol": 1, "--strict": 0, "--reqid": 1, "--spi": 1, "--proto": 1, "--mode": 1,
        "--tunnel-src": 1, "--tunnel-dst": 1, "--next": 0,
    },
    "frag": {}, "ah": {}, "esp": {}, "ipv6header": {}, "rt": {}, "eui64": {}, "helper": {"--helper": 1},
    "devgroup": {"--src-group": 1, "--dst-group": 1},
    "cpu": {"--cpu": 1},
    "quota": {"--quota": 1},
    "time": {},
}  # fmt: skip
"""Options of each match and how many words each takes; {} : the module is known, its options are not listed."""

TARGETS: Mapping[str, Mapping[str, int]] = {
    "DNAT": {"--to-destination": 1, "--random": 0, "--persistent": 0},
    "SNAT": {"--to-source": 1, "--random": 0, "--random-fully": 0, "--persistent": 0},
    "MASQUERADE": {"--to-ports": 1, "--random": 0, "--random-fully": 0},
    "REDIRECT": {"--to-ports": 1, "--random": 0},
    "NETMAP": {"--to": 1},
    "MARK": {"--set-mark": 1, "--set-xmark": 1, "--or-mark": 1, "--and-mark": 1, "--xor-mark": 1},
    "CONNMARK": {
        "--set-mark": 1, "--set-xmark": 1, "--or-mark": 1, "--and-mark": 1, "--xor-mark": 1, "--save-mark": 0,
        "--restore-mark": 0, "--nfmask": 1, "--ctmask": 1, "--mask": 1,
        "--left-shift-mark": 1, "--right-shift-mark": 1,
    },
    "REJECT": {"--reject-with": 1},
    "LOG": {
        "--log-level": 1, "--log-prefix": 1, "--log-tcp-sequence": 0, "--log-tcp-options": 0, "--log-ip-options": 0,
        "--log-uid": 0, "--log-macdecode": 0,
    },
    "NFLOG": {
        "--nflog-group": 1, "--nflog-prefix": 1, "--nflog-range": 1, "--nflog-size": 1, "--nflog-threshold": 1,
    },
    "CT": {
        "--notrack": 0, "--helper": 1, "--ctevents": 1, "--expevents": 1, "--zone": 1, "--zone-orig": 1,
        "--zone-reply": 1, "--timeout": 1,
    },
    "TPROXY": {"--on-port": 1, "--on-ip": 1, "--tproxy-mark": 1},
    "TCPMSS": {"--set-mss": 1, "--clamp-mss-to-pmtu": 0},
    "CHECKSUM": {"--checksum-fill": 0},
    "SET": {
        "--add-set": 2, "--del-set": 2, "--map-set": 2, "--timeout": 1, "--exist": 0, "--map-mark": 0,
        "--map-prio": 0, "--map-queue": 0,
    },
    "NFQUEUE": {"--queue-num": 1, "--queue-balance": 1, "--queue-bypass": 0, "--queue-cpu-fanout": 0},
    "CLASSIFY": {"--set-class": 1},
    "TOS": {"--set-tos": 1, "--and-tos": 1, "--or-tos": 1, "--xor-tos": 1},
    "DSCP": {"--set-dscp": 1, "--set-dscp-class": 1},
    "TTL": {"--ttl-set": 1, "--ttl-dec": 1, "--ttl-inc": 1},
    "TEE": {"--gateway": 1, "--oif": 1},
    "ACCEPT": {}, "DROP": {}, "RETURN": {}, "QUEUE": {}, "NOTRACK": {}, "TRACE": {},
}  # fmt: skip
"""Options of each target extension and how many words each takes."""

_PROTOCOL_MODULES = {
    "tcp": "tcp", "6": "tcp", "udp": "udp", "17": "udp", "sctp": "sctp", "132": "sctp", "dccp": "dccp",
    "33": "dccp", "udplite": "udplite", "136": "udplite", "icmp": "icmp", "1": "icmp",
    "icmpv6": "icmp6", "ipv6-icmp": "icmp6", "58": "icmp6",
}  # fmt: skip


_LONG_NUMBER = re.compile(r"\d{301}")


class Malformed(ValueError):
    """A rule that does not follow the grammar; the caller knows its line."""


def words(text: str) -> list[tuple[str, bool]]:
    """Split a rule as iptables-restore does. Returns (word, was quoted) pairs.

    Raises Malformed for a quote that is not closed.
    """
    if '"' not in text:
        return [(word, False) for word in text.split()]
    parts = text.split('"')
    # What iptables-save prints: quoted words with a blank on each side, and nothing escaped.
    if len(parts) % 2 and "\\" not in text and _apart(parts[::2]):
        plain: list[tuple[str, bool]] = []
        for i, part in enumerate(parts):
            plain.extend([(part, True)] if i % 2 else [(word, False) for word in part.split()])
        return plain
    found: list[tuple[str, bool]] = []
    word: list[str] = []
    quoted = inside = False
    chars = iter(text)
    for char in chars:
        if inside:
            if char == "\\":
                word.append(next(chars, "\\"))
            elif char == '"':
                inside = False
            else:
                word.append(char)
        elif char == '"':
            inside = quoted = True
        elif char.isspace():
            if word or quoted:
                found.append(("".join(word), quoted))
            word, quoted = [], False
        else:
            word.append(char)
    if inside:
        raise Malformed("a quote is opened and not closed")
    if word or quoted:
        found.append(("".join(word), quoted))
    return found


def _apart(outside: list[str]) -> bool:
    """Whether a blank stands on each side of what is quoted, given the pieces outside of quotes."""
    first, *others = outside
    if first and not first[-1].isspace():
        return False
    *between, last = others
    return (not last or last[0].isspace()) and all(p and p[0].isspace() and p[-1].isspace() for p in between)


def is_option(word: str, quoted: bool) -> bool:
    """Whether a word can only be the name of an option (a lone "-" and a negative number are values)."""
    return not quoted and len(word) > 1 and word[0] == "-" and not word[1].isdigit()


class _Open:
    """A match or target that still takes options."""

    __slots__ = ("known", "name", "options", "target")

    def __init__(self, name: str, target: bool) -> None:
        self.name, self.target = name, target
        self.options: list[Option] = []
        table = TARGETS if target else MATCHES
        self.known: Mapping[str, int] | None = table.get(name)

    def owns(self, option: str) -> bool:
        return self.known is not None and option in self.known


def _owner(option: str, opened: list[_Open], current: _Open | None) -> _Open:
    """The match or target an option belongs to: iptables lets options stand in any order behind their module."""
    # A module whose options are not listed may own any; the standard targets own none, and of a user chain or an
    # unlisted target that is the last guess.
    if current is not None and (current.owns(option) or (not current.target and not current.known)):
        return current
    for candidate in reversed(opened):
        if candidate.owns(option):
            return candidate
    for candidate in opened:
        if candidate.name == "" and candidate.options[0].name == "-p":
            module = _PROTOCOL_MODULES.get(candidate.options[0].values[0].lower())
            if module and option in MATCHES[module]:
                implicit = _Open(module, target=False)
                opened.append(implicit)
                return implicit
    if current is None:
        raise Malformed(f"option {option} belongs to no match; expected -m or -p before it")
    # A newer iptables may know more options than the tables above: keep it, the kernel module calls it unknown.
    return current


def parse(text: str) -> tuple[str, tuple[Match, ...], Target | None, str | None, tuple[int, int] | None]:
    """One ``-A CHAIN …`` rule -> (chain, matches, target, comment, counters given by -c).

    Raises Malformed with what was expected.
    """
    if len(text) > MOST_DIGITS and _LONG_NUMBER.search(text):
        raise Malformed("a number of more than 300 digits")
    return parse_words(words(text))


def parse_words(
    stream: list[tuple[str, bool]],
) -> tuple[str, tuple[Match, ...], Target | None, str | None, tuple[int, int] | None]:
    """As :func:`parse`, of a rule that is split already."""
    if len(stream) < 2 or stream[0][0] not in ("-A", "--append"):
        raise Malformed("expected a rule: -A CHAIN …")
    chain = stream[1][0]
    opened: list[_Open] = []
    current: _Open | None = None
    target: _Open | None = None
    goto = negate = False
    comment: str | None = None
    counters: tuple[int, int] | None = None
    at, end = 2, len(stream)
    while at < end:
        word, quoted = stream[at]
        at += 1
        if word == "!" and not quoted:
            if negate:
                raise Malformed("two ! in a row")
            if at >= end or not is_option(*stream[at]):
                raise Malformed("! must stand before an option, or between an option and its value")
            negate = True
            continue
        if not is_option(word, quoted):
            raise Malformed(f"expected an option, got {word!r}")
        name = BUILTIN.get(word, word)
        if name in ("-m", "--match", "-j", "--jump", "-g", "--goto", "-t", "--table", "-c", "--set-counters"):
            if negate:
                raise Malformed(f"! cannot stand before {word}")
            if at >= end:
                raise Malformed(f"{word} needs a value")
            value = stream[at][0]
            at += 1
            if not value:
                raise Malformed(f"{word} needs a name, got an empty word")
            if name in ("-m", "--match"):
                current = _Open("icmp6" if value == "icmpv6" else value, target=False)
                opened.append(current)
            elif name in ("-c", "--set-counters"):
                packets, colon, size = value.partition(",")
                if not colon:
                    if at >= end:
                        raise Malformed("-c needs two numbers")
                    size = stream[at][0]
                    at += 1
                if not (packets.isdecimal() and size.isdecimal() and max(len(packets), len(size)) <= MOST_DIGITS):
                    raise Malformed("-c needs two numbers")
                counters = (int(packets), int(size))
            elif name in ("-j", "--jump", "-g", "--goto"):
                if target is not None:
                    raise Malformed(f"a second target {value!r}")
                goto = name in ("-g", "--goto")
                current = target = _Open(value, target=True)
                opened.append(target)
            continue
        builtin = name in MATCHES[""]
        owner = _Open("", target=False) if builtin else _owner(name, opened, current)
        arity = (owner.known or {}).get(name, MANY)
        values: list[str] = []
        if at < end and stream[at] == ("!", False) and arity != 0 and at + 1 < end and not is_option(*stream[at + 1]):
            # iptables up to 1.4 wrote the negation behind the option: "--dport ! 80".
            if negate:
                raise Malformed(f"{word} is negated twice")
            negate = True
            at += 1
        if arity == MANY:
            while at < end and not is_option(*stream[at]) and stream[at] != ("!", False):
                values.append(stream[at][0])
                at += 1
        else:
            for _ in range(arity):
                if at >= end or (is_option(*stream[at]) and not (name == "--comment" or name.endswith("-prefix"))):
                    raise Malformed(f"{word} needs {arity} value{'s' if arity > 1 else ''}")
                values.append(stream[at][0])
                at += 1
        owner.options.append(Option(name, tuple(values), negate))
        negate = False
        if builtin:
            opened.append(owner)
        if name == "--comment" and owner.name == "comment":
            comment = values[0]
    matches = tuple(Match(o.name, tuple(o.options)) for o in opened if o is not target)
    jump = Target(target.name, tuple(target.options), goto) if target is not None else None
    return chain, matches, jump, comment, counters


_PLAIN = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-.,:/+@%=*[]|&#<>~^$()';`{}?!")


def quote(word: str) -> str:
    """A word as iptables-save writes it: quoted when it holds anything but plain characters."""
    if word and all(char in _PLAIN for char in word) and word != "!" and not word.startswith("-"):
        return word
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'


def write(chain: str, matches: tuple[Match, ...], target: Target | None) -> str:
    """The rule back as text; parsing it again gives the same matches and target."""
    out = ["-A", quote(chain)]

    def options(items: tuple[Option, ...]) -> None:
        for option in items:
            if option.negated:
                out.append("!")
            out.append(option.name)
            out.extend(quote(value) for value in option.values)

    for match in matches:
        if match.module:
            out.extend(("-m", quote(match.module)))
        options(match.options)
    if target is not None:
        out.extend(("-g" if target.goto else "-j", quote(target.name)))
        options(target.options)
    return " ".join(out)
