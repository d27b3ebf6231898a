"""The headline question to a running cluster, in every mode of kube-proxy that this kernel has."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import tarfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import build
import pytest
from plane import AGENT_PORT

from netk8s import decode, snapshot

QUESTION = ("trace", "svc/nginx", "--port", "30000", "--from", "192.168.52.50", "--via", "k8s-node1")
EVERY = ("default/nginx-a", "default/nginx-b", "default/nginx-c")


def outcomes(text: str) -> dict[str, tuple[str, str]]:
    """Of each endpoint its odds and the source that it sees."""
    found = json.loads(text)["outcomes"]
    return {
        o["endpoint"]["ip"]: (o["odds_exact"], o["source_seen"]["ip"]) for o in found if o["verdict"] == "delivered"
    }


def answer(plane: Any) -> str:
    """What the headline question is answered with, as JSON."""
    ran = plane.netk8s(*QUESTION, "-o", "json")
    assert ran.returncode == 0, ran.stderr
    return str(ran.stdout)


def settled(document: dict[str, Any]) -> dict[str, Any]:
    """A document without the places of its steps: conntrack entries come and go between two snapshots."""
    return {key: document[key] for key in ("question", "outcomes", "reply", "missing")} | {
        "codes": sorted(finding["code"] for finding in document["findings"])
    }


def connections(plane: Any, times: int = 60) -> Counter[tuple[str, str]]:
    """(endpoint's address, source it saw) of real connections."""
    seen: Counter[tuple[str, str]] = Counter()
    ips = {key: plane.topology.pod_ips(plane.topology.pod(key), 4)[0] for key in EVERY}
    for _ in range(times):
        made = plane.cluster.connect("client", "192.168.52.201", 30000)
        assert made.result == "connected", made
        seen[ips[made.pod], made.seen_src_ip] += 1
    return seen


@pytest.mark.e2e
def test_live_offline_and_real_connections_agree(plane: Any, tmp_path: Path) -> None:
    live = plane.netk8s(*QUESTION, "-o", "json")
    assert live.returncode == 0, live.stderr
    bundle = str(tmp_path / "bundle.tgz")
    collected = plane.netk8s("collect", "-o", bundle)
    assert collected.returncode == 0, collected.stderr
    offline = plane.run("client", [*plane.command(), *QUESTION, "-o", "json", "--dump", bundle])
    assert offline.returncode == 0, offline.stderr
    assert settled(json.loads(live.stdout)) == settled(json.loads(offline.stdout))
    checked = [
        plane.netk8s("check", "-o", "json"),
        plane.run("client", [*plane.command(), "check", "-o", "json", "--dump", bundle]),
    ]
    codes = [sorted(finding["code"] for finding in json.loads(ran.stdout)["findings"]) for ran in checked]
    assert codes[0] == codes[1], [ran.stderr for ran in checked]
    predicted = outcomes(live.stdout)
    assert {odds for odds, _ in predicted.values()} == {"1/3"}
    seen = connections(plane)
    assert {(ip, source) for ip, (_, source) in predicted.items()} == set(seen)


@pytest.mark.e2e
def test_agents_check_beside_their_data(plane: Any) -> None:
    """The objects go through the real API server's proxy to each agent, packed; what comes back is folded."""
    beside, here = (plane.netk8s("check", where, "-o", "json") for where in ("--beside", "--here"))
    assert beside.returncode == here.returncode, beside.stderr
    found, whole = json.loads(beside.stdout), json.loads(here.stdout)
    assert found["summary"]["nodes"] == whole["summary"]["nodes"]
    assert found["summary"]["unknown"] == 0
    assert found["flows"] == []
    assert found["missing"] == []
    codes = [{f["code"] for f in each["findings"] if f["severity"] == "error"} for each in (found, whole)]
    assert codes[0] == codes[1]
    failing = [{s["service"] for s in each["services"] if s["arrive"] < s["flows"]} for each in (found, whole)]
    assert failing[0] == failing[1]
    again = plane.netk8s("check", "--beside", "-o", "json")
    assert json.loads(again.stdout)["summary"] == found["summary"], "by the digests of the objects that the agents hold"


@pytest.mark.e2e
def test_watch_by_the_agents_tells_what_changed_on_a_node(plane: Any) -> None:
    words = ("watch", "--beside", "--every", "5", "--once", "-o", "json", "--kubeconfig", plane.kubeconfig("dev"))

    def forward(on: int) -> None:
        # Setting it sets forwarding of every device.
        done = plane.run("k8s-node1", ["sh", "-c", f"echo {on} > /proc/sys/net/ipv4/ip_forward"])
        assert done.returncode == 0, done.stderr

    with subprocess.Popen(
        plane.inside("client", [*plane.command(), *words]), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=plane.environment(),
    ) as process:  # fmt: skip
        assert process.stdout is not None
        try:
            first = json.loads(process.stdout.readline())
            forward(0)
            second = json.loads(process.stdout.readline())
        finally:
            forward(1)
            process.terminate()
    assert (first["first"], second["first"]) == (True, False)
    assert first["summary"]["nodes"] == second["summary"]["nodes"] != []
    assert any("does not forward" in finding["summary"] for finding in second["findings_new"])
    assert "none fails" in {row["a"]["what"] for row in second["differences"]}


@pytest.mark.e2e
def test_a_scaled_deployment_is_seen_by_the_next_trace(plane: Any) -> None:
    try:
        plane.scale("nginx", EVERY[:1])
        predicted = outcomes(answer(plane))
        assert {ip: odds for ip, (odds, _) in predicted.items()} == {"10.244.1.5": "1"}
        assert set(connections(plane, 10)) == {("10.244.1.5", predicted["10.244.1.5"][1])}
    finally:
        plane.scale("nginx", EVERY)
    assert len(outcomes(answer(plane))) == 3


@pytest.mark.e2e
def test_a_redacted_bundle_traces_the_same_and_tells_no_name(plane: Any, tmp_path: Path) -> None:
    bundle, words = tmp_path / "shared.tgz", tmp_path / "words.json"
    taken = plane.netk8s("collect", "--redact", "--map", str(words), "-o", str(bundle))
    assert taken.returncode == 0, taken.stderr
    told = json.loads(words.read_text())
    names, addresses = told["names"], told["addresses"]
    with tarfile.open(bundle) as archive:
        files = [archive.extractfile(member) for member in archive if member.isfile()]
        text = "\n".join([*archive.getnames(), *(file.read().decode() for file in files if file is not None)])
    # Two names are words of the tools too: of `bridge fdb`, and of who wrote the bundle. "c" may be part of an IPv6 address.
    plain = {name for name in names if not re.fullmatch("[0-9a-f]{1,4}", name)}
    secret = [*(plain - {"self", "netk8s"}), *addresses, "token-of-", "Bearer"]
    assert {"nginx", "k8s-node1", "nginx-a"} <= set(names)
    assert {"192.168.52.201", "10.244.1.5"} <= set(addresses)
    assert [word for word in secret if re.search(rf"(?<![\w.-]){re.escape(word)}(?![\w.-])", text)] == []

    def asked(service: str, node: str, *dump: str) -> dict[str, Any]:
        question = ("trace", f"svc/default/{service}", "--port", "30000", "--via", node, "-o", "json")
        ran = plane.run("client", [*plane.command(), *question, *dump]) if dump else plane.netk8s(*question)
        assert ran.returncode == 0, ran.stderr
        return dict(json.loads(ran.stdout))

    ours = asked("nginx", "k8s-node1")
    theirs = asked(names["nginx"], names["k8s-node1"], "--dump", str(bundle))
    assert [len(path["hops"]) for path in ours["paths"]] == [len(path["hops"]) for path in theirs["paths"]]
    assert [[len(hop["steps"]) for hop in path["hops"]] for path in ours["paths"]] == [
        [len(hop["steps"]) for hop in path["hops"]] for path in theirs["paths"]
    ]
    theirs_for = {
        ip: addresses.get(ip, ip) for pair in outcomes(json.dumps(ours)).items() for ip in (pair[0], pair[1][1])
    }
    # Chance may give an address itself.
    assert {
        (theirs_for[ip], odds, theirs_for[source]) for ip, (odds, source) in outcomes(json.dumps(ours)).items()
    } == {(ip, odds, source) for ip, (odds, source) in outcomes(json.dumps(theirs)).items()}


@pytest.mark.e2e
def test_who_may_and_who_may_not(plane: Any) -> None:
    path = "/v1/snapshot"
    good = plane.token("netk8s-client", "--audience=netk8s.dev")
    header, payload, _ = good.split(".")
    assert plane.ask_agent("k8s-node1", path, good)[0] == 200
    assert plane.ask_agent("k8s-node1", path, "")[0] == 401
    assert plane.ask_agent("k8s-node1", path, f"{header}.{payload}.{'A' * 342}")[0] == 401, "forged"
    assert plane.ask_agent("k8s-node1", path, plane.token("netk8s-client"))[0] == 401, "of another audience"
    assert plane.ask_agent("k8s-node1", path, "token-of-admin")[0] == 401, "an administrator's own"
    assert plane.ask_agent("k8s-node1", path, plane.token("netk8s-agent", "--audience=netk8s.dev"))[0] == 403, (
        "no right"
    )
    assert plane.ask_agent("k8s-node1", path, plane.expired("netk8s-client"))[0] == 401, "expired"
    assert plane.ask_agent("k8s-node1", "/metrics", "", "-H", "Authorization: Bearer token-of-admin")[0] == 200
    assert plane.ask_agent("k8s-node1", "/metrics", "", "-H", "Authorization: Bearer token-of-dev")[0] == 403
    assert plane.ask_agent("k8s-node1", "/v1/trace", good, "-X", "POST", "--data-binary", f"@{plane.large()}")[0] == 413
    for name in ("agent-k8s-node1", "agent-k8s-node2"):
        for secret in (good, good.split(".")[2], "token-of-"):
            assert secret not in plane.log(name)


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("user", "says"),
    [("nobody", "bind the Role netk8s-user"), ("stranger", "do not have|not accept"), ("powerless", "not allowed")],
)
def test_what_a_user_without_the_right_is_told(user: str, says: str, plane: Any) -> None:
    ran = plane.netk8s(*QUESTION, user=user)
    assert ran.returncode == 5, ran.stdout
    assert re.search(f"{says}|not allowed", ran.stderr), ran.stderr


