"""``netk8s collect``: a cluster, or one node, as a snapshot to be traced anywhere and at any time."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from netk8s.cli import _live
from netk8s.cli._input import save_option
from netk8s.cli.redact import redacted

if TYPE_CHECKING:
    from netk8s.cli import Streams
    from netk8s.model import Snapshot


@click.command("collect", short_help="Write what a cluster's or a node's kernels hold into a folder or a bundle.")
@click.option("--node-only", is_flag=True, help="This node alone, without the cluster's objects.")
@save_option
@click.option("--node", metavar="NAME", help="The node's name in the cluster; default: this machine's host name.")
@click.option("--namespace-path", metavar="NETNS", help="The network namespace of the node; default: where this runs.")
@click.option("--resume", is_flag=True, help="Take only the nodes that the bundle at PATH does not have yet.")
@click.option("--redact", is_flag=True, help="With other names and addresses, to be shared; see netk8s redact.")
@click.option("--map", "map_path", metavar="FILE", help="With --redact: write what was replaced by what.")
@_live.live_options
@click.pass_obj
def command(
    streams: Streams,
    node_only: bool,
    path: str,
    node: str | None,
    namespace_path: str | None,
    resume: bool,
    redact: bool,
    map_path: str | None,
    cluster: _live.Wanted,
) -> int:
    """Write a snapshot that `netk8s trace --dump PATH` reads: texts, as the field's own tools print them.

    The cluster of the kubeconfig: its objects, and the state of every node by its agent. With --node-only, as root on a
    node, that node. Nothing is changed there. What cannot be taken is said, and is in snapshot.json; a node that could
    not be asked can be taken later, with --resume.
    """
    from netk8s import snapshot
    from netk8s.collect import connection, namespaces
    from netk8s.collect import node as collector
    from netk8s.errors import CollectError, UsageError

    if os.path.lexists(path) and not path.endswith((".tgz", ".tar.gz")):
        raise UsageError(f"{path} is there already; name a folder that is not, or a .tgz file")
    if map_path and not redact:
        raise UsageError("--map is for --redact")
    if redact and resume:
        raise UsageError(
            "--redact draws new names each time, so --resume cannot go on; redact the whole bundle at the end"
        )

    def shown(taken: Snapshot) -> Snapshot:
        return redacted(taken, streams, path, map_path) if redact else taken

    if not node_only:
        if node or namespace_path:
            raise UsageError("--node and --namespace-path are for --node-only")
        return _whole(streams, path, cluster, resume, shown)
    if resume:
        raise UsageError("--resume is for a cluster's bundle, not for --node-only")
    where = namespaces.path_of(namespace_path) if namespace_path else None
    taken = collector.take(node or connection.local_name(), where)
    if not taken.dumps:
        raise CollectError("; ".join(gap.what for gap in taken.missing) or "nothing could be read")
    taken = shown(taken)
    snapshot.save(taken, path)
    for line in _told(taken, path):
        streams.message(f"netk8s: {line}")
    return 0


def _whole(
    streams: Streams, path: str, cluster: _live.Wanted, resume: bool, shown: Callable[[Snapshot], Snapshot]
) -> int:
    """The cluster, node by node. Status 5 when not one node could be taken."""
    from netk8s import snapshot
    from netk8s.errors import UsageError
    from netk8s.model import Snapshot

    before: tuple[Snapshot, ...] = ()
    if resume:
        if not os.path.exists(path):
            raise UsageError(f"there is no {path} to go on with")
        found = snapshot.read([path])
        before = (Snapshot(tuple(d for d in found.dumps if d.node), tuple(g for g in found.missing if g.node)),)
    taken, failed = _live.everything(cluster, streams, before)
    taken = shown(taken)
    snapshot.save(taken, path)
    for line in _told(taken, path):
        streams.message(f"netk8s: {line}")
    if failed:
        streams.message(f"netk8s: {len(failed)} nodes could not be taken; again for them: --resume -o {path}")
    return 5 if not any(dump.node for dump in taken.dumps) else 0


def _told(taken: Snapshot, path: str) -> list[str]:
    lacking = [gap for gap in taken.missing if not gap.absent]
    size = sum(len(dump.data) for dump in taken.dumps)
    lines = [f"{path}: {len(taken.dumps)} texts, {size / 1024:.0f} KiB, {len(lacking)} missing"]
    return lines + [f"missing: {gap.what}: needed for {gap.needed_for}" for gap in lacking]
