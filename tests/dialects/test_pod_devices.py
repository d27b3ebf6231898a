"""Devices that calico and the AWS VPC CNI name after their pod. The hashes are `printf NAMESPACE.POD | sha1sum`'s."""

from __future__ import annotations

from ipaddress import ip_address

from netk8s import dialects
from netk8s.dialects.pod_devices import pod_devices
from netk8s.model import Cluster, Link, Node, Pod

WEB, DNS, SECOND = "0d7763386da", "4d5f75c480c", "b813f772d20"


def pod(key: str, node: str = "n", **words: bool) -> Pod:
    namespace, name = key.split("/")
    return Pod(namespace, name, node, (ip_address("10.0.0.1"),), **words)


def test_a_name_is_known_by_how_it_ends() -> None:
    names = ("lo", "eth0", f"cali{WEB}", f"eni{DNS}", f"eni{SECOND}", "cali00000000000")
    node = Node("n", links=tuple(Link(name, number, "veth") for number, name in enumerate(names)))
    pods = (pod("default/web-0"), pod("kube-system/coredns-5d78c9869d-abcde"))
    expected = {
        f"cali{WEB}": "default/web-0",
        f"eni{SECOND}": "default/web-0",
        f"eni{DNS}": "kube-system/coredns-5d78c9869d-abcde",
    }
    assert pod_devices(node, Cluster(pods=pods)) == expected
    assert dialects.devices_of_pods(node, Cluster(pods=pods)) == expected


def test_only_pods_of_the_node_that_have_a_network_of_their_own() -> None:
    node = Node("n", links=(Link(f"cali{WEB}", 2, "veth"),))
    for other in (pod("default/web-0", "m"), pod("default/web-0", host_network=True), pod("other/web-0")):
        assert pod_devices(node, Cluster(pods=(other,))) == {}
    # A name that is nothing but a hash has no prefix, and no CNI makes such names.
    bare = Node("n", links=(Link(WEB, 2, "veth"),))
    assert pod_devices(bare, Cluster(pods=(pod("default/web-0"),))) == {}
