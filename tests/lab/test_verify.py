"""``netk8s verify`` in the lab: what it says is what the kernel did, and nothing of its own stays behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from .cluster import Cluster
from .topology import two_nodes

SRC = Path(__file__).resolve().parents[2] / "src"
NODE = "k8s-node1"
RUN = "from netk8s.cli import main; main()"


@dataclass(frozen=True)
class Ran:
    status: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.out)
        return found


def netns(cluster: Cluster, host: str) -> str:
    return f"/proc/{cluster.host(host).pid}/ns/net"


def command(cluster: Cluster, *words: str) -> list[str]:
    """A command line in the node's namespace."""
    return ["nsenter", f"--net={netns(cluster, NODE)}", sys.executable, "-c", RUN, *words]


def verify(cluster: Cluster, *words: str) -> Ran:
    done = subprocess.run(
        command(cluster, "verify", *words, "--node", NODE, "-o", "json"),
        capture_output=True, text=True, check=False, timeout=60, env={**os.environ, "PYTHONPATH": str(SRC)},
    )  # fmt: skip
    return Ran(done.returncode, done.stdout, done.stderr)


def left_behind(cluster: Cluster) -> str:
    """What of ours is in the node's rules and settings."""
    node = cluster.host(NODE)
    tables = node.call("run", ["nft", "list", "tables"])
    raw = node.call("run", ["iptables-legacy-save"]) + node.call("run", ["iptables-nft-save"])
    found = [line for line in (tables + raw).splitlines() if "netk8s" in line]
    logger = node.call("run", ["cat", "/proc/sys/net/netfilter/nf_log/2", "/proc/sys/net/netfilter/nf_log/10"])
    return "\n".join(found) + ("" if "nfnetlink_log" not in logger else logger)


def agreed(ran: Ran) -> dict[str, Any]:
    assert ran.status == 0, ran.err + ran.out
    found = ran.document
    assert found["agrees"] is True
    assert all(rule["agrees"] for rule in found["rules"])
    return found


