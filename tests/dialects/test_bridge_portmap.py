"""The reference CNI plugins: hostPorts by portmap, masquerade by bridge and ptp."""

from __future__ import annotations

from collections.abc import Callable

from netk8s.dialects import bridge_portmap
from netk8s.model import Recognised, Trace, World

Made = Callable[..., World]
Components = Callable[[World], dict[str, Recognised]]

# As portmap 1.1 writes it (plugins/meta/portmap), hashes and ids made up.
PORTMAP = """\
*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:CNI-DN-0123456789abcdef01234 - [0:0]
:CNI-HOSTPORT-DNAT - [0:0]
:CNI-HOSTPORT-MASQ - [0:0]
:CNI-HOSTPORT-SETMARK - [0:0]
:CNI-0123456789abcdef01234567 - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT
-A OUTPUT -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT
-A POSTROUTING -m comment --comment "CNI portfwd requiring masquerade" -j CNI-HOSTPORT-MASQ
-A POSTROUTING -s 10.1.1.9/32 -m comment --comment "name: \\"net\\" id: \\"abc\\"" -j CNI-0123456789abcdef01234567
-A CNI-0123456789abcdef01234567 -d 10.1.1.0/24 -j ACCEPT
-A CNI-0123456789abcdef01234567 ! -d 224.0.0.0/4 -j MASQUERADE
-A CNI-DN-0123456789abcdef01234 -s 10.1.1.0/24 -p tcp -m tcp --dport 8080 -j CNI-HOSTPORT-SETMARK
-A CNI-DN-0123456789abcdef01234 -s 127.0.0.1/32 -p tcp -m tcp --dport 8080 -j CNI-HOSTPORT-SETMARK
-A CNI-DN-0123456789abcdef01234 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 10.1.1.9:80
-A CNI-HOSTPORT-DNAT -p tcp -m comment --comment "dnat name: \\"net\\" id: \\"abc\\"" -m multiport --dports 8080 -j CNI-DN-0123456789abcdef01234
-A CNI-HOSTPORT-MASQ -m mark --mark 0x2000/0x2000 -j MASQUERADE
-A CNI-HOSTPORT-SETMARK -m comment --comment "CNI portfwd masquerade mark" -j MARK --set-xmark 0x2000/0x2000
COMMIT
*filter
:FORWARD ACCEPT [0:0]
COMMIT
"""

NFT = """\
table ip cni_hostport {
	chain hostports {
		tcp dport 8080 dnat to 10.1.1.9:80
	}

	chain hostip_hostports {
	}

	chain hostports_all {
		jump hostip_hostports
		jump hostports
	}

	chain prerouting {
		type nat hook prerouting priority dstnat; policy accept;
		fib daddr type local jump hostports_all
	}

	chain masquerading {
		type nat hook postrouting priority srcnat; policy accept;
		ip saddr 10.1.1.9 ip daddr 10.1.1.9 masquerade
	}
}
"""


def test_hostport_and_its_steps_are_named(
    world: Made, components: Components, asked: Callable[..., Trace], meanings: Callable[..., list[tuple[str, str]]]
) -> None:
    node = world(PORTMAP)
    found = components(node)[bridge_portmap.NAME]
    assert any("CNI-HOSTPORT-DNAT" in sign.what and sign.at.line == 11 for sign in found.by)
    assert found.enforces == ""
    trace = asked(node, "192.0.2.11:8080")
    assert [str(o.reached.ip) for o in trace.outcomes if o.reached] == ["10.1.1.9"]
    steps = meanings(trace)
    assert ("PREROUTING", "hostPort lookup") in steps
    assert ("CNI-HOSTPORT-DNAT", "hostPort of one pod") in steps
    assert ("CNI-DN-0123456789abcdef01234", "hostPort: the pod is the new destination") in steps


def test_ipmasq_of_a_pod_is_named(
    world: Made, asked: Callable[..., Trace], meanings: Callable[..., list[tuple[str, str]]]
) -> None:
    steps = meanings(asked(world(PORTMAP), "203.0.113.5:80", "10.1.1.9"))
    assert ("CNI-0123456789abcdef01234567", "ipMasq: the pod leaves its subnet under the node's address") in steps


def test_the_nftables_backend_is_known_by_its_table(
    world: Made, components: Components, asked: Callable[..., Trace], meanings: Callable[..., list[tuple[str, str]]]
) -> None:
    node = world(nft=NFT)
    assert components(node)[bridge_portmap.NAME].by[0].what == "nftables table ip cni_hostport"
    steps = meanings(asked(node, "192.0.2.11:8080"))
    assert ("hostports", "hostPort: the pod is the new destination") in steps
    assert ("prerouting", "hostPort lookup") in steps


def test_a_chain_that_nothing_leads_to_is_no_sign(world: Made, components: Components) -> None:
    unhooked = "\n".join(line for line in PORTMAP.splitlines() if not line.startswith(("-A PRE", "-A OUT", "-A POST")))
    assert components(world(unhooked + "\n")) == {}
    assert not bridge_portmap.owns("CNI-SOMETHING")
    assert bridge_portmap.owns("CNI-HOSTPORT-MASQ")
