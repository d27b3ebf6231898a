"""``netk8s collect``: the state of a node as a snapshot, to be traced anywhere and at any time."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from netk8s.cli import Streams
    from netk8s.model import Snapshot


@click.command("collect", short_help="Write what this node's kernel holds into a folder or a bundle.")
@click.option("--node-only", is_flag=True, help="This node alone, without the cluster's objects.")
@click.option(
    "-o",
    "--output",
    "path",
    metavar="PATH",
    required=True,
    help="A folder that is not there yet, or a bundle: NAME.tgz.",
)
@click.option("--node", metavar="NAME", help="The node's name in the cluster; default: this machine's host name.")
@click.option("--namespace-path", metavar="NETNS", help="The network namespace of the node; default: where this runs.")
@click.pass_obj
def command(streams: Streams, node_only: bool, path: str, node: str | None, namespace_path: str | None) -> int:
    """Write a snapshot that `netk8s trace --dump PATH` reads: texts, as the field's own tools print them.

    Run it as root on a node. It changes nothing there. What it cannot take it says, and so does snapshot.json.
    """
    from netk8s import snapshot
    from netk8s.collect import connection, namespaces
    from netk8s.collect import node as collector
    from netk8s.errors import CollectError, UsageError

    if not node_only:
        raise UsageError("only this node can be collected so far: give --node-only")
    if os.path.lexists(path) and not path.endswith((".tgz", ".tar.gz")):
        raise UsageError(f"{path} is there already; name a folder that is not, or a .tgz file")
    where = namespaces.path_of(namespace_path) if namespace_path else None
    taken = collector.take(node or connection.local_name(), where)
    if not taken.dumps:
        raise CollectError("; ".join(gap.what for gap in taken.missing) or "nothing could be read")
    snapshot.save(taken, path)
    for line in _told(taken, path):
        streams.message(f"netk8s: {line}")
    return 0


def _told(taken: Snapshot, path: str) -> list[str]:
    lacking = [gap for gap in taken.missing if not gap.absent]
    size = sum(len(dump.data) for dump in taken.dumps)
    lines = [f"{path}: {len(taken.dumps)} texts, {size / 1024:.0f} KiB, {len(lacking)} missing"]
    return lines + [f"missing: {gap.what}: needed for {gap.needed_for}" for gap in lacking]
