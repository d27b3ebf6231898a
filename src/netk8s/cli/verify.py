"""``netk8s verify``: the prediction beside what the kernel really does with the packet."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from netk8s.cli._input import dump_options
from netk8s.cli.trace import TEXT_WIDTH, colored

if TYPE_CHECKING:
    from netk8s.cli import Streams
    from netk8s.collect.connection import Reserved
    from netk8s.model import Ask, Flow, Observation, Packet, Snapshot, Trace, World
    from netk8s.verification import Verification

DEFAULT_TIMEOUT = 0.9
"""Seconds. Before a SYN is sent again, which Linux does after one second."""
MOST_SECONDS = 300.0


@click.command("verify", short_help="Send one packet and hold the prediction against the kernel's own trace.")
@click.argument("target")
@click.option("--port", metavar="PORT", help="The port that is dialled, as for trace.")
@click.option(
    "--protocol", type=click.Choice(["tcp", "udp"], case_sensitive=False), help="Default: the port's own, else tcp."
)
@click.option(
    "--from",
    "source",
    metavar="SOURCE",
    help="node/NAME (default: this node), pod/NAMESPACE/NAME or the IP of a pod on this node, client, an IP.",
)
@click.option("--via", metavar="NODE", help="The node an outside packet enters at; default: this one.")
@click.option(
    "--dump",
    "dumps",
    metavar="PATH",
    multiple=True,
    help="Predict from these too: the cluster's objects, or this node as it was, which then is not read anew.",
)
@dump_options
@click.option("-n", "--namespace", metavar="NAMESPACE", help="The Kubernetes namespace of a TARGET without one.")
@click.option(
    "--observation",
    metavar="FILE",
    help="Send nothing: compare with what `netk8s probe` or `netk8s verify --write` wrote. Needs --dump.",
)
@click.option(
    "--from-namespace",
    metavar="NETNS",
    help="The network namespace that sends: a file such as /run/netns/X, or a PID in it. Default: that of SOURCE.",
)
@click.option("--namespace-path", metavar="NETNS", help="The network namespace of the node; default: where this runs.")
@click.option("--sport", type=click.IntRange(1, 65535), help="The source port; default: one that is free.")
@click.option(
    "--timeout",
    type=click.FloatRange(0.05, MOST_SECONDS),
    default=DEFAULT_TIMEOUT,
    show_default=True,
    help="Seconds to wait for an answer, or with --wait for the packet.",
)
@click.option(
    "--wait", is_flag=True, help="Send nothing; wait for the packet of SOURCE (an IP) with --sport to come by."
)
@click.option("--write", metavar="FILE", help="Write what was observed, to be compared again.")
@click.option("--dry-run", is_flag=True, help="Say what would be sent and armed, and do neither.")
@click.option("-o", "--output", "format_", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option("--color", type=click.Choice(["auto", "always", "never"]), default="auto", show_default=True)
@click.pass_obj
def command(
    streams: Streams,
    target: str,
    port: str | None,
    protocol: str | None,
    source: str | None,
    via: str | None,
    dumps: tuple[str, ...],
    node: str | None,
    unwrap: bool,
    namespace: str | None,
    observation: str | None,
    from_namespace: str | None,
    namespace_path: str | None,
    sport: int | None,
    timeout: float,
    wait: bool,
    write: str | None,
    dry_run: bool,
    format_: str,
    color: str,
) -> int:
    """Predict the way of one packet to TARGET, send it, and show the prediction beside the kernel's own trace.

    Run it as root on a node. It reads the node's state, arms the kernel's trace for exactly this packet, sends
    it (a TCP connection that is closed again, or one UDP datagram), and takes the trace back: also when it is
    killed. TARGET and SOURCE are as for `netk8s trace`.

    \b
    Exit status
      0  as predicted          1  something differs
      2  usage                 4  the target was not found
      3  unreadable input      5  the kernel could not be asked
      6  nothing that could be compared
    """
    from netk8s.errors import UsageError
    from netk8s.model import Ask

    ask = Ask(target, port, protocol and protocol.lower(), source, via, node, namespace)
    if observation is not None:
        if not dumps:
            raise UsageError("--observation needs the dumps to predict from: --dump PATH")
        live = {
            "--wait": wait,
            "--write": write,
            "--dry-run": dry_run,
            "--from-namespace": from_namespace,
            "--sport": sport,
        }
        given = [name for name, value in live.items() if value]
        if given:
            raise UsageError(f"--observation sends nothing, so {given[0]} has no meaning")
        return _show(streams, _offline(streams, ask, (*dumps, observation), unwrap), format_, color)
    from netk8s.collect import namespaces

    path = namespaces.path_of(namespace_path) if namespace_path else None
    sender = namespaces.path_of(from_namespace) if from_namespace else None
    with namespaces.entered(path):
        found = _live(
            streams,
            ask,
            dumps,
            unwrap=unwrap,
            sender=sender,
            sport=sport,
            timeout=timeout,
            wait=wait,
            write=write,
            dry_run=dry_run,
        )
    return 0 if found is None else _show(streams, found, format_, color)


def _show(streams: Streams, found: Verification, format_: str, color: str) -> int:
    from netk8s.render import verified

    if format_ == "json":
        streams.document(verified.as_json(found))
    else:
        streams.print(
            verified.as_text(found, width=TEXT_WIDTH, color=colored(streams, color), ascii=not streams.unicode)
        )
    if found.differences:
        return 1
    return 0 if found.compared else 6


# ---------------------------------------------------------------- with an observation file


def _offline(streams: Streams, ask: Ask, paths: tuple[str, ...], unwrap: bool) -> Verification:
    from netk8s.cli._input import world_of
    from netk8s.errors import NotFound
    from netk8s.verification import about, compare

    world = world_of(paths, streams, node=ask.node, unwrap=unwrap)
    flow = _resolved(world, ask)
    for seen in world.observations:
        # The packet that was sent is the better question: it has the source port, and perhaps a source no dump tells.
        if about(flow, seen):
            return compare(_traced(world, _as_sent(flow, seen)), seen)
    sent = [f"{one.sent.src} to {one.sent.dst} port {one.sent.dport}" for one in world.observations]
    why = f"the observation is of another packet: {sent[0]}" if sent else "the input holds no observation"
    raise NotFound(
        "an observation of this packet",
        (),
        f"{why}; asked for {flow.packet.src} to {flow.packet.dst} port {flow.packet.dport}",
    )


def _resolved(world: World, ask: Ask) -> Flow:
    from netk8s import dialects

    return dialects.resolve(world, ask)


def _as_sent(flow: Flow, seen: Observation) -> Flow:
    from msgspec.structs import replace

    stand_ins = {address for address, _ in flow.stand_ins}
    packet = flow.packet.replace(sport=seen.sent.sport)
    if packet.src in stand_ins:
        stand_ins.discard(packet.src)
        packet = packet.replace(src=seen.sent.src)
    return replace(flow, packet=packet, stand_ins=tuple(pair for pair in flow.stand_ins if pair[0] in stand_ins))


def _traced(world: World, flow: Flow) -> Trace:
    from netk8s import dialects
    from netk8s.trace import trace

    return dialects.label(world, trace(world, flow))


# ---------------------------------------------------------------- live


def _live(
    streams: Streams, ask: Ask, dumps: tuple[str, ...], *, unwrap: bool, sender: str | None, sport: int | None,
    timeout: float, wait: bool, write: str | None, dry_run: bool,
) -> Verification | None:  # fmt: skip
    from msgspec.structs import replace

    from netk8s.collect import armed, connection, observed
    from netk8s.errors import UsageError
    from netk8s.model import PROTOCOL_NAMES
    from netk8s.verification import compare

    ask = replace(ask, node=ask.node or connection.local_name())
    world = _world(streams, ask, dumps, unwrap)
    if ask.via is None and ask.node in world.nodes:
        ask = replace(ask, via=ask.node)
    if ask.source is None and sender is None and not wait:
        ask = replace(ask, source=f"node/{ask.node}")
    flow = _resolved(world, ask)
    packet = flow.packet
    if packet.dst in {address for address, _ in flow.stand_ins} or packet.dport is None:
        raise UsageError(f"no dump tells the address of {ask.target}; give IP:PORT")
    if wait:
        reserved, sender = _awaited(flow, sport or packet.sport), None
    else:
        sender = sender or _namespace_of_sender(world, flow, str(ask.node))
        reserved = connection.reserve(packet.protocol, packet.dst, packet.dport, sender, sport or packet.sport or 0)
    with reserved:
        sent = reserved.packet
        if sender is not None and (flow.origin == "outside" or ask.source is None):
            # Who sends is no longer an unknown client: rules may ask for its address, and it may be a pod.
            protocol = PROTOCOL_NAMES[packet.protocol]
            ask = replace(ask, source=str(sent.src), protocol=protocol, target=_dialled(flow), port=None)
            flow = _sent_by(replace(_resolved(world, ask), target=flow.target), world, sender, str(ask.node))
        flow = _exactly(flow, sent)
        prediction = _traced(world, flow)
        streams.message(_announcement(sent, flow, sender, wait, timeout))
        if dry_run:
            streams.message("netk8s: --dry-run: nothing was armed and nothing sent")
            streams.document(armed.table_text(f"{armed.PREFIX}PID_TIME", sent))
            return None
        _need_root()
        seen = observed.observe(
            reserved,
            node=str(ask.node),
            source=flow.source,
            timeout=timeout,
            wait=wait,
            say=lambda text: streams.message(f"netk8s: {text}"),
        )
    if write is not None:
        _written(seen, write)
    return compare(prediction, seen)


def _world(streams: Streams, ask: Ask, dumps: tuple[str, ...], unwrap: bool) -> World:
    """What the dumps say, and the node as it is now unless they hold its rules."""
    from netk8s import decode, dialects, snapshot
    from netk8s.collect import node
    from netk8s.model import Snapshot

    given = snapshot.read(dumps, node=ask.node, stdin=streams.stdin) if dumps else Snapshot(())
    if not _holds_rules(given, str(ask.node)):
        _need_root()
        # Connections of others say nothing about where a new one goes, and may be a million.
        now = node.take(str(ask.node), leave_out=("connections",))
        given = Snapshot((*given.dumps, *now.dumps), (*given.missing, *now.missing))
    return dialects.complete(decode.decode(given, unwrap=unwrap))


def _need_root() -> None:
    from netk8s.errors import CollectError

    if sys.platform != "linux" or os.geteuid() != 0:
        raise CollectError(
            "asking the kernel takes root on a Linux node; offline there is --observation FILE --dump PATH"
        )


def _holds_rules(given: Snapshot, node: str) -> bool:
    return any(dump.node == node for dump in given.dumps)


def _namespace_of_sender(world: World, flow: Flow, node: str) -> str | None:
    """The namespace that sends: ours for the node itself, that of a pod by its address."""
    from netk8s.collect import namespaces
    from netk8s.errors import UsageError

    if flow.origin == "node" and flow.node == node:
        return None
    source = flow.packet.src
    if source not in {ip for ip, _ in flow.stand_ins} and flow.node == node:
        return namespaces.of_pod(source, _peers(world, node))
    raise UsageError(
        f"{flow.source} is not on this node; name its network namespace with --from-namespace if it is on this "
        "machine, or let it send by itself and give --wait with its IP (--from) and --sport"
    )


def _peers(world: World, node: str) -> list[int]:
    """The numbers by which the node knows the namespaces at the other ends of its veth devices."""
    links = world.nodes[node].links if node in world.nodes else ()
    return [link.peer_netns for link in links if link.peer_netns is not None]


def _sent_by(flow: Flow, world: World, sender: str | None, node: str) -> Flow:
    """A sender behind one of the node's veth devices is a pod, also where no object says so."""
    from msgspec.structs import replace

    from netk8s.collect import namespaces

    if sender is None or flow.origin != "outside" or not namespaces.hangs_on(sender, _peers(world, node)):
        return flow
    return replace(flow, origin="pod", node=node, iif=None, routed=True)


