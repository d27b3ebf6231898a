"""calico: policies by hash and by comment, endpoint chains, eBPF mode."""

from __future__ import annotations

from collections.abc import Callable

from netk8s.dialects import calico
from netk8s.dialects.calico import limited
from netk8s.model import Policed, Recognised, Trace, World

Made = Callable[..., World]
Components = Callable[[World], dict[str, Recognised]]


def said(trace: Trace) -> list[tuple[str, Policed]]:
    """(chain, what policies said) along the first way."""
    return [(s.chain, s.policed) for hop in trace.ways[0].hops for s in hop.steps if s.policed is not None]


HASHED = limited("cali-pi-", "shop/knp.default.deny-all")
# The layout of felix/rules: dispatch by interface, then an endpoint's chain with its policies and profiles.
RULES = """\
*nat
:PREROUTING ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
COMMIT
*filter
:FORWARD ACCEPT [0:0]
:cali-FORWARD - [0:0]
:cali-to-wl-dispatch - [0:0]
:cali-tw-cali0123456789a - [0:0]
:POLICY1 - [0:0]
:POLICY2 - [0:0]
:cali-pri-kns.shop - [0:0]
-A FORWARD -m comment --comment "cali:wUHhoiAYhphO9Mso" -j cali-FORWARD
-A FORWARD -m comment --comment "cali:S93hcgKJrXEqnTfs" -m comment --comment "Policy explicitly accepted packet." -m mark --mark 0x10000/0x10000 -j ACCEPT
-A cali-FORWARD -m comment --comment "cali:vjrMJCRpqwy5oRoX" -j MARK --set-xmark 0x0/0xe0000
-A cali-FORWARD -o cni0 -m comment --comment "cali:_3ZP" -j cali-to-wl-dispatch
-A cali-to-wl-dispatch -o cni0 -m comment --comment "cali:abcd" -g cali-tw-cali0123456789a
-A cali-to-wl-dispatch -m comment --comment "cali:dcba" -m comment --comment "Unknown interface" -j DROP
-A cali-tw-cali0123456789a -m comment --comment "cali:aaaa" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A cali-tw-cali0123456789a -m comment --comment "cali:bbbb" -m conntrack --ctstate INVALID -j DROP
-A cali-tw-cali0123456789a -m comment --comment "cali:cccc" -j MARK --set-xmark 0x0/0x10000
-A cali-tw-cali0123456789a -m comment --comment "cali:dddd" -m comment --comment "Start of policies" -j MARK --set-xmark 0x0/0x20000
-A cali-tw-cali0123456789a -m comment --comment "cali:eeee" -m mark --mark 0x0/0x20000 -j POLICY1
-A cali-tw-cali0123456789a -m comment --comment "cali:ffff" -m comment --comment "Return if policy accepted" -m mark --mark 0x10000/0x10000 -j RETURN
-A cali-tw-cali0123456789a -m comment --comment "cali:gggg" -m mark --mark 0x0/0x20000 -j POLICY2
-A cali-tw-cali0123456789a -m comment --comment "cali:hhhh" -m comment --comment "Return if policy accepted" -m mark --mark 0x10000/0x10000 -j RETURN
-A cali-tw-cali0123456789a -m comment --comment "cali:iiii" -m comment --comment "Drop if no policies passed packet" -m mark --mark 0x0/0x20000 -j DROP
-A cali-tw-cali0123456789a -m comment --comment "cali:jjjj" -j cali-pri-kns.shop
-A cali-tw-cali0123456789a -m comment --comment "cali:kkkk" -m comment --comment "Drop if no profiles matched" -j DROP
-A POLICY2 -s 198.51.100.0/24 -p tcp -m comment --comment "cali:llll" COMMENT2 -m multiport --dports 80 -j MARK --set-xmark 0x10000/0x10000
-A POLICY2 -m comment --comment "cali:mmmm" -m mark --mark 0x10000/0x10000 -j RETURN
COMMIT
"""
KNP = {
    "kind": "NetworkPolicy",
    "metadata": {"name": "deny-all", "namespace": "shop"},
    "spec": {"podSelector": {}, "policyTypes": ["Ingress"]},
}


def rules(first: str = HASHED, second: str = "cali-pi-_ABCDEFGHIJKLMNOPQRS", comment: str = "") -> str:
    return RULES.replace("POLICY1", first).replace("POLICY2", second).replace("COMMENT2 ", comment)


def test_the_hash_is_felix_own() -> None:
    """Public records of real clusters: a policy's and a profile's chain with the comment or name beside it."""
    assert limited("cali-pi-", "default/knp.default.haejun-policy") == "cali-pi-_Eb-vckmN-lr2eREXQcs"
    assert limited("cali-pi-", "knp/team-b/deny-from-other-ns") == "cali-pi-_qA9lGysOzwIsyVf0V23"
    assert limited("cali-pri-", "ksa.kube-system.metrics-server") == "cali-pri-_CVSZITRyIpEmH8AB6H"
    assert limited("cali-pri-", "kns.alpha") == "cali-pri-kns.alpha"


def test_a_drop_names_the_policies_that_were_asked(
    world: Made, components: Components, asked: Callable[..., Trace], meanings: Callable[..., list[tuple[str, str]]]
) -> None:
    """One known by the API's object, one by its comment, whose rule did not match."""
    comment = '-m comment --comment "Policy shop/knp.default.allow-lan ingress" '
    node = world(rules(comment=comment), ["cali0123456789a"], objects=[KNP])
    assert components(node)[calico.NAME].enforces == "rules"
    trace = asked(node, "10.1.1.9:80", "203.0.113.9")
    assert [o.verdict for o in trace.outcomes] == ["dropped"]
    assert said(trace)[-1] == (
        "cali-tw-cali0123456789a", Policed("calico", ("shop/deny-all", "shop/allow-lan"), "ingress", False),
    )  # fmt: skip
    assert meanings(trace)[-1][1] == "calico policies shop/deny-all, shop/allow-lan denied this (ingress)"


