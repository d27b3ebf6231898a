"""Calico: its chains, its policies by the hashes in their names, and its masquerade.

projectcalico/calico 3.0 to 3.34: felix/rules (endpoints.go, policy.go, dispatch.go, nat.go), felix/hashutils. A policy
chain sets an accept or a pass bit and returns; the endpoint's chain drops what no policy accepted. Which bits those are
a configuration decides, so they are never looked at by value.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import islice

from netk8s.dialects import _signs
from netk8s.errors import DecodeError
from netk8s.model import Cluster, Node, Policed, Recognised, Route, Step

NAME = "calico"
SIGNS = _signs.Signs(
    chains=r"cali-.+",
    links=r"cali[0-9a-f]{11}|vxlan(-v6)?\.calico|wireguard\.cali|wg-v6\.cali|bpf(in|out|nat)[a-z]*\.cali",
    tables=r"calico",
    sets=r"cali[46][0t].+",
)
BPF = _signs.Signs(links=r"bpf(in|out|nat)[a-z]*\.cali")
LONGEST = 28
"""Longer chain names are cut and end with a hash (iptables' own limit is 28)."""

_HOOK = r"(?:filter-|nat-|mangle-|raw-)?"
_ENDPOINT = re.compile(rf"{_HOOK}cali-(tw|fw|th|fh|thfw|fhfw)-.+")
_POLICY = re.compile(rf"{_HOOK}cali-p([io])-(.+)")
_PROFILE = re.compile(rf"{_HOOK}cali-pr([io])-(.+)")
_SAID = re.compile(
    r"(?:^|; )(?:Policy|NetworkPolicy|GlobalNetworkPolicy|KubernetesNetworkPolicy|[A-Z]\w*Policy) (\S+) (?:in|e)gress"
)
_DIRECTION = {"tw": "ingress", "fw": "egress", "fh": "ingress", "th": "egress", "fhfw": "ingress", "thfw": "egress"}
_KUBERNETES = re.compile(r"(?:default\.)?knp\.default\.")

WORDS: _signs.Words = (
    (r" (jump|goto) \S*cali-(from|to)-wl-dispatch", "calico: which pod it is from or for"),
    (r" (jump|goto) \S*cali-tw-", "calico: policies for what comes to the pod"),
    (r" (jump|goto) \S*cali-fw-", "calico: policies for what the pod sends"),
    (r" (jump|goto) \S*cali-(th|fh|thfw|fhfw)-", "calico: policies of the node's own interface"),
    (r" (jump|goto) \S*cali-pr[io]-", "calico: rules of a profile (namespace or service account)"),
    (r" (jump|goto) \S*cali-g[io]-", "calico: a group of policies"),
    (r" (jump|goto) \S*cali-fip-", "calico: floating addresses"),
    (r" (jump|goto) \S*cali-nat-outgoing", "calico: natOutgoing"),
    (r" (jump|goto) \S*cali-rpf-skip", "calico: whose reverse path is not checked"),
    (r" (jump|goto) \S*cali-wl-to-host", "calico: from a pod to the node itself"),
    (r" (jump|goto) \S*cali-cidr-block", "calico: addresses of other services' ranges"),
    (r"cali-nat-outgoing (masquerade|snat)", "calico natOutgoing: a pod reaches what is in no pool as its node"),
    (r"cali-POSTROUTING (masquerade|snat)", "calico: into the tunnel under the tunnel's own address"),
    (r"cali-\S+ (drop|reject) .*[Uu]nknown interface", "calico: a device that is no pod's any more"),
    (r"cali-\S+ (drop|reject) .*if no profiles matched", "calico: neither policy nor profile admits it"),
    (r"cali-[tf][wh]\S* accept", "calico: belongs to a connection that was let through"),
    (r"cali-[tf]\S+ return .*if (policy|profile) accepted", "calico: a policy or profile admits it"),
    (r"cali-(FORWARD|INPUT|OUTPUT) accept", "calico: its policies let it pass"),
    (r"cali-PREROUTING (accept|drop)", "calico: what was decided before conntrack"),
    (r" (jump|goto) \S*cali-(FORWARD|INPUT|OUTPUT|PREROUTING|POSTROUTING) ", "calico's own rules"),
    (r"^\S*cali-\S+ (mark|mangle)", "calico: notes in the mark what was decided"),
)

DEVICES: _signs.Words = (
    (r"cali[0-9a-f]{11}", "calico: the device of one pod"),
    (r"vxlan(-v6)?\.calico", "calico: vxlan to the pods of other nodes"),
    (r"tunl0", "calico: ipip to the pods of other nodes"),
    (r"wireguard\.cali|wg-v6\.cali", "calico: wireguard to the pods of other nodes"),
)
_BIRD = frozenset({"bird", "80"})
"""Who wrote a route of calico's: BIRD, or felix, whose number (80) iproute2 has no name for."""


def recognise(node: Node, cluster: Cluster) -> Recognised | None:
    """Known by its devices, chains, ipsets and its nftables table."""
    del cluster
    return _signs.recognised(NAME, node, SIGNS, "hidden" if _signs.found(node, BPF) else "rules")


owns = SIGNS.owns


def opaque(node: Node, cluster: Cluster) -> str:
    """Why nothing can be said of packets through a node where calico runs in eBPF mode, "" for another node."""
    del cluster
    signs = _signs.found(node, BPF)
    if not signs:
        return ""
    left = next((r for _, r in _signs.hooked(node) if r.target is not None and r.target.name == "KUBE-SERVICES"), None)
    rest = f"; kube-proxy's rules ({left.at}) are not asked" if left is not None else ""
    return (
        f"calico's eBPF programs are this node's datapath ({signs[0].what}, {signs[0].at}), which no dump of rules "
        f"shows{rest}; see `calico-node -bpf nat dump` there"
    )


def routed(route: Route) -> str:
    """What a route of calico's is for: what its own block does not give to a pod goes nowhere."""
    if route.kind == "blackhole" and route.protocol in _BIRD:
        return f"calico: {route.dst} is a block of this node's pod addresses, and no pod of it has this one"
    return ""


def means(step: Step) -> str:
    """What a step is for in calico's words, "" when the rule is not calico's."""
    what = _signs.did(step)
    if what is None or not (owns(_plain(what.chain)) or owns(_plain(what.to))):
        return ""
    found = _POLICY.fullmatch(what.to)
    if found:
        return f"calico policy {said(found[2]) or _short(found[2])}: asked"
    return _signs.worded(step, WORDS)


def _plain(chain: str) -> str:
    return re.sub(r"^(filter|nat|mangle|raw)-", "", chain)


def _short(name: str) -> str:
    return f"(chain …{name})" if name.startswith("_") else name


# ---------------------------------------------------------------- policies


def limited(prefix: str, name: str) -> str:
    """The name of a chain: prefix and name, or prefix, "_" and a part of the name's hash where that is too long.

    base64url(sha256(name)), cut to LONGEST characters in all (felix/hashutils).
    """
    if len(prefix + name) < LONGEST or (len(prefix + name) == LONGEST and not name.startswith("_")):
        return prefix + name
    digest = base64.urlsafe_b64encode(hashlib.sha256(name.encode()).digest()).decode()
    return f"{prefix}_{digest}"[:LONGEST]


@lru_cache(maxsize=8)
def _known(cluster: Cluster) -> dict[str, str]:
    """Chain names of the API's NetworkPolicies: "namespace/knp.default.name", since 3.31 "knp/namespace/name"."""
    out = {}
    for policy in cluster.policies:
        for name in (
            f"{policy.namespace}/knp.default.{policy.name}",
            f"knp/{policy.namespace}/{policy.name}",
        ):
            for prefix in ("cali-pi-", "cali-po-"):
                out[limited(prefix, name)] = f"{policy.namespace}/{policy.name}"
    return out


def said(text: str) -> str:
    """The policy that a comment or the readable rest of a chain's name tells, "" for none.

    A NetworkPolicy of Kubernetes is "namespace/name"; calico's own ones keep their tier in the name.
    """
    found = _SAID.search(text)
    name = found[1] if found else "" if " " in text or text.startswith("_") else text
    return _KUBERNETES.sub("", name.removeprefix("knp/"))


def _policy(node: Node, cluster: Cluster, table: str, chain: str) -> str:
    """ "namespace/name" of a policy chain, or the chain's name when nothing tells."""
    known = _known(cluster).get(_plain(chain))
    if known:
        return known
    found = _POLICY.fullmatch(chain)
    name = said(found[2]) if found else ""
    return name or next((n for n in map(said, _said_in(node, table, chain)) if n), "") or chain


def _said_in(node: Node, table: str, chain: str) -> Iterator[str]:
    """The comments of a chain's first rule, which name the policy since 3.26."""
    for legacy in node.tables:
        if legacy.name == table:
            try:
                for rule in islice(legacy.chains[chain].rules if chain in legacy.chains else (), 1):
                    yield from (f"{comment} " for comment in _signs.comments(rule))
            except DecodeError:
                continue
    for native in node.nft:
        if native.name == table and chain in native.chains:
            yield from (f"{rule.comment} " for rule in islice(native.chains[chain].rules, 1))


def policed(node: Node, cluster: Cluster, steps: Sequence[Step]) -> Iterator[tuple[int, Policed]]:
    """What calico's policies said at which steps."""
    asked: list[str] = []
    direction = ""
    for i, step in enumerate(steps):
        what = _signs.did(step)
        if what is None:
            continue
        endpoint, policy = _ENDPOINT.fullmatch(what.to), _POLICY.fullmatch(what.to)
        if endpoint:
            asked, direction = [], _DIRECTION[endpoint[1]]
        elif policy:
            asked.append(_policy(node, cluster, step.table, what.to))
        elif _PROFILE.fullmatch(what.to):
            asked.append(f"profile {_PROFILE.sub(lambda m: m[2], what.to)}")
        elif "Start of " in what.comment:
            asked = []
        elif what.verb in ("drop", "reject"):
            if _POLICY.fullmatch(what.chain):
                yield i, Policed(NAME, tuple(asked[-1:]), direction, False)
            elif _ENDPOINT.fullmatch(what.chain) and asked and "if no p" in (what.comment or "if no p"):
                yield i, Policed(NAME, tuple(dict.fromkeys(asked)), direction, False)
        elif what.verb == "return" and _ENDPOINT.fullmatch(what.chain) and asked:
            yield i, Policed(NAME, tuple(asked[-1:]), direction, True)
