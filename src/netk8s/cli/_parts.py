"""A live check whose work is done beside the data: the API's objects go to each agent once, findings come back."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from netk8s.cli._input import known_node
from netk8s.cli._progress import progress

if TYPE_CHECKING:
    from netk8s.checkup import Checkup
    from netk8s.cli import Streams
    from netk8s.cli._live import Lazily, Wanted
    from netk8s.live.api import Api
    from netk8s.live.objects import Sent
    from netk8s.model import Missing
    from netk8s.parts import Fold, Part
    from netk8s.survey import Port

MOST_HERE = 20
"""Nodes whose state is taken here where nobody says otherwise: a flow is followed from end to end then."""
AT_ONCE = 64
"""Agents that work side by side. A request of this sort does not count among those that an API server bears at once."""
NOTES = (
    "each node was checked by its agent: a flow between nodes is followed to the edge of the one, and from there on by "
    "the other, for packets as its nodes send them",
)
REWRITTEN = (
    "what NetworkPolicies want of a sender whose address another node rewrites is not told in this way: --here does"
)


def checked(
    cluster: Wanted, streams: Streams, services: Sequence[str], node: str | None, beside: bool | None
) -> Checkup | None:
    """What the agents found; None where the nodes' state is to be taken here. Raises CollectError and NotFound."""
    server = server_beside(cluster, beside)
    if server is None:
        return None
    asked = Asked.of(server, services)
    if node is not None:
        known_node(node, asked.nodes)
    fold = asked.fold()
    nodes = asked.nodes if node is None else [node]
    failed = asked.ask(
        _agents(server, cluster), streams, nodes, lambda name, answer: fold.add(asked.read(name, answer))
    )
    for name, why in failed.items():
        streams.message(f"netk8s: node {name} is missing in this answer: {why}")
    return fold.checkup(failed, asked.missing, asked.notes)


def server_beside(cluster: Wanted, beside: bool | None) -> Api | None:
    """The API server of a cluster whose agents are to check; None where its nodes' state is to be taken here."""
    from netk8s.errors import UsageError
    from netk8s.live import api, objects

    if cluster.agentless and beside:
        raise UsageError("--beside and --agentless: without agents nobody checks beside the data")
    if cluster.agentless or beside is False:
        return None
    server = api.connect(cluster.access)
    few = beside is None and objects.count(server, objects.NODES) <= MOST_HERE
    return None if few else server


def _agents(server: Api, cluster: Wanted) -> Lazily:
    from netk8s.cli._live import Lazily
    from netk8s.live import agents

    return Lazily(server, cluster.agent_namespace or agents.NAMESPACE)


@dataclass(frozen=True, slots=True)
class Asked:
    """The API's objects of one moment, and what agents are asked about them."""

    nodes: list[str]
    ports: tuple[Port, ...]
    sent: Sent
    question: list[tuple[str, str]]
    missing: tuple[Missing, ...]
    notes: tuple[str, ...]

    @classmethod
    def of(cls, server: Api, services: Sequence[str]) -> Asked:
        """Raises CollectError and NotFound."""
        from netk8s import decode, elsewhere, survey
        from netk8s.cli._services import ports_of
        from netk8s.errors import CollectError
        from netk8s.live import objects

        taken = objects.everything(server, objects.FOR_CHECK)
        world = decode.decode(taken)
        names = [item.name for item in world.cluster.nodes]
        if not names:
            raise CollectError("the cluster's nodes cannot be listed: " + "; ".join(gap.what for gap in world.missing))
        ports = survey.ports(world, ())
        keys = ports_of(ports, services)
        chosen = None if keys is None else set(keys)
        ports = ports if chosen is None else tuple(port for port in ports if port.key in chosen)
        pods = elsewhere.of(world.cluster)
        policies = bool(world.cluster.policies)
        sent = objects.for_nodes(taken, [] if pods is None else elsewhere.texts(pods), policies)
        question = [("service", name) for name in services]
        return cls(names, ports, sent, question, taken.missing, (*NOTES, REWRITTEN) if policies else NOTES)

    def fold(self, names: Iterable[str] | None = None) -> Fold:
        """Of parts that were asked about these objects. ``names``: the nodes that may be told of; default all."""
        from netk8s import parts

        return parts.Fold(self.ports, self.nodes if names is None else names)

    def ask(
        self,
        found: Lazily,
        streams: Streams,
        nodes: Sequence[str],
        took: Callable[[str, bytes], None],
        known: Callable[[str], bytes | None] = lambda name: None,
    ) -> dict[str, str]:
        """Hands on each node's answer; the nodes that gave none, with the reasons. Raises CollectError if all are such.

        ``known``: a node's answer of an earlier time, which is not sent again where it is the same.
        """
        from netk8s.errors import CollectError
        from netk8s.live import asking

        def one(name: str) -> bytes:
            return found.agents().part(name, self.sent.shared, self.sent.own(name), self.question, known(name))

        def taken(name: str, answer: bytes) -> None:
            try:
                took(name, answer)
            except (ValueError, IndexError, TypeError) as error:
                raise CollectError(f"the agent's answer cannot be used: {error}") from None

        with progress(streams, "nodes checked") as tick:
            failed = asking.each(nodes, one, taken, tick, AT_ONCE)
        if len(failed) == len(nodes):
            raise CollectError("; ".join(dict.fromkeys(failed.values())))
        return failed

    @staticmethod
    def read(name: str, answer: bytes) -> Part:
        """A node's answer. Raises ValueError."""
        import msgspec

        from netk8s import parts

        part = msgspec.json.decode(answer, type=parts.Part)
        if part.node != name:
            raise ValueError(f"it answered for {part.node}")
        return part


