"""A process listens on a NodePort.

What it sees
------------
A listening socket in the node's own network namespace with the number and protocol of a Service's
NodePort. kube-proxy up to 1.23 opened NodePorts itself, which is not meant.

Why it matters
--------------
The rules take packets before the socket does, so the process gets none of those that are sent to
an address with NodePorts. Where kube-proxy's rules are not asked (another address with
--nodeport-addresses, ::1, 127.0.0.1 in nftables and IPVS mode) the process answers in the
Service's place.

Example
-------
  NK612 warning  sshd listens on worker-2 at NodePort 30022 of default/git

What to do
----------
Give the process another port, or the Service another nodePort. A port range below
--service-node-port-range (30000-32767) is free of NodePorts; keep
net.ipv4.ip_local_reserved_ports for the range.
"""

from __future__ import annotations

from collections.abc import Iterator

from netk8s.drift import TAKEN, Drift
from netk8s.findings._reading import places
from netk8s.model import Finding

CODE = "NK612"
SEVERITY = "warning"
SUMMARY = "A process listens on a Service's NodePort."


def drift(found: Drift) -> Iterator[Finding]:
    for each in found.of(TAKEN):
        yield Finding(
            CODE,
            SEVERITY,
            f"{each.what} listens on {each.node} at {each.dialled} of {each.service}, whose rules take its packets",
            places(each.connection, *each.at),
            "Give the process another port, or the Service another nodePort.",
            each.proven,
        )
