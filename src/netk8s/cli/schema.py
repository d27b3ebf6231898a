"""``netk8s schema``: the JSON Schema of what the other commands print."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from netk8s.cli import Streams


DOCUMENTS = {
    "trace": ("netk8s.render.document", "Document"),
    "decode": ("netk8s.render.decoded", "Decoded"),
    "check": ("netk8s.render.check.document", "Checked"),
    "compare": ("netk8s.render.compared", "Compared"),
    "diff": ("netk8s.render.diffed", "Diffed"),
    "watch": ("netk8s.render.watched", "Watched"),
    "links": ("netk8s.render.links", "Links"),
}
"""What can be asked for: the module and the type that a command's document is made of."""


@click.command("schema", short_help="Print the JSON Schema of a document.")
@click.argument("document", type=click.Choice(list(DOCUMENTS)))
@click.pass_obj
def command(streams: Streams, document: str) -> int:
    """Print the JSON Schema of what a command (`netk8s trace`, …) prints with `-o json`."""
    import json
    from importlib import import_module

    from netk8s.render.document import json_schema

    module, name = DOCUMENTS[document]
    kind = getattr(import_module(module), name)
    streams.document(json.dumps(json_schema(kind), indent=1, ensure_ascii=False) + "\n")
    return 0
