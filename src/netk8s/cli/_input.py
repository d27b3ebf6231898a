"""From ``--dump`` to a decoded world: the words and the steps that all offline commands share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from netk8s.cli import Streams
    from netk8s.model import World

F = TypeVar("F", bound=Callable[..., Any])

_NODE = "Which node of the dump to start at; also the name of the node that a single file was taken on."
_UNWRAP = "Join lines that were wrapped when the dump was pasted somewhere."


def dump_options(function: F) -> F:
    """``--node`` and ``--unwrap``."""
    function = click.option("--unwrap", is_flag=True, help=_UNWRAP)(function)
    return click.option("--node", metavar="NAME", help=_NODE)(function)


def difference_options(function: F) -> F:
    """``--service``, ``--node``, ``--unwrap`` and ``-o`` of the commands that show what differs."""
    output = click.option(
        "-o", "--output", "format_", type=click.Choice(["text", "json", "yaml"]), default="text", show_default=True,
        help="How to print it.",
    )  # fmt: skip
    service = click.option(
        "--service", "services", metavar="NAME", multiple=True,
        help="Ask only the flows of this Service ([NAMESPACE/]NAME); may be repeated.",
    )  # fmt: skip
    return service(dump_options(output(function)))


def save_option(function: F) -> F:
    """``-o`` of the commands that write a snapshot."""
    help_ = "A folder that is not there yet, or a bundle: NAME.tgz."
    return click.option("-o", "--output", "path", metavar="PATH", required=True, help=help_)(function)


def known_node(node: str, names: Iterable[str]) -> None:
    """Raises NotFound, with the nearest names, for a node that is none of these."""
    from difflib import get_close_matches

    from netk8s.errors import NotFound

    names = tuple(names)
    if node not in names:
        raise NotFound(f"node {node}", get_close_matches(node, names, n=5, cutoff=0.3))


def world_of(paths: Sequence[str], streams: Streams, *, node: str | None, unwrap: bool) -> World:
    """What the dumps say. Raises DecodeError."""
    from netk8s import decode, dialects, snapshot

    world = decode.decode(snapshot.read(paths, node=node, stdin=streams.stdin), unwrap=unwrap)
    if world.unread:
        more = f" and {len(world.unread) - 1} more" if len(world.unread) > 1 else ""
        them = "them" if more else "it"
        streams.message(
            f"netk8s: {world.unread[0]}{more}: not a format netk8s knows (is the content damaged?); "
            f"the answer is given without {them}"
        )
    return dialects.complete(world)
