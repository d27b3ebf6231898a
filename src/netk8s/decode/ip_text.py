"""``ip -d link``, ``ip -d addr`` and ``bridge -d link`` as they print for people, with ``-s`` and ``-o`` too.

What is pasted into issues. Every device's words become the members that iproute2's JSON has, and are read as those.
Sources: iproute2's ip/ipaddress.c, ip/iplink_*.c, ip/link_*.c, bridge/link.c.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from netk8s.decode._json import JsonObject
from netk8s.decode._links import TUNNELS, detailed, links
from netk8s.decode._text import first_lines, lines
from netk8s.decode.ip_addr import addresses
from netk8s.errors import DecodeError
from netk8s.model import At, Coverage, Dump, Fact

NAME = "ip-text"
COMMAND = "ip -d link"

_DEVICE = re.compile(r"(\d{1,10}):\s+([^\s:<>]+):\s+<([^>]*)>(.*)")
_ONE_LINE_ADDRESS = re.compile(r"(\d{1,10}):\s+([^\s:<>]+)\s+(inet6?\s.*)")
_KIND = re.compile(r"[a-z][a-z0-9_]*")
_NUMBER = re.compile(r"\d+")
_NO_KIND = frozenset({"alias", "altname", "inet", "inet6", "vf", "valid_lft"})
# The words of a device's first line and of its link layer line -> the members of the JSON.
_LINE = {"mtu": "mtu", "master": "master", "state": "operstate"}
_LAYER = {"link-netnsid": "link_netnsid", "link-netns": "link_netns", "promiscuity": "promiscuity"}
_PORT = {word: word for word in ("state", "cost", "hairpin", "isolated")}
_DATA = {
    word: word
    for word in (
        "mode", "id", "protocol", "table", "type", "local", "remote", "group", "okey", "vlan_filtering", "stp_state",
        "vlan_default_pvid", "nf_call_iptables", "nf_call_ip6tables", "active_slave", "xmit_hash_policy",
    )
} | {"dev": "link", "dstport": "port"}  # fmt: skip
_FLAGS = dict.fromkeys(TUNNELS, ("external", "ocsum", "oseq")) | dict.fromkeys(
    ("ipvlan", "ipvtap"), ("private", "vepa")
)


def sniff(dump: Dump) -> bool:
    """One of the first lines is a device's or, of ``ip -o addr``, an address's; a shell's prompt may stand before it."""
    return any(_DEVICE.match(line) or _ONE_LINE_ADDRESS.match(line) for line in first_lines(dump)[:5])


def decode(dump: Dump) -> Iterator[Fact]:
    """The Links of a dump of links, the Addresses (and with ``-d`` the Links) of one of addresses, as from JSON.

    A network namespace that has a name is printed by it (``link-netns NAME``); JSON has its number. Lines that are
    about neither (counters, virtual functions, a prompt) are passed over. Raises DecodeError.
    """
    items = [JsonObject(members, at) for at, members in _devices(dump)]
    if not items:
        raise DecodeError(dump.origin, 1, f"expected a device as `{COMMAND}` prints it: 2: eth0: <UP> mtu 1500 …")
    at = At(dump.origin, items[0].at.line)
    # `ip link` prints every device's link mode, `ip addr` never does.
    of_addresses = any("addr_info" in item.members for item in items)
    if of_addresses or not any("linkmode" in item.members or "cost" in item.members for item in items):
        yield Coverage("addr", at)
    if detailed(items):
        yield Coverage("link", at)
    if not all("of_one_line" in item.members for item in items):
        yield from links(items)
    yield from addresses(items)


def _devices(dump: Dump) -> Iterator[tuple[At, dict[str, Any]]]:
    """(place, members) of each device, in order."""
    found: dict[str, tuple[At, dict[str, Any]]] = {}
    members: dict[str, Any] = {}
    for number, line in lines(dump):
        at = At(dump.origin, number)
        for position, part in enumerate(line.split("\\")):  # -o prints a backslash for each line end
            text = part.strip()
            device, short = (_DEVICE.match(text), _ONE_LINE_ADDRESS.match(text)) if position == 0 else (None, None)
            if device:
                members = _head(device)
                found[f"{device[1]}:{members['ifname']}"] = at, members
            elif short:
                fresh = {"ifindex": short[1], "ifname": short[2].rpartition("@")[0] or short[2], "of_one_line": True}
                members = found.setdefault(f"{short[1]}:{fresh['ifname']}", (at, fresh))[1]
                _more(members, short[3], at)
            elif members:
                _more(members, text, at)
    return iter(found.values())


