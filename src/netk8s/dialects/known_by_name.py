"""Networks and firewalls that are known by name only: their rules are followed as anybody's, and no step has their words.

Links, chains and tables: submariner-io/submariner pkg/routeagent_driver, squat/kilo pkg/mesh, liqotech/liqo,
tailscale/tailscale util/linuxfw, firewalld (src/firewall/core), ufw (src/backend_iptables.py), tungstenfabric
(the vRouter's vhost0).
"""

from __future__ import annotations

from netk8s.dialects import _signs
from netk8s.model import Cluster, Node, Recognised

NAME = "known by name only"
_OTHERS = (
    ("Tungsten Fabric (Contrail)", _signs.Signs(links=r"vhost0")),
    ("Submariner", _signs.Signs(chains=r"SUBMARINER-[A-Z-]+", links=r"vx-submariner|submariner")),
    ("Kilo", _signs.Signs(chains=r"KILO-[A-Z0-9-]+", links=r"kilo\d+")),
    ("Liqo", _signs.Signs(chains=r"LIQO-[A-Z0-9-]+", links=r"liqo[.-].+")),
    ("Tailscale", _signs.Signs(chains=r"ts-(input|forward|postrouting)", links=r"tailscale\d+")),
    (
        "firewalld",
        _signs.Signs(
            chains=r"(INPUT|FORWARD|PREROUTING|POSTROUTING|OUTPUT)_(direct|ZONES|IN_ZONES|OUT_ZONES|POLICIES_(pre|post))",
            tables=r"firewalld",
        ),
    ),
    ("ufw", _signs.Signs(chains=r"ufw6?-(before|after|reject|track|user|skip)-.+")),
)
_HIDDEN = frozenset({"Tungsten Fabric (Contrail)"})
"""Their own datapath carries the pods' packets."""


def recognise(node: Node, cluster: Cluster) -> Recognised | None:
    """The first of them that shows on the node."""
    del cluster
    found = (_signs.recognised(name, node, signs, modelled=False) for name, signs in _OTHERS)
    return next((one for one in found if one is not None), None)


def owns(name: str) -> bool:
    """Whether a chain, link or table has a name that only one of them gives."""
    return any(signs.owns(name) for _, signs in _OTHERS)


def opaque(node: Node, cluster: Cluster) -> str:
    """Why nothing can be said of packets through a node whose pods another datapath serves, "" for another node."""
    found = recognise(node, cluster)
    if found is None or found.name not in _HIDDEN:
        return ""
    return (
        f"{found.name} carries the pods' packets ({found.by[0].what}, {found.by[0].at}), which no dump of rules shows"
    )
