"""Rules in both backends of iptables, registered in either order: a connection of before tells which are asked first."""

from __future__ import annotations

from pathlib import Path

import pytest

from netk8s import decode, dialects, snapshot
from netk8s.model import Ask, World
from netk8s.trace import trace

from .cluster import Cluster
from .topology import two_nodes

VIP, FIRST, SECOND = "10.96.200.1", "10.244.1.5", "10.244.1.6"
NODE, CLIENT = "k8s-node1", "pod/default/toolbox"


def nat(to: str) -> str:
    chains = "".join(f":{chain} ACCEPT [0:0]\n" for chain in ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"))
    rule = f"-A PREROUTING -d {VIP}/32 -p tcp -m tcp --dport 80 -j DNAT --to-destination {to}:80"
    return f"*nat\n{chains}{rule}\nCOMMIT\n"


def told(folder: Path) -> tuple[set[str], str]:
    """(endpoints that netk8s takes a new connection to, what it takes for granted of the order)."""
    world: World = decode.decode(snapshot.read([str(folder)]))
    found = trace(world, dialects.resolve(world, Ask(f"{VIP}:80", source=CLIENT)))
    assumed = [text for text in found.assumptions if "both iptables backends" in text]
    return {str(o.reached.ip) for o in found.outcomes if o.reached is not None}, "".join(assumed)


@pytest.mark.lab
@pytest.mark.parametrize("order", [("legacy", "nft"), ("nft", "legacy")])
def test_a_connection_of_before_shows_the_order(tmp_path: Path, order: tuple[str, str]) -> None:
    with Cluster(two_nodes()) as cluster:
        for backend in order:
            cluster.load(NODE, nat(FIRST if backend == "nft" else SECOND), backend)
        answered = cluster.connect(CLIENT, VIP, 80)
        # The chains registered last are asked first (packet-path.md, section 7).
        assert (answered.result, answered.endpoint) == (
            "connected",
            f"{FIRST if order[-1] == 'nft' else SECOND}:80",
        )
        cluster.snapshot(tmp_path)
        files = tmp_path / "nodes" / NODE
        agent = cluster.host(NODE)
        (files / "iptables-save.txt").write_text(agent.call("save", "nft", 4))
        (files / "iptables-legacy-save.txt").write_text(agent.call("save", "legacy", 4))
        (files / "conntrack.txt").write_text(agent.call("run", ["conntrack", "-L"]))
        (files / "iptables-save-counters.txt").unlink()
        endpoints, assumed = told(tmp_path)
        assert answered.endpoint in {f"{ip}:80" for ip in endpoints}
        assert len(endpoints) == 1
        assert "conntrack.txt" in assumed
        (files / "conntrack.txt").unlink()
        endpoints, assumed = told(tmp_path)
        # Without it the answer is the likelier order, and says so.
        assert endpoints == {FIRST}
        assert "seldom back" in assumed