def claims(found: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {claim["subject"]: (claim["predicted"], claim["observed"]) for claim in found["claims"]}


def same(text: str) -> tuple[str, str]:
    return text, text


@pytest.mark.lab
def test_it_agrees_with_the_kernel(cluster: Cluster) -> None:
    from_client = ("--from-namespace", netns(cluster, "client"))

    found = agreed(verify(cluster, "svc/nginx", "--port", "30000", "--from", "client", *from_client))
    assert found["possible_ways"] == 3
    assert claims(found)["verdict"] == ("delivered", "connected (syn-ack)")
    assert any("-j MASQUERADE" in rule["observed"] for rule in found["rules"])

    found = agreed(verify(cluster, "svc/self", "--port", "30001", "--from", "client", *from_client))
    assert claims(found)["endpoint"] == same("10.244.1.5:80")
    assert claims(found)["source seen"] == same("10.244.1.1")
    assert claims(found)[f"leaves {NODE} by"] == same("cni0 from 10.244.1.1")

    # From the node itself: its ClusterIP, its own NodePort, and IPv6.
    found = agreed(verify(cluster, "svc/nginx", "--port", "80"))
    assert found["rules"][0]["chain"] == "OUTPUT"
    agreed(verify(cluster, "svc/nginx", "--port", "30000"))
    found = agreed(verify(cluster, "[fd00:10:96::31]:80"))
    assert claims(found)["endpoint"] == same("[fd00:10:244:1::5]:80")

    # A pod that reaches itself, its namespace found by its address.
    found = agreed(verify(cluster, "svc/self", "--port", "80", "--from", "10.244.1.5"))
    assert claims(found)["source seen"] == same("10.244.1.1")

    found = agreed(verify(cluster, "svc/dns", "--port", "53", "--from", "10.244.1.120"))
    assert claims(found)["verdict"] == ("delivered", "connected (data)")
    assert claims(found)["endpoint"] == same("10.244.2.9:5353")

    found = agreed(verify(cluster, "10.96.99.99:80"))
    assert claims(found)["verdict"] == ("refused", "refused (icmp 3/3)")
    assert found["rules"][-1]["observed"].endswith("-j REJECT --reject-with icmp-port-unreachable")
    assert left_behind(cluster) == ""


@pytest.mark.lab
def test_it_agrees_on_a_drop(cluster: Cluster) -> None:
    rules = "*filter\n-I FORWARD 1 -d 10.244.1.5/32 -p tcp -m tcp --dport 80 -j DROP\nCOMMIT\n"
    cluster.host(NODE).call("run", [f"iptables-{cluster.backend}-restore", "--noflush"], rules)
    found = agreed(
        verify(cluster, "svc/self", "--port", "30001", "--from", "client", "--from-namespace", netns(cluster, "client"))
    )
    assert claims(found)["verdict"] == ("dropped", "timeout")
    assert found["rules"][-1]["observed"].endswith("-j DROP")
    assert left_behind(cluster) == ""


@pytest.mark.lab
def test_a_rule_behind_its_back_is_where_the_paths_part(cluster: Cluster, tmp_path: Path) -> None:
    before = cluster.snapshot(tmp_path / "dump")
    rule = "-I KUBE-SERVICES 1 -d 10.96.120.31/32 -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.244.2.5:80"
    rules = f"*nat\n{rule}\nCOMMIT\n"
    cluster.host(NODE).call("run", [f"iptables-{cluster.backend}-restore", "--noflush"], rules)
    wrote = tmp_path / "observed.json"
    ran = verify(
        cluster, "svc/self", "--port", "80", "--from", f"node/{NODE}", "--dump", str(before), "--write", str(wrote)
    )
    assert ran.status == 1, ran.err + ran.out
    paths = [d for d in ran.document["differences"] if d["about"] == "path"]
    assert len(paths) == 1
    assert "behind nat -A OUTPUT" in paths[0]["text"]
    assert "-j DNAT --to-destination 10.244.2.5:80" in paths[0]["text"]
    assert any(place.startswith(f"nodes/{NODE}/iptables-save.txt:") for place in paths[0]["evidence"])
    assert claims(ran.document)["endpoint"] == ("10.244.1.5:80", "10.244.2.5:80")

    # The same from the file, and as findings of a trace.
    offline = verify(
        cluster,
        "svc/self",
        "--port",
        "80",
        "--from",
        f"node/{NODE}",
        "--dump",
        str(before),
        "--observation",
        str(wrote),
    )
    assert offline.status == 1, offline.err
    assert offline.document["differences"] == ran.document["differences"]
    traced = subprocess.run(
        [sys.executable, "-c", RUN, "trace", "svc/self", "--port", "80", "--from", f"node/{NODE}", "-o", "json",
         "--dump", str(before), "--dump", str(wrote)],
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(SRC)},
    )  # fmt: skip
    codes = {finding["code"] for finding in json.loads(traced.stdout)["findings"]}
    assert {"NK510", "NK511"} <= codes
    assert "NK512" not in codes

    # Without the old dumps it sees the rule and agrees.
    found = agreed(verify(cluster, "svc/self", "--port", "80"))
    assert claims(found)["endpoint"] == same("10.244.2.5:80")


@pytest.mark.lab
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_is_left_when_it_is_killed(cluster: Cluster, number: signal.Signals) -> None:
    # 192.0.2.77 does not answer: the probe waits while it is killed.
    words = command(cluster, "verify", "192.168.52.77:80", "--node", NODE, "--timeout", "30")
    with subprocess.Popen(
        words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": str(SRC)}
    ) as process:
        try:
            wait_until(lambda: "netk8s_verify_" in left_behind(cluster))
            process.send_signal(number)
        finally:
            process.kill()
    wait_until(lambda: left_behind(cluster) == "")


@pytest.mark.lab
def test_what_a_killed_watchdog_left_is_removed_by_the_next_run(cluster: Cluster) -> None:
    node = cluster.host(NODE)
    node.call("run", ["nft", "add", "table", "inet", "netk8s_verify_999999999_1"])
    ran = verify(cluster, "svc/self", "--port", "80")
    agreed(ran)
    assert "removing netk8s_verify_999999999_1" in ran.err
    assert left_behind(cluster) == ""


@pytest.mark.lab
def test_without_nft_a_trace_rule_is_put_into_raw(cluster: Cluster, tmp_path: Path) -> None:
    """Nodes of kube-proxy's iptables mode need not have nft installed."""
    ends = ("", "-save", "-nft", "-nft-save", "-legacy", "-legacy-save")
    for name in ("ip", "bridge", "ss", *(f"{ip}tables{end}" for ip in ("ip", "ip6") for end in ends)):
        found = subprocess.run(["which", name], capture_output=True, text=True, check=True).stdout.strip()
        (tmp_path / name).symlink_to(found)
    path = {**os.environ, "PYTHONPATH": str(SRC), "PATH": str(tmp_path)}
    nsenter = subprocess.run(["which", "nsenter"], capture_output=True, text=True, check=True).stdout.strip()
    words = [nsenter, *command(cluster, "verify", "svc/self", "--port", "80", "--node", NODE, "-o", "json")[1:]]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=path)
    found = agreed(Ran(done.returncode, done.stdout, done.stderr))
    assert len(found["rules"]) > 5
    assert left_behind(cluster) == ""


