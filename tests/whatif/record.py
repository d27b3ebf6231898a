"""Records what the real kube-proxy programs before and after each change that ``netk8s whatif`` knows.

``python tests/whatif/record.py MODE`` writes recorded/MODE.json.gz: iptables and nftables on this kernel, ipvs in user-mode
Linux. The control plane is that of the e2e tests (tests/e2e/build.py makes it), nodes are the lab's namespaces; root only.

A recording is ``{state: {"wanted": {…}, "files": {path: text}}}``; ``wanted`` are the fields of netk8s.whatif.Wanted. The
state "before" has every file, the others those that are not as before.
"""

from __future__ import annotations

import gzip
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "e2e"), str(HERE.parent)]

import build  # noqa: E402 - the folders of the tests are no packages of an installed distribution
from lab import uml  # noqa: E402
from lab.snapshot_folder import write  # noqa: E402
from plane import API, Plane  # noqa: E402

NAMESPACE = "shop"
A, B, C, DNS = "default/nginx-a", "default/nginx-b", "default/nginx-c", "default/dns-a"
LEFT_OUT = (
    "nft-ruleset.json",
    "conntrack.txt",
    "ipvsadm-Ln.txt",
    "iptables-save-counters.txt",
    "bridge-fdb.json",
    "ip-neigh.json",
)
PROGRAMMED = (
    "nft-ruleset.txt",
    "iptables-save.txt",
    "ip6tables-save.txt",
    "ipset-save.txt",
    "ipvsadm-save.txt",
    "ip-addr.json",
    "ip-route.json",
    "ip6-route.json",
    "services.json",
    "endpointslices.json",
    "pods.json",
)
"""What kube-proxy writes, and what it reads. In others a timer runs, or health checks are listened for."""

