"""Without ``--dump``: the words for the cluster, and the steps of a question to it."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from netk8s.cli._manifests import IMAGE
from netk8s.cli._progress import progress

if TYPE_CHECKING:
    from netk8s.cli import Streams
    from netk8s.live.agents import Agents
    from netk8s.live.api import Access, Api
    from netk8s.model import Addr, Ask, Report, Snapshot, World

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = (
    click.option("--kubeconfig", metavar="FILE", help="Default: $KUBECONFIG, else ~/.kube/config."),
    click.option("--context", metavar="NAME", help="The kubeconfig context; default: the current one."),
    click.option("--as", "user", metavar="USER", help="Act as another user (impersonation)."),
    click.option("--as-group", "groups", metavar="GROUP", multiple=True, help="And as this group; may be repeated."),
    click.option(
        "--request-timeout",
        "timeout",
        type=click.FloatRange(min=0.1),
        metavar="SECONDS",
        default=30.0,
        show_default=True,
        help="How long one answer of the API server may take.",
    ),
    click.option(
        "--agent-namespace",
        metavar="NAMESPACE",
        envvar="NETK8S_AGENT_NAMESPACE",
        help="Where the agents run; default: netk8s, with --agentless the context's namespace.",
    ),
    click.option(
        "--agentless", is_flag=True, help="Where there are no agents: a pod on each node that is asked, removed at once."
    ),
    click.option(
        "--agent-image", "image", metavar="IMAGE", envvar="NETK8S_AGENT_IMAGE", default=IMAGE, show_default=True,
        help="With --agentless: the image of these pods.",
    ),
    click.option(
        "--agent-net-raw", "net_raw", is_flag=True,
        help="With --agentless: NET_RAW as well, without which iptables-legacy lists nothing.",
    ),
)  # fmt: skip


def live_options(function: F) -> F:
    """kubectl's words for a cluster, as ``cluster``: a :class:`Wanted`."""

    def command(*args: Any, **words: Any) -> Any:
        from netk8s.live.api import Access

        names = ("kubeconfig", "context", "user", "groups", "timeout")
        access = Access(**{name: words.pop(name) for name in names})
        more = {name: words.pop(name) for name in ("agent_namespace", "agentless", "image", "net_raw")}
        return function(*args, cluster=Wanted(access, **more), **words)

    command.__name__, command.__doc__ = function.__name__, function.__doc__
    command.__click_params__ = getattr(function, "__click_params__", [])  # type: ignore[attr-defined]
    for option in reversed(_OPTIONS):
        option(command)
    return command  # type: ignore[return-value]


@dataclass(frozen=True, slots=True)
class Wanted:
    """The API server, and by what the nodes are asked: agents of a namespace, or pods made for the question."""

    access: Access
    agent_namespace: str | None
    agentless: bool
    image: str
    net_raw: bool
    enter_pods: bool = False


def answer(ask: Ask, cluster: Wanted, streams: Streams) -> Report:
    """What the cluster's objects and the nodes on the way say now. Raises CollectError, NotFound and UsageError."""
    from netk8s.errors import CollectError
    from netk8s.live import api, asking, objects

    server = api.connect(cluster.access)
    ask = with_namespace(ask, server.namespace)
    found = objects.for_question(server, ask)
    with _nodes(server, cluster, streams) as fetch, progress(streams, "nodes that answered") as tick:
        report, known = asking.answer(found, ask, fetch, tick, fetch if cluster.enter_pods else None)
    if known.failed and not known.worlds:
        # Not one node answered: the reason is one for all of them, and there is no part of an answer.
        raise CollectError("; ".join(dict.fromkeys(known.failed.values())))
    for name, why in known.failed.items():
        streams.message(f"netk8s: node {name} is missing in this answer: {why}")
    return report


def everything(cluster: Wanted, streams: Streams, before: tuple[Snapshot, ...] = ()) -> tuple[Snapshot, list[str]]:
    """The cluster's objects and all its nodes but those of ``before``, which are kept; and the nodes that failed."""
    from netk8s.live import api, asking, objects
    from netk8s.model import Missing, Snapshot

    server = api.connect(cluster.access)
    found = objects.everything(server)
    known = asking.begin(found)
    there = {dump.node for part in before for dump in part.dumps}
    with _nodes(server, cluster, streams) as fetch, progress(streams, "nodes that answered") as tick:
        asking.take(known, (name for name in known.node_names if name not in there), fetch, tick)
    parts = (found, *before, *known.taken)
    gaps = [Missing(f"nodes/{name} ({why})", "every answer about this node") for name, why in known.failed.items()]
    dumps = sorted((d for part in parts for d in part.dumps), key=lambda d: (d.node or "", d.origin))
    missing = (*(gap for part in parts for gap in part.missing), *gaps)
    return Snapshot(tuple(dumps), missing), list(known.failed)


