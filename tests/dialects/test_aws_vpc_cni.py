"""Amazon's VPC CNI: SNAT outside the VPC, policy rules per pod."""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from netk8s.dialects import aws_vpc_cni
from netk8s.model import Recognised, Trace, World

Made = Callable[..., World]
Components = Callable[[World], dict[str, Recognised]]

RULES = """\
*nat
:PREROUTING ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:AWS-SNAT-CHAIN-0 - [0:0]
:AWS-SNAT-CHAIN-1 - [0:0]
-A POSTROUTING -m comment --comment "AWS SNAT CHAIN" -j AWS-SNAT-CHAIN-0
-A AWS-SNAT-CHAIN-0 ! -d 10.1.0.0/16 -m comment --comment "AWS SNAT CHAIN" -j AWS-SNAT-CHAIN-1
-A AWS-SNAT-CHAIN-1 ! -o vlan+ -m comment --comment "AWS, SNAT" -m addrtype ! --dst-type LOCAL -j SNAT --to-source 192.0.2.11 --random-fully
COMMIT
*filter
:FORWARD ACCEPT [0:0]
COMMIT
"""
TO_POD = {"priority": 512, "src": "all", "dst": "10.1.1.9", "table": "main"}


def test_its_snat_is_named(
    world: Made, components: Components, asked: Callable[..., Trace], meanings: Callable[..., list[tuple[str, str]]]
) -> None:
    node = world(RULES, ["eni0123456789a"], ip_rules=[TO_POD])
    found = components(node)[aws_vpc_cni.NAME]
    assert [sign.what for sign in found.by] == [
        "link eni0123456789a", "nat POSTROUTING jumps to AWS-SNAT-CHAIN-0", "ip rule 512",
    ]  # fmt: skip
    assert found.enforces == "hidden"
    steps = meanings(asked(node, "203.0.113.5:80", "10.1.1.9"))
    assert steps[-1] == ("AWS-SNAT-CHAIN-1", "AWS VPC CNI: outside the VPC the node's primary address is seen")


def test_without_snat_it_is_known_by_devices_and_policy_rules(world: Made, components: Components) -> None:
    assert aws_vpc_cni.NAME in components(world(links=["eni0123456789a"], ip_rules=[TO_POD]))
    assert components(world(links=["eni0123456789a"])) == {}, "a device of that name alone may be anything"


def test_what_its_policy_agent_may_do_is_said(world: Callable[..., World], asked: Callable[..., Trace]) -> None:
    rules = "*nat\n:POSTROUTING ACCEPT [0:0]\n:AWS-SNAT-CHAIN-0 - [0:0]\n-A POSTROUTING -j AWS-SNAT-CHAIN-0\nCOMMIT\n"

    def said(node: World) -> list[str]:
        return [text for text in asked(node, "10.1.1.9:80").assumptions if "may enforce network policies" in text]

    node = world(rules)
    assert said(node)[0].startswith("AWS VPC CNI is at work on n1 (nat POSTROUTING jumps to AWS-SNAT-CHAIN-0")
    # A list of policies that is empty settles it.
    assert said(replace(node, cluster=replace(node.cluster, covered=frozenset({"policies"})))) == []
