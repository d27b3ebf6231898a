"""A real control plane over the lab's namespaces: etcd and kube-apiserver on a host of the LAN, kube-proxy on each node.

Nothing runs in the machine's own network namespace. Every process is ended with the object that started it.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import build
from lab.cluster import Cluster
from lab.topology import ClientSpec, PodSpec, Topology, of_family, two_nodes

API = "192.168.52.10"
AGENT_PORT = 9797
ROOT = Path(__file__).resolve().parents[2]
TOKENS = {"admin": "system:masters", "dev": "", "nobody": "", "powerless": ""}
"""Users and their groups. Whoever else asks is not known to the API server."""


class Plane:
    """A cluster with its API. ``mode`` and ``backend`` are those of kube-proxy, ``families`` those of nodes and Services.

    ``patience``: by what to multiply every time that is waited; where the machine is a slow one.
    """

    families: tuple[int, ...] = (4,)

    def __init__(self, folder: Path, mode: str, backend: str = "nft", patience: float = 1.0) -> None:
        self.folder, self.mode, self.backend, self.patience = folder, mode, backend, patience
        usual = two_nodes()
        services = tuple(
            type(s)(**{**{n: getattr(s, n) for n in s.__slots__}, "cluster_ips": of_family(s.cluster_ips, 4)})
            for s in usual.services
        )
        clients = (*usual.clients, ClientSpec("api", (f"{API}/24",)))
        self.topology: Topology = two_nodes(clients=clients, services=services)
        self._running: list[subprocess.Popen[bytes]] = []
        self.agents: dict[str, subprocess.Popen[bytes]] = {}
        self.cluster = Cluster(self.topology)
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for process in reversed(self._running):
            end(process)
        self._running.clear()
        self.cluster.close()

    # ------------------------------------------------------------ processes

    def inside(self, host: str, argv: Sequence[str | Path], **more: Any) -> list[str]:
        return ["nsenter", f"--net=/proc/{self.cluster.host(host).pid}/ns/net", "--", *map(str, argv)]

    def start(
        self, host: str, name: str, argv: Sequence[str | Path], env: Mapping[str, str] = {}
    ) -> subprocess.Popen[bytes]:
        log = (self.folder / f"{name}.log").open("ab")
        # Ends with us, however we end.
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *self.inside(host, argv)],
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            env={**environment(), **env},
        )
        log.close()
        self._running.append(process)
        return process

    def stop(self, process: subprocess.Popen[bytes]) -> None:
        end(process)
        self._running.remove(process)

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def kubectl(self, *words: str, stdin: str | None = None, user: str = "admin") -> str:
        done = self.run("api", ["kubectl", f"--kubeconfig={self.kubeconfig(user)}", *words], stdin=stdin)
        assert done.returncode == 0, f"kubectl {' '.join(words)}: {done.stderr}"
        return done.stdout

    def run(self, host: str, argv: Sequence[str | Path], stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.inside(host, argv),
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=120 * self.patience,
            env=environment(),
        )

    def netk8s(self, *words: str, user: str = "dev") -> subprocess.CompletedProcess[str]:
        """netk8s on the LAN's client, as a user at home would run it."""
        patient = ("--request-timeout", f"{10 * self.patience:g}") if self.patience != 1 else ()
        return self.run("client", [*self.command(), *words, "--kubeconfig", self.kubeconfig(user), *patient])

    @staticmethod
    def command() -> list[str]:
        return [sys.executable, "-c", "from netk8s.cli import main; main()"]

    @staticmethod
    def environment() -> dict[str, str]:
        return environment()

    # ------------------------------------------------------------ the control plane

    def _start(self) -> None:
        keys = self.folder / "keys"
        keys.mkdir()
        run = ["openssl", "genrsa", "-out", keys / "sa.key", "2048"]
        subprocess.run(run, check=True, capture_output=True)
        (keys / "tokens.csv").write_text("".join(f"token-of-{u},{u},{u},{g}\n" for u, g in TOKENS.items()))
        self.start("api", "etcd", [
            "etcd", "--data-dir", self.folder / "etcd", "--listen-client-urls", "http://127.0.0.1:2379",
            "--advertise-client-urls", "http://127.0.0.1:2379", "--listen-peer-urls", "http://127.0.0.1:2380",
        ])  # fmt: skip
        self.api_server = self.start("api", "kube-apiserver", [
            build.path("kube-apiserver"), "--etcd-servers=http://127.0.0.1:2379", f"--cert-dir={keys}",
            f"--bind-address={API}", f"--advertise-address={API}", f"--token-auth-file={keys / 'tokens.csv'}",
            f"--service-cluster-ip-range={','.join(('10.96.0.0/16', 'fd00:10:96::/112')[: len(self.families)])}", "--authorization-mode=RBAC", "--secure-port=6443",
            "--service-account-issuer=https://kubernetes.default.svc", "--api-audiences=https://kubernetes.default.svc",
            f"--service-account-key-file={keys / 'sa.key'}", f"--service-account-signing-key-file={keys / 'sa.key'}",
            # No controller runs that would make every namespace's default service account.
            "--disable-admission-plugins=ServiceAccount", "--endpoint-reconciler-type=none",
        ])  # fmt: skip
        self.ca = keys / "apiserver.crt"
        self.wait(self.ca.exists, 30, "kube-apiserver's certificate")
        self.wait(self._ready, 90, "kube-apiserver")
        self.kubectl("apply", "-f", "-", stdin=self.kubectl("kustomize", str(ROOT / "daemonset/base")))
        for name in ("dev", "nobody"):
            self.kubectl(
                "create", "clusterrolebinding", f"view-{name}", "--clusterrole=netk8s-viewer", f"--user={name}"
            )
        self.kubectl("-n", "netk8s", "create", "rolebinding", "dev", "--role=netk8s-user", "--user=dev")
        self.create(*self._objects())
        for pod in self.topology.pods:
            self.status(pod)
        for node in self.topology.nodes:
            self._proxy(node.name)
            self.start_agent(node.name)
        # A kubelet would do this when the probe passes.
        for node in self.topology.nodes:
            self._status("netk8s", "pod", f"netk8s-agent-{node.name}", (node.ip(4),), node.ip(4))
        self.wait(self.programmed, 60, "kube-proxy")

    def _ready(self) -> bool:
        asked = ["kubectl", f"--kubeconfig={self.kubeconfig('admin')}", "get", "--raw", "/readyz"]
        return self.run("api", asked).stdout == "ok"

    def kubeconfig(self, user: str, token: str = "") -> str:
        path = self.folder / f"kubeconfig-{user}"
        if not path.exists():
            ca = base64.b64encode(self.ca.read_bytes()).decode()
            cluster = {"server": f"https://{API}:6443", "certificate-authority-data": ca}
            path.write_text(json.dumps({
                "apiVersion": "v1", "kind": "Config", "current-context": "e2e",
                "clusters": [{"name": "e2e", "cluster": cluster}],
                "users": [{"name": user, "user": {"token": token or f"token-of-{user}"}}],
                "contexts": [{"name": "e2e", "context": {"cluster": "e2e", "user": user}}],
            }))  # fmt: skip
        return str(path)

    def create(self, *objects: Mapping[str, Any]) -> None:
        self.kubectl("create", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))

    def status(self, pod: PodSpec) -> None:
        """Has a pod run, as its kubelet would say."""
        ips = [ip for family in self.families for ip in self.topology.pod_ips(pod, family)]
        self._status(pod.namespace, "pod", pod.name, ips, self.topology.node(pod.node).ip(4))

    def _status(self, namespace: str, kind: str, name: str, ips: Sequence[str], host: str) -> None:
        status = {
            "phase": "Running", "hostIP": host, "podIP": ips[0], "podIPs": [{"ip": ip} for ip in ips],
            "conditions": [{"type": "Ready", "status": "True"}],
        }  # fmt: skip
        patch = json.dumps({"status": status})
        self.kubectl("-n", namespace, "patch", kind, name, "--subresource=status", "--type=merge", "-p", patch)

    def _objects(self) -> list[Mapping[str, Any]]:
        made: list[Mapping[str, Any]] = []
        for node in self.topology.nodes:
            made.append({
                "apiVersion": "v1", "kind": "Node", "metadata": {"name": node.name},
                "spec": {"podCIDR": node.pod_cidr(4), "podCIDRs": [node.pod_cidr(family) for family in self.families]},
                "status": {"addresses": [
                    *({"type": "InternalIP", "address": node.ip(family)} for family in self.families),
                    {"type": "Hostname", "address": node.name},
                ]},
            })  # fmt: skip
            made.append(pod_object("netk8s", f"netk8s-agent-{node.name}", node.name, True, {"app.kubernetes.io/name": "netk8s-agent"}, [AGENT_PORT]))  # fmt: skip
        for pod in self.topology.pods:
            made.append(
                pod_object(
                    pod.namespace, pod.name, pod.node, pod.host_network, dict(pod.labels), [p for _, p in pod.ports]
                )
            )
        for service in self.topology.services:
            port = {
                "port": service.port, "targetPort": service.target_port, "protocol": service.protocol.upper(),
                **({"nodePort": service.node_port} if service.node_port else {}),
            }  # fmt: skip
            made.append({
                "apiVersion": "v1", "kind": "Service", "metadata": {"name": service.name, "namespace": service.namespace},
                "spec": {"type": "NodePort", "clusterIP": service.cluster_ips[0], "ports": [port]},
            })  # fmt: skip
            made.append(self.slice(service.name, service.pods))
        return made

    def slice(self, service: str, pods: Sequence[str]) -> Mapping[str, Any]:
        """The EndpointSlice of a Service with these pods as its endpoints."""
        spec = next(s for s in self.topology.services if s.name == service)
        endpoints = [
            {
                "addresses": list(self.topology.pod_ips(pod, 4)), "conditions": {"ready": True}, "nodeName": pod.node,
                "targetRef": {"kind": "Pod", "name": pod.name, "namespace": pod.namespace},
            }
            for pod in map(self.topology.pod, pods)
        ]  # fmt: skip
        return {
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": f"{service}-1", "namespace": spec.namespace, "labels": {"kubernetes.io/service-name": service}},
            "ports": [{"port": spec.target_port, "protocol": spec.protocol.upper()}], "endpoints": endpoints,
        }  # fmt: skip

    def scale(self, service: str, pods: Sequence[str]) -> None:
        """What the EndpointSlice controller does when a Deployment is scaled; returns when the rules have it."""
        self.kubectl("replace", "-f", "-", stdin=json.dumps(self.slice(service, pods)))
        ips = {self.topology.pod_ips(self.topology.pod(key), 4)[0] for key in pods}
        every = {self.topology.pod_ips(self.topology.pod(key), 4)[0] for key in self._pods(service)}
        self.wait(
            lambda: all(self._has(node.name, ips, every - ips) for node in self.topology.nodes), 60, "the new endpoints"
        )

    def _pods(self, service: str) -> Sequence[str]:
        return next(s for s in self.topology.services if s.name == service).pods

    def _has(self, node: str, there: set[str], gone: set[str]) -> bool:
        text = self.rules(node)
        return all(f"nginx tcp {ip}" in text for ip in there) and not any(f"nginx tcp {ip}" in text for ip in gone)

    def rules(self, node: str) -> str:
        """A node's rules, with a line "SERVICE PROTOCOL ADDRESS" for each endpoint of nginx."""
        if self.mode == "ipvs":
            listed = self.run(node, ["ipvsadm", "-Ln", "-t", f"{self.topology.node(node).ip(4)}:30000"]).stdout
            real = [line.split() for line in listed.splitlines() if line.startswith("  -> ")][1:]
            # One that is leaving stays with weight 0 for as long as it has connections.
            return "\n".join(f"nginx tcp {words[1].partition(':')[0]}" for words in real if words[3] != "0")
        if self.mode == "nftables":
            text = self.run(node, ["nft", "list", "ruleset"]).stdout
            part = text.partition("chain service-")[2] and [
                c
                for c in text.split("\n\tchain ")
                if c.startswith("service-") and "default/nginx/tcp" in c.split("\n")[0]
            ]
            found = " ".join(part or ())
            return "\n".join(f"nginx tcp {ip}" for ip in ("10.244.1.5", "10.244.1.6", "10.244.2.5") if ip in found)
        saved = self.run(node, [f"iptables-{self.backend}-save", "-t", "nat"]).stdout
        lines = [line for line in saved.splitlines() if "KUBE-SEP" in line and '"default/nginx"' in line]
        return "\n".join(
            f"nginx tcp {line.partition('--to-destination ')[2].partition(':')[0]}"
            for line in lines
            if "--to-destination" in line
        )

    def programmed(self) -> bool:
        every = {self.topology.pod_ips(self.topology.pod(key), 4)[0] for key in self._pods("nginx")}
        return all(self._has(node.name, every, set()) for node in self.topology.nodes)

    def wait(self, done: Any, seconds: float, what: str) -> None:
        end_at = time.monotonic() + seconds * self.patience
        while not done():
            dead = [p.args for p in self._running if p.poll() is not None and p not in self.agents.values()]
            assert not dead, f"ended: {dead}\n{self._tails()}"
            assert time.monotonic() < end_at, f"{what}: not there after {seconds} s\n{self._tails()}"
            time.sleep(0.2)

    def wait_for(self, done: Any, seconds: float) -> None:
        end_at = time.monotonic() + seconds * self.patience
        while not done():
            assert time.monotonic() < end_at, f"not so after {seconds} s"
            time.sleep(0.2)

    def _tails(self) -> str:
        return "\n".join(
            f"--- {path.name}\n{path.read_text(errors='replace')[-1500:]}" for path in self.folder.glob("*.log")
        )

    # ------------------------------------------------------------ nodes

    def _proxy(self, node: str) -> None:
        config = {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration", "mode": self.mode,
            "hostnameOverride": node, "clusterCIDR": ",".join(self.topology.cluster_cidrs[: len(self.families)]),
            "clientConnection": {"kubeconfig": self.kubeconfig("admin")},
            "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        }  # fmt: skip
        path = self.folder / f"kube-proxy-{node}.json"
        path.write_text(json.dumps(config))
        # kube-proxy takes the iptables that the path has.
        tools = self.folder / "tools"
        tools.mkdir(exist_ok=True)
        for family in ("iptables", "ip6tables"):
            for verb in ("", "-save", "-restore"):
                with suppress(FileExistsError):
                    (tools / f"{family}{verb}").symlink_to(f"/usr/sbin/{family}-{self.backend}{verb}")
        env = {"PATH": f"{tools}:{os.environ['PATH']}"}
        self.start(node, f"kube-proxy-{node}", [build.path("kube-proxy"), "--config", path], env)

    def start_agent(self, node: str, *more: str) -> None:
        """The agent as its pod would run it: in the node's namespace, with a token of its service account."""
        begun = self.log(f"agent-{node}").count("API server") if node in self.agents else 0
        token = self.folder / f"agent-{node}.token"
        token.write_text(self.kubectl("-n", "netk8s", "create", "token", "netk8s-agent"))
        ip = self.topology.node(node).ip(4)
        self.agents[node] = self.start(node, f"agent-{node}", [
            *self.command(), "agent", "--node", node, "--listen", f"{ip}:{AGENT_PORT}",
            "--api-server", f"https://{API}:6443", "--token-file", token, "--ca-file", self.ca, *more,
        ])  # fmt: skip
        self.wait_for(lambda: self.log(f"agent-{node}").count("API server") > begun, 30)

    def ask_agent(self, node: str, path: str, token: str, *more: str) -> tuple[int, str]:
        """The agent's port itself, from the LAN: (status, body)."""
        url = f"https://{self.topology.node(node).ip(4)}:{AGENT_PORT}{path}"
        header = ["-H", f"Netk8s-Token: {token}"] if token else []
        done = self.run(
            "client", ["curl", "-sk", "--max-time", "60", "-o", "/dev/null", "-w", "%{http_code}", *header, *more, url]
        )
        return int(done.stdout or 0), done.stderr

    def token(self, *words: str) -> str:
        """A token of a service account: ``token("netk8s-client", "--audience=netk8s.dev")``."""
        return self.kubectl("-n", "netk8s", "create", "token", *words).strip()

    def expired(self, account: str) -> str:
        """A token of a service account, signed by the cluster's own key, that ended an hour ago."""
        good = self.token(account, "--audience=netk8s.dev")
        head, claims, _ = good.split(".")
        said = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
        said |= {"exp": int(time.time()) - 3600, "iat": int(time.time()) - 7200, "nbf": int(time.time()) - 7200}
        signed = f"{head}.{base64.urlsafe_b64encode(json.dumps(said).encode()).decode().rstrip('=')}"
        sign = ["openssl", "dgst", "-sha256", "-sign", str(self.folder / "keys/sa.key")]
        done = subprocess.run(sign, input=signed.encode(), capture_output=True, check=True)
        return f"{signed}.{base64.urlsafe_b64encode(done.stdout).decode().rstrip('=')}"

    def large(self) -> Path:
        """A file that is more than an agent takes."""
        path = self.folder / "large"
        path.write_bytes(b" " * (9 << 20))
        return path


def pod_object(
    namespace: str, name: str, node: str, host: bool, labels: Mapping[str, str], ports: Sequence[int]
) -> Mapping[str, Any]:
    container: dict[str, Any] = {"name": "c", "image": "none"}
    if ports and not host:
        container["ports"] = [{"containerPort": port} for port in ports]
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace, "labels": dict(labels)},
        "spec": {"nodeName": node, "hostNetwork": host, "containers": [container]},
    }  # fmt: skip


def environment() -> dict[str, str]:
    """Ours, without the machine's own cluster and proxies."""
    proxies = {"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "KUBECONFIG", "NODE_NAME"}
    left = {name: value for name, value in os.environ.items() if name.upper() not in proxies}
    return {**left, "PYTHONPATH": str(ROOT / "src")}


def end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
    if process.poll() is None:
        process.kill()
        process.wait()
