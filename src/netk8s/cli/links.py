"""``netk8s links``: the devices of each node, and which pod hangs on which."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from netk8s.cli._input import dump_options, world_of

if TYPE_CHECKING:
    from netk8s.cli import Streams
    from netk8s.model import NodeDevices, World


@click.command("links", short_help="Show the devices of a node as a tree, and which pod hangs on which.")
@click.option(
    "--dump",
    "dumps",
    metavar="PATH",
    multiple=True,
    help="A dump, a folder or archive of dumps, or - for standard input; may be repeated.",
)
@dump_options
@click.option(
    "-o",
    "--output",
    "format_",
    type=click.Choice(["text", "json", "yaml", "dot", "mermaid"]),
    default="text",
    show_default=True,
    help="How to print it.",
)
@click.pass_obj
def command(streams: Streams, dumps: tuple[str, ...], node: str | None, unwrap: bool, format_: str) -> int:
    """Show the devices of every node, or of the one that --node names: what is on a device stands below it, with its
    mode, addresses and MTU, the pod it belongs to, and what that means for packets to a Service.

    `ip -d link` alone is enough; addresses, routes, neighbours and the API's pods say whose a device is.
    """
    from netk8s.cli.trace import width
    from netk8s.render import links

    if not dumps:
        from netk8s.errors import CollectError

        raise CollectError("live clusters are not supported yet in this version; give a dump with --dump PATH")
    world = world_of(dumps, streams, node=node, unwrap=unwrap)
    text = links.render(_devices(world, node), format_, world.missing, width=width(streams), ascii=not streams.unicode)
    if format_ == "text":
        streams.print(text)
    else:
        streams.document(text)
    return 0


def _devices(world: World, node: str | None) -> tuple[NodeDevices, ...]:
    """The devices of the nodes that are asked for. Raises NotFound and UsageError."""
    from netk8s import dialects
    from netk8s.errors import NotFound, UsageError
    from netk8s.kernel.attachment import Attachments
    from netk8s.kernel.devices import devices
    from netk8s.kernel.netns import Netns

    if node is not None and node not in world.nodes:
        raise NotFound(f"node {node}", tuple(world.nodes))
    cluster = world.cluster
    virtual = {
        ip for s in cluster.services for ip in (*s.cluster_ips, *s.external_ips, *s.lb_ips) if ip is not None
    } | {server.ip for each in world.nodes.values() for server in each.virtual_servers if server.ip is not None}
    netns = {name: Netns(each) for name, each in world.nodes.items()}
    attached = Attachments.of_cluster(netns, cluster)
    chosen = [netns[node]] if node is not None else list(netns.values())
    found = tuple(
        devices(each, cluster.pods, dialects.devices_of_pods(each.node, cluster), attached, virtual) for each in chosen
    )
    if not any(each.devices or each.loose for each in found):
        raise UsageError("no dump lists devices; give the output of `ip -j -d link` or `ip -d link`")
    return found
