from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest

from netk8s.render.document import json_schema
from netk8s.render.links import FORMATS, Links

TEXT = b"""\
2: eth0: <BROADCAST,UP,LOWER_UP> mtu 1500 qdisc noqueue state UP mode DEFAULT group default qlen 1000
    link/ether 02:00:00:00:00:02 brd ff:ff:ff:ff:ff:ff promiscuity 0  allmulti 0 minmtu 68 maxmtu 65535
3: flannel.1: <BROADCAST,UP,LOWER_UP> mtu 1500 qdisc noqueue state UNKNOWN mode DEFAULT group default
    link/ether 02:00:00:00:00:03 brd ff:ff:ff:ff:ff:ff promiscuity 0  allmulti 0 minmtu 68 maxmtu 65535
    vxlan id 1 local 192.168.1.5 dev eth0 srcport 0 0 dstport 8472 nolearning ttl auto ageing 300
"""


def test_a_pasted_text_is_enough(netk8s: Callable) -> None:
    ran = netk8s("links", "--dump", "-", "--node", "n1", stdin=TEXT)
    assert (ran.status, ran.err) == (0, "")
    lines = ran.out.splitlines()
    assert lines[0] == "n1: 2 devices"
    assert lines[1] == "eth0  physical, mtu 1500"
    assert lines[2].startswith("└─ flannel.1  vxlan, id 1, port 8472, local 192.168.1.5")
    assert "its mtu 1500 is too large, 1450 fits" in ran.out


@pytest.mark.parametrize("format_", FORMATS)
def test_a_recorded_cluster_in_every_form(netk8s: Callable, corpus: Path, format_: str) -> None:
    ran = netk8s("links", "--dump", str(corpus / "iptables-nft-flannel-vxlan"), "-o", format_)
    assert (ran.status, ran.err) == (0, "")
    if format_ == "json":
        document = json.loads(ran.out)
        jsonschema.validate(document, json_schema(Links), cls=jsonschema.Draft202012Validator)
        assert [node["node"] for node in document["nodes"]] == ["k8s-master", "k8s-node1", "k8s-node2"]
        hung = {pod["pod"]: pod["on"] for pod in document["nodes"][1]["pods"]}
        # ip-neigh.json has 10.244.1.120 at 56:5d:5a:cd:41:a6, which bridge-fdb.json has at this port of cni0.
        assert hung["default/toolbox-k8s-node1"] == "vethe1dbf2ca"
    if format_ == "text":
        assert max(map(len, ran.out.splitlines())) <= 100


def test_one_node(netk8s: Callable, corpus: Path) -> None:
    case = str(corpus / "iptables-nft-flannel-vxlan")
    ran = netk8s("links", "--dump", case, "--node", "k8s-node2", "-o", "json")
    assert [node["node"] for node in json.loads(ran.out)["nodes"]] == ["k8s-node2"]
    ran = netk8s("links", "--dump", case, "--node", "nobody")
    assert (ran.status, ran.out) == (4, "")
    assert "k8s-node1" in ran.err


def test_nothing_to_show(netk8s: Callable, corpus: Path) -> None:
    rules = corpus / "headline-nodeport-30000/nodes/k8s-node1/iptables-save.txt"
    ran = netk8s("links", "--dump", str(rules))
    assert (ran.status, ran.out) == (2, "")
    assert "no dump lists devices; give the output of `ip -j -d link` or `ip -d link`" in ran.err
