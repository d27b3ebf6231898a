"""``netk8s uninstall``: what ``netk8s install`` printed, to be deleted by kubectl."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from netk8s.cli import _manifests

if TYPE_CHECKING:
    from netk8s.cli import Streams


@click.command("uninstall", short_help="Print what install printed, for kubectl delete -f -.")
@click.pass_obj
def command(streams: Streams) -> int:
    """Print every object that any overlay has: netk8s uninstall | kubectl delete --ignore-not-found -f -"""
    documents: dict[str, None] = {}
    for overlay in _manifests.overlays():
        # Overlays differ in the DaemonSet's insides; kubectl deletes by kind and name, and once is enough.
        for document in _manifests.rendered(overlay).split("\n---\n"):
            if "kind: DaemonSet" not in document or overlay == "minimal":
                documents.setdefault(document.strip("\n"))
    streams.document("\n---\n".join(documents) + "\n")
    return 0
