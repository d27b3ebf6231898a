"""``netk8s decode``: what a dump programs, without any packet."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from netk8s.cli._input import dump_options, world_of

if TYPE_CHECKING:
    from netk8s.cli import Streams


@click.command("decode", short_help="List the services, ports, chains and endpoints of a dump.")
@click.argument("dumps", metavar="DUMP...", nargs=-1, required=True)
@dump_options
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
def command(streams: Streams, dumps: tuple[str, ...], node: str | None, unwrap: bool, format_: str) -> int:
    """List the services that DUMP programs, alike in iptables, nftables and IPVS mode: ports, traffic policy, affinity,
    scheduler, and endpoints with their odds or weights; and which CNI plugins and other components are at work.

    DUMP is an iptables-save file or any other dump, a folder or an archive of dumps, or - for standard input.
    """
    from netk8s import dialects
    from netk8s.cli.trace import width
    from netk8s.render import decoded

    world = world_of(dumps, streams, node=node, unwrap=unwrap)
    programmed = dialects.programmed(world)
    recognised = dialects.recognised(world)
    if format_ == "json":
        streams.documents(decoded.json_parts(world, programmed, recognised))
    elif format_ == "yaml":
        streams.documents(decoded.yaml_parts(world, programmed, recognised))
    else:
        parts = decoded.text_parts(world, programmed, recognised, width=width(streams), ascii=not streams.unicode)
        for part in parts:
            streams.print(part)
    return 0
