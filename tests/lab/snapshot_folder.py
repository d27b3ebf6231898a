"""Writes a snapshot folder in the contract's form: the texts that the field's own tools print, node by node."""

from __future__ import annotations

import json
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

from .agent import Agent
from .topology import PodSpec, ServiceSpec, Topology, of_family

SYSCTLS = (
    *(
        f"net.ipv4.conf.*.{name}"
        for name in (
            "accept_local",
            "arp_announce",
            "arp_ignore",
            "forwarding",
            "proxy_arp",
            "proxy_arp_pvlan",
            "route_localnet",
            "rp_filter",
            "send_redirects",
            "src_valid_mark",
        )
    ),
    "net.ipv6.conf.*.forwarding",
    "net.bridge.*",
    *(
        f"net.ipv4.{name}"
        for name in (
            "fib_multipath_hash_policy",
            "ip_forward",
            "ip_forward_update_priority",
            "ip_forward_use_pmtu",
            "ip_local_port_range",
            "ip_nonlocal_bind",
        )
    ),
    "net.ipv4.vs.*",
    *(f"net.netfilter.nf_conntrack_{name}" for name in ("buckets", "tcp_be_liberal", "tcp_loose")),
)

COMMANDS: Mapping[str, tuple[str, ...]] = {
    "ip-link.json": ("ip", "-j", "-d", "link"),
    "ip-addr.json": ("ip", "-j", "addr"),
    "ip-route.json": ("ip", "-j", "route", "show", "table", "all"),
    "ip6-route.json": ("ip", "-6", "-j", "route", "show", "table", "all"),
    "ip-rule.json": ("ip", "-j", "rule"),
    "ip-neigh.json": ("ip", "-j", "neigh"),
    "bridge-fdb.json": ("bridge", "-j", "fdb"),
    "nft-ruleset.txt": ("nft", "list", "ruleset"),
    "nft-ruleset.json": ("nft", "-j", "list", "ruleset"),
    "conntrack.txt": ("conntrack", "-L"),
    "ipset-save.txt": ("ipset", "save"),
}
"""A node's files but for the rules, sysctls and sockets. ``ip-rule.json`` has IPv4's rules only, as in the corpus."""

IPVS_COMMANDS: Mapping[str, tuple[str, ...]] = {
    "ipvsadm-save.txt": ("ipvsadm", "--save", "-n"),
    "ipvsadm-Ln.txt": ("ipvsadm", "-Ln"),
}


def write(
    folder: Path,
    topology: Topology,
    nodes: Mapping[str, Agent],
    backend: str,
    cluster: bool = True,
    ipvs: Container[str] = (),
) -> None:
    """Dumps every node, and unless ``cluster`` is False the objects of the API that the topology stands for. ``ipvs``:
    the nodes with virtual servers; asking another for them would load the module into its kernel."""
    for name, agent in nodes.items():
        write_node(folder / "nodes" / name, agent, backend, name in ipvs)
    if cluster:
        (folder / "cluster").mkdir(parents=True, exist_ok=True)
        for kind, items in cluster_objects(topology).items():
            text = json.dumps(
                {"apiVersion": "v1", "items": items, "kind": "List", "metadata": {"resourceVersion": ""}}, indent=1
            )
            (folder / "cluster" / f"{kind}.json").write_text(text)


def write_node(folder: Path, agent: Agent, backend: str, ipvs: bool = False) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, command in {**COMMANDS, **(IPVS_COMMANDS if ipvs else {})}.items():
        if backend == "legacy" and name.startswith("nft"):
            continue
        text = agent.call("run", command)
        if name == "ipset-save.txt" and not text:
            continue
        (folder / name).write_text(text)
    for family, name in ((4, "iptables"), (6, "ip6tables")):
        (folder / f"{name}-save.txt").write_text(agent.call("save", backend, family))
    (folder / "iptables-save-counters.txt").write_text(agent.call("save", backend, 4, counters=True))
    (folder / "sysctl.txt").write_text(agent.call("read_sysctls", SYSCTLS))
    sockets = [line.split() for line in agent.call("run", ["ss", "-Hltun"]).splitlines()]
    lines = sorted({f"{words[0]} {words[1]} {words[4].replace('%lo', '')}" for words in sockets})
    (folder / "listening.txt").write_text("".join(line + "\n" for line in lines))


