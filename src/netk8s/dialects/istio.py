"""Istio: what sidecars redirect inside a pod, and what its ambient mode does on a node.

istio/istio: tools/istio-iptables (chains ISTIO_*, in the pod's own namespace), cni/pkg/iptables and cni/pkg/nftables (ambient:
chain ISTIO_POSTRT on the node, ipset istio-inpod-probes-*). With a sidecar the proxy picks the endpoint, so a node sees
pods' addresses and no ClusterIP.
"""

from __future__ import annotations

from netk8s.dialects import _signs
from netk8s.model import Cluster, Node, Pod, Recognised, Step

NAME = "istio"
SIGNS = _signs.Signs(
    chains=r"ISTIO_(INBOUND|IN_REDIRECT|OUTPUT|OUTPUT_DNS|REDIRECT|DIVERT|TPROXY|DROP|PRERT|POSTRT)",
    sets=r"istio-inpod-probes(-v[46])?",
    tables=r"istio-\S+",
)
WORDS: _signs.Words = (
    (r" (jump|goto) ISTIO_INBOUND ", "istio: what comes into the pod"),
    (r" (jump|goto) ISTIO_IN_REDIRECT ", "istio: to the sidecar"),
    (r" (jump|goto) ISTIO_REDIRECT ", "istio: to the sidecar"),
    (r" (jump|goto) ISTIO_OUTPUT(_DNS)? ", "istio: what the pod sends"),
    (r" (jump|goto) ISTIO_POSTRT ", "istio ambient: probes of kubelet"),
    (r"^ISTIO_POSTRT snat", "istio ambient: kubelet's probes get an address of their own"),
    (r"^ISTIO_\S+ (redirect|tproxy)", "istio: the proxy gets the packet, and picks the endpoint itself"),
    (r"^ISTIO_\S+ (return|accept)", "istio: not for the proxy"),
    (r"^ISTIO_DIVERT mark", "istio: belongs to a connection of the proxy"),
)


def recognise(node: Node, cluster: Cluster) -> Recognised | None:
    """Known by its chains and sets: on a node those of ambient mode, in a dump of a pod's namespace those of a sidecar."""
    del cluster
    return _signs.recognised(NAME, node, SIGNS)


owns = SIGNS.owns


def means(step: Step) -> str:
    """What a step is for in istio's words, "" when the rule is not istio's."""
    return _signs.worded(step, WORDS)


def inside(pod: Pod) -> str:
    """What a sidecar, or the node's proxy in ambient mode, does with a pod's packets.

    Labels and annotations: istio.io/api label package (security.istio.io/tlsMode is written by the injector,
    istio.io/dataplane-mode by the admin).
    """
    labels = dict(pod.labels)
    name = f"pod {pod.namespace}/{pod.name}"
    if labels.get("security.istio.io/tlsMode") == "istio":
        return (
            f"{name} has istio's sidecar: what it sends and receives passes the proxy, which picks an endpoint itself and "
            "hands the application what comes in from 127.0.0.6; the trace is that of the packets between proxies"
        )
    if labels.get("istio.io/dataplane-mode") == "ambient":
        return (
            f"{name} is in istio's ambient mesh: its packets pass the node's ztunnel, which the trace does not follow"
        )
    return ""
