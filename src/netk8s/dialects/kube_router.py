"""kube-router: IPVS service proxy, routes and network policies; its policy controller is part of k3s too.

cloudnativelabs/kube-router 1.0 to 2.11: pkg/controllers/netpol, proxy, routing. A pod has a chain KUBE-POD-FW-<hash> that
asks a chain KUBE-NWPLCY-<hash> for each policy; what none marked is rejected at the pod chain's end. The hashes change with
every sync, so policies are known by comments.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from netk8s.dialects import _signs
from netk8s.model import Cluster, Node, Policed, Recognised, Step

NAME = "kube-router"
SIGNS = _signs.Signs(
    chains=r"KUBE-ROUTER-[A-Z]+|KUBE-POD-FW-[A-Z2-7]{16}|KUBE-NWPLCY-(DEFAULT|COMMON|TAIL|[A-Z2-7]{16})",
    links=r"kube-bridge|kube-dummy-if|kube-tunnel-if|tun-[0-9a-f]+",
    tables=r"kube-router-filter-ipv[46]",
    sets=r"(inet6:)?(kube-router-.+|KUBE-(SRC|DST)-[A-Z2-7]{16})",
)
_POD = re.compile(r"KUBE-POD-FW-.+")
_POLICY = re.compile(r"KUBE-NWPLCY-(?!DEFAULT$|COMMON$|TAIL$).+")
_ENFORCES = re.compile(r"KUBE-ROUTER-(INPUT|FORWARD|OUTPUT)")
# "rule to jump traffic destined to POD name:web-1 namespace: shop to chain …", since 2.9 "shop/web-1 in".
_OLD_POD = re.compile(r"traffic (destined to|from) POD name:\s*(\S+) namespace:\s*(\S+)")
_NEW_POD = re.compile(r"^(\S+)/(\S+) (in|out)$")
# "run through nw policy deny-all", since 2.9 "shop/deny-all policy".
_OLD_POLICY = re.compile(r"run through nw policy (\S+)")
_NEW_POLICY = re.compile(r"^(\S+/\S+) policy$")

WORDS: _signs.Words = (
    (r" (jump|goto) KUBE-ROUTER-(INPUT|FORWARD|OUTPUT) ", "kube-router: network policies"),
    (r" (jump|goto) KUBE-ROUTER-SERVICES ", "kube-router: which Services may be dialled"),
    (r" (jump|goto) KUBE-ROUTER-HAIRPIN ", "kube-router: pods that reach themselves through a Service"),
    (r" (jump|goto) KUBE-POD-FW-", "kube-router: policies of one pod"),
    (r" (jump|goto) KUBE-NWPLCY-DEFAULT ", "kube-router: no policy selects the pod in this direction"),
    (r" (jump|goto) KUBE-NWPLCY-COMMON ", "kube-router: what is always let through"),
    (r"^KUBE-NWPLCY-\S+ mark", "kube-router: a policy admits it"),
    (r"^KUBE-NWPLCY-\S+ return", "kube-router: admitted, no need to ask further"),
    (r"^KUBE-POD-FW-\S+ accept .*(local node|src-type)", "kube-router: a pod's own node may always reach it"),
    (r"^KUBE-POD-FW-\S+ mark", "kube-router: the policies of this pod are done"),
    (r"^KUBE-ROUTER-(INPUT|FORWARD|OUTPUT) accept", "kube-router: its policies let it pass"),
    (r"^KUBE-ROUTER-SERVICES (reject|drop)", "kube-router: no Service has this address and port"),
    (r"^KUBE-ROUTER-HAIRPIN snat", "kube-router: the pod sees the Service's address"),
    (r"^POSTROUTING (masquerade|snat) .*#.*kube-router", "kube-router: pod masquerade"),
)

DEVICES: _signs.Words = (
    (r"kube-bridge", "kube-router: the bridge of the node's pods"),
    (r"tun-[0-9a-f]+", "kube-router: a tunnel to the pods of another node"),
    (r"kube-dummy-if", "kube-router: the addresses of Services"),
)


def recognise(node: Node, cluster: Cluster) -> Recognised | None:
    """Known by its devices, chains and ipsets. It enforces policies where hooks lead to its policy chains."""
    del cluster
    enforced = any(r.target is not None and _ENFORCES.fullmatch(r.target.name) for _, r in _signs.hooked(node)) or any(
        re.fullmatch(SIGNS.tables, t.name) for t in node.nft
    )
    return _signs.recognised(NAME, node, SIGNS, "rules" if enforced else "")


owns = SIGNS.owns


def means(step: Step) -> str:
    """What a step is for in kube-router's words, "" when the rule is not kube-router's."""
    what = _signs.did(step)
    if what is not None and _POLICY.fullmatch(what.to):
        return f"kube-router policy {_name(what.comment, '') or what.to}: asked"
    return _signs.worded(step, WORDS)


def _name(comment: str, namespace: str) -> str:
    """The policy that a jump's comment names; the older form leaves the namespace to the pod's."""
    new, old = _NEW_POLICY.search(comment), _OLD_POLICY.search(comment)
    if new:
        return new[1]
    return (f"{namespace}/{old[1]}" if namespace else old[1]) if old else ""


def policed(node: Node, cluster: Cluster, steps: Sequence[Step]) -> Iterator[tuple[int, Policed]]:
    """What kube-router's policies said at which steps."""
    del node, cluster
    names: dict[str, str] = {}
    asked: list[str] = []
    namespace = direction = ""
    for i, step in enumerate(steps):
        what = _signs.did(step)
        if what is None:
            continue
        if _POD.fullmatch(what.to):
            asked = []
            namespace, direction = _pod(what.comment)
        elif _POLICY.fullmatch(what.to):
            names[what.to] = _name(what.comment, namespace) or what.to
            asked.append(names[what.to])
        elif _POLICY.fullmatch(what.chain) and what.verb in ("mark", "mangle"):
            yield i, Policed(NAME, (names.get(what.chain, what.chain),), direction, True)
        elif _POD.fullmatch(what.chain) and what.verb in ("reject", "drop") and not _by_state(step):
            yield i, Policed(NAME, tuple(dict.fromkeys(asked)), direction, False)


def _pod(comment: str) -> tuple[str, str]:
    """(namespace, direction) of a jump into a pod's chain."""
    new, old = _NEW_POD.search(comment), _OLD_POD.search(comment)
    if new:
        return new[1], {"in": "ingress", "out": "egress"}[new[3]]
    if old:
        return old[3], "ingress" if old[1] == "destined to" else "egress"
    return "", ""


def _by_state(step: Step) -> bool:
    """A drop of what conntrack calls invalid is no policy's."""
    return "ctstate" in (step.rule or "") or "ct state" in (step.rule or "")
