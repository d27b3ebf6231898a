"""netk8s against a kernel with IPVS, ipvlan and dummy devices: user-mode Linux, booted for all of this file, and once more for tunnels."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from netk8s import decode, dialects, findings, snapshot
from netk8s.errors import Netk8sError
from netk8s.model import Ask, Report, World
from netk8s.render.document import document
from netk8s.trace import trace

from . import cni, uml
from .agent import LabError
from .rules import parse_saved
from .uml_cases import CASES, OVERLAYS, SILENT

pytestmark = pytest.mark.lab

CLIENTS = {("client", 4): "192.168.52.50", ("client", 6): "fd00:52::50", ("client-far", 4): "203.0.113.7"}


@pytest.fixture(scope="module")
def booted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, uml.Result]]:
    """The folder and the results of the boot of CASES."""
    needed()
    folder = tmp_path_factory.mktemp("uml")
    asked = [uml.Case(name, f"lab.uml_cases:{run.__name__}") for name, run in CASES.items() if not lacking(name)]
    return folder, uml.boot(asked, folder)


@pytest.fixture(scope="module")
def overlays(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ran]:
    needed()
    folder = tmp_path_factory.mktemp("overlays")
    asked = [uml.Case(name, f"lab.uml_cases:{run.__name__}") for name, run in OVERLAYS.items()]
    results = uml.boot(asked, folder)
    return {name: ran((folder, results), name) for name in OVERLAYS}


def needed() -> None:
    """Skips, or fails where user-mode Linux must run, if it does not."""
    why = uml.available()
    if why and os.environ.get("NETK8S_REQUIRE_LAB") == "1":
        pytest.fail(f"user-mode Linux must run here (NETK8S_REQUIRE_LAB=1): {why}")
    if why:
        pytest.skip(f"user-mode Linux: {why}")


def lacking(name: str) -> str:
    """Why a case cannot run here, "" where it can."""
    return cni.available() if name.startswith("cni_") else ""


@dataclass(frozen=True)
class Ran:
    """A case that ran: its snapshot folder and netk8s' world of it, and the flows that were observed there."""

    folder: Path
    world: World
    flows: tuple[dict[str, Any], ...]
    paths: dict[str, dict[str, list[tuple[str, str, int]]]]

    def seen(self, name: str) -> Seen:
        """What came of a flow: (result, endpoint, address seen), each once."""
        return _seen(self.record(name))

    def record(self, name: str) -> dict[str, Any]:
        return next(record for record in self.flows if record["flow"]["name"] == name)


def ran(booted: tuple[Path, dict[str, uml.Result]], name: str) -> Ran:
    folder, results = booted
    assert not results[name].error, results[name].error
    world = decode.decode(snapshot.read([str(folder / name)]))
    return Ran(folder / name, world, tuple(results[name].value["flows"]), results[name].value.get("paths", {}))


Seen = frozenset[tuple[str, str | None, str | None]]


def _seen(record: dict[str, Any]) -> Seen:
    found = set()
    for result, endpoint, seen_ip, _ in record["outcomes"]:
        # Whether silence ends in "unreachable" depends on how long ARP has been trying.
        found.add(("silence", None, None) if result in SILENT else (result, endpoint, seen_ip))
    return frozenset(found)


def answered(world: World, record: dict[str, Any]) -> dict[str, Any]:
    """The document that ``netk8s trace`` prints for a flow."""
    flow = record["flow"]
    six = ":" in flow["ip"]
    source = flow["source"]
    if source.startswith("k8s-"):
        source = f"node/{source}"
    elif not source.startswith("pod/"):
        source = CLIENTS[source, 6 if six else 4]
    at = f"[{flow['ip']}]" if six else flow["ip"]
    ask = Ask(f"{at}:{flow['port']}", protocol=flow["protocol"], source=source, via=flow["via"] or None)
    named = dialects.label(world, trace(world, dialects.resolve(world, ask)))
    report = Report(named, findings.check(world, named))
    decoded: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(document(report)))
    return decoded


