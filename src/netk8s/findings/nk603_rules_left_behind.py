"""A second set of kube-proxy's rules on a node is out of date.

What it sees
------------
A node with rules for the same Services in two places (both backends of iptables, or iptables
beside nftables or IPVS), of which one has what the API wants and the other has not. With a
conntrack dump, connections that were translated by the old ones are counted; then it is an error.

Why it matters
--------------
kube-proxy was moved from one backend or mode to another and its old rules stayed. Whichever the
kernel asks first decides, and the old rules send connections to endpoints that may be gone. For
the two backends of iptables the one whose nat chains were registered last is asked first.

Example
-------
  NK603 warning  worker-2 has a second set of rules (iptables-legacy-save.txt),
               which is out of date for default/web

What to do
----------
Run kube-proxy --cleanup of the old mode, or with the iptables of the old backend, or reboot the
node; in a maintenance window, for the cleanup takes the rules in use along until kube-proxy has
written them again.
"""

from __future__ import annotations

from collections.abc import Iterator

from netk8s.drift import LEFT, Drift
from netk8s.findings._drifting import still
from netk8s.findings._reading import named, places
from netk8s.model import Finding

CODE = "NK603"
SEVERITY = "warning"
SUMMARY = "A second set of kube-proxy's rules on a node is out of date."


def drift(found: Drift) -> Iterator[Finding]:
    for each in found.of(LEFT):
        origin = each.at[0].origin if each.at else "another dump"
        yield Finding(
            CODE,
            "error" if each.connections else SEVERITY,
            f"{each.node} has a second set of rules ({origin}), which is out of date for "
            f"{named(each.service.split(', '), 'Service ports')}{still(each)}",
            places(*each.at, each.connection),
            "Remove the rules that kube-proxy does not keep up to date: kube-proxy --cleanup of that mode or backend, or a "
            "reboot, in a maintenance window.",
        )
