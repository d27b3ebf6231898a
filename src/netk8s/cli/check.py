"""``netk8s check``: every flow of every Service, and what is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from netk8s.cli import _live, _parts
from netk8s.cli._input import dump_options, known_node, world_of
from netk8s.render import check as outputs

if TYPE_CHECKING:
    from netk8s.checkup import Checkup
    from netk8s.cli import Streams
    from netk8s.model import World


@click.command("check", short_help="Ask every flow of every Service, and tell what is wrong.")
@click.argument("paths", metavar="[DUMP]...", nargs=-1)
@click.option("--dump", "dumps", metavar="PATH", multiple=True, help="The same as DUMP.")
@click.option(
    "--service", "services", metavar="NAME", multiple=True,
    help="Only this Service ([NAMESPACE/]NAME); may be repeated.",
)  # fmt: skip
@click.option(
    "--code", "codes", metavar="CODE", multiple=True, help="Only findings of this code (NK404); may be repeated."
)
@click.option(
    "--severity", type=click.Choice(["error", "warning", "info"]), default="info", show_default=True,
    help="Only findings at least so severe.",
)  # fmt: skip
@click.option("--since", metavar="BUNDLE", help="Only findings that this older snapshot does not have.")
@dump_options
@_live.live_options
@click.option(
    "--beside/--here",
    "beside",
    default=None,
    help="Without DUMP: each agent checks its own node and findings travel, or all nodes' state is taken here and every "
    f"flow is followed from end to end. Default: --beside beyond {_parts.MOST_HERE} nodes.",
)
@click.option(
    "-o", "--output", "format_", type=click.Choice(outputs.formats()), default="text", show_default=True,
    help="How to print it.",
)  # fmt: skip
@click.pass_obj
def command(
    streams: Streams,
    paths: tuple[str, ...],
    dumps: tuple[str, ...],
    services: tuple[str, ...],
    codes: tuple[str, ...],
    severity: str,
    since: str | None,
    node: str | None,
    unwrap: bool,
    format_: str,
    cluster: _live.Wanted,
    beside: bool | None,
) -> int:
    """Ask every flow: each Service port at each kind of address (ClusterIP, NodePort, load balancer, external IP,
    hostPort, 127.0.0.1) by each kind of client (outside through each node, node, pod, the endpoint itself).

    Prints a line per Service port with the exceptions spelled out, and the findings, the worst first. DUMP is a folder
    or an archive of dumps, or a single one; without one the cluster of the kubeconfig is checked. --node asks only what
    enters or is sent at one node.

    \b
    Exit status
      0  no finding is an error           4  the Service or node was not found
      1  some finding is an error         5  the cluster could not be reached
      2  usage                            6  no error, but some answer is not known
      3  unreadable input
    """
    from netk8s import checkup
    from netk8s.cli.trace import width

    known = _codes(codes)
    given = (*paths, *dumps)
    if given:
        world = world_of(given, streams, node=node, unwrap=unwrap)
        found = _checked(streams, world, services, node, alone=format_ == "part")
    else:
        found = _parts.checked(cluster, streams, services, node, beside) or _checked(
            streams, _live.world(cluster, streams), services, node
        )
    before = None
    if since is not None:
        older = world_of((since,), streams, node=node, unwrap=unwrap)
        before = _checked(streams, older, (), node, missing_ok=True)
    found = checkup.only(found, known, severity, before)
    text = outputs.render(found, format_, width=width(streams), ascii=format_ == "text" and not streams.unicode)
    if format_ == "text":
        streams.print(text)
    else:
        streams.document(text)
    return exit_status(found)


def _codes(codes: tuple[str, ...]) -> list[str]:
    """The codes as they are written; NotFound for one that no finding has."""
    from difflib import get_close_matches

    from netk8s import findings
    from netk8s.errors import NotFound

    known = {module.CODE for module in findings.modules()}
    for code in codes:
        if code.upper() not in known:
            raise NotFound(f"finding {code}", get_close_matches(code.upper(), known, n=3, cutoff=0.5))
    return [code.upper() for code in codes]


def _checked(
    streams: Streams,
    world: World,
    services: tuple[str, ...],
    node: str | None,
    missing_ok: bool = False,
    alone: bool = False,
) -> Checkup:
    from netk8s import checkup
    from netk8s.cli._progress import progress
    from netk8s.cli._services import ports_of

    if node is not None and not missing_ok:
        known_node(node, world.nodes)
    with progress(streams, "flows asked") as tick:
        nodes = None if node is None else [node]
        return checkup.check(world, lambda ports: ports_of(ports, services), nodes, tick, alone=alone)


def exit_status(found: Checkup) -> int:
    """1: an error; 6: none, but something is not known; 0: neither."""
    if any(problem.finding.severity == "error" for problem in found.problems):
        return 1
    return 6 if found.count("unknown") else 0