@pytest.mark.e2e
def test_impersonation_is_kubectls(plane: Any) -> None:
    assert plane.netk8s(*QUESTION, "--as", "dev", user="admin").returncode == 0
    assert plane.netk8s(*QUESTION, "--as", "powerless", user="admin").returncode == 5


@pytest.mark.e2e
def test_200_at_once(plane: Any) -> None:
    good = plane.token("netk8s-client", "--audience=netk8s.dev")
    pid = plane.agents["k8s-node1"].pid

    def burst() -> Counter[int]:
        with ThreadPoolExecutor(50) as pool:
            return Counter(pool.map(lambda _: plane.ask_agent("k8s-node1", "/v1/snapshot", good)[0], range(200)))

    def rested() -> Footprint:
        plane.wait_for(lambda: sockets(pid, plane) == 0, 30)
        # The next look at the kernel gives back what the burst took, and that is a second later at the earliest.
        time.sleep(1.5)
        assert plane.ask_agent("k8s-node1", "/v1/snapshot", good)[0] == 200
        plane.wait_for(lambda: sockets(pid, plane) == 0, 30)
        return Footprint.of(pid)

    first = burst()
    assert set(first) <= {200, 503}
    assert first[200] >= 50
    before = rested()
    assert set(burst()) <= {200, 503}
    after = rested()
    print(before, after)
    assert (after.files, after.threads, after.children) == (before.files, before.threads, 0)
    assert after.resident < before.resident + 12
    assert after.peak < 200