def _head(device: re.Match[str]) -> dict[str, Any]:
    """The first line: ``4: veth1@if2: <BROADCAST,UP> mtu 1500 qdisc noqueue master cni0 state UP mode DEFAULT …``."""
    name, _, other = device[2].rpartition("@")
    members: dict[str, Any] = {"ifindex": device[1], "ifname": name or other, "flags": device[3].split(",")}
    if name and other != "NONE":
        # A device of another namespace has no name here, and is told by its index.
        elsewhere = re.fullmatch(r"if(\d{1,10})", other)
        members |= {"link_index": elsewhere[1]} if elsewhere else {"link": other}
    words = device[4].split()
    if "cost" in words:
        return members | _pairs(words, _PORT | {"mtu": "mtu", "master": "master"})
    if "mode" in words:
        members["linkmode"] = ""
    return members | _pairs(words, _LINE)


def _more(members: dict[str, Any], text: str, at: At) -> None:
    """One of the lines below a device's first."""
    words = text.split()
    first = words[0] if words else ""
    expects_kind, members["expects_kind"] = members.get("expects_kind"), False
    if first.startswith("link/"):
        if len(words) > 1 and (":" in words[1] or "." in words[1]):
            members["address"] = words[1]
        members |= _pairs(words[1:], _LAYER)
        members["expects_kind"] = True
    elif first in ("inet", "inet6"):
        members.setdefault("addr_info", []).append(_address(words, at))
    elif first == "alias":
        members["ifalias"] = text.removeprefix("alias").lstrip()
    elif first == "altname" and len(words) > 1:
        members.setdefault("altnames", []).append(words[1])
    elif "cost" in members:
        members |= _switched(_pairs(words, _PORT))
    elif expects_kind and _KIND.fullmatch(first) and first not in _NO_KIND:
        info = members.setdefault("linkinfo", {})
        if first.endswith("_slave"):
            info["info_slave_data"] = _switched(_pairs(words[1:], _PORT))
        else:
            info |= {"info_kind": first, "info_data": _data(first, words[1:])}
            members["expects_kind"] = True


def _pairs(words: list[str], known: dict[str, str]) -> dict[str, Any]:
    """The values of the words that are known, by the JSON's names for them."""
    found: dict[str, Any] = {}
    rest = iter(words)
    for word in rest:
        if word in known and (value := next(rest, None)) is not None:
            found[known[word]] = value
    if found.get("link_netnsid") == "unknown":
        found["link_netnsid"] = -1
    return found


def _switched(found: dict[str, Any]) -> dict[str, Any]:
    """Without the words that are no settings: a bond's slave has a state and no hairpin mode."""
    return {key: value for key, value in found.items() if key not in ("hairpin", "isolated") or value in ("on", "off")}


def _data(kind: str, words: list[str]) -> dict[str, Any]:
    """What is printed of a kind: words with a value, and flags."""
    flags = _FLAGS.get(kind, ())
    data = _pairs([word for word in words if word not in flags], _DATA) | {
        word: True for word in words if word in flags
    }
    if kind == "vxlan":
        data["learning"] = "nolearning" not in words
    if kind not in TUNNELS:
        data.pop("link", None)
    elif (found := _pairs(words, {"encap": "type"})) and found["type"] in ("fou", "gue"):
        data["encap"] = found
    if _pairs(words, {"encaplimit": "limit"}).get("limit") == "none":
        data["ip6_tnl_f_ign_encap_limit"] = True
    if "remotes" in words:  # macvlan mode source: remotes (2) 02:00:00:00:00:01 02:00:00:00:00:02
        listed = words[words.index("remotes") + 1 :]
        count = _NUMBER.search(listed[0]) if listed else None
        data["macaddr_data"] = [word for word in listed[1 : 1 + int(count[0][:6])] if ":" in word] if count else []
    return data


def _address(words: list[str], at: At) -> dict[str, Any]:
    """``inet 10.0.0.1/24 brd 10.0.0.255 scope global secondary eth0``, ``inet 10.0.0.1 peer 10.0.0.2/32 …``."""
    if len(words) < 2:
        raise DecodeError(at.origin, at.line, f"expected an address behind {words[0]!r}")
    local, _, length = words[1].partition("/")
    info: dict[str, Any] = {"family": words[0], "local": local}
    known: Iterable[str] = words[2:]
    if words[2:3] == ["peer"] and len(words) > 3:
        info["address"], _, length = words[3].partition("/")
        known = words[4:]
    if length:
        info["prefixlen"] = length
    flags = ("secondary", "deprecated", "tentative")
    return info | _pairs(list(known), {"scope": "scope"}) | {word: True for word in known if word in flags}
