"""A node's connection table is full, so it drops packets of new connections.

What it sees
------------
The settings net.netfilter.nf_conntrack_count and nf_conntrack_max of a node on the packet's
way, where the count has come to the limit (an error) or to nine tenths of it (a warning).

Why it matters
--------------
A packet of a new connection that finds no room in the table is dropped, whatever the rules say;
the kernel log has "nf_conntrack: table full, dropping packet". Connections that exist go on, so
it looks like random time-outs. Every translated connection takes an entry on each node that it
passes, and closed ones keep theirs for up to two minutes (UDP: 30 to 120 seconds).

Example
-------
  NK423 warning  worker-1 has no room for new connections: 262144 of 262144 entries are taken
     worker-1/sysctl.txt:14

What to do
----------
Raise the limit: kube-proxy's conntrack.maxPerCore and conntrack.min set it at each start, so a
sysctl of your own is undone. An entry takes some 300 bytes of kernel memory. Look at what fills
the table (`conntrack -L | awk …` by destination): often a resolver without a cache or a scanner.
"""

from __future__ import annotations

from collections.abc import Iterator

from netk8s.findings import _recorded
from netk8s.findings._reading import places
from netk8s.model import Finding, Node, Trace, World

CODE = "NK423"
SEVERITY = "warning"
SUMMARY = "A node's connection table is full or nearly so."

COUNT, LIMIT = "net.netfilter.nf_conntrack_count", "net.netfilter.nf_conntrack_max"


def check(world: World, trace: Trace) -> Iterator[Finding]:
    for name in _recorded.nodes(trace):
        node = world.nodes.get(name)
        used, most = _number(node, COUNT), _number(node, LIMIT)
        if node is None or used is None or not most or used * 10 < most * 9:
            continue
        full = used >= most
        what = "has no room for new connections" if full else "has little room for new connections"
        yield Finding(
            CODE,
            # No error: that was the moment of the dump, and the packet asked for may find an entry that is free again.
            SEVERITY,
            f"{name} {what}: {used} of {most} entries are taken",
            places(node.sysctls[COUNT].at, node.sysctls[LIMIT].at),
            "Raise the limit by kube-proxy's conntrack.maxPerCore or conntrack.min (a sysctl of your own is undone at "
            "its next start; an entry takes some 300 bytes), and see which destination fills the table.",
            proven=full,
        )


def _number(node: Node | None, name: str) -> int | None:
    setting = node.sysctls.get(name) if node is not None else None
    return int(setting.value) if setting is not None and setting.value.isdecimal() else None
