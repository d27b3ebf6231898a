"""Which of kube-proxy's modes have left rules, tables or virtual servers on a node."""

from __future__ import annotations

from netk8s.findings._reading import tables
from netk8s.findings._verdicts import NFT_TABLE
from netk8s.model import At, NftTable, Node

IPTABLES, IPVS, NFTABLES = "iptables", "IPVS", "nftables"
DEVICE = "kube-ipvs0"
"""The dummy device that holds the virtual addresses in IPVS mode."""


def modes(node: Node | None, family: int) -> dict[str, At]:
    """The modes whose work a node's dumps show for a family, with a place that shows it.

    kube-proxy always makes the chain KUBE-NODEPORTS in iptables mode and KUBE-NODE-PORT in IPVS mode (1.9 to 1.36), in
    whose table neither has the other's.
    """
    if node is None:
        return {}
    out: dict[str, At] = {}
    for table in tables(node, family, "nat"):
        for name, mode in (("KUBE-NODEPORTS", IPTABLES), ("KUBE-NODE-PORT", IPVS)):
            if name in table.chains:
                out.setdefault(mode, table.chains[name].at)
    server = next((s for s in node.virtual_servers if s.family == family), None)
    if server is not None:
        out.setdefault(IPVS, server.at)
    nft = nft_table(node, family)
    if nft is not None:
        out[NFTABLES] = nft.at
    return out


def nft_table(node: Node | None, family: int) -> NftTable | None:
    """kube-proxy's table of a family in nftables mode."""
    name = "ip" if family == 4 else "ip6"
    return next((t for t in node.nft if (t.family, t.name) == (name, NFT_TABLE)), None) if node is not None else None
