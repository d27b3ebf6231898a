"""``netk8s compare``: in which flows two snapshots of one cluster differ."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from netk8s.cli import Streams


@click.command("compare", short_help="Show in which flows two snapshots of a cluster differ.")
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@click.option(
    "--service",
    "services",
    metavar="NAME",
    multiple=True,
    help="Only this Service ([NAMESPACE/]NAME); may be repeated.",
)
@click.option(
    "-o",
    "--output",
    "format_",
    type=click.Choice(["text", "json", "yaml"]),
    default="text",
    show_default=True,
    help="How to print it.",
)
@click.pass_obj
def command(streams: Streams, a: str, b: str, services: tuple[str, ...], format_: str) -> int:
    """Ask every flow of two snapshots A and B of one cluster, and show those that come out differently.

    A and B are folders or archives of dumps. Every Service port is dialled at every kind of address (ClusterIP,
    NodePort, load balancer, external IP, hostPort, 127.0.0.1) by every kind of client; what differs is folded, with the
    rule or setting behind it. Rules are not compared: the same cluster in iptables mode and in nftables mode has none
    in common.

    \b
    Exit status
      0  no flow differs                  3  unreadable input
      1  some flow differs                6  none differs, but some answer is not known
    """
    from netk8s import comparison
    from netk8s.cli._input import world_of
    from netk8s.cli._progress import progress
    from netk8s.cli._services import ports_of
    from netk8s.cli.trace import width
    from netk8s.render import compared

    worlds = [world_of([path], streams, node=None, unwrap=False) for path in (a, b)]
    with progress(streams, "flows asked") as tick:
        found = comparison.compare(worlds[0], worlds[1], lambda ports: ports_of(ports, services), tick)
    if format_ == "json":
        streams.document(compared.as_json(found, a, b))
    elif format_ == "yaml":
        streams.document(compared.as_yaml(found, a, b))
    else:
        streams.print(compared.as_text(found, a, b, width=width(streams), ascii=not streams.unicode))
    if found.flows or found.only_a or found.only_b:
        return 1
    return 6 if found.unknown else 0