@pytest.mark.lab
def test_the_packet_of_somebody_else_is_waited_for(cluster: Cluster) -> None:
    words = command(cluster, "verify", "192.168.52.201:30001", "--from", "192.168.52.50", "--sport", "41999", "--wait",
                    "--timeout", "20", "--node", NODE, "-o", "json")  # fmt: skip
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env={**os.environ, "PYTHONPATH": str(SRC)}
    ) as process:
        wait_until(lambda: "netk8s_verify_" in left_behind(cluster))
        cluster.host("client").call("run", [sys.executable, "-c",
            "import socket; socket.create_connection(('192.168.52.201', 30001), 2, ('', 41999)).close()"])  # fmt: skip
        out, _ = process.communicate(timeout=30)
    found = agreed(Ran(process.returncode, out, ""))
    assert claims(found)["endpoint"] == same("10.244.1.5:80")


NFTABLES = """
table ip kube-proxy {
 map service-ips {
  type ipv4_addr . inet_proto . inet_service : verdict
  elements = { 10.96.120.30 . tcp . 80 : goto service-nginx }
 }
 chain mark-for-masquerade {
  meta mark set meta mark or 0x4000
 }
 chain masquerading {
  meta mark & 0x4000 == 0 return
  meta mark set meta mark ^ 0x4000
  masquerade fully-random
 }
 chain service-nginx {
  ip saddr != 10.244.0.0/16 jump mark-for-masquerade
  numgen random mod 2 vmap { 0 : goto ep-a, 1 : goto ep-c }
 }
 chain ep-a {
  meta l4proto tcp counter dnat to 10.244.1.5:80
 }
 chain ep-c {
  meta l4proto tcp counter dnat to 10.244.2.5:80
 }
 chain services {
  ip daddr . meta l4proto . th dport vmap @service-ips
 }
 chain nat-prerouting {
  type nat hook prerouting priority -100
  jump services
 }
 chain nat-output {
  type nat hook output priority -100
  jump services
 }
 chain nat-postrouting {
  type nat hook postrouting priority 100
  jump masquerading
 }
}
"""


@pytest.mark.lab
def test_native_nftables() -> None:
    with Cluster(two_nodes()) as made:
        made.load_nft(NODE, NFTABLES)
        for words in ((), ("--from", "10.244.1.120")):
            found = agreed(verify(made, "10.96.120.30:80", *words))
            assert found["possible_ways"] == 2
            assert [rule["table"] for rule in found["rules"]] == ["kube-proxy"] * len(found["rules"])
            assert any("dnat to" in rule["observed"] for rule in found["rules"])
        assert left_behind(made) == ""


@pytest.mark.lab
def test_rules_in_both_backends(cluster: Cluster) -> None:
    """Each backend's trace comes by a way of its own; the other one's rules stand between them."""
    other = "legacy" if cluster.backend == "nft" else "nft"
    rules = "*mangle\n-A OUTPUT -p tcp -j MARK --set-xmark 0x10/0x10\n-A POSTROUTING -p tcp -j MARK --set-xmark 0x20/0x20\nCOMMIT\n"
    cluster.host(NODE).call("run", [f"iptables-{other}-restore"], rules)
    found = agreed(verify(cluster, "10.96.120.31:80"))
    chains = [(rule["table"], rule["chain"]) for rule in found["rules"]]
    assert chains.count(("mangle", "OUTPUT")) == chains.count(("mangle", "POSTROUTING")) == 1
    assert ("nat", "KUBE-POSTROUTING") in chains
    assert left_behind(cluster) == ""


@pytest.mark.lab
def test_the_nodes_namespace_can_be_named(cluster: Cluster) -> None:
    words = [
        "verify",
        "svc/self",
        "--port",
        "80",
        "--node",
        NODE,
        "-o",
        "json",
        "--namespace-path",
        netns(cluster, NODE),
    ]
    done = subprocess.run(
        [sys.executable, "-c", RUN, *words],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(SRC)},
    )
    agreed(Ran(done.returncode, done.stdout, done.stderr))
    assert left_behind(cluster) == ""


def wait_until(condition: Any, seconds: float = 15) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)
