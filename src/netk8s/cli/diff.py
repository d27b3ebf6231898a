"""``netk8s diff``: what changed between two snapshots of one cluster, by meaning."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from netk8s.cli._input import difference_options, world_of

if TYPE_CHECKING:
    from netk8s.changes import Changes
    from netk8s.cli import Streams
    from netk8s.comparison import Comparison
    from netk8s.model import World


@click.command("diff", short_help="Show what changed between two snapshots of a cluster.")
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@difference_options
@click.pass_obj
def command(
    streams: Streams, a: str, b: str, services: tuple[str, ...], node: str | None, unwrap: bool, format_: str
) -> int:
    """Show what changed from snapshot A to snapshot B of one cluster: the flows that come out differently, and what the
    snapshots say differently by meaning (objects, Services as programmed, other rules, routes, devices, sysctls).

    A and B are folders, archives or single dumps. The order of rules, counters and the names of hashed chains and of
    pods' devices are no difference: where an order matters, a flow comes out differently. Two modes of kube-proxy are
    better held against each other by netk8s compare.

    \b
    Exit status
      0  nothing differs                  4  the Service was not found
      1  something differs                6  nothing differs as far as is known: some answer is not,
      2  usage                               or only one snapshot has some dump
      3  unreadable input
    """
    worlds = tuple(world_of([path], streams, node=node, unwrap=unwrap) for path in (a, b))
    outcomes, found = difference(streams, (worlds[0], worlds[1]), services)
    show(streams, outcomes, found, (a, b), format_)
    return exit_status(outcomes, found)


def difference(streams: Streams, worlds: tuple[World, World], services: tuple[str, ...]) -> tuple[Comparison, Changes]:
    """What differs between two worlds: the flows, with a progress line, and the facts."""
    from netk8s.changes import changes
    from netk8s.cli._progress import progress
    from netk8s.cli._services import ports_of
    from netk8s.comparison import between
    from netk8s.survey import Ground

    one, other = (Ground.of(world) for world in worlds)
    with progress(streams, "flows asked") as tick:
        outcomes = between((one, other), lambda ports: ports_of(ports, services), tick)
    return outcomes, changes(one.world, other.world, one.programmed, other.programmed)


def show(streams: Streams, outcomes: Comparison, found: Changes, names: tuple[str, str], format_: str) -> None:
    """Prints a difference in the format of that name."""
    from netk8s.cli.trace import width
    from netk8s.render import diffed

    if format_ == "json":
        streams.document(diffed.as_json(outcomes, found, *names))
    elif format_ == "yaml":
        streams.document(diffed.as_yaml(outcomes, found, *names))
    else:
        streams.print(diffed.as_text(outcomes, found, *names, width=width(streams), ascii=not streams.unicode))


def exit_status(outcomes: Comparison, found: Changes) -> int:
    """1: something differs; 6: nothing that is known, but not all is; 0: nothing."""
    if outcomes.flows or outcomes.only_a or outcomes.only_b or found.found:
        return 1
    return 6 if outcomes.unknown or found.uncompared else 0