def world(cluster: Wanted, streams: Streams) -> World:
    """The whole cluster as it is now, decoded. Raises CollectError when not one node answered."""
    from netk8s import decode, dialects
    from netk8s.errors import CollectError

    taken, failed = everything(cluster, streams)
    if not any(dump.node for dump in taken.dumps):
        raise CollectError("; ".join(gap.what for gap in taken.missing if not gap.absent) or "the cluster has no nodes")
    for name in failed:
        streams.message(f"netk8s: node {name} is missing in this answer")
    return dialects.complete(decode.decode(taken))


@contextmanager
def _nodes(server: Api, cluster: Wanted, streams: Streams) -> Iterator[Callable[..., Snapshot]]:
    """What gives a node's state by its name, and by agents that of pods on it too. Raises CollectError."""
    from netk8s.live import agents

    if not cluster.agentless:
        yield Lazily(server, cluster.agent_namespace or agents.NAMESPACE).snapshot
        return
    from netk8s.live.agentless import Agentless, Wish

    def say(text: str) -> None:
        streams.message(f"netk8s: {text}")

    wish = Wish(cluster.image, cluster.net_raw)
    pods = Agentless(server, cluster.agent_namespace or server.namespace, wish, say)
    with ended_by_signals(pods.stop):
        try:
            try:
                yield pods.snapshot
            finally:
                pods.close()
        except BaseException:
            # A signal may have come while the pods were being removed; no second one will.
            pods.close()
            raise


@contextmanager
def ended_by_signals(told: Callable[[], None]) -> Iterator[None]:
    """The first of Ctrl-C, SIGTERM and the end of the terminal raises KeyboardInterrupt, after ``told``; later ones nothing."""
    before: dict[int, Any] = {}
    seen = False

    def handler(number: int, frame: object) -> None:
        nonlocal seen
        if not seen:
            seen = True
            told()
            raise KeyboardInterrupt

    try:
        # Only the main thread is told of signals.
        with suppress(ValueError):
            for number in (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
                before.setdefault(number, signal.signal(number, handler))
        yield
    finally:
        for number, what in before.items():
            signal.signal(number, what)


class Lazily:
    """The agents of a cluster, looked for when the first node is to be asked, and again before their token ends."""

    def __init__(self, server: Api, namespace: str) -> None:
        import threading

        self._server, self._namespace = server, namespace
        self._lock = threading.Lock()
        self._agents: Agents | None = None
        self._found = 0.0

    def snapshot(self, node: str, pods: Mapping[str, Addr] | None = None) -> Snapshot:
        """Raises CollectError."""
        return self.agents().snapshot(node, pods)

    def agents(self) -> Agents:
        """The agents as they were found last. Raises CollectError."""
        from netk8s.live import agents

        with self._lock:
            now = time.monotonic()
            if self._agents is None or now - self._found > agents.TOKEN_SECONDS / 2:
                self._agents, self._found = agents.find(self._server, self._namespace), now
            return self._agents


def completed(context: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
    """The Services that a TARGET may go on with, asked of the cluster; none when it does not answer quickly."""
    from netk8s.errors import Netk8sError
    from netk8s.live import api, objects

    words = context.params
    if context.params.get("dumps") or not "svc/".startswith(begun[:4]):
        return []
    try:
        server = api.connect(api.Access(words.get("kubeconfig"), words.get("context"), timeout=2.0))
        names = objects.service_names(server)
    except Netk8sError:
        return []
    space = words.get("namespace") or server.namespace
    offered = [f"svc/{name}" for where, name in names if where == space] + [f"svc/{w}/{n}" for w, n in names]
    return [name for name in offered if name.startswith(begun)]


def with_namespace(ask: Ask, default: str) -> Ask:
    """The words with the context's namespace where they name none."""
    if ask.namespace is not None or default == "default" or ask.target.count("/") != 1:
        return ask
    from msgspec.structs import replace

    return replace(ask, namespace=default)
