"""The comparison of two modes held against what was recorded of both."""

from __future__ import annotations

import functools
import ipaddress
import json
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from netk8s import decode, dialects, snapshot
from netk8s.comparison import ENDPOINTS, SOURCE, VERDICT, compare
from netk8s.model import World
from netk8s.survey import Ground, Question, questions
from netk8s.survey._questions import BESIDE, IN_RANGE, ITSELF, NODE, OTHER, OTHER_NODE, OTHER_POD, OUTSIDE, POD, PRIMARY

PAIRS = [("iptables-nft-matrix", "nftables-matrix"), ("iptables-nft-matrix", "ipvs-rr-matrix")]


@functools.cache
def world(corpus: Path, case: str) -> World:
    return dialects.complete(decode.decode(snapshot.read([str(corpus / case)])))


def recorded(corpus: Path, case: str) -> dict[str, dict[str, Any]]:
    lines = (corpus / case / "observed.jsonl").read_text(encoding="utf-8").splitlines()
    flows = {flow["id"]: flow for flow in map(json.loads, lines)}
    return {name: flow for name, flow in flows.items() if flow.get("kind") != "healthcheck-nodeport"}


class Cluster:
    """What a recording tells of the flows that the questions have to be found for."""

    def __init__(self, corpus: Path, name: str) -> None:
        wiring = json.loads((corpus / name / "case.json").read_text(encoding="utf-8"))["wiring"]
        self.nodes = {node: ip_address(each["ip"]) for node, each in wiring["nodes"].items()}
        self.addresses = {
            ip_address(each[key]): node
            for node, each in wiring["nodes"].items()
            for key in ("ip", "ip6")
            if key in each
        }
        self.lan = ipaddress.ip_network(wiring["lan"])
        pods = decode.decode(snapshot.read([str(corpus / name / "cluster" / "pods.json")])).cluster.pods
        self.pods_beside = any(ip in self.lan for pod in pods if not pod.host_network for ip in pod.ips)
        self.routes = [
            (ipaddress.ip_network(route["dst"]), route["via_node"]) for route in wiring["client_and_router_routes"]
        ]

    def entry(self, flow: dict[str, Any]) -> str | None:
        dst = ip_address(flow["dst_ip"])
        found = [(net.prefixlen, node) for net, node in self.routes if net.version == dst.version and dst in net]
        return flow.get("via_node") or (max(found)[1] if found else None)

    def fits(self, flow: dict[str, Any], q: Question) -> bool:
        """Whether a question is that of a flow, itself or standing for it."""
        protocol = {"TCP": 6, "UDP": 17, "SCTP": 132}[flow["proto"]]
        dst, own = ip_address(flow["dst_ip"]), self.addresses
        if (q.port.protocol, q.dialled.port) != (protocol, flow["dst_port"]):
            return False
        if q.ask.target.startswith("[") != (dst.version == 6):
            return False
        source = flow["from"]
        node = source if source in self.nodes else source.rpartition("toolbox-")[2] if "toolbox-" in source else None
        if q.dialled.ip is not None:
            dialled_node, fitting = None, q.dialled.ip == dst
        elif dst in own:
            dialled_node, fitting = own[dst], q.address == PRIMARY
        else:
            dialled_node, fitting = (
                source,
                q.address == str(dst) or (q.address.startswith(OTHER) and not dst.is_loopback),
            )
        if not fitting or (dialled_node is not None and not alike(q.at, dialled_node)):
            return False
        return self.client_fits(flow, q, node, dialled_node)

    def client_fits(self, flow: dict[str, Any], q: Question, node: str | None, dialled_node: str | None) -> bool:
        source = flow["from"]
        if source.startswith("pod/") and any(place.pod == source[4:] for place in q.port.endpoints):
            return q.client == ITSELF
        if node is None:
            address = ip_address(flow["src_ip"])
            ranges = [ipaddress.ip_network(text) for text in q.port.source_ranges]
            inside = q.dialled.kind == "LoadBalancer" and any(address in net for net in ranges)
            at_entry = q.dialled.ip is None or alike(q.at, self.entry(flow) or "")
            if q.client == BESIDE or (address in self.lan and self.pods_beside):
                return q.client == BESIDE and address in self.lan and at_entry
            return q.client == (IN_RANGE if inside else OUTSIDE) and at_entry
        kinds = (NODE, OTHER_NODE) if source in self.nodes else (POD, OTHER_POD)
        elsewhere = dialled_node is not None and dialled_node != node
        if q.client != kinds[elsewhere]:
            return False
        # Of two nodes that are alike one dials the other.
        return alike(q.sender, node) or (elsewhere and alike(q.at, node) and q.sender.node in q.at.stands_for)


def alike(stop: Any, node: str) -> bool:
    return stop is not None and node in (stop.node, *stop.stands_for)


def ends(flow: dict[str, Any]) -> frozenset[tuple[str, str | None]]:
    return frozenset((outcome["result"], outcome.get("endpoint")) for outcome in flow["outcomes"])


def seen(flow: dict[str, Any]) -> frozenset[tuple[str | None, str | None]]:
    return frozenset((outcome.get("endpoint"), outcome.get("seen_src_ip")) for outcome in flow["outcomes"])


@pytest.mark.parametrize(("a", "b"), PAIRS)
def test_exactly_the_flows_differ_whose_recordings_differ(corpus: Path, a: str, b: str) -> None:
    """Kind of outcome, endpoints and source seen of every recorded flow, by the question that is or stands for it."""
    cluster, flows, others = Cluster(corpus, a), recorded(corpus, a), recorded(corpus, b)
    grounds = [Ground.of(world(corpus, case)) for case in (a, b)]
    asked = list(questions(grounds))
    found = compare(world(corpus, a), world(corpus, b))
    told = {(str(d.question.ask), d.question.kind, d.question.who): d for d in found.flows}
    wrong, checked, differing = [], 0, 0
    for name, flow in flows.items():
        fitting = [question for question in asked if cluster.fits(flow, question)]
        assert len(fitting) == 1, (name, [(q.kind, q.who) for q in fitting])
        (question,) = fitting
        difference = told.get((str(question.ask), question.kind, question.who))
        sticky = any(s.affinity == "ClientIP" and f"{s.namespace}/{s.service}" == question.port.service
                     for s in world(corpus, a).cluster.services)  # fmt: skip
        if sticky and {r for r, _ in ends(flow)} == {r for r, _ in ends(others[name])} == {"connected"}:
            # All attempts of a client go to the one endpoint that the first one drew.
            continue
        checked += 1
        differ = ends(flow) != ends(others[name])
        differing += differ
        if differ != (difference is not None and difference.kind in (VERDICT, ENDPOINTS)):
            wrong.append(
                f"{name}: recorded {differ}, told {difference and (difference.kind, difference.a, difference.b)}"
            )
        elif not differ and (seen(flow) != seen(others[name])) != (
            difference is not None and difference.kind == SOURCE
        ):
            wrong.append(f"{name}: seen {seen(flow)} and {seen(others[name])}, told {difference and difference.kind}")
    assert not wrong, "\n".join(wrong[:12])
    assert checked > 300
    assert differing > 15
