"""A live check whose work is done beside the data: the API's objects go to each agent once, findings come back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from netk8s.cli._input import known_node
from netk8s.cli._progress import progress

if TYPE_CHECKING:
    from netk8s.checkup import Checkup
    from netk8s.cli import Streams
    from netk8s.cli._live import Wanted
    from netk8s.live.api import Api
    from netk8s.model import Snapshot, World

MOST_HERE = 20
"""Nodes whose state is taken here where nobody says otherwise: a flow is followed from end to end then."""
AT_ONCE = 64
"""Agents that work side by side. A request of this sort does not count among those that an API server bears at once."""


def checked(
    cluster: Wanted, streams: Streams, services: Sequence[str], node: str | None, beside: bool | None
) -> Checkup | None:
    """What the agents found; None where the nodes' state is to be taken here. Raises CollectError and NotFound."""
    from netk8s import decode
    from netk8s.errors import CollectError, UsageError
    from netk8s.live import api, objects

    if cluster.agentless and beside:
        raise UsageError("--beside and --agentless: without agents nobody checks beside the data")
    if cluster.agentless or beside is False:
        return None
    server = api.connect(cluster.access)
    if beside is None and objects.count(server, objects.NODES) <= MOST_HERE:
        return None
    taken = objects.everything(server, objects.FOR_CHECK)
    world = decode.decode(taken)
    names = [item.name for item in world.cluster.nodes]
    if not names:
        raise CollectError("the cluster's nodes cannot be listed: " + "; ".join(gap.what for gap in world.missing))
    if node is not None:
        known_node(node, names)
    return _folded(
        server, cluster.agent_namespace, streams, (taken, world), services, names if node is None else [node]
    )


def _folded(
    server: Api,
    namespace: str | None,
    streams: Streams,
    objects_: tuple[Snapshot, World],
    services: Sequence[str],
    nodes: Sequence[str],
) -> Checkup:
    import msgspec

    from netk8s import elsewhere, parts, survey
    from netk8s.cli._live import Lazily
    from netk8s.cli._services import ports_of
    from netk8s.errors import CollectError
    from netk8s.live import agents, asking, objects

    taken, world = objects_
    ports = survey.ports(world, ())
    keys = ports_of(ports, services)
    chosen = None if keys is None else set(keys)
    ports = ports if chosen is None else tuple(port for port in ports if port.key in chosen)
    fold = parts.Fold(ports, [item.name for item in world.cluster.nodes])
    pods = elsewhere.of(world.cluster)
    more = [] if pods is None else elsewhere.texts(pods)
    sent = objects.for_nodes(taken, more, bool(world.cluster.policies))
    found = Lazily(server, namespace or agents.NAMESPACE)
    question = [("service", name) for name in services]
    decoder = msgspec.json.Decoder(parts.Part)

    def ask(name: str) -> bytes:
        return found.agents().part(name, sent.shared, sent.own(name), question)

    def took(name: str, answer: bytes) -> None:
        try:
            part = decoder.decode(answer)
            if part.node != name:
                raise ValueError(f"it answered for {part.node}")
            fold.add(part)
        except (ValueError, IndexError, TypeError) as error:
            raise CollectError(f"the agent's answer cannot be used: {error}") from None

    with progress(streams, "nodes checked") as tick:
        failed = asking.each(nodes, ask, took, tick, AT_ONCE)
    if len(failed) == len(nodes):
        raise CollectError("; ".join(dict.fromkeys(failed.values())))
    for name, why in failed.items():
        streams.message(f"netk8s: node {name} is missing in this answer: {why}")
    return fold.checkup(failed, taken.missing, (*NOTES, REWRITTEN) if world.cluster.policies else NOTES)


NOTES = (
    "each node was checked by its agent: a flow between nodes is followed to the edge of the one, and from there on by "
    "the other, for packets as its nodes send them",
)
REWRITTEN = (
    "what NetworkPolicies want of a sender whose address another node rewrites is not told in this way: --here does"
)
