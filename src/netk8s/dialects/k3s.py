"""k3s: kubelet, kube-proxy, flannel and kube-router's policy controller in one process, and klipper-lb.

k3s-io/k3s pkg/cloudprovider/servicelb.go, k3s-io/klipper-lb. A LoadBalancer Service has a pod svclb-<service>-<hash>
with a hostPort on every node, whose rules are in the pod's own namespace; on the addresses that the Service lists,
kube-proxy's rules come first and the pod is passed by.
"""

from __future__ import annotations

import re

from netk8s.dialects import _signs
from netk8s.model import Cluster, Node, Pod, Recognised, Sign

NAME = "k3s"
_BALANCER = re.compile(r"svclb-(.+)-[0-9a-f]{8}-[a-z0-9]{5}")


def recognise(node: Node, cluster: Cluster) -> Recognised | None:
    """Known by the version that its node reports, and by the pods of its load balancer."""
    signs = [
        Sign(f"kube-proxy {n.kube_proxy_version}", n.at)
        for n in cluster.nodes
        if n.name == node.name and re.search(r"\+(k3s|rke2)", n.kube_proxy_version or "")
    ]
    for pod in cluster.pods:
        if pod.node == node.name and _BALANCER.fullmatch(pod.name) and len(signs) <= _signs.MOST_SIGNS:
            signs.append(Sign(f"pod {pod.namespace}/{pod.name} (klipper-lb)", pod.at))
    return _signs.recognised(NAME, node, signs)


def inside(pod: Pod) -> str:
    """What a pod of the load balancer does with a packet: it sends it on to the Service that it is for."""
    labels = dict(pod.labels)
    found = _BALANCER.fullmatch(pod.name)
    service = labels.get("svccontroller.k3s.cattle.io/svcname") or (found[1] if found else "")
    if not service or pod.host_network:
        return ""
    space = labels.get("svccontroller.k3s.cattle.io/svcnamespace")
    full = f"{space}/{service}" if space else service
    return (
        f"pod {pod.namespace}/{pod.name} is k3s' load balancer: rules in its own network send what comes to it on to "
        f"Service {full}, which sees the pod's address; ask again from the pod for that part"
    )
