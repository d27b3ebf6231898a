"""Routes and addresses: longest prefix, metrics, policy rules, address selection.

The rows of ``MASQUERADE`` are the verified ones of shared/reference/packet-path.md, section 3.
"""

from __future__ import annotations

from fractions import Fraction
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netk8s.kernel.routing import Fib, default_rules, local_routes, network, select_address, select_address6
from netk8s.model import Address, NextHop, Route, RoutingRule

A, N = ip_address, ip_network


def route(dst: str, dev: str | None = None, via: str | None = None, kind: str = "unicast", **more: object) -> Route:
    hops = (NextHop(dev, A(via) if via else None),) if dev or via else ()
    return Route(N(dst), kind, hops, **more)  # type: ignore[arg-type]


def rules(*more: RoutingRule, family: int = 4) -> list[RoutingRule]:
    return [*default_rules(family), *more]


ROUTES = [
    route("0.0.0.0/0", "eth0", "192.168.10.1"),
    route("192.168.10.0/24", "eth0"),
    route("10.244.0.0/16", "flannel.1", "10.244.0.0"),
    route("10.244.1.0/24", "cni0"),
    route("10.244.1.9/32", "veth9"),
    route("203.0.113.0/24", kind="blackhole"),
    route("203.0.114.0/24", kind="unreachable"),
    route("203.0.115.0/24", kind="prohibit"),
    route("192.168.10.5/32", "eth0", kind="local", table="local"),
    route("127.0.0.0/8", "lo", kind="local", table="local"),
    route("192.168.10.255/32", "eth0", kind="broadcast", table="local"),
]


def lookup(
    dst: str, routes: list[Route] | None = None, policy: list[RoutingRule] | None = None, **more: object
) -> tuple[str, str | None]:
    src = more.pop("src", None)
    fib = Fib(A(dst).version, ROUTES if routes is None else routes, policy or [])
    found = fib.lookup(A(dst), A(src) if isinstance(src, str) else None, **more)  # type: ignore[arg-type]
    return found.kind, found.ways[0][1].dev if found.ways else None


# ---------------------------------------------------------------- tables


@pytest.mark.parametrize(
    ("dst", "expected"),
    [
        ("8.8.8.8", ("unicast", "eth0")),
        ("192.168.10.9", ("unicast", "eth0")),
        ("10.244.7.7", ("unicast", "flannel.1")),
        ("10.244.1.8", ("unicast", "cni0")),
        ("10.244.1.9", ("unicast", "veth9")),
        ("203.0.113.1", ("blackhole", None)),
        ("203.0.114.1", ("unreachable", None)),
        ("203.0.115.1", ("prohibit", None)),
        ("192.168.10.5", ("local", "eth0")),
        ("127.1.2.3", ("local", "lo")),
        ("192.168.10.255", ("broadcast", "eth0")),
    ],
)
def test_the_longest_prefix_wins(dst: str, expected: tuple[str, str | None]) -> None:
    assert lookup(dst) == expected
    assert lookup(dst, list(reversed(ROUTES))) == expected


def test_no_route() -> None:
    assert lookup("8.8.8.8", ROUTES[1:]) == ("none", None)
    assert lookup("8.8.8.8", []) == ("none", None)
    assert lookup("fd00::1") == ("none", None)


def test_the_lowest_metric_of_one_prefix_wins() -> None:
    routes = [
        route("10.0.0.0/8", "b", metric=200),
        route("10.0.0.0/8", "a", metric=100),
        route("10.0.0.0/9", "c", metric=900),
    ]
    assert lookup("10.200.0.1", routes) == ("unicast", "a")
    assert lookup("10.0.0.1", routes) == ("unicast", "c")


def test_dead_routes_and_those_of_another_type_of_service_are_passed_over() -> None:
    routes = [
        route("10.0.0.0/8", "dead", flags=("dead", "linkdown")),
        route("10.0.0.0/8", "tos", tos=16),
        route("0.0.0.0/0", "eth0"),
    ]
    assert lookup("10.0.0.1", routes) == ("unicast", "eth0")