def predicted(answer: dict[str, Any], record: dict[str, Any]) -> tuple[str, list[Seen], str]:
    """netk8s' answer in the same words: the verdicts, for each outcome what would be seen of it, and the reasons."""
    six, tcp = ":" in record["flow"]["ip"], record["flow"]["protocol"] == "tcp"
    ways: list[Seen] = []
    for outcome in answer["outcomes"]:
        silence = ("silence", None, None)
        if outcome["verdict"] == "delivered":
            to, seen_by = outcome["endpoint"], outcome["source_seen"] or {}
            host = f"[{to['ip']}]" if six else to["ip"]
            ways.append(frozenset({("connected", f"{host}:{to['port']}", seen_by.get("ip"))}))
        elif outcome["verdict"] == "refused":
            refused = ("refused", None, None)
            # Linux' TCP takes an ICMPv6 error for a passing one, and says so only with the next SYN, a second later.
            ways.append(frozenset({refused, silence} if six and tcp else {refused}))
        else:
            ways.append(frozenset({silence}))
    verdicts = {outcome["verdict"] for outcome in answer["outcomes"]}
    why = "; ".join(str(outcome["reason"]) for outcome in answer["outcomes"] if outcome["reason"])
    return "unknown" if "unknown" in verdicts else "known", ways, why


def judged(case: Ran, exact: bool) -> tuple[Counter[str], list[str]]:
    """How many flows are right, wrong, unknown or named (as what happens if an assumption does not hold), and a line for
    each that is wrong. ``exact``: every predicted outcome must have been seen too, which chance does not promise and rr
    does."""
    counts: Counter[str] = Counter()
    wrong = []
    for record in case.flows:
        seen = _seen(record)
        try:
            answer = answered(case.world, record)
            verdict, ways, why = predicted(answer, record)
        except Netk8sError as error:
            verdict, ways, why = "error", [], f"{type(error).__name__}: {error}"
        if verdict == "known":
            verdict = "right" if seen <= frozenset().union(*ways) else "wrong"
            if exact and not all(seen & way for way in ways):
                verdict = "wrong"
            others = (predicted(other, record)[1] for other in answer["alternatives"])
            if verdict == "wrong" and any(seen <= frozenset().union(*ways) for ways in others):
                verdict = "named"
        counts[verdict] += 1
        if verdict in ("wrong", "error"):
            wrong.append(f"{record['flow']['name']}: {verdict}: seen {sorted(map(str, seen))}, predicted {ways} {why}")
    return counts, wrong


# What netk8s answers otherwise than the kernel. When it is mended, its line here has to go.
KNOWN_WRONG: dict[str, dict[str, str]] = {}


@pytest.fixture(scope="module")
def cases(booted: tuple[Path, dict[str, uml.Result]]) -> dict[str, Ran]:
    return {name: ran(booted, name) for name in CASES if not lacking(name)}


@pytest.mark.parametrize("name", ["ipip", "gre", "geneve"])
def test_what_a_tunnel_wraps_is_followed_as_the_kernel_sends_it(overlays: dict[str, Ran], name: str) -> None:
    counts, wrong = judged(overlays[name], exact=False)
    assert not wrong, "\n".join(wrong)
    assert counts == {"right": 39}
    # The third node drops what is wrapped, and nothing else.
    assert overlays[name].seen("web-2--direct--pod/default/web-1") == {("connected", "10.244.2.5:80", "10.244.1.5")}
    for flow in ("web-3--direct--pod/default/web-1", "web-1--direct--pod/default/web-3", "web-3--nodeport"):
        assert overlays[name].seen(flow) == {("silence", None, None)}
    told = answered(overlays[name].world, overlays[name].record("web-3--direct--pod/default/web-1"))["outcomes"][0][
        "reason"
    ]
    assert "wraps around it" in told


@pytest.mark.parametrize("name", ["ipvs", "iptables", "ipvlan"])
def test_what_netk8s_says_is_what_the_kernel_does(cases: dict[str, Ran], name: str) -> None:
    """Of ipvlan the dumps of nodes alone do not tell the mode: an answer may rest on the likelier one, and names the rest."""
    counts, wrong = judged(cases[name], exact=name == "ipvs")
    known = KNOWN_WRONG.get(name, {})
    assert {line.split(": ")[0] for line in wrong} == set(known), "\n".join(wrong)
    if name != "ipvlan":
        assert not counts["unknown"], counts
        assert not counts["named"], counts
    assert counts["right"] >= {"ipvs": 200, "iptables": 150, "ipvlan": 60}[name], counts


