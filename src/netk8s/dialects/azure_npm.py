"""Azure's network policy manager (NPM): chains AZURE-NPM*, with marks of its own meaning.

Azure/azure-container-networking npm/pkg/dataplane/policies. Its marks are those of other tools too (0x4000 is
kube-proxy's masquerade and NPM's "drop"), so only a chain tells what a mark means.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from netk8s.dialects import _signs
from netk8s.model import Cluster, Node, Policed, Recognised, Step

NAME = "azure-npm"
SIGNS = _signs.Signs(
    chains=r"AZURE-NPM(-(INGRESS|EGRESS|ACCEPT|INGRESS-ALLOW-MARK|TARGET-SETS|(INGRESS|EGRESS)-[A-Z0-9-]+))?",
    links=r"azv[0-9a-f]{11}|azure\d+",
    sets=r"azure-npm-\d+",
)
_POLICY = re.compile(r"AZURE-NPM-(INGRESS|EGRESS)-(\d+)")
# "INGRESS-POLICY-shop/deny-all-TO-podlabel-app:web-IN-ns-shop"; names have no capitals.
_COMMENT = re.compile(r"(INGRESS|EGRESS)-POLICY-([a-z0-9.-]+/[a-z0-9.-]*[a-z0-9])-(?:TO|FROM)-")

WORDS: _signs.Words = (
    (r" (jump|goto) AZURE-NPM ", "azure-npm: network policies"),
    (r" (jump|goto) AZURE-NPM-INGRESS ", "azure-npm: policies for what comes to a pod"),
    (r" (jump|goto) AZURE-NPM-EGRESS ", "azure-npm: policies for what a pod sends"),
    (r" (jump|goto) AZURE-NPM-ACCEPT ", "azure-npm: let through"),
    (r" (jump|goto) AZURE-NPM-INGRESS-ALLOW-MARK ", "azure-npm: a policy admits it to the pod"),
    (r"^AZURE-NPM-INGRESS-ALLOW-MARK mark", "azure-npm: notes that the pod may receive it"),
    (r"^AZURE-NPM-(IN|E)GRESS-\d+ mark", "azure-npm: notes that a policy selects the pod and this does not match"),
    (r"^AZURE-NPM-ACCEPT mark", "azure-npm: takes every mark off"),
    (r"^AZURE-NPM-ACCEPT accept", "azure-npm: its policies let it pass"),
    (r"^AZURE-NPM-(IN|E)GRESS drop", "azure-npm: a policy selects the pod and none admits it"),
)

DEVICES: _signs.Words = ((r"azv[0-9a-f]{11}", "azure: the device of one pod"),)


def recognise(node: Node, cluster: Cluster) -> Recognised | None:
    """Known by its chains and ipsets, or by the devices of Azure's CNI plugin, which alone enforce nothing."""
    del cluster
    npm = any(r.target is not None and r.target.name == "AZURE-NPM" for _, r in _signs.hooked(node))
    return _signs.recognised(NAME, node, SIGNS, "rules" if npm else "")


owns = SIGNS.owns


def means(step: Step) -> str:
    """What a step is for in NPM's words, "" when the rule is not NPM's."""
    what = _signs.did(step)
    if what is not None and _POLICY.fullmatch(what.to):
        found = _COMMENT.search(what.comment)
        return f"azure-npm policy {found[2] if found else what.to}: asked"
    return _signs.worded(step, WORDS)


def policed(node: Node, cluster: Cluster, steps: Sequence[Step]) -> Iterator[tuple[int, Policed]]:
    """What NPM's policies said at which steps."""
    del node, cluster
    names: dict[str, str] = {}
    asked: dict[str, list[str]] = {"ingress": [], "egress": []}
    for i, step in enumerate(steps):
        what = _signs.did(step)
        if what is None:
            continue
        if what.to == "AZURE-NPM":
            asked = {"ingress": [], "egress": []}
        policy = _POLICY.fullmatch(what.to)
        if policy:
            found = _COMMENT.search(what.comment)
            names[what.to] = found[2] if found else what.to
            asked[policy[1].lower()].append(names[what.to])
            continue
        chain = _POLICY.fullmatch(what.chain)
        if chain and what.to in ("AZURE-NPM-INGRESS-ALLOW-MARK", "AZURE-NPM-ACCEPT"):
            yield i, Policed(NAME, (names.get(what.chain, what.chain),), chain[1].lower(), True)
        elif what.verb == "drop" and what.chain in ("AZURE-NPM-INGRESS", "AZURE-NPM-EGRESS"):
            direction = what.chain.rpartition("-")[2].lower()
            yield i, Policed(NAME, tuple(dict.fromkeys(asked[direction])), direction, False)