def test_multipath_has_odds_by_weight() -> None:
    hops = (NextHop("a", A("10.0.0.1"), 1), NextHop("b", A("10.0.0.2"), 3))
    found = Fib(4, [Route(N("0.0.0.0/0"), "unicast", hops)], []).lookup(A("8.8.8.8"), None)
    assert [(odds, hop.dev) for odds, hop in found.ways] == [(Fraction(1, 4), "a"), (Fraction(3, 4), "b")]
    bound = Fib(4, [Route(N("0.0.0.0/0"), "unicast", hops)], []).lookup(A("8.8.8.8"), None, oif="b")
    assert [(odds, hop.dev) for odds, hop in bound.ways] == [(Fraction(1), "b")]


def test_the_local_table_comes_first_and_default_last() -> None:
    assert [(r.priority, r.table) for r in default_rules(4)] == [(0, "local"), (32766, "main"), (32767, "default")]
    assert [(r.priority, r.table) for r in default_rules(6)] == [(0, "local"), (32766, "main")]
    routes = [route("192.168.10.5/32", "eth9"), *ROUTES, route("0.0.0.0/0", "last", table="default")]
    assert lookup("192.168.10.5", routes) == ("local", "eth0")
    assert lookup("8.8.8.8", [route("0.0.0.0/0", "last", table="default")]) == ("unicast", "last")


def test_families_are_apart() -> None:
    routes = [*ROUTES, route("::/0", "six"), route("fd00::1/128", "lo", kind="local", table="local")]
    assert lookup("fd00::1", routes) == ("local", "lo")
    assert lookup("2001:db8::1", routes) == ("unicast", "six")
    assert lookup("8.8.8.8", routes, [*default_rules(4), RoutingRule(5, 6, table="x")]) == ("unicast", "eth0")


# ---------------------------------------------------------------- policy rules

SIDE = [*ROUTES, route("0.0.0.0/0", "side", table="100"), route("10.9.0.0/16", kind="throw", table="100")]


@pytest.mark.parametrize(
    ("rule", "asked", "dev"),
    [
        (RoutingRule(100, 4, table="100"), {}, "side"),
        (RoutingRule(100, 4, table="100", src=N("10.244.0.0/16")), {"src": "10.244.1.6"}, "side"),
        (RoutingRule(100, 4, table="100", src=N("10.244.0.0/16")), {"src": "10.245.1.6"}, "eth0"),
        (RoutingRule(100, 4, table="100", src=N("10.244.0.0/16")), {}, "eth0"),
        (RoutingRule(100, 4, table="100", src=N("10.244.0.0/16"), negated=True), {"src": "10.245.1.6"}, "side"),
        (RoutingRule(100, 4, table="100", src=N("10.244.0.0/16"), negated=True), {"src": "10.244.1.6"}, "eth0"),
        (RoutingRule(100, 4, table="100", dst=N("8.0.0.0/8")), {}, "side"),
        (RoutingRule(100, 4, table="100", dst=N("9.0.0.0/8")), {}, "eth0"),
        (RoutingRule(100, 4, table="100", iif="cni0"), {"iif": "cni0"}, "side"),
        (RoutingRule(100, 4, table="100", iif="cni0"), {"iif": "lo"}, "eth0"),
        (RoutingRule(100, 4, table="100", oif="side"), {"oif": "side"}, "side"),
        (RoutingRule(100, 4, table="100", oif="side"), {}, "eth0"),
        (RoutingRule(100, 4, table="100", fwmark=0x80, fwmask=0x80), {"mark": 0x81}, "side"),
        (RoutingRule(100, 4, table="100", fwmark=0x80, fwmask=0x80), {"mark": 0x1}, "eth0"),
        (RoutingRule(100, 4, table="100", fwmark=0x80), {"mark": 0x81}, "eth0"),
        (RoutingRule(100, 4, table="100", fwmark=0x80), {"mark": 0x80}, "side"),
        (RoutingRule(100, 4, table="100", ipproto=6), {"protocol": 6}, "side"),
        (RoutingRule(100, 4, table="100", ipproto=6), {"protocol": 17}, "eth0"),
        (RoutingRule(100, 4, table="100", dport=(80, 90)), {"dport": 85}, "side"),
        (RoutingRule(100, 4, table="100", dport=(80, 90)), {"dport": 91}, "eth0"),
        (RoutingRule(100, 4, table="100", dport=(80, 90)), {}, "eth0"),
        (RoutingRule(100, 4, table="100", sport=(1, 2)), {"sport": 2}, "side"),
        (RoutingRule(100, 4, table="100", tos=8), {}, "eth0"),
        (RoutingRule(100, 4, "nop"), {}, "eth0"),
        (RoutingRule(100, 4, table="no such"), {}, "eth0"),
        (RoutingRule(40000, 4, table="100"), {}, "eth0"),
    ],
)
def test_which_rule_a_packet_follows(rule: RoutingRule, asked: dict[str, object], dev: str) -> None:
    assert lookup("8.8.8.8", SIDE, rules(rule), **asked) == ("unicast", dev)


