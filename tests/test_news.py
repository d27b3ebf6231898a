"""What is new in a checkup, on recorded clusters with something changed in them."""

from __future__ import annotations

from pathlib import Path

from msgspec.structs import replace

from netk8s import checkup, decode, dialects, snapshot
from netk8s.checkup import Checkup
from netk8s.model import Snapshot, World
from netk8s.news import News, news
from netk8s.survey import Port
from netk8s.whatif import Wanted, whatif

CASE = "headline-nodeport-30000"


def checked(world: World, service: str = "default/nginx") -> Checkup:
    return checkup.check(dialects.complete(world), lambda ports: [p.key for p in ports if p.service == service])


def taken(corpus: Path) -> Snapshot:
    return snapshot.read([str(corpus / CASE)])


def test_nothing_is_new(corpus: Path) -> None:
    world = decode.decode(taken(corpus))
    found = news(checked(world), checked(world))
    assert (found, bool(found)) == (News(), False)


def test_a_node_that_stops_forwarding_and_goes_on(corpus: Path) -> None:
    found = whatif(taken(corpus), Wanted(sysctls=("k8s-node1:net.ipv4.ip_forward=0",)))
    a, b = checked(found.before), checked(found.after)
    down, up = news(a, b), news(b, a)
    assert {each.kind for each in down.flows} >= {"outcome"}
    assert any("does not forward" in each.finding.summary for each in down.appeared)
    # What was seen of packets that no longer arrive is no more seen.
    assert {each.finding.code for each in down.gone} == {"NK101"}
    assert (up.gone, up.appeared) == (down.appeared, down.gone)
    # Nodes that were alike no longer are: a flow of a node that was not asked is held against that of its stand-in.
    assert not any(
        each.question.at and each.question.at.node == "k8s-node2" and each.kind != "outcome" for each in down.flows
    )


def test_services_that_come_and_go(corpus: Path) -> None:
    world = decode.decode(taken(corpus))

    def every(ports: tuple[Port, ...]) -> list[tuple[str, str, int]]:
        return [port.key for port in ports]

    less = replace(world, cluster=replace(world.cluster, services=tuple(
        s for s in world.cluster.services if s.service != "nginx"
    )))  # fmt: skip
    a, b = (checkup.check(dialects.complete(each), every) for each in (world, less))
    found = news(a, b)
    assert (found.ports_new, found.ports_gone) == ((), ("default/nginx",))
    assert "default/nginx" not in {each.question.port.service for each in found.flows}
    assert news(b, a).ports_new == ("default/nginx",)