SERVICES: Mapping[str, tuple[int, Sequence[str], Mapping[str, Any]]] = {
    "web": (1, (A, B, C), {"type": "LoadBalancer", "externalIPs": ["192.168.52.231"], "lb": "192.168.52.241", "nodePort": 31001}),
    "local": (2, (A, B), {
        "type": "LoadBalancer", "lb": "192.168.52.242", "nodePort": 31002, "externalTrafficPolicy": "Local",
        "healthCheckNodePort": 32002, "loadBalancerSourceRanges": ["192.168.52.0/24"],
    }),
    "inner": (3, (B, C), {"type": "ClusterIP"}),
    "sticky": (4, (A, C), {"type": "NodePort", "nodePort": 31004, "sessionAffinity": "ClientIP",
                           "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 600}}}),
    "udp": (5, (DNS,), {"type": "NodePort", "nodePort": 31053, "externalTrafficPolicy": "Local", "protocol": "UDP", "port": 5353}),
    "inside": (6, (A, B), {"type": "NodePort", "nodePort": 31006, "internalTrafficPolicy": "Local", "externalTrafficPolicy": "Local"}),
}  # fmt: skip
"""Number of the ClusterIP, endpoints, spec. ``lb``: what its status says; ``protocol`` and ``port``: of its only port."""

MARKS = {4: ("10.244.9.8", "10.244.9.9"), 6: ("fd00:10:244:9::8", "fd00:10:244:9::9")}
"""Endpoints that take turns, to see that the kube-proxies have done all that was asked before; dumps have the first."""

OBJECTS = {"services": "v1", "endpointslices": "discovery.k8s.io/v1", "pods": "v1", "nodes": "v1"}


class Recorded(Plane):
    """The e2e tests' cluster with some more Services and without agents, of both families.

    In IPVS mode it is of IPv4 alone, and only the first node has a kube-proxy: that one starts a program for each set and
    entry, which takes minutes in user-mode Linux.
    """

    def start_agent(self, node: str, *more: str) -> None:
        pass

    def __init__(self, *args: Any, **more: Any) -> None:
        self._slices: dict[tuple[str, str], Mapping[str, Any]] = {}
        self._turned: set[str] = set()
        self._mark = 0
        self.families = (4,) if "ipvs" in args else (4, 6)
        super().__init__(*args, **more)

    def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None, kind: str = "json") -> Any:
        """Asks the API server itself: kubectl takes seconds to start in user-mode Linux."""
        more = ["-H", f"Content-Type: application/{kind}", "--data-binary", "@-"] if body is not None else []
        done = self.run("api", [
            "curl", "-sS", "--fail-with-body", "--cacert", self.ca, "-H", "Authorization: Bearer token-of-admin",
            "-X", method, *more, f"https://{API}:6443{path}",
        ], stdin=json.dumps(body) if body is not None else None)  # fmt: skip
        assert done.returncode == 0, f"{method} {path}: {done.stdout} {done.stderr}"
        return json.loads(done.stdout)

    def begin(self) -> None:
        """Makes what is to be recorded."""
        self.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
        self.create(*(self._service(name) for name in SERVICES), self._service("marker", (250, (), {})))
        self.replace(self.slices())
        for name, (_, _, spec) in SERVICES.items():
            if "lb" in spec:
                self.patch("service", name, {"status": {"loadBalancer": {"ingress": [{"ip": spec["lb"]}]}}}, "status")
        self.settle()

    def _service(
        self, name: str, what: tuple[int, Sequence[str], Mapping[str, Any]] | None = None
    ) -> Mapping[str, Any]:
        number, _, spec = what or SERVICES[name]
        port = {"port": spec.get("port", 80), "protocol": spec.get("protocol", "TCP")}
        if "nodePort" in spec:
            port["nodePort"] = spec["nodePort"]
        ips = [f"10.96.1.{number}", f"fd00:10:96::1{number:02x}"][: len(self.families)]
        rest = {k: v for k, v in spec.items() if k not in ("lb", "nodePort", "protocol", "port")}
        families = [f"IPv{family}" for family in self.families]
        policy = "RequireDualStack" if len(families) == 2 else "SingleStack"
        return {
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {"clusterIP": ips[0], "clusterIPs": ips, "ipFamilies": families, "ipFamilyPolicy": policy,
                     "ports": [port], **rest},
        }  # fmt: skip

    def slices(self, gone: Sequence[str] = ()) -> list[Mapping[str, Any]]:
        """The EndpointSlices of the Services, without some pods."""
        return [
            self._slice(name, family, [
                {
                    "addresses": [self.topology.pod_ips(pod, family)[0]], "conditions": {"ready": True}, "nodeName": pod.node,
                    "targetRef": {"kind": "Pod", "name": pod.name, "namespace": pod.namespace},
                }
                for key in pods if key not in gone for pod in [self.topology.pod(key)]
            ], spec)
            for name, (_, pods, spec) in SERVICES.items() for family in self.families
        ]  # fmt: skip

    def _slice(
        self, name: str, family: int, endpoints: list[Mapping[str, Any]], spec: Mapping[str, Any] = {}
    ) -> Mapping[str, Any]:
        return {
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": f"IPv{family}",
            "metadata": {"name": f"{name}-{family}", "namespace": NAMESPACE, "labels": {"kubernetes.io/service-name": name}},
            "ports": [{"port": spec.get("port", 80), "protocol": spec.get("protocol", "TCP")}], "endpoints": endpoints,
        }  # fmt: skip

    def patch(self, kind: str, name: str, what: Mapping[str, Any], sub: str = "") -> None:
        self.ask(
            "PATCH",
            f"/api/v1/namespaces/{NAMESPACE}/{kind}s/{name}{f'/{sub}' if sub else ''}",
            what,
            "merge-patch+json",
        )
        if not sub:
            self._turned.add(name)

    def replace(self, slices: Sequence[Mapping[str, Any]]) -> None:
        """Has these slices be as said; one that is so already is left alone."""
        for each in slices:
            key = (each["metadata"]["namespace"], each["metadata"]["name"])
            if self._slices.get(key) != each:
                path = f"/apis/discovery.k8s.io/v1/namespaces/{key[0]}/endpointslices/{key[1]}?fieldManager=kubectl-create&force=true"
                self.ask("PATCH", path, each, "apply-patch+yaml")
                self._slices[key] = each

    def _proxy(self, node: str) -> None:
        if self.mode != "ipvs":
            super()._proxy(node)
        elif node in self.served:
            tools = self.folder / "tools"
            tools.mkdir()
            for name in ("ip6tables", "ip6tables-save", "ip6tables-restore"):
                (tools / name).symlink_to("/bin/false")
            super()._proxy(node)

    @property
    def served(self) -> list[str]:
        """The nodes with a kube-proxy."""
        return [node.name for node in self.topology.nodes][: 1 if self.mode == "ipvs" else None]

    def programmed(self) -> bool:
        every = {self.topology.pod_ips(self.topology.pod(key), 4)[0] for key in self._pods("nginx")}
        return all(self._has(node, every, set()) for node in self.served)

    def settle(self) -> None:
        """Returns when every kube-proxy has written what was asked before."""
        time.sleep(1.5)
        # Other modes have hashes of it in the names of chains, so there it goes back.
        for _ in range(1 if self.mode == "ipvs" else 2):
            self._mark = 1 - self._mark
            self.replace([
                self._slice("marker", family, [{"addresses": [MARKS[family][self._mark]], "conditions": {"ready": True}}])
                for family in self.families
            ])  # fmt: skip
            self.wait(lambda: self._marked() == {(True, False)}, 120, "the marker")
        time.sleep(1.5)

    def _marked(self) -> set[tuple[bool, bool]]:
        """Whether the marker's new endpoint is there, and whether the old one is."""
        # In nftables mode the chain of an endpoint that is gone stays for a while, empty.
        asked = {"nftables": ("nft list ruleset", "dnat to "), "ipvs": ("ipvsadm -Sn", "-r ")}
        command, before = asked.get(self.mode, ("iptables-save; ip6tables-save", "--to-destination "))
        texts = [self.run(node, ["sh", "-c", command]).stdout for node in self.served]
        ends = [[f"[{mark}]" if family == 6 else mark for mark in MARKS[family]] for family in self.families]
        marks = [(each[self._mark], each[1 - self._mark]) for each in ends]
        return {(f"{before}{new}:80" in text, f"{before}{old}:80" in text) for text in texts for new, old in marks}

    def turned(self) -> set[str]:
        """The Services that were changed since this was asked before."""
        found, self._turned = self._turned, set()
        return found

    def dumps(self) -> dict[str, str]:
        """Every file of a snapshot of now."""
        with tempfile.TemporaryDirectory(dir=self.folder) as made:
            folder = Path(made)
            hosts = {node: self.cluster.host(node) for node in self.served}
            write(folder, self.topology, hosts, self.backend, False, hosts if self.mode == "ipvs" else ())
            files = {
                str(path.relative_to(folder)): path.read_text() for path in sorted(folder.rglob("*")) if path.is_file()
            }
        for kind, group in OBJECTS.items():
            found = self.ask("GET", f"/{'api/v1' if group == 'v1' else f'apis/{group}'}/{kind}")
            name = found["kind"].removesuffix("List")
            found = {
                "apiVersion": "v1",
                "kind": "List",
                "items": [{"apiVersion": group, "kind": name, **item} for item in found["items"]],
            }
            for item in found["items"]:
                for volatile in (
                    "managedFields",
                    "resourceVersion",
                    "uid",
                    "creationTimestamp",
                    "generation",
                    "annotations",
                ):
                    item["metadata"].pop(volatile, None)
            files[f"cluster/{kind}.json"] = json.dumps(found, indent=1)
        other = "nft-ruleset.txt" if self.mode != "nftables" else ".json.not"
        return {path: _unmarked(text) for path, text in files.items() if not path.endswith((*LEFT_OUT, other))}


def _unmarked(text: str) -> str:
    for one, other in MARKS.values():
        text = text.replace(other, one)
    return text


def _policies(plane: Recorded) -> None:
    plane.patch("service", "web", {"spec": {"externalTrafficPolicy": "Local"}})
    plane.patch("service", "inner", {"spec": {"internalTrafficPolicy": "Local"}})
    plane.patch("service", "inside", {"spec": {"internalTrafficPolicy": "Cluster", "externalTrafficPolicy": "Cluster"}})


def _affinity(plane: Recorded, name: str, seconds: int | None) -> None:
    config = {"clientIP": {"timeoutSeconds": seconds}} if seconds else None
    kind = "ClientIP" if seconds else "None"
    plane.patch("service", name, {"spec": {"sessionAffinity": kind, "sessionAffinityConfig": config}})


def _without(plane: Recorded, *pods: str, deleted: bool = False) -> None:
    plane.replace(plane.slices(pods))
    for service in ("nginx", "self", "dns"):
        spec = next(s for s in plane.topology.services if s.name == service)
        plane.replace([plane.slice(service, [key for key in spec.pods if key not in pods])])
    for key in pods if deleted else ():
        namespace, _, name = key.partition("/")
        plane.ask("DELETE", f"/api/v1/namespaces/{namespace}/pods/{name}?gracePeriodSeconds=0")


State = tuple[str, Mapping[str, Sequence[str]], Callable[[Recorded], None]]
STATES: tuple[State, ...] = (
    ("external-local", {"external": ["shop/web=Local"]},
     lambda p: p.patch("service", "web", {"spec": {"externalTrafficPolicy": "Local"}})),
    ("external-cluster", {"external": ["shop/local=Cluster"]},
     lambda p: p.patch("service", "local", {"spec": {"externalTrafficPolicy": "Cluster"}})),
    ("external-cluster-of-udp", {"external": ["shop/udp=Cluster"]},
     lambda p: p.patch("service", "udp", {"spec": {"externalTrafficPolicy": "Cluster"}})),
    ("internal-local", {"internal": ["shop/inner=Local"]},
     lambda p: p.patch("service", "inner", {"spec": {"internalTrafficPolicy": "Local"}})),
    ("internal-local-of-node-port", {"internal": ["shop/web=Local"]},
     lambda p: p.patch("service", "web", {"spec": {"internalTrafficPolicy": "Local"}})),
    ("internal-cluster", {"internal": ["shop/inside=Cluster"]},
     lambda p: p.patch("service", "inside", {"spec": {"internalTrafficPolicy": "Cluster"}})),
    ("several-policies", {"external": ["shop/web=Local", "shop/inside=Cluster"],
                          "internal": ["shop/inner=Local", "shop/inside=Cluster"]}, _policies),
    ("affinity", {"affinity": ["shop/web=ClientIP:1200"]}, lambda p: _affinity(p, "web", 1200)),
    ("affinity-of-local", {"affinity": ["shop/local=ClientIP"]}, lambda p: _affinity(p, "local", 10800)),
    ("other-seconds", {"affinity": ["shop/sticky=ClientIP:30"]}, lambda p: _affinity(p, "sticky", 30)),
    ("no-affinity", {"affinity": ["shop/sticky=None"]}, lambda p: _affinity(p, "sticky", None)),
    ("endpoint", {"endpoints": ["{nginx-a}"]}, lambda p: _without(p, A)),
    ("last-endpoint", {"endpoints": ["{dns-a}"]}, lambda p: _without(p, DNS)),
    ("pod", {"pods": ["default/nginx-b"]}, lambda p: _without(p, B, deleted=True)),
    ("drained", {"drained": ["k8s-node2"]}, lambda p: _without(p, C, DNS, deleted=True)),
)  # fmt: skip
"""Name, what netk8s is asked, and what is done to the API's objects. ``{pod}``: its addresses, one after the other."""


def record(mode: str, backend: str, folder: Path, patience: float = 1.0) -> dict[str, Any]:
    """Every state, each reached from the same one."""
    made: dict[str, Any] = {}
    with Recorded(folder, mode, backend, patience) as plane:
        plane.begin()
        before = plane.dumps()
        made["before"] = {"wanted": {}, "files": before}
        for name, wanted, change in STATES:
            change(plane)
            plane.settle()
            after = plane.dumps()
            made[name] = {
                "wanted": {field: _asked(plane, words) for field, words in wanted.items()},
                "files": {p: text for p, text in after.items() if before.get(p) != text and p.endswith(PROGRAMMED)},
            }
            assert before.keys() == after.keys(), before.keys() ^ after.keys()
            _restore(plane)
            (folder / "made.json").write_text(json.dumps(made))
            print(f"{name}: {', '.join(made[name]['files'])}", flush=True)
    return made


def _asked(plane: Recorded, words: Sequence[str]) -> list[str]:
    out = []
    for word in words:
        if not word.startswith("{"):
            out.append(word)
            continue
        pod = plane.topology.pod(f"default/{word[1:-1]}")
        out += [plane.topology.pod_ips(pod, family)[0] for family in plane.families]
    return out


def _restore(plane: Recorded) -> None:
    for name in sorted(plane.turned()):
        spec = dict(plane._service(name)["spec"])
        reset = {
            "externalTrafficPolicy": "Cluster" if spec["type"] != "ClusterIP" else None, "internalTrafficPolicy": "Cluster",
            "sessionAffinity": "None", "sessionAffinityConfig": None,
        }  # fmt: skip
        plane.patch("service", name, {"spec": {**reset, **spec}})
    _without(plane)
    plane.turned()
    there = {item["metadata"]["name"] for item in plane.ask("GET", "/api/v1/namespaces/default/pods")["items"]}
    absent = {pod.name for pod in plane.topology.pods} - there
    if absent:
        pods = [item for item in plane._objects() if item["kind"] == "Pod" and item["metadata"]["name"] in absent]
        plane.create(*pods)
        for pod in (pod for pod in plane.topology.pods if pod.name in absent):
            plane.status(pod)


def inside(folder: Path, cache: str) -> dict[str, Any]:
    """The recording of IPVS mode, run in user-mode Linux."""
    os.environ["NETK8S_E2E_CACHE"] = cache
    return record("ipvs", "legacy", folder, 3.0)


def main(mode: str) -> None:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        if mode == "ipvs":
            cache = str(build.path("kube-proxy").parents[1])
            ran = uml.boot([uml.Case("ipvs", "whatif.record:inside", {"cache": cache})], folder, 5400.0, 3000)["ipvs"]
            assert not ran.error, ran.error
            found = ran.value
        else:
            found = record(mode, "nft", folder)
    out = HERE / "recorded" / f"{mode}.json.gz"
    out.parent.mkdir(exist_ok=True)
    # No name and time in it: the same recording is the same file.
    out.write_bytes(gzip.compress(json.dumps(found, indent=1, sort_keys=True).encode(), mtime=0))
    print(out, out.stat().st_size)


if __name__ == "__main__":
    main(sys.argv[1])