@pytest.mark.parametrize("action", ["blackhole", "unreachable", "prohibit"])
def test_rules_that_refuse(action: str) -> None:
    assert lookup("8.8.8.8", SIDE, rules(RoutingRule(100, 4, action))) == (action, None)
    assert lookup("192.168.10.5", SIDE, rules(RoutingRule(100, 4, action))) == ("local", "eth0")


def test_throw_goes_on_with_the_next_rule() -> None:
    policy = rules(RoutingRule(100, 4, table="100"))
    assert lookup("10.9.1.1", SIDE, policy) == ("unicast", "eth0")
    assert lookup("10.8.1.1", SIDE, policy) == ("unicast", "side")


def test_suppress_prefixlength_ignores_the_default_route() -> None:
    """wg-quick: "lookup main suppress_prefixlength 0" takes everything of main but its default route."""
    policy = [
        RoutingRule(0, 4, table="local"),
        RoutingRule(100, 4, table="main", suppress_prefixlength=0),
        RoutingRule(200, 4, table="100"),
        RoutingRule(32766, 4, table="main"),
    ]
    assert lookup("8.8.8.8", SIDE, policy) == ("unicast", "side")
    assert lookup("10.244.1.8", SIDE, policy) == ("unicast", "cni0")
    wider = [RoutingRule(100, 4, table="main", suppress_prefixlength=24), *policy[2:]]
    assert lookup("10.244.1.8", SIDE, wider) == ("unicast", "side")
    assert lookup("10.244.1.9", SIDE, wider) == ("unicast", "veth9")


def test_goto() -> None:
    jump = [RoutingRule(10, 4, "goto", goto=200), RoutingRule(100, 4, "blackhole"), RoutingRule(200, 4, table="100")]
    assert lookup("8.8.8.8", SIDE, jump) == ("unicast", "side")
    chosen = [RoutingRule(10, 4, "goto", goto=200, fwmark=1), *jump[1:]]
    assert lookup("8.8.8.8", SIDE, chosen) == ("blackhole", None)
    assert lookup("8.8.8.8", SIDE, chosen, mark=1) == ("unicast", "side")
    # A target that is not there, or lies behind, is passed over (FR_ACT_GOTO without target).
    assert lookup("8.8.8.8", SIDE, rules(RoutingRule(10, 4, "goto", goto=777))) == ("unicast", "eth0")
    assert lookup("8.8.8.8", SIDE, rules(RoutingRule(10, 4, "goto", goto=10), RoutingRule(9, 4, "goto", goto=3))) == (
        "unicast",
        "eth0",
    )


def test_what_no_dump_tells_is_unknown() -> None:
    strange = RoutingRule(100, 4, table="100", unknown=("l3mdev",))
    found = Fib(4, SIDE, rules(strange)).lookup(A("8.8.8.8"), None)
    assert (found.kind, found.rule) == ("unknown", strange)
    assert "100" in found.why
    user = RoutingRule(100, 4, table="100", uidrange=(0, 1000))
    assert lookup("8.8.8.8", SIDE, rules(user), iif="lo") == ("unknown", None)
    assert lookup("8.8.8.8", SIDE, rules(user), iif="eth0") == ("unicast", "eth0")