@dataclass(frozen=True)
class Footprint:
    """What a process holds; memory in MB."""

    files: int
    threads: int
    children: int
    resident: int
    peak: int

    @classmethod
    def of(cls, pid: int) -> Footprint:
        status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        memory = (int(status[name].split()[0]) // 1024 for name in ("VmRSS", "VmHWM"))
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return cls(len(os.listdir(f"/proc/{pid}/fd")), int(status["Threads"]), len(children), *memory)


def sockets(pid: int, plane: Any) -> int:
    """How many connections to the agent of k8s-node1 are there still."""
    listed = plane.run("k8s-node1", ["ss", "-tHnp", "state", "established", "sport", f"= :{AGENT_PORT}"]).stdout
    return sum(f"pid={pid}," in line for line in listed.splitlines())


@pytest.mark.e2e
def test_a_node_of_100_000_rules(plane: Any) -> None:
    before = outcomes(answer(plane))
    chains = [f"LOAD-{number}" for number in range(5000)]
    rules = [f"-A {chain} -s 198.18.0.{number} -p tcp --dport 80 -j ACCEPT" for chain in chains for number in range(20)]
    tool = f"iptables-{plane.backend}"
    loading = "\n".join(("*mangle", *(f":{chain} - [0:0]" for chain in chains), *rules, "COMMIT", ""))
    plane.stop(plane.agents["k8s-node2"])
    plane.start_agent("k8s-node2")
    pid = plane.agents["k8s-node2"].pid
    try:
        assert plane.run("k8s-node2", [f"{tool}-restore", "-n"], stdin=loading).returncode == 0
        good = plane.token("netk8s-client", "--audience=netk8s.dev")
        began = time.monotonic()
        assert plane.ask_agent("k8s-node2", "/v1/snapshot", good)[0] == 200
        taken = time.monotonic() - began
        assert outcomes(answer(plane)) == before
        held = Footprint.of(pid)
        print(f"{taken:.1f} s", held)
        assert held.resident < 60
        assert held.peak < 200
    finally:
        plane.run("k8s-node2", [tool, "-t", "mangle", "-F"])
        plane.run("k8s-node2", [tool, "-t", "mangle", "-X"])
    assert outcomes(answer(plane)) == before


@pytest.mark.e2e
def test_an_agent_that_is_killed_or_stopped_makes_the_answer_partial(plane: Any) -> None:
    agent = plane.agents["k8s-node2"]
    try:
        agent.send_signal(signal.SIGSTOP)
        asking = subprocess.Popen(
            plane.inside("client", [*plane.command(), *QUESTION, "-o", "json", "--kubeconfig", plane.kubeconfig("dev")]),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=plane.environment(),
        )  # fmt: skip
        time.sleep(3)  # the request is on its way to the agent that does not go on
        os.kill(agent.pid, signal.SIGKILL)
        out, said = asking.communicate(timeout=90)
        assert "node k8s-node2 is missing in this answer" in said
        document = json.loads(out)
        assert any("k8s-node2" in gap["what"] for gap in document["missing"])
        assert any("no dump of k8s-node2" in text for text in document["assumptions"])
        assert "10.244.1.5" in outcomes(out)
        agent.wait()
        again = plane.netk8s(*QUESTION, "-o", "json")
        assert "node k8s-node2 is missing in this answer" in again.stderr
    finally:
        plane.start_agent("k8s-node2")
    assert plane.netk8s(*QUESTION, "-o", "json").stderr == ""


@pytest.mark.e2e
def test_pods_are_entered_by_the_agents_that_may(plane: Any) -> None:
    before = plane.netk8s(*QUESTION, "-o", "json")
    plane.stop(plane.agents["k8s-node1"])
    plane.start_agent("k8s-node1", "--pods")
    try:
        ran = plane.netk8s(*QUESTION, "--enter-pods", "-o", "json")
        assert ran.returncode == 0, ran.stderr
        assert outcomes(ran.stdout) == outcomes(before.stdout)
        closed = [gap["what"] for gap in json.loads(ran.stdout)["missing"] if "/pods/" in gap["what"]]
        assert closed
        assert all(gap.startswith("nodes/k8s-node2/pods/default_nginx-c (this agent does not enter") for gap in closed)
        pods = {"default/nginx-a": "10.244.1.5", "default/nginx-b": "10.244.1.6", "default/none": "10.244.1.99"}
        path = plane.folder / "pods.tgz"
        query = ",".join(f"{pod}@{ip}" for pod, ip in pods.items())
        good = plane.token("netk8s-client", "--audience=netk8s.dev")
        asked = plane.run("client", [
            "curl", "-sk", "-o", path, "-H", f"Netk8s-Token: {good}",
            f"https://{plane.topology.node('k8s-node1').ip(4)}:9797/v1/snapshot?pods={query}",
        ])  # fmt: skip
        assert asked.returncode == 0
        node = decode.decode(snapshot.read([str(path)])).nodes["k8s-node1"]
        found = {
            pod: [str(a.ip) for a in inside.addresses if not a.ip.is_loopback] for pod, inside in node.pods.items()
        }
        assert {pod: pods[pod] in ips for pod, ips in found.items()} == {
            "default/nginx-a": True,
            "default/nginx-b": True,
        }
    finally:
        plane.stop(plane.agents["k8s-node1"])
        plane.start_agent("k8s-node1")


@pytest.mark.e2e
def test_the_api_server_is_gone(plane: Any) -> None:
    good = plane.token("netk8s-client", "--audience=netk8s.dev")
    api = plane.api_server
    api.send_signal(signal.SIGSTOP)
    try:
        ran = plane.netk8s(*QUESTION, "--request-timeout", "2")
        assert (ran.returncode, ran.stdout) == (5, "")
        assert "192.168.52.10:6443" in ran.stderr
        assert plane.ask_agent("k8s-node1", "/v1/snapshot", f"{good}x")[0] == 503
    finally:
        api.send_signal(signal.SIGCONT)
    assert plane.netk8s(*QUESTION).returncode == 0


@pytest.mark.e2e
def test_the_api_server_takes_the_manifests(plane: Any, root: Path) -> None:
    overlays = sorted(p.name for p in (root / "daemonset/overlays").iterdir())
    made = [
        plane.kubectl("kustomize", str(root / "daemonset" / f)) for f in ("base", *(f"overlays/{o}" for o in overlays))
    ]
    for overlay in overlays:
        chart = [
            build.path("helm"),
            "template",
            "x",
            root / "daemonset/helm",
            "-n",
            "netk8s",
            "--set",
            f"overlay={overlay}",
        ]
        ran = plane.run("api", chart)
        assert ran.returncode == 0, ran.stderr
        made.append(ran.stdout)
    for text in made:
        said = plane.kubectl("apply", "--server-side", "--dry-run=server", "--force-conflicts", "-f", "-", stdin=text)
        assert "daemonset.apps/netk8s-agent serverside-applied (server dry run)" in said


@pytest.mark.e2e
def test_helm_installs_and_upgrades(plane: Any, root: Path) -> None:
    def helm(*words: str) -> str:
        ran = plane.run("api", [build.path("helm"), "--kubeconfig", plane.kubeconfig("admin"), *words])
        assert ran.returncode == 0, ran.stderr
        return str(ran.stdout)

    def added() -> str:
        path = "jsonpath={.spec.template.spec.containers[0].securityContext.capabilities.add}"
        return str(plane.kubectl("-n", "netk8s", "get", "daemonset", "netk8s-agent", "-o", path))

    # The objects are there already, by kubectl; other releases of them are refused in any namespace.
    chart = str(root / "daemonset/helm")
    other = plane.run("api", [
        build.path("helm"), "--kubeconfig", plane.kubeconfig("admin"), "install", "other", chart, "-n", "tools", "--create-namespace",
    ])  # fmt: skip
    assert other.returncode == 1
    assert "exists and cannot be imported into the current release" in other.stderr
    said = helm("upgrade", "--install", "agents", chart, "-n", "netk8s", "--take-ownership")
    notes = said.partition("\nNOTES:\n")[2].rstrip().splitlines()
    assert "  kubectl label namespace netk8s pod-security.kubernetes.io/enforce=privileged" in notes
    assert notes[-1] == "Then: netk8s trace svc/NAME --port PORT"
    assert max(map(len, notes)) <= 100
    assert added() == '["NET_ADMIN"]'
    helm("upgrade", "agents", chart, "-n", "netk8s", "--set", "overlay=k3s")
    assert added() == '["NET_ADMIN","NET_RAW"]'
    helm("rollback", "agents", "1", "-n", "netk8s")
    assert added() == '["NET_ADMIN"]'
    assert plane.netk8s(*QUESTION).returncode == 0