def test_the_policy_that_admitted_is_named(world: Made, asked: Callable[..., Trace]) -> None:
    trace = asked(world(rules(second="cali-pi-a/knp.default.web")), "10.1.1.9:80")
    assert [o.verdict for o in trace.outcomes] == ["delivered"]
    assert said(trace) == [("cali-tw-cali0123456789a", Policed("calico", ("a/web",), "ingress", True))]


def test_what_nothing_names_keeps_its_chain(world: Made, asked: Callable[..., Trace]) -> None:
    trace = asked(world(rules()), "10.1.1.9:81")
    assert said(trace)[-1][1].policies == (HASHED, "cali-pi-_ABCDEFGHIJKLMNOPQRS")


def test_an_explicit_deny_is_its_policy_s(world: Made, asked: Callable[..., Trace]) -> None:
    first = "cali-pi-default.block"
    text = rules(first=first).replace(
        "-A cali-pi-_ABC", f'-A {first} -p tcp -m comment --comment "cali:zzzz" -j DROP\n-A cali-pi-_ABC', 1
    )
    trace = asked(world(text), "10.1.1.9:80")
    assert said(trace) == [(first, Policed("calico", ("default.block",), "ingress", False))]


def test_a_profile_that_does_not_match_is_told_from_policies(world: Made, asked: Callable[..., Trace]) -> None:
    text = "\n".join(line for line in rules().splitlines() if "cali-pi-" not in line and "no policies" not in line)
    trace = asked(world(text + "\n"), "10.1.1.9:80")
    assert said(trace)[-1][1] == Policed("calico", ("profile kns.shop",), "ingress", False)


def test_comments_of_every_version() -> None:
    assert calico.said("Policy shop/knp.default.web ingress") == "shop/web"
    assert calico.said("cali:abc; KubernetesNetworkPolicy shop/web egress") == "shop/web"
    assert calico.said("NetworkPolicy shop/default.web ingress") == "shop/default.web"
    assert calico.said("GlobalNetworkPolicy default.deny ingress") == "default.deny"
    assert calico.said("Return if policy accepted") == ""


def test_nft_mode_has_the_same_chains_in_one_table(
    world: Made, components: Components, asked: Callable[..., Trace]
) -> None:
    nft = """\
table ip calico {
	chain filter-cali-pi-shop/knp.default.deny-all-ingress-of-the-shop {
	}

	chain filter-cali-tw-cali0123456789a {
		ct state invalid drop
		meta mark & 0x00020000 == 0x00000000 jump filter-cali-pi-shop/knp.default.deny-all-ingress-of-the-shop
		meta mark & 0x00020000 == 0x00000000 drop
	}

	chain filter-FORWARD {
		type filter hook forward priority filter; policy accept;
		oifname "cni0" goto filter-cali-tw-cali0123456789a
	}
}
"""
    node = world(nft=nft)
    assert components(node)[calico.NAME].by[0].what == "nftables table ip calico"
    trace = asked(node, "10.1.1.9:80")
    assert said(trace)[-1][1] == Policed("calico", ("shop/deny-all-ingress-of-the-shop",), "ingress", False)


def test_ebpf_mode_gets_no_answer(world: Made, components: Components, asked: Callable[..., Trace]) -> None:
    node = world(rules(), ["cali0123456789a", "bpfin.cali", "bpfout.cali"])
    assert components(node)[calico.NAME].enforces == "hidden"
    (outcome,) = asked(node, "10.1.1.9:80").outcomes
    assert outcome.verdict == "unknown"
    assert "calico's eBPF programs are this node's datapath (link bpfin.cali" in outcome.reason


def routing(trace: Trace) -> list[str]:
    return [s.means for s in trace.ways[0].hops[0].steps if s.hook == "routing" and s.means]


def test_its_devices_and_routes_are_named(world: Made, asked: Callable[..., Trace]) -> None:
    routes = [
        {"dst": "10.9.1.0/26", "type": "blackhole", "protocol": "80"},
        {"dst": "10.9.1.5", "dev": "cali0123456789a", "scope": "link"},
        {"dst": "10.9.2.0/26", "gateway": "10.9.2.0", "dev": "vxlan.calico", "flags": ["onlink"]},
    ]
    plain = "*filter\n:FORWARD ACCEPT [0:0]\nCOMMIT\n"
    node = world(plain, ["cali0123456789a", "vxlan.calico"], routes=routes)
    assert routing(asked(node, "10.9.1.5:80")) == ["calico: the device of one pod"]
    assert routing(asked(node, "10.9.2.7:80")) == ["calico: vxlan to the pods of other nodes"]
    trace = asked(node, "10.9.1.6:80")
    assert [o.verdict for o in trace.outcomes] == ["dropped"]
    assert routing(trace) == [
        "calico: 10.9.1.0/26 is a block of this node's pod addresses, and no pod of it has this one"
    ]
    # Another's blackhole, and a device of a name that is calico's on a node where calico is not.
    other = world(plain, ["tunl0"], routes=[{**routes[0], "protocol": "static"}, {**routes[2], "dev": "tunl0"}])
    assert routing(asked(other, "10.9.1.6:80")) == routing(asked(other, "10.9.2.7:80")) == []