# ---------------------------------------------------------------- types of addresses


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("192.168.10.5", "local"),
        ("127.0.0.9", "local"),
        ("192.168.10.255", "broadcast"),
        ("255.255.255.255", "broadcast"),
        ("0.0.0.0", "broadcast"),  # noqa: S104 - an address to ask about
        ("239.1.2.3", "multicast"),
        ("8.8.8.8", "unicast"),
        ("10.244.1.1", "unicast"),
        ("203.0.113.1", "unicast"),
    ],
)
def test_address_types(address: str, kind: str) -> None:
    assert Fib(4, ROUTES, []).address_type(A(address)) == kind


def test_address_types_of_one_device() -> None:
    fib = Fib(4, ROUTES, [])
    assert fib.address_type(A("192.168.10.5"), "eth0") == "local"
    assert fib.address_type(A("192.168.10.5"), "cni0") == "unicast"


def test_addresses_bring_their_local_routes() -> None:
    fib = Fib(4, local_routes([Address("eth0", A("10.0.0.1"), 8, "global")]), [])
    assert fib.address_type(A("10.0.0.1")) == "local"
    assert fib.address_type(A("10.0.0.2")) == "unicast"
    assert fib.address_type(A("127.0.0.1")) == "local"


# ---------------------------------------------------------------- the address MASQUERADE takes (inet_select_addr)


def addresses(*given: tuple[str, str], **flags: bool) -> tuple[dict[str, tuple[Address, ...]], tuple[str, ...]]:
    """("eth0", "192.168.10.5/24 secondary") … -> addresses by device and devices in creation order, lo first."""
    out: dict[str, tuple[Address, ...]] = {"lo": (Address("lo", A("127.0.0.1"), 8, "host"),)}
    for dev, text in given:
        where, *words = text.split()
        ip, _, length = where.partition("/")
        if dev != "lo" and dev not in out:
            out[dev] = ()
        if ip != "-":
            scope = next((w for w in words if w in ("link", "host")), "global")
            peer = next((A(w.removeprefix("peer=")) for w in words if w.startswith("peer=")), None)
            out[dev] = (*out[dev], Address(dev, A(ip), int(length), scope, "secondary" in words, peer=peer))
    return out, tuple(out)