@pytest.mark.parametrize(("name", "at_least"), [("ipvs", 110), ("iptables", 70)])
def test_the_rules_on_the_way_are_the_kernels(cases: dict[str, Ran], name: str, at_least: int) -> None:
    """Rule by rule, on every node, against the kernel's own trace of a connection's first packet."""
    case = cases[name]
    saved = {
        folder.name: parse_saved((folder / "iptables-save.txt").read_text())
        for folder in (case.folder / "nodes").iterdir()
    }
    compared, wrong = 0, []
    for flow, by_node in case.paths.items():
        kernel = {}
        for node, events in by_node.items():
            steps = []
            for table, chain, number in events:
                rules = saved[node].get((table, chain), [])
                # A number behind the last rule is the chain's end or its policy, no rule.
                if number <= len(rules):
                    steps.append((table, chain, rules[number - 1]))
            kernel[node] = steps
        ways = []
        for path in answered(case.world, case.record(flow))["paths"]:
            way: dict[str, list[tuple[str, str, str]]] = {node: [] for node in saved}
            for hop in path["hops"]:
                way[hop["node"]] += [(s["table"], s["chain"], s["rule"]) for s in hop["steps"] if s["rule"]]
            ways.append(way)
        compared += 1
        if kernel not in ways:
            wrong.append(f"{flow}: kernel {kernel}, predicted {ways[:3]}")
    assert not wrong, f"{len(wrong)} of {compared}\n" + "\n".join(wrong[:6])
    assert compared >= at_least


def test_ipvs_endpoints_take_turns_and_policies_hold(cases: dict[str, Ran]) -> None:
    """Facts of reference/kube-proxy-ipvs.md, sections 5 and 6, that its author could not run."""
    case = cases["ipvs"]
    silence = {("silence", None, None)}
    three = {f"{ip}:80" for ip in ("10.244.1.5", "10.244.1.6", "10.244.2.5")}
    # One of three connections each: round robin, not chance.
    for source in ("client", "client-far", "k8s-node1", "pod/default/toolbox"):
        record = case.record(f"nginx--nodeport--{source}--k8s-node1")
        assert {(endpoint, count) for _, endpoint, _, count in record["outcomes"]} == {(at, 1) for at in three}, record
    # Masqueraded to the address of the device it leaves by.
    at_node1 = case.seen("nginx--nodeport--client--k8s-node1")
    assert {seen for _, endpoint, seen in at_node1 if endpoint == "10.244.2.5:80"} == {"192.168.52.201"}
    assert {seen for _, endpoint, seen in at_node1 if endpoint != "10.244.2.5:80"} == {"10.244.1.1"}
    # A node that calls a ClusterIP has that very address as its source until it is masqueraded.
    assert case.record("self--clusterip--k8s-node1")["source_ip"] == "10.96.120.31"
    assert case.seen("self--clusterip--k8s-node1") == {("connected", "10.244.1.5:80", "10.244.1.1")}
    assert case.seen("self--clusterip--pod/default/toolbox") == {("connected", "10.244.1.5:80", "10.244.1.120")}
    assert case.seen("self--clusterip--pod/default/nginx-a") == {("connected", "10.244.1.5:80", "10.244.1.1")}
    # Delivered on the node itself: POSTROUTING is never met, the client's address stays in spite of the mark.
    assert case.seen("exporter--nodeport--client--k8s-node1") == {("connected", "192.168.52.201:9100", "192.168.52.50")}
    # externalTrafficPolicy Local: kept where there is an endpoint; elsewhere forwarded unmasqueraded, and lost.
    assert {seen for _, _, seen in case.seen("local--nodeport--client--k8s-node1")} == {"192.168.52.50"}
    assert case.seen("local--nodeport--client--k8s-node2") == silence
    # No real servers: an ICMP error, no silence. 127.0.0.1 has no virtual server.
    assert case.seen("inside--clusterip--pod/default/toolbox-2") == {("refused", None, None)}
    assert case.seen("empty--nodeport--client--k8s-node1") == {("refused", None, None)}
    assert case.seen("nginx--nodeport--localhost") == {("refused", None, None)}


