"""``netk8s redact``: a snapshot that can be shown to others."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import click

from netk8s.cli._input import save_option

if TYPE_CHECKING:
    from netk8s.cli import Streams
    from netk8s.model import Snapshot


@click.command("redact", short_help="Replace names and addresses in dumps, so that they can be shared.")
@click.argument("dumps", metavar="DUMP...", nargs=-1, required=True)
@save_option
@click.option("--node", metavar="NAME", help="The name of the node that a single file was taken on.")
@click.option("--map", "map_path", metavar="FILE", help="Write what was replaced by what. Keep it to yourself.")
@click.pass_obj
def command(streams: Streams, dumps: tuple[str, ...], path: str, node: str | None, map_path: str | None) -> int:
    """Write DUMP with other names and addresses, the same in every file: subnets stay subnets, packets take the same way.

    The key is random and is not kept; only --map leads back. See docs/threat-model.md for what still shows.
    """
    from netk8s import snapshot

    taken = redacted(snapshot.read(dumps, node=node, stdin=streams.stdin), streams, path, map_path)
    snapshot.save(taken, path)
    streams.message(f"netk8s: {path}: {len(taken.dumps)} texts; look through it before you share it")
    return 0


def redacted(taken: Snapshot, streams: Streams, path: str, map_path: str | None) -> Snapshot:
    """The snapshot in other words, with the map beside it if one is asked for. Raises UsageError and DecodeError."""
    from netk8s import redact
    from netk8s.errors import UsageError

    if map_path is not None and os.path.abspath(map_path).startswith(os.path.join(os.path.abspath(path), "")):
        raise UsageError(f"--map {map_path} lies in what is to be shared; name a file elsewhere")
    if os.path.lexists(path) and not path.endswith((".tgz", ".tar.gz")):
        raise UsageError(f"{path} is there already; name a folder that is not, or a .tgz file")
    done = redact.redact(taken)
    for line in done.left_out:
        streams.message(f"netk8s: left out: {line}")
    if map_path is not None:
        text = json.dumps({"names": dict(done.names), "addresses": dict(done.addresses)}, indent=1, sort_keys=True)
        try:
            # Nobody else's to read, and never over a file that is there.
            with os.fdopen(os.open(map_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(text + "\n")
        except OSError as error:
            raise UsageError(f"cannot write {map_path}: {error.strerror}") from None
    return done.snapshot