ETH0 = [("eth0", "192.168.10.5/24"), ("eth0", "192.168.10.6/24 secondary"), ("eth0", "172.20.0.5/16")]
WIDE = [("eth0", "172.16.0.5/12"), ("eth0", "172.20.0.5/16")]
MASQUERADE = [
    ("next hop in the first subnet", ETH0, "eth0", "192.168.10.9", "192.168.10.5"),
    ("next hop in the second subnet", ETH0, "eth0", "172.20.0.9", "172.20.0.5"),
    ("a secondary address is never chosen", ETH0, "eth0", "192.168.10.6", "192.168.10.5"),
    ("no subnet holds the next hop", ETH0, "eth0", "10.9.9.9", "192.168.10.5"),
    ("first in the list, not longest prefix", WIDE, "eth0", "172.20.0.9", "172.16.0.5"),
    ("the reversed list", list(reversed(WIDE)), "eth0", "172.20.0.9", "172.20.0.5"),
    ("a /32 first", [("eth0", "10.9.9.9/32"), ("eth0", "192.168.10.5/24")], "eth0", "192.168.10.9", "192.168.10.5"),
    ("a /32 alone", [("eth0", "10.9.9.9/32")], "eth0", "192.168.10.9", "10.9.9.9"),
    ("scope link first", [("eth0", "169.254.1.1/16 link"), ("eth0", "192.168.10.5/24")], "eth0", "192.168.10.9", "192.168.10.5"),
    ("egress without address", [("eth0", "-"), ("veth0", "10.244.1.1/24")], "eth0", "192.168.10.9", "10.244.1.1"),
    ("egress without address, global on lo", [("lo", "198.18.0.1/32"), ("eth0", "-"), ("veth0", "10.244.1.1/24")], "eth0", "192.168.10.9", "198.18.0.1"),
    (".6 added before .5", [("eth0", "192.168.10.6/24"), ("eth0", "192.168.10.5/24 secondary")], "eth0", "192.168.10.9", "192.168.10.6"),
    ("egress cni0, local pod", [("eth0", "192.168.10.5/24"), ("cni0", "10.244.1.1/24")], "cni0", "10.244.1.6", "10.244.1.1"),
    ("egress flannel.1, remote pod", [("eth0", "192.168.10.5/24"), ("flannel.1", "10.244.1.0/32")], "flannel.1", "10.244.2.0", "10.244.1.0"),
    ("egress lo: first global of the others", [("veth0", "10.244.1.1/24"), ("eth0", "192.168.10.5/24")], "lo", "192.168.10.5", "10.244.1.1"),
    ("calico: egress cali without address", [("eth0", "192.168.10.5/24"), ("cali1", "-")], "cali1", "10.244.1.6", "192.168.10.5"),
    ("a keepalived /32 behind the first address", [("eth0", "192.168.10.5/24"), ("eth0", "192.168.10.9/32")], "eth0", "192.168.10.7", "192.168.10.5"),
    ("the far end of a tunnel", [("tun0", "10.8.0.1/32 peer=10.8.0.2"), ("tun0", "10.9.0.1/24")], "tun0", "10.8.0.2", "10.8.0.1"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("given", "dev", "nexthop", "chosen"), [row[1:] for row in MASQUERADE], ids=[row[0] for row in MASQUERADE]
)
def test_masquerade_s_address(given: list[tuple[str, str]], dev: str, nexthop: str, chosen: str) -> None:
    by_dev, order = addresses(*given)
    found, why = select_address(by_dev, order, dev, A(nexthop))
    assert found is not None
    assert (str(found.ip), bool(why)) == (chosen, True)


def test_no_usable_address_at_all() -> None:
    by_dev, order = addresses(("eth0", "-"), ("eth1", "169.254.0.1/16 link"))
    found, why = select_address(by_dev, order, "eth0", A("10.0.0.1"))
    assert found is None
    assert "eth0" in why


@given(
    st.lists(
        st.tuples(st.sampled_from(["eth0", "cni0"]), st.ip_addresses(v=4), st.integers(8, 32), st.booleans()),
        max_size=6,
    ),
    st.ip_addresses(v=4),
)
def test_the_choice_is_always_a_primary_address_and_of_the_device_if_it_has_one(
    items: list[tuple[str, object, int, bool]], nexthop: object
) -> None:
    by_dev: dict[str, tuple[Address, ...]] = {"lo": (), "eth0": (), "cni0": ()}
    for dev, ip, length, secondary in items:
        by_dev[dev] = (*by_dev[dev], Address(dev, ip, length, "global", secondary))  # type: ignore[arg-type]
    found, _ = select_address(by_dev, tuple(by_dev), "eth0", nexthop)  # type: ignore[arg-type]
    primary = [a for a in by_dev["eth0"] if not a.secondary]
    others = [a for a in by_dev["cni0"] if not a.secondary]
    if primary:
        inside = [a for a in primary if nexthop in N(f"{a.ip}/{a.prefixlen}", strict=False)]
        assert found is (inside or primary)[0]
    else:
        assert found is (others[0] if others else None)


# ---------------------------------------------------------------- IPv6 (RFC 6724, ipv6_dev_get_saddr)


def six(dev: str, text: str, length: int = 64, scope: str = "global", **flags: bool) -> Address:
    return Address(dev, A(text), length, scope, **flags)


GUA, ULA, LINK = six("eth0", "2001:db8:1::5"), six("eth0", "fd00:1::5"), six("eth0", "fe80::5", scope="link")


@pytest.mark.parametrize(
    ("given", "dst", "chosen"),
    [
        ([GUA, ULA, LINK], "2001:db8:9::9", GUA),
        ([ULA, GUA, LINK], "2001:db8:9::9", GUA),
        ([GUA, ULA, LINK], "fd00:9::9", ULA),
        ([ULA, GUA, LINK], "fd00:9::9", ULA),
        ([ULA, LINK], "2001:db8:9::9", ULA),
        ([GUA, LINK], "fd00:9::9", GUA),
        ([GUA, LINK], "fe80::9", LINK),
        ([LINK], "2001:db8:9::9", LINK),
        ([six("eth0", "2001:db8:1::5", deprecated=True), ULA], "2001:db8:9::9", ULA),
        ([six("eth0", "2001:db8:1::5", tentative=True), ULA], "2001:db8:9::9", ULA),
        ([six("eth0", "2001:db8:1::5"), six("eth0", "2001:db8:9::1")], "2001:db8:9::9", six("eth0", "2001:db8:9::1")),
        ([six("eth0", "2001:db8:9::1"), six("eth0", "2001:db8:9::9")], "2001:db8:9::9", six("eth0", "2001:db8:9::9")),
        ([six("eth1", "2001:db8:9::1"), GUA], "2001:db8:9::9", GUA),
        ([six("eth1", "2001:db8:9::1"), LINK], "2001:db8:9::9", six("eth1", "2001:db8:9::1")),
        ([six("eth0", "2002:c000:204::5"), GUA], "2001:db8:9::9", GUA),
        ([six("eth0", "2002:c000:204::5"), GUA], "2002:c000:207::1", six("eth0", "2002:c000:204::5")),
    ],
)
def test_ipv6_sources(given: list[Address], dst: str, chosen: Address) -> None:
    by_dev: dict[str, tuple[Address, ...]] = {}
    for address in given:
        by_dev[address.dev] = (*by_dev.get(address.dev, ()), address)
    found, why = select_address6(by_dev, "eth0", A(dst))
    assert found == chosen, why


def test_ipv6_without_any_address() -> None:
    found, why = select_address6({"eth0": (Address("eth0", A("10.0.0.1"), 8, "global"),)}, "eth0", A("fd00::1"))
    assert found is None
    assert "IPv6" in why


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.0.0.0/8", N("10.0.0.0/8")),
        ("10.0.0.1/255.0.0.0", N("10.0.0.0/8")),
        ("::1", N("::1/128")),
        ("x", None),
        ("", None),
        ("10.0.0.0/33", None),
    ],
)
def test_networks(text: str, expected: object) -> None:
    assert network(text) == expected


