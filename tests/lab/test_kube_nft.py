"""The lab's nftables rules held against what real kube-proxies wrote, in each layout."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import pytest

from .kube_nft import kube_nft
from .topology import NodeSpec, PodSpec, ServiceSpec, Topology, two_nodes

NODE = "k8s-node1"
OF_A_SERVICE = re.compile("(service|local|external|endpoint|firewall)-[A-Z2-7]{8}-")


def written(text: str, family: str = "ip") -> tuple[dict[str, list[str]], dict[str, set[str]]]:
    """kube-proxy's table as (chain: its rules, set: its elements)."""
    table = re.search(rf"^table {family} kube-proxy \{{\n(.*?)^\}}", text, re.MULTILINE | re.DOTALL)
    assert table is not None
    chains, sets = {}, {}
    for name, body in re.findall(r"^\s+chain (\S+) \{\n(.*?)^\s+\}$", table[1], re.MULTILINE | re.DOTALL):
        lines = [line.strip() for line in body.splitlines()]
        chains[name] = [hook(line) for line in lines if not line.startswith("comment")]
    for name, body in re.findall(r"^\s+(?:set|map) (\S+) \{(.*?)\}$", table[1], re.MULTILINE | re.DOTALL):
        elements = re.search(r"elements = \{(.*)\}", body + "}", re.DOTALL)
        found = elements[1].split("}")[0].split(",") if elements else ()
        sets[name] = {" ".join(element.split()) for element in found}
    return chains, sets


def hook(line: str) -> str:
    """A base chain's hook with its priority as a number."""
    words = {"dstnat - 10": "-110", "dstnat": "-100", "srcnat": "100", "filter": "0"}
    return re.sub(r"priority (.*?);.*", lambda found: f"priority {words.get(found[1], found[1])};", line)


def same(topology: Topology, layout: str, real: str) -> None:
    """All of the topology's own, and all that is no Service's."""
    chains, sets = written(real)
    mine, own = written(kube_nft(topology, topology.node(NODE), 4, layout))
    named = [f"-{service.key}/" for service in topology.services]
    theirs = {name: rules for name, rules in chains.items()
              if not OF_A_SERVICE.match(name) or any(each in name for each in named)}  # fmt: skip
    # The range of the ClusterIPs is known of a ServiceCIDR object only.
    theirs["cluster-ips-check"] = [rule for rule in theirs["cluster-ips-check"] if "unallocated" not in rule]
    assert mine == theirs
    assert len(mine) > 12 + 2 * len(named)
    for name, elements in own.items():
        # Elements of no name are told by what the topology has.
        assert elements <= sets[name], name
        assert not [e for e in sets[name] - elements if any(each in e or f'"{each[1:-1]}"' in e for each in named)], (
            name
        )
    assert sum(len(elements) for elements in own.values()) > 3 * len(named)


def test_a_real_kube_proxy_1_34() -> None:
    recorded = Path(__file__).parents[1] / "whatif/recorded/nftables.json.gz"
    files = json.loads(gzip.decompress(recorded.read_bytes()))["before"]["files"]
    same(two_nodes(), "1.34", files[f"nodes/{NODE}/nft-ruleset.txt"])


@pytest.mark.parametrize(("case", "layout"), [("nftables-matrix", "1.33"), ("nftables-matrix-kp136", "1.36")])
def test_recorded_nodes(corpus: Path, case: str, layout: str) -> None:
    """The recording's Services that the topology can say."""
    folder = corpus / case
    topology = recorded_topology(folder)
    assert len(topology.services) > 8
    assert any(service.affinity for service in topology.services)
    same(topology, layout, (folder / f"nodes/{NODE}/nft-ruleset.txt").read_text(encoding="utf-8"))


def recorded_topology(folder: Path) -> Topology:
    """Services of one unnamed port, without load balancers, whose endpoints are all ready."""
    objects = {
        kind: json.loads((folder / f"cluster/{kind}.json").read_text(encoding="utf-8"))["items"]
        for kind in ("nodes", "services", "endpointslices")
    }
    nodes = tuple(
        NodeSpec(n["metadata"]["name"], (n["status"]["addresses"][0]["address"] + "/24",), ()) for n in objects["nodes"]
    )
    pods: dict[str, PodSpec] = {}
    services = []
    for item in objects["services"]:
        meta, spec = item["metadata"], item["spec"]
        slices = [s for s in objects["endpointslices"]
                  if s["metadata"]["namespace"] == meta["namespace"]
                  and s["metadata"]["labels"]["kubernetes.io/service-name"] == meta["name"]]  # fmt: skip
        ends = [e for s in slices for e in s["endpoints"] or ()]
        if (
            spec["type"] not in ("ClusterIP", "NodePort") or spec["clusterIP"] == "None" or len(spec["ports"]) > 1
            or spec["ports"][0].get("name") or not all(e["conditions"].get("ready") for e in ends)
            or any(e.get("hints") for e in ends) or len(slices) != 1
        ):  # fmt: skip
            continue
        for e in ends:
            ip = e["addresses"][0]
            pods[f"default/{ip}"] = PodSpec(ip, e["nodeName"], (ip,))
        port = spec["ports"][0]
        services.append(ServiceSpec(
            meta["name"], (spec["clusterIP"],), port["port"], slices[0]["ports"][0]["port"] if ends else 80,
            tuple(f"default/{ip}" for ip in sorted(e["addresses"][0] for e in ends)), port["protocol"].lower(),
            port.get("nodePort"), meta["namespace"], spec.get("externalTrafficPolicy", "Cluster"),
            spec.get("internalTrafficPolicy", "Cluster"), tuple(spec.get("externalIPs", ())),
            spec.get("sessionAffinityConfig", {}).get("clientIP", {}).get("timeoutSeconds", 0),
        ))  # fmt: skip
    return Topology(nodes, tuple(pods.values()), services=tuple(services), cluster_cidrs=("10.244.0.0/16",))