class Rounds:
    """The same question time and again: each round gives the state of now, and before it that of the same nodes.

    A node that is new, gone, or does not answer is no change of anything: what was found is told of the nodes that
    answered in both rounds, or before and after they were away.
    """

    def __init__(self, server: Api, cluster: Wanted, streams: Streams, services: Sequence[str]) -> None:
        self._server, self._cluster, self._streams, self._services = server, cluster, streams, services
        self._found = _agents(server, cluster)
        self._last: Asked | None = None
        self._answers: dict[str, tuple[str, bytes]] = {}
        """By node the digest of the ports that were asked about, and its last answer, packed."""
        self._away: Collection[str] = ()

    def next(self) -> tuple[Checkup, Checkup, Checkup | None]:
        """All that is so now; and what is so of the nodes that can be compared, with what was so, None in the first round.

        Raises CollectError and NotFound.
        """
        asked = Asked.of(self._server, self._services)
        fold, fresh = asked.fold(), dict[str, tuple[str, bytes]]()

        def took(name: str, answer: bytes) -> None:
            part = asked.read(name, answer)
            fold.add(part)
            fresh[name] = (part.ports, zlib.compress(answer, 1))

        failed = asked.ask(self._found, self._streams, asked.nodes, took, self._known)
        if failed:
            # Their agents' pods may be others by now.
            self._found = _agents(self._server, self._cluster)
        self._tell(failed, asked.nodes)
        now = fold.checkup(failed, asked.missing, asked.notes)
        # Mostly nothing is new; then there is nothing to hold against each other.
        same = self._last is not None and all(self._answers.get(name) == each for name, each in fresh.items())
        then = (now, now) if same else self._compared(asked, fresh)
        self._last = asked
        self._answers = {name: each for name, each in {**self._answers, **fresh}.items() if name in set(asked.nodes)}
        return (now, *then) if then is not None else (now, now, None)

    def _known(self, name: str) -> bytes | None:
        kept = self._answers.get(name)
        return None if kept is None else zlib.decompress(kept[1])

    def _compared(self, asked: Asked, fresh: Mapping[str, tuple[str, bytes]]) -> tuple[Checkup, Checkup] | None:
        last = self._last
        if last is None:
            return None
        both = [name for name in asked.nodes if name in set(last.nodes)]
        before, after = last.fold(both), asked.fold(both)
        for name in both:
            if name not in fresh or name not in self._answers:
                continue
            try:
                before.add(_of(asked.read(name, zlib.decompress(self._answers[name][1])), both))
            except ValueError:
                continue  # it was away while the Services became others: nothing to hold its answer against
            after.add(_of(asked.read(name, zlib.decompress(fresh[name][1])), both))
        return after.checkup(), before.checkup()

    def _tell(self, failed: Mapping[str, str], nodes: Collection[str]) -> None:
        for name, why in failed.items():
            if name not in self._away:
                self._streams.message(
                    f"netk8s: node {name} does not answer: {why}; what was found of it is kept until it does"
                )
        for name in self._away:
            if name not in failed and name in nodes:
                self._streams.message(f"netk8s: node {name} answers again")
        self._away = tuple(failed)


def _of(part: Part, names: Collection[str]) -> Part:
    """A part without findings that are of other nodes alone."""
    from msgspec.structs import replace

    known = set(names)
    kept = tuple(found for found in part.findings if not found.nodes or not known.isdisjoint(found.nodes))
    return replace(part, findings=kept)