@given(st.lists(st.tuples(st.ip_addresses(v=4), st.integers(0, 32)), max_size=12), st.ip_addresses(v=4))
def test_a_lookup_is_a_linear_scan_for_the_longest_prefix(given: list[tuple[object, int]], dst: object) -> None:
    routes = [route(f"{N(f'{ip}/{length}', strict=False)}", f"d{i}") for i, (ip, length) in enumerate(given)]
    fitting = [r for r in routes if dst in r.dst]
    best = max(fitting, key=lambda r: r.dst.prefixlen, default=None)
    found = Fib(4, routes, []).lookup(dst, None)  # type: ignore[arg-type]
    if best is None:
        assert found.kind == "none"
    else:
        assert found.route is not None
        assert found.route.dst == best.dst


def test_a_blackhole_route_is_not_suppressed() -> None:
    policy = [
        RoutingRule(0, 4, table="local"),
        RoutingRule(100, 4, table="main", suppress_prefixlength=0),
        RoutingRule(200, 4, table="100"),
    ]
    routes = [route("0.0.0.0/0", kind="blackhole"), route("0.0.0.0/0", "side", table="100")]
    assert lookup("8.8.8.8", routes, policy) == ("blackhole", None)


def test_zeronet_is_one_address() -> None:
    assert Fib(4, ROUTES, []).address_type(A("0.1.2.3")) == "unicast"
    assert Fib(4, ROUTES, []).address_type(A("255.255.255.255")) == "broadcast"
