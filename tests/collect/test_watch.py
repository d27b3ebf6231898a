"""collect/watch.py: every kind of change is noticed, and what is none is not. IPVS: tests/lab/test_readers.py."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from netk8s.collect import node, watch
from netk8s.collect._text import Gap
from netk8s.errors import CollectError

SETTING = """
set -e
ip link set lo up
ip link add v0 type veth peer name v1
ip link set v0 up
ip link set v1 up
ip addr add 10.9.0.1/24 dev v0
ip -6 addr add fd00:9::1/64 dev v0 nodad
iptables-legacy -A INPUT -s 10.0.0.1 -j ACCEPT
ip6tables-legacy -A INPUT -s fd00::1 -j ACCEPT
ipset create plain hash:ip
ipset create timed hash:ip timeout 600 counters
ipset add timed 10.0.0.9
nft add table ip t
nft add set ip t seen '{ type ipv4_addr; flags dynamic; timeout 1h; }'
nft add chain ip t o '{ type filter hook output priority 0; }'
nft add rule ip t o update @seen '{ ip daddr }' counter
"""
RULES = {"nftables", "hooks"}
OF_LINKS = {"links", "addresses", "routes", "neighbours", "sysctls"}
# A change, the readers that must notice it, and those that others may notice too.
CHANGES: list[tuple[str, set[str], set[str]]] = [
    ("nft add rule ip t o ip daddr 10.0.0.1 drop", RULES, set()),
    ("nft add element ip t seen '{ 10.0.0.1 }'", RULES, set()),
    ("nft add table ip6 other", RULES, set()),
    ("iptables-nft -A INPUT -s 10.0.0.1 -j ACCEPT", RULES, set()),
    ("iptables-legacy -A INPUT -s 10.0.0.2 -j ACCEPT", {"iptables"}, set()),
    # As many rules, as many bytes, another meaning.
    ("iptables-legacy -R INPUT 1 -s 10.0.0.3 -j ACCEPT", {"iptables"}, set()),
    ("iptables-legacy -R INPUT 1 -s 10.0.0.3 -j DROP", {"iptables"}, set()),
    ("iptables-legacy -P FORWARD DROP", {"iptables"}, set()),
    ("iptables-legacy -t nat -N X", {"iptables", "hooks"}, RULES),
    ("ip6tables-legacy -R INPUT 1 -s fd00::2 -j ACCEPT", {"iptables"}, set()),
    ("ipset create more hash:net", {"ipsets"}, set()),
    ("ipset add plain 10.0.0.1", {"ipsets"}, set()),
    ("ipset del plain 10.0.0.1; ipset add plain 10.0.0.2", {"ipsets"}, set()),
    ("ipset del timed 10.0.0.9; ipset add timed 10.0.0.8", {"ipsets"}, set()),
    ("ipset rename plain other", {"ipsets"}, set()),
    ("ipset destroy other", {"ipsets"}, set()),
    ("ip link add v2 type veth peer name v3", OF_LINKS, set()),
    ("ip link set v2 mtu 1400", {"links"}, OF_LINKS),
    ("ip link set v2 name v5", OF_LINKS, set()),
    ("ip link set v0 alias something", {"links"}, OF_LINKS),
    ("ip addr add 10.9.1.1/24 dev v0", {"addresses", "routes"}, {"neighbours"}),
    ("ip -6 addr add fd00:8::1/64 dev v0 nodad", {"addresses", "routes"}, {"neighbours"}),
    ("ip route add 10.1.0.0/16 via 10.9.0.2", {"routes"}, {"neighbours"}),
    ("ip route replace 10.1.0.0/16 via 10.9.0.3", {"routes"}, {"neighbours"}),
    ("ip -6 route add fd01::/64 via fd00:9::2", {"routes"}, {"neighbours"}),
    ("ip route add blackhole 10.2.0.0/16 table 77", {"routes"}, set()),
    ("ip rule add from 10.0.0.0/8 lookup 77", {"routes"}, set()),
    ("ip -6 rule add from fd00::/8 lookup 77", {"routes"}, set()),
    ("ip neigh add 10.9.0.7 lladdr 02:00:00:00:00:01 dev v0", {"neighbours"}, set()),
    ("ip neigh change 10.9.0.7 lladdr 02:00:00:00:00:02 dev v0", {"neighbours"}, set()),
    ("ip neigh change 10.9.0.7 nud failed dev v0", {"neighbours"}, set()),
    ("sysctl -qw net.ipv4.ip_forward=1", {"sysctls"}, set()),
    ("sysctl -qw net.ipv4.conf.v0.route_localnet=1", {"sysctls"}, set()),
    ("sysctl -qw net.ipv4.conf.v0.rp_filter=2", {"sysctls"}, set()),
    ("sysctl -qw net.ipv6.conf.v0.forwarding=1", {"sysctls"}, OF_LINKS),
    ("sysctl -qw net.netfilter.nf_conntrack_tcp_be_liberal=1", {"sysctls"}, set()),
    ("ip link set v1 down", {"links", "routes"}, OF_LINKS),
    ("ip link del v0", OF_LINKS, set()),
]
CODE = """
import json, socket, subprocess, sys, time
from netk8s.collect import watch