def test_ipvlan_pods_and_the_nodes_rules(cases: dict[str, Ran]) -> None:
    """Facts of reference/packet-path.md, section 8, and of the recorded ipvlan cases. Node 1 has pods in mode l2, node 2
    in l3, node 3 in l3s; web-MODE is the one endpoint of a Service, on that node."""
    case = cases["ipvlan"]
    silence = {("silence", None, None)}

    def connected(ip: str, seen_ip: str) -> set[tuple[str, str, str]]:
        return {("connected", f"{ip}:80", seen_ip)}

    l2, l3, l3s = "192.168.52.101", "10.244.2.101", "10.244.3.101"
    # l2: node and own pod never meet, so a NodePort fails on the node that has the endpoint, and there only.
    assert case.seen("web-l2--direct--k8s-node1") == silence
    assert case.seen("web-l2--nodeport--client--k8s-node1") == silence
    assert case.seen("web-l2--nodeport--client--k8s-node2") == connected(l2, "192.168.52.202")
    assert case.seen("web-l2--direct--client") == connected(l2, "192.168.52.50")
    # l2: a ClusterIP goes to the LAN's gateway, past the node and its rules.
    for service in ("web-l2", "web-l3", "web-l3s"):
        assert case.seen(f"{service}--clusterip--pod/default/toolbox-l2") == silence
    # l3: translated in the node's OUTPUT; the answer goes straight to the pod, and it takes it for a stranger's.
    for service in ("web-l2", "web-l3", "web-l3s"):
        assert case.seen(f"{service}--clusterip--pod/default/toolbox-l3") == silence
    # Unless it was masqueraded, as it is for the pod itself: then it comes back through the node.
    assert case.seen("web-l3--clusterip--pod/default/web-l3") == connected(l3, "192.168.52.202")
    assert case.seen("web-l3--nodeport--client--k8s-node2") == connected(l3, "192.168.52.202")
    # l3s: the answer passes the node's INPUT and is translated back.
    assert case.seen("web-l3--clusterip--pod/default/toolbox-l3s") == connected(l3, "10.244.3.111")
    assert case.seen("web-l2--clusterip--pod/default/toolbox-l3s") == connected(l2, "10.244.3.111")
    # l3s: to the node's own pod by INPUT, never POSTROUTING: marked, and not masqueraded.
    assert case.seen("web-l3s--nodeport--client--k8s-node3") == connected(l3s, "192.168.52.50")
    assert case.seen("web-l3s--nodeport--client--k8s-node1") == connected(l3s, "192.168.52.201")
    for mode, ip in (("l3", l3), ("l3s", l3s)):
        assert case.seen(f"web-{mode}--direct--client") == connected(ip, "192.168.52.50")
        assert case.seen(f"web-{mode}--direct--pod/default/toolbox-{mode}") == connected(
            ip, f"10.244.{'2' if mode == 'l3' else '3'}.111"
        )


def test_pods_of_the_ipvlan_plugin_are_those_wired_by_hand(cases: dict[str, Ran]) -> None:
    """The kernel does the same with both, and netk8s says the same of both."""
    if why := lacking("cni_ipvlan"):
        if os.environ.get("NETK8S_REQUIRE_LAB") == "1":
            pytest.fail(why)
        pytest.skip(why)
    by_hand, plugged = cases["ipvlan"], cases["cni_ipvlan"]
    assert len(plugged.flows) > 30
    for record in plugged.flows:
        name = record["flow"]["name"]
        assert _seen(record) == by_hand.seen(name), name
        one, two = (predicted(answered(case.world, record), record)[:2] for case in (plugged, by_hand))
        assert one == two, name


