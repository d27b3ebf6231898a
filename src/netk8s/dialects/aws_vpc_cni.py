"""Amazon's VPC CNI plugin: pods with addresses of the VPC, a routing table per network interface, SNAT for the rest.

aws/amazon-vpc-cni-k8s 1.7 to 1.22: pkg/networkutils. Policy rules by priority: 512 to a pod, 1024 what came in by the
primary interface, 1536 from a pod. Its network policy agent works in eBPF at the pods' devices, where no rule shows it.
"""

from __future__ import annotations

from netk8s.dialects import _signs
from netk8s.model import Cluster, Node, Recognised, Sign, Step

NAME = "AWS VPC CNI"
SIGNS = _signs.Signs(
    chains=r"AWS-(SNAT|CONNMARK)-CHAIN-\d+", links=r"eni[0-9a-f]{11}|vlan\.eth\.\d+", comments=r"^AWS[, ]"
)
WORDS: _signs.Words = (
    (r" (jump|goto) AWS-SNAT-CHAIN-0 ", "AWS VPC CNI: source translation for what leaves the VPC"),
    (r" (jump|goto) AWS-SNAT-CHAIN-", "AWS VPC CNI: not to this network of the VPC, look further"),
    (r"^AWS-SNAT-CHAIN-\d+ return", "AWS VPC CNI: inside the VPC pods keep their address"),
    (r"^AWS-SNAT-CHAIN-\d+ (snat|masquerade)", "AWS VPC CNI: outside the VPC the node's primary address is seen"),
    (r" (jump|goto) AWS-CONNMARK-CHAIN-", "AWS VPC CNI: which interface answers go out by"),
    (r"^AWS-CONNMARK-CHAIN-\d+ return", "AWS VPC CNI: inside the VPC, any interface"),
    (r"^(AWS-CONNMARK-CHAIN-\d+|PREROUTING) connmark .*#.*AWS", "AWS VPC CNI: answers go out by the primary interface"),
    (r"^AWS-CONNMARK-CHAIN-\d+ connmark", "AWS VPC CNI: answers go out by the primary interface"),
)
_PRIORITIES = frozenset({512, 1024, 1536})

DEVICES: _signs.Words = (
    (r"eni[0-9a-f]{11}", "AWS VPC CNI: the device of one pod"),
    (r"vlan\.eth\.\d+", "AWS VPC CNI: an interface of a pod with a security group of its own"),
)


def recognise(node: Node, cluster: Cluster) -> Recognised | None:
    """Known by its chains; by the pods' devices together with its policy rules where SNAT is left to a gateway."""
    del cluster
    signs = list(_signs.found(node, SIGNS))
    rules = [r for r in node.rules if r.priority in _PRIORITIES]
    if not any("link " not in sign.what for sign in signs) and not (signs and rules):
        return None
    by = [*signs, *(Sign(f"ip rule {r.priority}", r.at) for r in rules[: _signs.MOST_SIGNS])]
    return _signs.recognised(NAME, node, by, "hidden")


owns = SIGNS.owns


def means(step: Step) -> str:
    """What a step is for in the plugin's words, "" when the rule is not its own."""
    return _signs.worded(step, WORDS)