setting, changes = json.loads(sys.stdin.read())
subprocess.run(["sh", "-c", setting], check=True)
time.sleep(2.5)  # until IPv6 has come to rest on the new devices
found = []
with watch.Watch() as watched:
    untold = sorted(watched.untold)
    def since(what):
        found.append((what, sorted(watched.changed() - watched.untold)))
    since("nothing")
    since("nothing")
    # Packets: counters of every backend, a dynamic set, a connection, a neighbour that is asked for.
    subprocess.run(["iptables-legacy", "-Z"], check=True)
    watched.changed()
    for port in range(5000, 5003):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.connect(("127.0.0.1", port))
            sock.send(b"x")
    since("packets")
    for change, must in changes:
        subprocess.run(["sh", "-c", change], check=True, stderr=subprocess.DEVNULL)
        if change.startswith(("ip link set v1 down", "ip link del")):
            time.sleep(1.2)  # the kernel tells of a lost carrier once a second (net/core/link_watch.c)
        # It tells of an IPv6 address from a work queue (addrconf_dad_work), on a busy machine some time later.
        noticed, until = set(), time.monotonic() + 10
        while True:
            noticed |= watched.changed() - watched.untold
            if noticed.issuperset(must) or time.monotonic() > until:
                break
            time.sleep(0.05)
        found.append((change, sorted(noticed)))
    with socket.socket() as server:
        server.bind(("127.0.0.1", 8080))
        server.listen()
        since("a socket listens")
    since("a socket is closed")
    since("nothing")
print(json.dumps([untold, found]))
"""


@pytest.mark.lab
def test_each_kind_of_change_is_noticed_and_nothing_else(spaces: Callable[[], Any]) -> None:
    space = spaces()
    given = json.dumps([SETTING, [(change, sorted(must)) for change, must, _ in CHANGES]])
    untold, found = json.loads(space.python(f"import io, sys\nsys.stdin = io.StringIO({given!r})\n{CODE}"))
    assert untold == ["connections"]
    expected = {change: (must, must | may) for change, must, may in CHANGES} | {
        "nothing": (set(), set()),
        "packets": (set(), set()),
        "a socket listens": ({"sockets"}, {"sockets"}),
        "a socket is closed": ({"sockets"}, {"sockets"}),
    }
    wrong = {
        change: noticed
        for change, noticed in found
        if not expected[change][0] <= set(noticed) or not set(noticed) <= expected[change][1]
    }
    assert wrong == {}


def test_what_cannot_be_asked_has_always_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Reader:
        NEEDED_FOR = "something"

        def __init__(self, *answers: bytes | CollectError) -> None:
            self.answers = iter(answers)

        def texts(self) -> list[Gap]:
            return []

        def signature(self) -> bytes:
            answer = next(self.answers)
            if isinstance(answer, CollectError):
                raise answer
            return answer

    class Silent:
        NEEDED_FOR = "something"

        def texts(self) -> list[Gap]:
            return []

    closed = CollectError("Operation not permitted")
    steady, refused, left_out = Reader(b"1", b"1", b"2", b"2"), Reader(closed, closed, b"1", b"1"), Reader()
    readers = {"a": steady, "b": refused, "c": Silent(), "d": left_out}
    monkeypatch.setattr(node, "readers", lambda: readers)
    with watch.Watch(leave_out=["d"]) as watched:
        assert watched.untold == {"c"}
        assert watched.changed() == {"b", "c"}
        assert watched.changed() == {"a", "b", "c"}
        assert watched.changed() == {"c"}


def test_a_namespace_that_is_not_there() -> None:
    with pytest.raises(CollectError, match="cannot be opened"):
        watch.Watch("/nowhere")
