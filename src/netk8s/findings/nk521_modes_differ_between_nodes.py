"""The nodes of the snapshot run kube-proxy in different modes.

What it sees
------------
Nodes whose dumps show one mode of kube-proxy (iptables, IPVS or nftables) beside nodes whose
dumps show another.

Why it matters
--------------
The node that a packet comes to first decides what becomes of it, so the same Service behaves
differently by node: NodePorts on 127.0.0.1 work in iptables mode only; nftables mode takes
NodePorts at primary addresses only; IPVS mode sends what policy Local should drop to other
nodes. That is as it should be in the middle of a move and hard to find when it is forgotten.

Example
-------
  NK521 info  nodes run kube-proxy in different modes: iptables on worker-1 and worker-2, IPVS
              on worker-3
     worker-1/iptables-save.txt:40, worker-3/ipvsadm-save.txt:1

What to do
----------
Finish the move, or see which nodes kept an old configuration: the ConfigMap kube-proxy of
kube-system, and whether its DaemonSet has restarted everywhere. A node whose kernel lacks IPVS
ran in iptables mode instead, up to 1.27 without failing.
"""

from __future__ import annotations

from collections.abc import Iterator

from netk8s.findings._modes import modes
from netk8s.findings._reading import named, places
from netk8s.model import At, Finding, Trace, World

CODE = "NK521"
SEVERITY = "info"
SUMMARY = "Nodes run kube-proxy in different modes."


def check(world: World, trace: Trace) -> Iterator[Finding]:
    found: dict[str, dict[str, At]] = {}
    for name, node in world.nodes.items():
        of_node = modes(node, trace.flow.packet.family)
        if len(of_node) == 1:
            ((mode, at),) = of_node.items()
            found.setdefault(mode, {})[name] = at
    if len(found) > 1:
        which = ", ".join(f"{mode} on {named(nodes, 'nodes')}" for mode, nodes in sorted(found.items()))
        yield Finding(
            CODE,
            SEVERITY,
            f"nodes run kube-proxy in different modes: {which}",
            places(*(next(iter(nodes.values())) for nodes in found.values())),
            "Finish the move, or see which nodes kept an old configuration (ConfigMap kube-proxy, and whether the "
            "DaemonSet has restarted there).",
        )
