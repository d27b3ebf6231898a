"""The Service has no usable endpoint anywhere.

What it sees
------------
A packet refused by a rule that kube-proxy writes for a Service without usable endpoints: a
REJECT in KUBE-SERVICES or KUBE-EXTERNAL-SERVICES of the filter table, commented "has no
endpoints"; in nftables mode the map no-endpoint-services or no-endpoint-nodeports; in IPVS mode
a virtual server without real servers. Where the cluster's objects are in the dump it counts
endpoints that exist and are not ready.

It also sees the one case that is not refused: a node dialling such a Service by its
LoadBalancer or external address. KUBE-EXTERNAL-SERVICES is asked in INPUT and FORWARD only, so
the packet leaves the node and is lost.

Why it matters
--------------
Nothing answers. The refusal comes from the node, not from a pod: a firewall is not to blame.

Example
-------
  NK201 error  worker-1 refuses 10.96.0.99:80, because default/empty has no usable endpoints
               (2 are not ready)
     worker-1.iptables-save:31

What to do
----------
Look at the Service's selector and at the pods it selects: `kubectl get endpointslices -l
kubernetes.io/service-name=NAME`. A pod becomes an endpoint when its labels match and its
readiness probe passes. publishNotReadyAddresses: true takes unready pods in too, at the price
of connections that fail.
"""

from __future__ import annotations

from collections.abc import Iterator

from netk8s.findings import _verdicts
from netk8s.findings._reading import (
    SILENCE,
    UNTRANSLATED,
    dialled,
    endpoints,
    graded,
    places,
    proven,
    service_name,
    service_port,
    stops,
    tables,
    usable,
)
from netk8s.model import At, Finding, ServicePort, Trace, World

CODE = "NK201"
SEVERITY = "error"
SUMMARY = "The Service has no usable endpoints."
WANTED = "warning"


def check(world: World, trace: Trace) -> Iterator[Finding]:
    port = service_port(world, trace)
    known = port is not None and "endpoints" in world.cluster.covered
    family = trace.flow.packet.family
    anyone = bool(usable(endpoints(world, port, family))) if port is not None and known else None
    for stop in stops(trace):
        rule = stop.step.detail if stop.step is not None else None
        if _verdicts.kind(stop) == _verdicts.NO_ENDPOINTS and not (_local_policy(trace, port) and anyone):
            service = service_name(trace, rule) or "the Service"
            stale = " by the rules of this node, though there are some" if anyone else _not_ready(world, port, family)
            yield Finding(
                CODE,
                graded(SEVERITY, [stop.way]),
                f"{stop.node} refuses {dialled(trace)}, because {service} has no usable endpoints{stale}",
                places(*_verdicts.told_by(stop), _object(port)),
                _remedy(service),
                proven([stop.way]),
            )
        elif stop.kind in (UNTRANSLATED, SILENCE) and not stop.back and known and anyone is False and port is not None:
            service = service_name(trace)
            yield Finding(
                CODE,
                graded(SEVERITY, [stop.way]),
                f"{service} has no usable endpoints{_not_ready(world, port, family)}, and {stop.node} does not refuse "
                f"{dialled(trace)} from here: the rule that would is not asked for this packet, which leaves the node",
                places(*_unasked(world, trace, stop.node), _object(port)),
                _remedy(service),
                proven([stop.way]),
            )


def _local_policy(trace: Trace, port: ServicePort | None) -> bool:
    """Up to 1.23, and in IPVS mode, internalTrafficPolicy Local without a local endpoint looks like no endpoints."""
    return port is not None and port.internal_policy == "Local" and trace.flow.packet.dst in port.cluster_ips


def _not_ready(world: World, port: ServicePort | None, family: int) -> str:
    found = endpoints(world, port, family) if port is not None else ()
    waiting = [e for e in found if not e.ready]
    if not waiting:
        return ""
    return f" ({len(waiting)} {'is' if len(waiting) == 1 else 'are'} not ready)"


def _object(port: ServicePort | None) -> str | None:
    return f"service {port.namespace}/{port.service} ({port.at})" if port is not None and port.at.origin else None


def _unasked(world: World, trace: Trace, node: str) -> Iterator[At]:
    dst = trace.flow.packet.dst
    for table in tables(world.nodes.get(node), dst.version, "filter"):
        chain = table.chains.get("KUBE-EXTERNAL-SERVICES")
        for rule in chain.rules.mentioning(f"-d {dst}/") if chain is not None else ():
            yield rule.at


def _remedy(service: str) -> str:
    name = service.partition(":")[0]
    namespace, _, short = name.partition("/")
    command = f" (kubectl -n {namespace} get endpointslices -l kubernetes.io/service-name={short})" if short else ""
    return (
        f"See why no pod is a ready endpoint{command}: the selector has to match the pods' labels and their "
        "readiness probe has to pass. publishNotReadyAddresses: true takes unready pods in too, and connections to "
        "them may fail."
    )