def _awaited(flow: Flow, sport: int | None) -> Reserved:
    """What stands for a socket of somebody else."""
    from netk8s.collect.connection import Awaited
    from netk8s.errors import UsageError

    if sport is None or flow.packet.src.is_unspecified or flow.packet.src in {ip for ip, _ in flow.stand_ins}:
        raise UsageError("--wait needs to know the packet: the IP that sends it with --from, its port with --sport")
    return Awaited(flow.packet.replace(sport=sport))


def _dialled(flow: Flow) -> str:
    packet = flow.packet
    return f"[{packet.dst}]:{packet.dport}" if packet.dst.version == 6 else f"{packet.dst}:{packet.dport}"


def _exactly(flow: Flow, sent: Packet) -> Flow:
    """The flow with the source port, which rules may ask for. The source address stays as predicted."""
    from msgspec.structs import replace

    return replace(flow, packet=flow.packet.replace(sport=sent.sport))


def _announcement(sent: Packet, flow: Flow, sender: str | None, wait: bool, timeout: float) -> str:
    from netk8s.model import PROTOCOL_NAMES, TCP

    what = "one TCP connection, closed at once" if sent.protocol == TCP else "one UDP datagram of 14 bytes"
    ends = " to ".join(
        f"[{ip}]:{port}" if ip.version == 6 else f"{ip}:{port}"
        for ip, port in ((sent.src, sent.sport), (sent.dst, sent.dport))
    )
    if wait:
        return f"netk8s: waits {timeout:g} s for {PROTOCOL_NAMES[sent.protocol]} {ends}; sends nothing"
    where = f" from the network namespace {sender}" if sender else ""
    return f"netk8s: sends {what}, {ends}{where} ({flow.source} to {flow.target}); traced for {timeout + 5:g} s at most"


def _written(seen: Observation, path: str) -> None:
    from netk8s import __version__
    from netk8s.errors import UsageError
    from netk8s.render import observation

    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(observation.render(seen, f"netk8s {__version__}"))
    except OSError as error:
        raise UsageError(f"cannot write {os.path.basename(path)}: {error.strerror}") from None
