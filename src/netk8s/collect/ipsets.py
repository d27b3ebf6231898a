"""The ipsets as ``ipset save`` prints them: nfnetlink's ipset subsystem through pyroute2, else ipset itself.

Sources: linux/netfilter/ipset/ip_set.h, net/netfilter/ipset/ip_set_core.c, ip_set_hash_gen.h, ip_set_bitmap_*.c,
ip_set_list_set.c (the ``_list`` functions); ipset(8) and its lib/print.c for the words and their order.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator, Mapping
from hashlib import blake2b
from ipaddress import IPv4Address, IPv6Address

from netk8s.collect import _wire
from netk8s.collect._netlink import netlink
from netk8s.collect._text import Gap, Text, command, first_of
from netk8s.collect.nfnetlink import attributes
from netk8s.errors import CollectError
from netk8s.model import ICMP, ICMPV6, PROTOCOL_NAMES

NEEDED_FOR = "what a rule with -m set matches"
NAME = "ipset-save.txt"

# Attributes of a message, then those of a set and of an entry (IPSET_ATTR_*), which count anew from 1.
SETNAME, TYPENAME, REVISION, FAMILY, DATA, ADT = 2, 3, 4, 5, 7, 8
IP, IP_TO, CIDR, PORT, PORT_TO, TIMEOUT, PROTO, FLAGS, MARK, MARKMASK = 1, 2, 3, 4, 5, 6, 7, 8, 10, 11
INITVAL, HASHSIZE, MAXELEM, NETMASK, BUCKETSIZE, SIZE, BITMASK = 17, 18, 19, 20, 21, 23, 27
ETHER, MEMBER, IP2, CIDR2, IFACE, BYTES, PACKETS, COMMENT = 17, 18, 20, 21, 23, 24, 25, 26
SKBMARK, SKBPRIO, SKBQUEUE, PAD = 27, 28, 29, 30
PHYSDEV, NOMATCH, WILDCARD = 2, 4, 128
SET_FLAGS = {8: "counters", 16: "comment", 32: "forceadd", 64: "skbinfo"}
# Lengths and counts in a set's header that are no part of it: index, elements, references, size in memory.
_OF_SETS = frozenset({
    IP, IP_TO, CIDR, PORT, PORT_TO, TIMEOUT, FLAGS, MARKMASK, INITVAL, HASHSIZE, MAXELEM, NETMASK, BUCKETSIZE, SIZE,
    BITMASK, 24, 25, 26, PAD,
})  # fmt: skip
_OF_ENTRIES = frozenset({
    IP, CIDR, PORT, TIMEOUT, PROTO, FLAGS, MARK, ETHER, MEMBER, IP2, CIDR2, IFACE, BYTES, PACKETS, COMMENT, SKBMARK,
    SKBPRIO, SKBQUEUE, PAD,
})  # fmt: skip
INET6 = 10
LIST, PROTOCOL, WITH_COUNTERS = 6 << 8 | 7, 1, 8
OF_THE_MOMENT = frozenset({HASHSIZE, 24, 25, 26})
OF_ENTRIES_MOMENT = frozenset({TIMEOUT, BYTES, PACKETS})
Attributes = Mapping[int, bytes]


def texts() -> Iterator[Text | Gap]:
    yield first_of(NAME, netlink("ipset", saved), command("ipset", "save"))


def saved() -> bytes:
    """Every set of this namespace with its entries. ICMP types are in numbers, which ipset takes too.

    Raises CollectError for a set with an attribute this does not know: half an entry would be another entry.
    """
    from pyroute2.ipset import IPSet

    sets: list[str] = []
    entries: list[str] = []
    kinds: dict[str, str] = {}
    with IPSet() as asked:
        for answer in asked.list():
            # Read off the message as it came: a set may have a hundred thousand entries.
            found = attributes(bytes(answer.data[answer.offset + 20 : answer.offset + answer.length]))
            name = _word(found[SETNAME])
            # A large set comes in several messages, of which the first has its type.
            if name not in kinds:
                kinds[name] = kind = _word(found[TYPENAME])
                made = _created(kind, _number(found.get(FAMILY)), attributes(found.get(DATA, b"")))
                sets.append(f"create {name} {kind} {made}\n")
            entries.extend(f"add {name} {_entry(kinds[name], attributes(one))}\n" for one in _each(found.get(ADT, b"")))
    # A list is created before or after its members, as the kernel has them; its entries name sets that must be there.
    return "".join([*sets, *entries]).encode("utf-8", "surrogateescape")


def signature() -> bytes:
    """The sets and their entries, without counters and the time that entries have left. Raises CollectError."""
    digest = blake2b()
    changing: dict[bytes, bool] = {}
    body = struct.pack("=BBH", socket.AF_INET, 0, 0) + _wire.attribute(PROTOCOL, b"\x06")
    for _, payload in _wire.asked(_wire.NETFILTER, LIST, body):
        found = attributes(payload[4:])
        name, entries = found[SETNAME], found.get(ADT, b"")
        digest.update(name)
        if name not in changing:
            made = attributes(found.get(DATA, b""))
            changing[name] = TIMEOUT in made or bool(_number(made.get(FLAGS)) & WITH_COUNTERS)
            digest.update(found.get(TYPENAME, b"") + found.get(FAMILY, b""))
            digest.update(b"".join(value for key, value in made.items() if key not in OF_THE_MOMENT))
        if not changing[name]:
            digest.update(entries)
            continue
        for entry in _each(entries):
            kept = (_wire.attribute(k, v) for k, v in attributes(entry).items() if k not in OF_ENTRIES_MOMENT)
            digest.update(b"".join(kept))
    return digest.digest()


def _each(nested: bytes) -> Iterator[bytes]:
    """The attributes of a list: all are of one kind."""
    at = 0
    while at + 4 <= len(nested):
        length = struct.unpack_from("=H", nested, at)[0]
        if length < 4:
            return
        yield nested[at + 4 : at + length]
        at += (length + 3) & ~3


# ---------------------------------------------------------------- a set


def _created(kind: str, family: int, found: Attributes) -> str:
    words: list[str] = []
    flags = _number(found.get(FLAGS))
    if kind.startswith("hash:") and kind != "hash:mac":
        words += ["family", "inet6" if family == INET6 else "inet"]
    if kind.startswith("bitmap:"):
        words += ["range", _range(kind, found)]
    if kind == "hash:ip,mark" and MARKMASK in found:
        words += ["markmask", f"0x{_number(found[MARKMASK]):08x}"]
    numbers = (("hashsize", HASHSIZE), ("maxelem", MAXELEM), ("netmask", NETMASK), ("size", SIZE), ("timeout", TIMEOUT))
    for word, attribute in numbers:
        if attribute in found:
            words += [word, str(_number(found[attribute]))]
        if word == "netmask" and BITMASK in found:
            words += ["bitmask", _address(found[BITMASK])]
    words += [word for bit, word in SET_FLAGS.items() if flags & bit]
    if BUCKETSIZE in found:
        words += ["bucketsize", str(_number(found[BUCKETSIZE]))]
    if INITVAL in found:
        words += ["initval", f"0x{_number(found[INITVAL]):08x}"]
    _known(kind, found, _OF_SETS)
    return " ".join(words)


def _range(kind: str, found: Attributes) -> str:
    if kind == "bitmap:port":
        return f"{_number(found[PORT])}-{_number(found[PORT_TO])}"
    return f"{_address(found[IP])}-{_address(found[IP_TO])}"


# ---------------------------------------------------------------- an entry


def _entry(kind: str, found: Attributes) -> str:
    """The elements in the order of the type's name, then what is kept with them."""
    addresses = iter(((IP, CIDR), (IP2, CIDR2)))
    elements = []
    for part in kind.partition(":")[2].split(","):
        if part in ("ip", "net"):
            address, length = next(addresses)
            elements.append(_prefix(found[address], found.get(length) if part == "net" else None))
        elif part != "mac" or ETHER in found:  # bitmap:ip,mac has addresses whose MAC is not known yet
            elements.append(_ELEMENTS[part](found) if part in _ELEMENTS else "")
    _known(kind, found, _OF_ENTRIES)
    return " ".join([",".join(elements), *_kept(found)])


