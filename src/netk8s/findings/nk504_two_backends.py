"""A node has kube-proxy's rules in both iptables backends; which is asked first, no rule says.

What it sees
------------
A node on the packet's way with KUBE-SERVICES in the nat table of iptables-legacy and in that of
iptables-nft.

Why it matters
--------------
Both are hooked into the kernel at the same priority. For nat, the one that was registered last
is asked first, and once it translates a packet the other is not asked. So rules left behind by
a change of backend can go on deciding, with endpoints that are long gone, while the up-to-date
ones are never asked. In filter both are asked, and either may drop.

Example
-------
  NK504 warning  worker-1 has kube-proxy's rules in iptables-nft and in iptables-legacy; which
                 decide depends on which were registered last
     worker-1/iptables-save.txt:40, worker-1/iptables-legacy-save.txt:38

What to do
----------
Remove the rules of the backend that kube-proxy does not use: `kube-proxy --cleanup` with that
iptables in its path, or a reboot, in a maintenance window, for Services are down until
kube-proxy has written its rules. `nft list hooks` shows the order on kernels that list the
chains of nat there (Linux since 2026); give it as a dump, and it is taken from there.
Counters (`iptables-legacy -t nat -L KUBE-SERVICES -v`) show which rules are asked.
"""

from __future__ import annotations

from collections.abc import Iterator

from netk8s.findings._reading import live, places, tables
from netk8s.model import Finding, Hook, Node, Table, Trace, World

CODE = "NK504"
SEVERITY = "warning"
SUMMARY = "kube-proxy's rules are there twice, in iptables-legacy and in iptables-nft."


def check(world: World, trace: Trace) -> Iterator[Finding]:
    family = trace.flow.packet.family
    for name in dict.fromkeys(hop.node for way in live(trace) for hop in way.hops):
        node = world.nodes.get(name)
        found = [t for t in tables(node, family, "nat") if "KUBE-SERVICES" in t.chains]
        if len({t.backend for t in found}) > 1:
            backends = " and in ".join(f"iptables-{t.backend}" for t in found)
            first = _first(node, family, found)
            order = (
                f"those of iptables-{first[0].backend} are asked first"
                if first
                else "which of them decide depends on which were registered last"
            )
            yield Finding(
                CODE,
                SEVERITY,
                f"{name} has kube-proxy's rules in {backends}; {order}",
                places(*(t.chains["KUBE-SERVICES"].at for t in found), *([first[1].at] if first else [])),
                "Remove those that kube-proxy does not keep up to date: kube-proxy --cleanup with that backend's "
                "iptables, or a reboot, in a maintenance window. Counters show which are asked.",
                proven=first is not None,
            )


def _first(node: Node | None, family: int, found: list[Table]) -> tuple[Table, Hook] | None:
    """The table that the kernel asks before all else of its priority, by the node's list of hooks."""
    word = "ip" if family == 4 else "ip6"
    for at in ("prerouting", "output"):
        listed = [h for h in node.hooks if (h.family, h.hook, h.priority) == (word, at, -100)] if node else []
        for table in found:
            if listed and listed[0].calls("nat", table.backend):
                return table, listed[0]
    return None
