"""``netk8s schema``: the JSON Schema of what the other commands print."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from netk8s.cli import Streams


@click.command("schema", short_help="Print the JSON Schema of a document.")
@click.argument("document", type=click.Choice(["trace", "decode"]))
@click.pass_obj
def command(streams: Streams, document: str) -> int:
    """Print the JSON Schema of what `netk8s trace -o json` or `netk8s decode -o json` prints."""
    import json

    from netk8s.render.decoded import Decoded
    from netk8s.render.document import Document, json_schema

    kind = Document if document == "trace" else Decoded
    streams.document(json.dumps(json_schema(kind), indent=1, ensure_ascii=False) + "\n")
    return 0
