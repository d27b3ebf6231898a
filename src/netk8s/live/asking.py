"""A question to a running cluster: the nodes on the packet's path are asked, as far as it goes and no further."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TypeVar

from msgspec import Struct, field
from msgspec.structs import replace

from netk8s import decode, dialects, journey
from netk8s.errors import CollectError, Netk8sError, NotFound
from netk8s.model import Addr, Ask, Missing, Node, Report, Snapshot, Trace, World

MOST_PODS = 16
"""Pods of one node that are entered: what an agent bears in one request."""
AT_ONCE = 8
"""Nodes that are asked side by side."""

Fetch = Callable[[str], Snapshot]
"""The state of a node by its name. Raises CollectError."""
_LEFT_OPEN = "whether its rules let the packet pass, whether somebody listens there, and the way back"

Enter = Callable[[str, Mapping[str, Addr]], Snapshot]
"""The same with the network namespaces of these pods of the node, by their addresses."""
Told = Callable[[int, int], None]
"""Told how many nodes have answered of how many that were asked."""


class Asked(Struct):
    """What is known so far: the cluster's objects, the nodes that answered, and why others did not."""

    objects: World
    node_names: tuple[str, ...]
    worlds: dict[str, World] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    taken: list[Snapshot] = field(default_factory=list)
    entered: set[str] = field(default_factory=set)
    closed: list[Missing] = field(default_factory=list)

    def world(self) -> World:
        """All that is known. A node that was not asked yet is there and nothing is known of it; one that failed is not."""
        nodes = {name: Node(name) for name in self.node_names if name not in self.failed}
        parts = [self.worlds[name] for name in sorted(self.worlds)]
        for part in parts:
            nodes.update(part.nodes)
        gaps = (Missing(f"node {name} ({why})", _LEFT_OPEN, node=name) for name, why in self.failed.items())
        return dialects.complete(
            World(
                dict(sorted(nodes.items())),
                self.objects.cluster,
                (*self.objects.missing, *(gap for part in parts for gap in part.missing), *gaps, *self.closed),
                (*self.objects.notes, *(note for part in parts for note in part.notes)),
                tuple(origin for part in parts for origin in part.unread),
            )
        )


def answer(
    objects: Snapshot,
    ask: Ask,
    fetch: Fetch,
    told: Told = lambda done, total: None,
    enter: Enter | None = None,
) -> tuple[Report, Asked]:
    """The answer, after as many rounds as the packet has nodes to cross, and pods where ``enter`` leads into these.

    A node that cannot be asked makes the answer partial: it is said in ``missing``. Raises CollectError when the node
    that the packet starts on is such a one and nothing can be said without it.
    """
    known = begin(objects)
    while True:
        try:
            report = _once(journey.answer(known.world(), ask), known.failed)
        except NotFound as error:
            if known.failed and "no dump of node" in str(error):
                why = "; ".join(f"{name}: {why}" for name, why in known.failed.items())
                raise CollectError(f"the node that the packet starts on cannot be asked: {why}") from None
            raise
        open_ = [name for name in on_the_way(report) if name in known.node_names]
        open_ = [name for name in open_ if name not in known.worlds and name not in known.failed]
        if not open_ and enter is not None and (pods := _pods(report, known)):
            _entered(known, pods, enter)
            continue
        if not open_:
            return report, known
        start = report.trace.flow.node
        take(known, open_, fetch, told)
        if start in known.failed and report.trace.flow.origin == "outside" and ask.via is None and ask.node is None:
            # The node that was chosen stays the one that is asked about, although nothing is known of it now.
            ask = replace(ask, via=start)


def _pods(report: Report, known: Asked) -> dict[str, dict[str, Addr]]:
    """The pods that the packet comes from or goes to and that were not entered yet, by the nodes that answered."""
    names: dict[str, None] = {}
    for trace in (report.trace, *(leg.trace for leg in report.legs)):
        ends = (way.reached.pod for way in trace.ways if way.reached is not None)
        names.update(dict.fromkeys(name for name in (trace.flow.pod, *ends) if name is not None))
    found: dict[str, dict[str, Addr]] = {}
    for pod in known.objects.cluster.pods:
        name = f"{pod.namespace}/{pod.name}"
        if (
            name in names
            and name not in known.entered
            and pod.node in known.worlds
            and pod.ips
            and not pod.host_network
        ):
            found.setdefault(pod.node, {})[name] = pod.ips[0]
    return {node: dict(list(pods.items())[:MOST_PODS]) for node, pods in found.items()}


