"""The devices of a node as a tree, a document and a picture."""

from __future__ import annotations

import json
from ipaddress import ip_address

import jsonschema
import pytest
import yaml

from netk8s.model import (
    Address,
    At,
    Bond,
    Bridge,
    Device,
    Hanging,
    Ipvlan,
    Link,
    LinkDetail,
    Macvlan,
    Missing,
    MtuFit,
    NodeDevices,
    PortVlan,
    Tunnel,
    Vlan,
    Vrf,
)
from netk8s.render import links
from netk8s.render._links_tree import words as words_of
from netk8s.render.document import json_schema

from .test_as_dot import read

A = ip_address
FIT = MtuFit(1450, 50, 4, "eth0", 1500)
POD = Hanging(
    "d/web",
    (A("10.0.0.7"),),
    "eth0",
    "ipvlan",
    "dump",
    "a dump",
    Link("eth0", 3, "ipvlan", mode="l2", mtu=1500, detail=Ipvlan(private=True)),
    means="goes past the rules",
)
VXLAN = Link("vx", 7, "vxlan", mtu=1500, parent="eth0", detail=Tunnel(1, A("192.168.1.1"), None, 8472, learning=False))
NODE = NodeDevices(
    "n1",
    (
        Device(Link("lo", 1)),
        Device(
            Link("eth0", 2, mtu=1500, state="UP", at=At("ip-link.txt", 3)),
            (Address("eth0", A("192.168.1.1"), 24, "global"), Address("eth0", A("fe80::1"), 64, "link")),
            above=(Device(VXLAN, fit=FIT),),
            pods=(POD,),
        ),
        Device(
            Link("cni0", 4, "bridge", up=False, detail=Bridge(vlan_filtering=True)),
            above=(
                Device(
                    Link("veth6", 6, "veth", master="cni0", peer_index=2, peer_netns=0, hairpin=False, isolated=True),
                    vlans=(PortVlan("veth6", 1, True, True), PortVlan("veth6", 10)),
                    pods=(Hanging("d/b", (A("10.0.0.8"),), "veth6", "bridge", "neighbour", "learnt"),),
                ),
            ),
            means="its frames pass iptables too",
        ),
    ),
    (Hanging("d/lost", (A("10.0.0.9"),), None, because="no route to it"), Hanging("d/new", (), None)),
)
TREE = """\
n1: 5 devices
lo  loopback
eth0  physical, mtu 1500
│   192.168.1.1/24
├─ pod d/web 10.0.0.7: eth0 ipvlan l2, private, mtu 1500
│      goes past the rules
└─ vx  vxlan, id 1, port 8472, local 192.168.1.1, no learning, mtu 1500
       adds 50 bytes (IPv4) on eth0 of mtu 1500: its mtu 1500 is too large, 1450 fits; larger
       packets are fragmented or lost
cni0  bridge, vlan filtering, down
│   its frames pass iptables too
└─ veth6  veth, other end is device 2 of namespace 0, no hairpin, isolated, vlans 1 pvid, 10
   └─ pod d/b 10.0.0.8 (by its neighbour entry)
pods that hang on none of them, as far as the dumps tell:
  d/lost 10.0.0.9: no route to it
  d/new: not seen
"""


def test_the_tree() -> None:
    assert links.render([NODE], "text") == TREE
    plain = links.render([NODE], "text", ascii=True)
    assert plain.isascii()
    assert "`- vx  vxlan" in plain
    assert "|- pod d/web" in plain


def test_what_is_not_known_and_missing_is_said() -> None:
    text = links.render([NodeDevices("n", (Device(Link("x", 1)),), known=False)], "text", [Missing("a", "b")])
    assert "no dump tells what kind they are" in text
    assert "x  kind not known" in text
    assert text.endswith("Missing\n  - a: needed for b\n")


@pytest.mark.parametrize("width", [60, 80, 100])
def test_no_line_is_wider_than_promised(width: int) -> None:
    device = Device(Link("e" * 15, 1, alias="x"), means="word " * 80)
    for number in range(12):
        device = Device(Link(f"d{number}", number, "bridge"), above=(device,), means="word " * 40)
    text = links.render([NodeDevices("n" * 90, (device,))], "text", width=width)
    assert max(map(len, text.splitlines())) <= width