def test_addresses_on_dummy_devices_are_the_nodes_own(cases: dict[str, Ran]) -> None:
    case = cases["iptables"]
    for name, ip in (("nodelocaldns", "169.254.20.10"), ("idle0", "198.51.100.1"), ("void0", "198.51.101.1")):
        # From the node itself the address is its own source; the device being down makes no difference.
        for source, seen_ip in (
            ("client", "192.168.52.50"),
            ("k8s-node1", ip),
            ("pod/default/toolbox", "10.244.1.120"),
        ):
            assert case.seen(f"{name}--{source}") == {("connected", f"{ip}:53", seen_ip)}
    # What is sent out of such a device is gone.
    assert case.seen("nobody--k8s-node1") == {("silence", None, None)}
    assert case.record("nobody--client")["outcomes"][0][0] in SILENT


def test_a_snapshot_of_ipvs_has_the_files_of_the_contract(cases: dict[str, Ran]) -> None:
    node = cases["ipvs"].folder / "nodes" / "k8s-node1"
    assert (
        "-A -t 10.96.120.30:80 -s rr\n-a -t 10.96.120.30:80 -r 10.244.1.5:80 -m -w 1\n"
        in (node / "ipvsadm-save.txt").read_text()
    )
    assert "TCP  10.244.1.1:30000 rr\n" in (node / "ipvsadm-Ln.txt").read_text()
    sets = (node / "ipset-save.txt").read_text()
    assert "add KUBE-CLUSTER-IP 10.96.53.53,udp:53\n" in sets
    assert "add KUBE-LOOP-BACK 10.244.1.5,tcp:80,10.244.1.5\n" in sets
    assert "add KUBE-NODE-PORT-LOCAL-TCP 30080\n" in sets
    assert "net.ipv4.vs.conntrack = 1\n" in (node / "sysctl.txt").read_text()
    links = {link["ifname"]: link for link in msgspec.json.decode((node / "ip-link.json").read_bytes())}
    assert links["kube-ipvs0"]["linkinfo"]["info_kind"] == "dummy"
    assert links["kube-ipvs0"]["operstate"] == "DOWN"


# ------------------------------------------------------------ the boot itself


def _processes(session: int = -1, parent: int = -1) -> list[int]:
    """The processes of a session, or the children of a process; a kernel's session is that kernel's alone."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, its_parent, _, its_session = path.read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if state != "Z" and (int(its_session) == session or int(its_parent) == parent):
            found.append(int(path.parent.name))
    return found


def test_a_case_that_fails_tells_why_and_the_watchdog_ends_a_boot(
    booted: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    started: list[int] = []

    class Kernel(subprocess.Popen[bytes]):
        def __init__(self, *given: Any, **options: Any) -> None:
            super().__init__(*given, **options)
            started.append(self.pid)

    monkeypatch.setattr(subprocess, "Popen", Kernel)
    wrong = uml.boot([uml.Case("wrong", "lab.uml_cases:absent"), uml.Case("writes", "lab.uml_cases:writes")], tmp_path)
    assert "has no attribute 'absent'" in wrong["wrong"].error
    # The root of the machine inside is this one's, and cannot be written to.
    assert "Read-only file system" in wrong["writes"].error
    begun = time.monotonic()
    with pytest.raises(LabError, match=r"ended by the watchdog \(4 s\)(?s:.*)answer from (quick, )?endless"):
        uml.boot([uml.Case("quick", "lab.uml_cases:quick"), uml.Case("endless", "lab.uml_cases:endless")], tmp_path, 4)
    assert time.monotonic() - begun < 20
    assert len(started) >= 2
    assert not [left for pid in started for left in _processes(session=pid)]
    assert not list(scratch.iterdir())


def test_the_kernel_ends_with_a_killed_process(booted: object, tmp_path: Path) -> None:
    code = (
        "from pathlib import Path\nfrom lab.uml import Case, boot\n"
        f"boot([Case('endless', 'lab.uml_cases:endless')], Path({str(tmp_path)!r}))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "TMPDIR": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-c", code], env=environment) as process:
        try:
            deadline = time.monotonic() + 60
            while not (tmp_path / "endless" / "begun").exists() and time.monotonic() < deadline:
                time.sleep(0.05)
            (kernel,) = _processes(parent=process.pid)
            assert len(_processes(session=kernel)) > 1
        finally:
            process.kill()
    deadline = time.monotonic() + 10
    while _processes(session=kernel) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _processes(session=kernel)
