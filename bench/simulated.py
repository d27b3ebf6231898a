"""A cluster of any number of nodes: the API's objects and each node's dumps, with faults on some of them.

Every node has kube-proxy's rules for all Services, a route to every other node's pods, and its own pods. What a node's
kernel would print is generated; everything that reads it is netk8s itself.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import generate

NODE_PORTS = 20_000
SUBNET = 256
FAULTS = ("forwarding off", "a route is missing", "rules are old")
"""On the second, third and fourth node. What each is found by: NK404 twice, and NK605, NK607 and NK601."""
OLD = 3
"""Services of which the node with old rules has another first endpoint."""


@dataclass(frozen=True)
class Simulated:
    """``nodes`` × ``services`` × ``endpoints`` of each; ``faulty``: whether some nodes have faults."""

    nodes: int
    services: int
    endpoints: int
    faulty: bool = True

    def __post_init__(self) -> None:
        if self.services * self.endpoints > self.nodes * (SUBNET - 6):
            raise ValueError("more pods than the nodes have room for")
        if self.nodes * SUBNET > generate.POD_NET.num_addresses or self.nodes > generate.LAN.num_addresses - 32:
            raise ValueError("more nodes than the networks have room for")

    # ------------------------------------------------------------ names and addresses

    def name(self, node: int) -> str:
        return f"node-{node:05d}"

    def ip(self, node: int) -> str:
        return str(generate.LAN[11 + node])

    def pods(self, node: int) -> str:
        return f"{generate.POD_NET[node * SUBNET]}/24"

    def place(self, number: int, which: int, endpoints: int) -> str:
        """An endpoint's address: the pods of one Service are on nodes one after another."""
        slot, node = divmod(number * endpoints + which, self.nodes)
        return f"{generate.POD_NET[node * SUBNET + slot + 2]}:8080"

    # ------------------------------------------------------------ the API's objects

    def service_objects(self) -> Iterator[dict[str, Any]]:
        for number in range(self.services):
            space, _, name = generate.service(number).partition(":")[0].partition("/")
            port: dict[str, Any] = {"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}
            ported = number < 65536 - NODE_PORTS
            if ported:
                port["nodePort"] = NODE_PORTS + number
            ip = generate.cluster_ip(number)
            yield {
                "metadata": _metadata(name, space, {"app": name}),
                "spec": {
                    "type": "NodePort" if ported else "ClusterIP", "clusterIP": ip, "clusterIPs": [ip], "ports": [port],
                    "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack", "selector": {"app": name},
                    "sessionAffinity": "ClientIP", "internalTrafficPolicy": "Cluster",
                    "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10800}},
                    **({"externalTrafficPolicy": "Cluster"} if ported else {}),
                },
                "status": {"loadBalancer": {}},
            }  # fmt: skip

    def slice_objects(self) -> Iterator[dict[str, Any]]:
        for number in range(self.services):
            space, _, name = generate.service(number).partition(":")[0].partition("/")
            ends = []
            for which in range(self.endpoints):
                pod = number * self.endpoints + which
                reference = {"kind": "Pod", "namespace": space, "name": _pod_name(name, pod), "uid": _uid(f"pod{pod}")}
                ends.append(
                    {
                        "addresses": [self.place(number, which, self.endpoints).partition(":")[0]],
                        "conditions": {"ready": True, "serving": True, "terminating": False},
                        "nodeName": self.name(pod % self.nodes), "targetRef": reference, "zone": f"zone-{pod % 3}",
                    }
                )  # fmt: skip
            labels = {"kubernetes.io/service-name": name, "endpointslice.kubernetes.io/managed-by": "controller"}
            yield {
                "metadata": _metadata(f"{name}-{_short(name)}", space, labels), "addressType": "IPv4",
                "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}], "endpoints": ends,
            }  # fmt: skip

    def pod_objects(self) -> Iterator[dict[str, Any]]:
        for number in range(self.services):
            space, _, name = generate.service(number).partition(":")[0].partition("/")
            for which in range(self.endpoints):
                pod = number * self.endpoints + which
                ip, node = self.place(number, which, self.endpoints).partition(":")[0], pod % self.nodes
                yield _pod(_pod_name(name, pod), space, self.name(node), self.ip(node), ip)

    def node_objects(self) -> Iterator[dict[str, Any]]:
        for node in range(self.nodes):
            addresses = [("InternalIP", self.ip(node)), ("Hostname", self.name(node))]
            info = {
                "kubeProxyVersion": "v1.30.5", "kubeletVersion": "v1.30.5", "osImage": "Debian GNU/Linux 12",
                "architecture": "amd64", "kernelVersion": "6.1.0-32-amd64", "machineID": _uid(f"m{node}"),
                "systemUUID": _uid(f"s{node}"),
            }  # fmt: skip
            images = [
                {"names": [f"registry.example/app@sha256:{_short(f'{node}{i}', 64)}"], "sizeBytes": 1 << 26}
                for i in range(30)
            ]
            yield {
                "metadata": _metadata(self.name(node), None, {"topology.kubernetes.io/zone": f"zone-{node % 3}"}),
                "spec": {"podCIDR": self.pods(node), "podCIDRs": [self.pods(node)]},
                "status": {
                    "addresses": [{"type": kind, "address": text} for kind, text in addresses], "nodeInfo": info,
                    "images": images,
                },
            }  # fmt: skip

    # ------------------------------------------------------------ what the nodes' kernels print

    @cached_property
    def rules(self) -> bytes:
        lines = generate.rules(self.services, self.endpoints, NODE_PORTS, self.place)
        # What kubelet and the CNI plugin add: pods' packets to the world outside leave with the node's address.
        away = (
            f"-A POSTROUTING -s {generate.POD_NET} ! -d {generate.POD_NET} -j MASQUERADE --random-fully\n"
            if self.services
            else ""
        )
        text = "\n".join(lines) + "\n"
        mark = "-A KUBE-MARK-MASQ"
        return text.replace(mark, away + mark, 1).encode()

    def _old_rules(self) -> bytes:
        """Rules from before the first endpoint of some Services moved."""
        text = self.rules
        for number in range(min(OLD, self.services)):
            now = self.place(number, 0, self.endpoints)
            before = f"{generate.POD_NET[(number % self.nodes) * SUBNET + 253]}:8080"
            hosts = (now.partition(":")[0], before.partition(":")[0])
            text = text.replace(f"-s {hosts[0]}/32 ".encode(), f"-s {hosts[1]}/32 ".encode())
            text = text.replace(f"--to-destination {now}\n".encode(), f"--to-destination {before}\n".encode())
        return text

    def fault(self, node: int) -> str | None:
        return FAULTS[node - 1] if self.faulty and 1 <= node <= len(FAULTS) else None

    def texts(self, node: int) -> Mapping[str, bytes]:
        """The texts of a node by the names of a bundle's files."""
        own, gateway = self.ip(node), str(generate.POD_NET[node * SUBNET + 1])
        fault = self.fault(node)
        links, addresses = _devices(self, node, own, gateway)
        forward = 0 if fault == FAULTS[0] else 1
        sysctls = {
            "net.bridge.bridge-nf-call-iptables": 1, "net.ipv4.conf.all.forwarding": forward,
            "net.ipv4.conf.all.route_localnet": 1, "net.ipv4.conf.all.rp_filter": 0, "net.ipv4.conf.cni0.forwarding": forward,
            "net.ipv4.conf.cni0.rp_filter": 0, "net.ipv4.conf.eth0.forwarding": forward, "net.ipv4.conf.eth0.rp_filter": 0,
            "net.ipv4.ip_forward": forward,
        }  # fmt: skip
        return {
            "iptables-save.txt": self._old_rules() if fault == FAULTS[2] else self.rules,
            "ip-addr.json": _json(addresses),
            "ip-link.json": _json(links),
            "ip-route.json": _json(self._routes(node, own, gateway, lacking=fault == FAULTS[1])),
            "ip-rule.json": _json(
                [
                    {"priority": p, "src": "all", "table": t}
                    for p, t in ((0, "local"), (32766, "main"), (32767, "default"))
                ]
            ),
            "sysctl.txt": "".join(f"{name} = {value}\n" for name, value in sysctls.items()).encode(),
        }

    def _routes(self, node: int, own: str, gateway: str, *, lacking: bool) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = [
            {"dst": "default", "gateway": str(generate.LAN[1]), "dev": "eth0", "flags": []},
            {
                "dst": str(generate.LAN),
                "dev": "eth0",
                "protocol": "kernel",
                "scope": "link",
                "prefsrc": own,
                "flags": [],
            },
        ]
        for other in range(self.nodes):
            if other == node:
                route = {
                    "dst": self.pods(node),
                    "dev": "cni0",
                    "protocol": "kernel",
                    "scope": "link",
                    "prefsrc": gateway,
                }
            elif lacking and other == 0:
                continue
            else:
                route = {"dst": self.pods(other), "gateway": self.ip(other), "dev": "eth0"}
            found.append(route | {"flags": []})
        local = {"type": "local", "table": "local", "protocol": "kernel", "scope": "host", "flags": []}
        for dst, dev, source in (("127.0.0.0/8", "lo", "127.0.0.1"), ("127.0.0.1", "lo", "127.0.0.1"),
                                 (own, "eth0", own), (gateway, "cni0", gateway)):  # fmt: skip
            found.append({**local, "dst": dst, "dev": dev, "prefsrc": source})
        return found


def _devices(cluster: Simulated, node: int, own: str, gateway: str) -> tuple[list[Any], list[Any]]:
    mine = len(range(node, cluster.services * cluster.endpoints, cluster.nodes))
    up = ["BROADCAST", "MULTICAST", "UP", "LOWER_UP"]
    links: list[dict[str, Any]] = [
        {"ifindex": 1, "ifname": "lo", "flags": ["LOOPBACK", "UP", "LOWER_UP"], "mtu": 65536, "operstate": "UNKNOWN"},
        {"ifindex": 2, "ifname": "eth0", "flags": up, "mtu": 1500, "operstate": "UP"},
        {
            "ifindex": 3,
            "ifname": "cni0",
            "flags": up,
            "mtu": 1500,
            "operstate": "UP",
            "linkinfo": {"info_kind": "bridge"},
        },
    ]
    for pod in range(mine):
        slave = {"info_slave_kind": "bridge", "info_slave_data": {"hairpin": True, "state": "forwarding"}}
        links.append(
            {"ifindex": 10 + pod, "ifname": f"veth{_short(f'{node}/{pod}', 8)}", "flags": up, "mtu": 1500, "operstate": "UP",
             "master": "cni0", "linkinfo": {"info_kind": "veth", **slave}, "link_netnsid": pod}
        )  # fmt: skip
    told = {
        "lo": ("127.0.0.1", 8, "host"),
        "eth0": (own, generate.LAN.prefixlen, "global"),
        "cni0": (gateway, 24, "global"),
    }
    addresses = []
    for link in links:
        infos = []
        if link["ifname"] in told:
            ip, length, scope = told[link["ifname"]]
            infos = [{"family": "inet", "local": ip, "prefixlen": length, "scope": scope, "label": link["ifname"]}]
        addresses.append({key: value for key, value in link.items() if key != "linkinfo"} | {"addr_info": infos})
    return links, addresses


def _json(what: object) -> bytes:
    return json.dumps(what, separators=(",", ":")).encode() + b"\n"


def _short(text: str, length: int = 5) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def _uid(text: str) -> str:
    found = _short(text, 32)
    return f"{found[:8]}-{found[8:12]}-{found[12:16]}-{found[16:20]}-{found[20:]}"


def _pod_name(name: str, pod: int) -> str:
    return f"{name}-{_short(name, 10)}-{_short(str(pod))}"


def _metadata(name: str, space: str | None, labels: Mapping[str, str]) -> dict[str, Any]:
    """Metadata of the size that they have: who manages which field takes the most of it."""
    fields = {f"f:field{i}": {} for i in range(20)}
    managed = {
        "manager": "kube-controller-manager",
        "operation": "Update",
        "time": "2026-11-24T09:00:00Z",
        "fieldsV1": fields,
    }
    return {
        "name": name, **({"namespace": space} if space is not None else {}), "labels": dict(labels),
        "uid": _uid(f"{space}/{name}"), "resourceVersion": str(int(_short(name, 6), 16)),
        "creationTimestamp": "2026-11-20T10:00:00Z", "managedFields": [managed],
    }  # fmt: skip


def _pod(name: str, space: str, node: str, host: str, ip: str) -> dict[str, Any]:
    image = f"registry.example/app@sha256:{_short(name, 64)}"
    environment = [{"name": f"SETTING_{i}", "value": f"value-{i}"} for i in range(15)]
    times = {"lastProbeTime": None, "lastTransitionTime": "2026-11-20T10:00:05Z", "status": "True"}
    kinds = ("Initialized", "Ready", "ContainersReady", "PodScheduled")
    container = {
        "name": "app", "image": image, "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}], "env": environment,
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}}, "imagePullPolicy": "IfNotPresent",
        "volumeMounts": [{"name": f"token-{_short(name)}", "mountPath": "/var/run/secrets", "readOnly": True}],
    }  # fmt: skip
    return {
        "metadata": _metadata(name, space, {"app": name.rsplit("-", 2)[0], "pod-template-hash": _short(space, 10)}),
        "spec": {"nodeName": node, "containers": [container], "restartPolicy": "Always", "dnsPolicy": "ClusterFirst"},
        "status": {
            "phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "hostIP": host,
            "conditions": [{"type": kind, **times} for kind in kinds],
            "containerStatuses": [{"name": "app", "imageID": image, "containerID": f"containerd://{_short(ip, 64)}"}],
        },
    }  # fmt: skip
