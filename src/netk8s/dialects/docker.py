"""Docker's own networks on a node: published ports, isolation of bridges, and FORWARD's policy DROP.

moby/moby: libnetwork/iptables, libnetwork/drivers/bridge; up to 27 chains DOCKER-ISOLATION-STAGE-*, from 28 on
DOCKER-FORWARD, DOCKER-CT and DOCKER-BRIDGE.
"""

from __future__ import annotations

from netk8s.dialects import _signs
from netk8s.model import Cluster, Node, Recognised, Step

NAME = "docker"
SIGNS = _signs.Signs(
    chains=r"DOCKER(-(USER|FORWARD|CT|BRIDGE|INTERNAL|INGRESS|ISOLATION-STAGE-[12]|ISOLATION))?",
    links=r"docker0|docker_gwbridge",
    tables=r"docker-bridges",
)
WORDS: _signs.Words = (
    (r" (jump|goto) DOCKER-USER ", "docker: rules for the admin's own"),
    (r" (jump|goto) DOCKER-ISOLATION", "docker: bridges are kept apart"),
    (r"^DOCKER-ISOLATION\S* drop", "docker keeps its bridges apart"),
    (r" (jump|goto) DOCKER-FORWARD ", "docker: forwarding of containers' traffic"),
    (r" (jump|goto) DOCKER-CT ", "docker: answers to its containers"),
    (r"^(PREROUTING|OUTPUT) (jump|goto) DOCKER ", "docker: published ports"),
    (r" (jump|goto) DOCKER(-BRIDGE)? ", "docker: containers that may be reached"),
    (r"^DOCKER dnat", "docker: the container is the new destination"),
    (r"^DOCKER accept", "docker: a published port"),
    (r"^DOCKER drop", "docker: the container's port is not published"),
)

DEVICES: _signs.Words = ((r"docker0|docker_gwbridge", "docker: the bridge of its own containers"),)


def recognise(node: Node, cluster: Cluster) -> Recognised | None:
    """Known by its bridge and its chains."""
    del cluster
    return _signs.recognised(NAME, node, SIGNS)


owns = SIGNS.owns


def means(step: Step) -> str:
    """What a step is for in docker's words, "" when the rule is not docker's."""
    return _signs.worded(step, WORDS)
