"""Host devices that are named after their pod.

calico (felix and its CNI plugin, default prefix ``cali``) and the AWS VPC CNI (``eni``, made to agree with calico's) take a
prefix, which is configured, and the first 11 hexadecimal digits of the SHA-1 of "namespace.pod"; of a pod's further
interfaces AWS hashes "namespace.pod.N". So a name is known by how it ends, whatever its prefix.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from netk8s.model import Cluster, Node

NAME = "devices named after their pod"

_DIGITS = 11
_INTERFACES = 4


def pod_devices(node: Node, cluster: Cluster) -> Mapping[str, str]:
    """The pod (namespace/name) of each device of the node whose name says it, for the node's pods that the API lists."""
    ends = {link.name[-_DIGITS:]: link.name for link in node.links if len(link.name) > _DIGITS and link.parent is None}
    found: dict[str, str] = {}
    for pod in cluster.pods if ends else ():
        if pod.node != node.name or pod.host_network:
            continue
        name = f"{pod.namespace}.{pod.name}"
        for text in (name, *(f"{name}.{number}" for number in range(1, _INTERFACES))):
            dev = ends.get(hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()[:_DIGITS])
            if dev is not None:
                found[dev] = f"{pod.namespace}/{pod.name}"
    return found