def _prefix(address: bytes, length: bytes | None) -> str:
    text = _address(address)
    host = 128 if ":" in text else 32
    return text if length is None or _number(length) == host else f"{text}/{_number(length)}"


def _port(found: Attributes) -> str:
    number = _number(found[PORT])
    if PROTO not in found:
        return str(number)
    protocol = _number(found[PROTO])
    name = "ipv6-icmp" if protocol == ICMPV6 else PROTOCOL_NAMES.get(protocol, str(protocol))
    return f"{name}:{number >> 8}/{number & 255}" if protocol in (ICMP, ICMPV6) else f"{name}:{number}"


def _iface(found: Attributes) -> str:
    return f"{'physdev:' if _number(found.get(FLAGS)) & PHYSDEV else ''}{_word(found[IFACE])}"


_ELEMENTS: Mapping[str, Callable[[Attributes], str]] = {
    "port": _port,
    "iface": _iface,
    "set": lambda found: _word(found[MEMBER]),
    "mac": lambda found: found[ETHER].hex(":").upper(),
    "mark": lambda found: f"0x{_number(found[MARK]):08x}",
}


def _kept(found: Attributes) -> Iterator[str]:
    flags = _number(found.get(FLAGS))
    if TIMEOUT in found:
        yield f"timeout {_number(found[TIMEOUT])}"
    if flags & NOMATCH:
        yield "nomatch"
    if flags & WILDCARD:
        yield "wildcard"
    for word, attribute in (("packets", PACKETS), ("bytes", BYTES)):
        if attribute in found:
            yield f"{word} {_number(found[attribute])}"
    if COMMENT in found:
        yield f'comment "{_word(found[COMMENT])}"'
    if SKBMARK in found:
        mark, mask = struct.unpack("!II", found[SKBMARK])
        yield f"skbmark 0x{mark:x}" + (f"/0x{mask:x}" if mask != 0xFFFFFFFF else "")
    if SKBPRIO in found:
        major, minor = struct.unpack("!HH", found[SKBPRIO])
        yield f"skbprio {major:x}:{minor:x}"
    if SKBQUEUE in found:
        yield f"skbqueue {_number(found[SKBQUEUE])}"


# ---------------------------------------------------------------- values


def _known(kind: str, found: Attributes, known: frozenset[int]) -> None:
    """Raises CollectError for what would be left out."""
    parts = kind.partition(":")[2].split(",")
    unknown = sorted(set(found) - known)
    if unknown or not all(part in ("ip", "net") or part in _ELEMENTS for part in parts):
        raise CollectError(f"a set of type {kind} with attributes {unknown or parts}, which this version does not know")


def _address(nested: bytes) -> str:
    # An attribute that holds another one: IPSET_ATTR_IPADDR_IPV4 or _IPV6.
    value = nested[4:]
    return str(IPv4Address(value[:4]) if len(value) == 4 else IPv6Address(value[:16]))


def _number(value: bytes | None) -> int:
    return int.from_bytes(value or b"", "big")


def _word(value: bytes) -> str:
    return value.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")
