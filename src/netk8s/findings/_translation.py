"""Where a way was translated to an endpoint by kube-proxy, in any of its modes."""

from __future__ import annotations

from msgspec import Struct

from netk8s.findings._modes import IPTABLES, IPVS, NFTABLES
from netk8s.findings._reading import steps, target
from netk8s.findings._verdicts import NFT_TABLE
from netk8s.model import Step, Way


class Translated(Struct, frozen=True):
    """The first translation of a way. ``everyone``: what chose the endpoint has all of the Service's, not the local ones.

    IPVS does not tell: a virtual server of policy Local has the local real servers only, so there it is None.
    ``choice``: the step that chose, which in iptables mode is not the one that translates.
    """

    node: str
    mode: str
    step: Step
    choice: Step
    everyone: bool | None


def translation(way: Way) -> Translated | None:
    """The first translation by kube-proxy, None when there was none."""
    everyone = False
    choice: Step | None = None
    for hop, step in steps(way):
        changed = any(name == "dst" for name, _ in step.changes)
        if step.nft is not None and step.table == NFT_TABLE:
            everyone = everyone or step.chain.startswith("service-")
            choice = step if "numgen" in (step.rule or "") else choice
            if changed:
                return Translated(hop.node, NFTABLES, step, choice or step, everyone)
        elif step.rule is None and step.action.startswith("IPVS ") and changed:
            return Translated(hop.node, IPVS, step, step, None)
        elif step.detail is not None:
            name = target(step.detail)
            everyone = everyone or name.startswith("KUBE-SVC-")
            choice = step if name.startswith("KUBE-SEP-") else choice
            if step.detail.chain.startswith("KUBE-SEP-") and name == "DNAT":
                return Translated(hop.node, IPTABLES, step, choice or step, everyone)
    return None