def cluster_objects(topology: Topology) -> dict[str, list[dict[str, Any]]]:
    """Services, EndpointSlices, Pods and Nodes as the API would list them."""
    return {
        "services": [_service(service) for service in topology.services],
        "endpointslices": [s for service in topology.services for s in _slices(topology, service)],
        "pods": [_pod(topology, pod) for pod in topology.pods],
        "nodes": [
            {
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {"name": node.name, "labels": {"kubernetes.io/hostname": node.name}},
                "spec": {"podCIDR": next(iter(node.pod_cidrs), ""), "podCIDRs": list(node.pod_cidrs)},
                "status": {
                    "addresses": [
                        *({"type": "InternalIP", "address": node.ip(f)} for f in (4, 6) if node.ip(f)),
                        {"type": "Hostname", "address": node.name},
                    ],
                    "nodeInfo": {"kubeProxyVersion": "v1.30.5", "kubeletVersion": "v1.30.5"},
                },
            }
            for node in topology.nodes
        ],
    }


def _families(service: ServiceSpec) -> list[int]:
    return [family for family in (4, 6) if of_family(service.cluster_ips, family)]


def _service(service: ServiceSpec) -> dict[str, Any]:
    port: dict[str, Any] = {
        "protocol": service.protocol.upper(),
        "port": service.port,
        "targetPort": service.target_port,
    }
    kind = "ClusterIP"
    if service.node_port:
        port["nodePort"], kind = service.node_port, "NodePort"
    families = [f"IPv{family}" for family in _families(service)]
    spec: dict[str, Any] = {
        "ports": [port],
        "selector": {"app": service.name},
        "clusterIP": service.cluster_ips[0],
        "clusterIPs": list(service.cluster_ips),
        "type": kind,
        "sessionAffinity": "ClientIP" if service.affinity else "None",
        "ipFamilies": families,
        "ipFamilyPolicy": "SingleStack" if len(families) == 1 else "RequireDualStack",
        "internalTrafficPolicy": service.internal_policy,
    }
    if service.node_port or service.external_ips:
        spec["externalTrafficPolicy"] = service.external_policy
    if service.affinity:
        spec["sessionAffinityConfig"] = {"clientIP": {"timeoutSeconds": service.affinity}}
    if service.external_ips:
        spec["externalIPs"] = list(service.external_ips)
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": service.name, "namespace": service.namespace},
        "spec": spec,
        "status": {"loadBalancer": {}},
    }


def _slices(topology: Topology, service: ServiceSpec) -> list[dict[str, Any]]:
    slices = []
    for family in _families(service):
        endpoints = [
            {
                "addresses": [ip],
                "conditions": {"ready": True, "serving": True, "terminating": False},
                "targetRef": {"kind": "Pod", "namespace": pod.namespace, "name": pod.name},
                "nodeName": pod.node,
            }
            for ip, pod in topology.endpoints(service, family)
        ]
        slices.append(
            {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "addressType": f"IPv{family}",
                "metadata": {
                    "name": f"{service.name}-ipv{family}",
                    "namespace": service.namespace,
                    "labels": {"kubernetes.io/service-name": service.name},
                },
                "endpoints": endpoints,
                "ports": [{"name": "", "protocol": service.protocol.upper(), "port": service.target_port}],
            }
        )
    return slices


def _pod(topology: Topology, pod: PodSpec) -> dict[str, Any]:
    ips = [ip for family in (4, 6) for ip in topology.pod_ips(pod, family)]
    spec: dict[str, Any] = {
        "nodeName": pod.node,
        "containers": [
            {
                "name": "main",
                "ports": [{"containerPort": port, "protocol": protocol.upper()} for protocol, port in pod.ports],
            }
        ],
    }
    if pod.host_network:
        spec["hostNetwork"] = True
    node = topology.node(pod.node)
    status = {
        "phase": "Running",
        "hostIP": node.ip(4) or node.ip(6),
        "podIP": ips[0] if ips else "",
        "podIPs": [{"ip": ip} for ip in ips],
    }
    metadata = {"name": pod.name, "namespace": pod.namespace, "labels": dict(pod.labels)}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": status}