def _entered(known: Asked, pods: Mapping[str, Mapping[str, Addr]], enter: Enter) -> None:
    """Asks nodes once more, with pods. What a node does not answer is a gap; what it answered before still holds."""
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="pods") as pool:
        waiting = {node: pool.submit(enter, node, wanted) for node, wanted in pods.items()}
        for node, answered in waiting.items():
            known.entered.update(pods[node])
            try:
                found = answered.result()
                known.worlds[node] = decode.decode(found)
            except Netk8sError as error:
                what = f"the network namespaces of {', '.join(pods[node])} ({error})"
                known.closed.append(Missing(what, "what these pods' own rules and routes do", node=node))


def _once(report: Report, failed: Collection[str]) -> Report:
    """Without the trace's own word for a node that is missing: here it is known why it is."""
    trace = report.trace
    kept = tuple(gap for gap in trace.missing if gap.node not in failed or gap.what != f"every dump of {gap.node}")
    return replace(report, trace=replace(trace, missing=kept))


def begin(objects: Snapshot) -> Asked:
    """The cluster's objects, and no node's state yet."""
    world = decode.decode(objects)
    if not world.cluster.nodes:
        raise CollectError("the cluster's nodes cannot be listed: " + "; ".join(gap.what for gap in world.missing))
    return Asked(world, tuple(sorted(node.name for node in world.cluster.nodes)))


def take(known: Asked, nodes: Iterable[str], fetch: Fetch, told: Told = lambda done, total: None) -> None:
    """Asks nodes side by side. What one of them does not answer is in ``failed``."""
    wanted = list(nodes)
    before = len(known.worlds) + len(known.failed)

    def took(name: str, found: Snapshot) -> None:
        known.worlds[name] = decode.decode(found)
        known.taken.append(found)

    failed = each(wanted, fetch, took, lambda done, total: told(before + done, before + total))
    known.failed.update((name, failed[name]) for name in wanted if name in failed)


T = TypeVar("T")


def each(
    nodes: Iterable[str],
    fetch: Callable[[str], T],
    took: Callable[[str, T], None],
    told: Told = lambda done, total: None,
    at_once: int = AT_ONCE,
) -> dict[str, str]:
    """Asks nodes side by side and hands on each answer as it comes; the nodes that did not answer, with the reasons.

    Only so many answers are held as nodes are asked at once. ``took`` runs where this was called; what it raises of our own
    errors is a reason too.
    """
    waiting = list(nodes)[::-1]
    total, done = len(waiting), 0
    failed: dict[str, str] = {}
    pool = ThreadPoolExecutor(at_once, thread_name_prefix="node")
    try:
        running: dict[Future[T], str] = {}
        while waiting or running:
            while waiting and len(running) < at_once:
                name = waiting.pop()
                running[pool.submit(fetch, name)] = name
            for answered in wait(running, return_when=FIRST_COMPLETED).done:
                name = running.pop(answered)
                try:
                    took(name, answered.result())
                except Netk8sError as error:
                    failed[name] = str(error)
                done += 1
                told(done, total)
    finally:
        # After Ctrl-C nobody waits for nodes that have not answered yet.
        pool.shutdown(wait=False, cancel_futures=True)
    return failed


def on_the_way(report: Report) -> list[str]:
    """The nodes that the packet, or its answer, is on."""
    names: dict[str, None] = {}
    for trace in (report.trace, *(leg.trace for leg in report.legs)):
        names.update(dict.fromkeys(_of_trace(trace)))
    return list(names)


def _of_trace(trace: Trace) -> Iterable[str]:
    yield trace.flow.node
    yield from (gap.node for gap in trace.missing)
    for way in trace.ways:
        yield from (hop.node for hop in (*way.hops, *way.reply_hops))