@pytest.mark.parametrize(
    ("link", "words"),
    [
        (Link("x", 1, "macvlan", mode="source", detail=Macvlan(("02:00:00:00:00:01",))), "from 02:00:00:00:00:01"),
        (Link("x", 1, "vlan", detail=Vlan(5)), "tag 5"),
        (Link("x", 1, "vlan", detail=Vlan(5, "802.1ad")), "tag 5 (802.1ad)"),
        (Link("x", 1, "bond", mode="802.3ad", detail=Bond("eth0")), "bond 802.3ad, active eth0"),
        (Link("x", 1, "vrf", detail=Vrf(10)), "vrf, table 10"),
        (Link("x", 1, "vxlan", detail=Tunnel(0, external=True)), "vxlan, external"),
        (
            Link("x", 1, "gre", detail=Tunnel(5, None, A("239.1.1.1"), encap="fou")),
            "gre, id 5, group 239.1.1.1, in fou",
        ),
        (Link("x", 1, "veth", peer_index=5), "veth, other end is device 5"),
        (Link("x", 1, "veth", peer_index=5, peer_netns_name="cni-1"), "device 5 of namespace cni-1"),
        (Link("x", 1, "vlan", master="br0", parent="eth0"), "made on eth0"),
        (Link("x", 1, state="LOWERLAYERDOWN"), "up, but lowerlayerdown"),
        (Link("x", 1, port_state="BACKUP"), "port backup"),
    ],
)
def test_words(link: Link, words: str) -> None:
    assert words in ", ".join(words_of(link, (), True))


def test_the_document() -> None:
    text = links.render([NODE], "json", [Missing("a", "b")])
    document = json.loads(text)
    jsonschema.validate(document, json_schema(links.Links), cls=jsonschema.Draft202012Validator)
    assert yaml.safe_load(links.render([NODE], "yaml", [Missing("a", "b")])) == document
    (node,) = document["nodes"]
    on = {each["link"]["name"]: each["on"] for each in node["devices"]}
    assert on == {"lo": None, "eth0": None, "vx": "eth0", "cni0": None, "veth6": "cni0"}
    vx = next(each for each in node["devices"] if each["link"]["name"] == "vx")
    assert vx["fit"] == {"mtu": 1450, "overhead": 50, "family": 4, "underlay": "eth0", "underlay_mtu": 1500}
    assert vx["link"]["settings"]["local"] == "192.168.1.1"
    pods = {each["pod"]: (each["on"], each["kind"], each["told_by"]) for each in node["pods"]}
    assert pods == {
        "d/web": ("eth0", "ipvlan", "dump"),
        "d/b": ("veth6", "bridge", "neighbour"),
        "d/lost": (None, "", ""),
        "d/new": (None, "", ""),
    }
    assert node["devices"][1]["link"]["addresses"] == ["192.168.1.1/24", "fe80::1/64"]
    assert document["missing"] == [{"what": "a", "needed_for": "b"}]


@pytest.mark.parametrize(
    "detail", [None, Bridge(), Vlan(1), Macvlan(("x",)), Ipvlan(), Tunnel(1, A("::1")), Bond(), Vrf(1)]
)
def test_any_setting_is_in_the_schema(detail: LinkDetail | None) -> None:
    node = NodeDevices("n", (Device(Link("x", 1, detail=detail)),))
    document = json.loads(links.render([node], "json"))
    jsonschema.validate(document, json_schema(links.Links), cls=jsonschema.Draft202012Validator)


def test_the_picture() -> None:
    vertices, edges = read(links.render([NODE], "dot"))
    assert len(vertices) == 5 + 4
    assert len(edges) == 4  # two devices on others, two pods on devices
    mermaid = links.render([NODE], "mermaid")
    assert mermaid.startswith("flowchart TB\n")
    assert mermaid.count(" -->") == 4
