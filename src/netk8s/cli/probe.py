"""``netk8s probe``: works out whom to send to, and has ``netk8s-probes`` send it.

That is a program of its own, started as one: scapy, on which it is built, is GPL-2.0-only and stays out of this
package (docs/decisions/0005-licence.md). What it hands over is a file.
"""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING

import click

from netk8s.cli._input import dump_options, world_of

if TYPE_CHECKING:
    from netk8s.cli import Streams
    from netk8s.model import Ask, Flow

PACKAGE = "netk8s_probes"
HOW_TO_GET_IT = (
    "netk8s-probes is not installed, which sends packets for this command; get it with `pip install netk8s-probes`, or "
    "from a copy of the source with `pip install ./probes`. `netk8s verify` sends a connection without it"
)
KINDS = ("connect", "syn", "udp", "echo")


@click.command("probe", short_help="Send one marked packet and write down where it was seen.")
@click.argument("target")
@click.option("--port", metavar="PORT", help="The port that is dialled, as for trace.")
@click.option(
    "--protocol", type=click.Choice(["tcp", "udp"], case_sensitive=False), help="Default: the port's own, else tcp."
)
@click.option("--from", "source", metavar="SOURCE", help="Who sends, as for trace; what sends is --from-namespace.")
@click.option("--via", metavar="NODE", help="The node an outside packet enters at.")
@click.option("--dump", "dumps", metavar="PATH", multiple=True, help="Where TARGET is looked up, unless it is IP:PORT.")
@dump_options
@click.option("-n", "--namespace", metavar="NAMESPACE", help="The Kubernetes namespace of a TARGET without one.")
@click.option("--kind", type=click.Choice(KINDS), help="What is sent; default: connect, for UDP a datagram.")
@click.option("--from-namespace", metavar="NETNS", help="The network namespace that sends: a file, or a PID in it.")
@click.option("--sniff", metavar="[NODE=][NETNS@]DEV", multiple=True, help="Listen at a hop; may be repeated.")
@click.option(
    "--end",
    metavar="[NODE=][NETNS@]DEV",
    multiple=True,
    help="Listen at the other end: what is seen there is what the endpoint sees.",
)
@click.option("--sport", type=click.IntRange(1, 65535), help="The source port.")
@click.option("--timeout", type=float, help="Seconds to wait for an answer.")
@click.option("--count", type=int, help="How many, at most 10; default: 1.")
@click.option("--interval", type=float, help="Seconds between two, at least 0.2.")
@click.option("--write", metavar="FILE", help="Where the observation goes; default: standard output.")
@click.option("--dry-run", is_flag=True, help="Say what would be sent, and send nothing.")
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
    kind: str | None,
    from_namespace: str | None,
    sniff: tuple[str, ...],
    end: tuple[str, ...],
    sport: int | None,
    timeout: float | None,
    count: int | None,
    interval: float | None,
    write: str | None,
    dry_run: bool,
) -> int:
    """Send one marked packet or connection to TARGET, and write an observation: where it was seen, with which
    addresses, and what came back. `netk8s trace` and `netk8s verify` read it like any dump.

    What will be sent is said before it is sent; --dry-run only says it. Nothing is sent to an address that is not
    in TARGET or in the dumps. Needs netk8s-probes, and root.
    """
    from netk8s.errors import UsageError

    if find_spec(PACKAGE) is None:
        raise UsageError(HOW_TO_GET_IT)
    from netk8s.model import PROTOCOL_NAMES, UDP, Ask

    if kind == "echo" and not dumps and "/" not in target:
        words, default = [target], "echo"
    else:
        ask = Ask(target, port, protocol and protocol.lower(), source, via, node, namespace)
        packet = _flow(streams, ask, dumps, unwrap).packet
        name = PROTOCOL_NAMES[packet.protocol]
        if (kind == "udp") != (packet.protocol == UDP) and kind not in (None, "echo"):
            raise UsageError(f"{target} is a {name} port: --kind {kind} does not fit it")
        default = "udp" if packet.protocol == UDP else "connect"
        shown = f"[{packet.dst}]" if packet.dst.version == 6 else str(packet.dst)
        words = [str(packet.dst) if kind == "echo" else f"{shown}:{packet.dport}"]
    words += ["--kind", kind or default]
    options = {"--from-namespace": from_namespace, "--sport": sport, "--timeout": timeout, "--count": count,
               "--interval": interval, "--write": write, "--source": source}  # fmt: skip
    for option, value in options.items():
        words += [f"{option}={value}"] if value is not None else []
    words += [f"--sniff={place}" for place in sniff] + [f"--end={place}" for place in end]
    words += ["--dry-run"] if dry_run else []
    return _started(streams, words)


def _flow(streams: Streams, ask: Ask, dumps: tuple[str, ...], unwrap: bool) -> Flow:
    """The question, with the address that is sent to. Raises UsageError where only a stand-in is known."""
    from netk8s import dialects
    from netk8s.errors import UsageError
    from netk8s.model import Cluster, Node, World

    if dumps:
        world = world_of(dumps, streams, node=ask.node, unwrap=unwrap)
    elif "/" in ask.target:
        raise UsageError(f"{ask.target} is looked up in dumps: give one with --dump PATH, or IP:PORT as the target")
    else:
        world = World({"here": Node("here")}, Cluster())
    flow = dialects.resolve(world, ask)
    if flow.packet.dst in {ip for ip, _ in flow.stand_ins}:
        raise UsageError(f"no dump tells the address of {ask.target}; give IP:PORT as the target")
    return flow


def _started(streams: Streams, words: list[str]) -> int:
    """Runs netk8s-probes; its messages are passed on as they come, what it writes is ours to print."""
    argv = [sys.executable, "-m", PACKAGE, *words]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:  # noqa: S603
        if process.stderr is not None:
            for line in process.stderr:
                streams.message(line.rstrip("\n"))
        out = process.stdout.read() if process.stdout is not None else ""
        process.wait()
    streams.document(out)
    return process.returncode
