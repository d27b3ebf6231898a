"""``netk8s install``: the agents' manifests, to be read and applied by kubectl."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from netk8s.cli import _manifests

if TYPE_CHECKING:
    from netk8s.cli import Streams


@click.command("install", short_help="Print the manifests of the agents, for kubectl apply -f -.")
@click.option(
    "--overlay",
    metavar="NAME",
    default="minimal",
    show_default=True,
    help=f"One of {', '.join(_manifests.overlays())}.",
)
@click.option("--image", metavar="IMAGE", default=_manifests.IMAGE, show_default=True, help="The agent's image.")
@click.pass_obj
def command(streams: Streams, overlay: str, image: str) -> int:
    """Print the DaemonSet of the agents with its rights: netk8s install | kubectl apply -f -

    \b
    Who may trace:
      kubectl -n netk8s create rolebinding NAME --role=netk8s-user --user=USER
      kubectl create clusterrolebinding NAME --clusterrole=netk8s-viewer --user=USER
    """
    from netk8s.errors import UsageError

    if overlay not in _manifests.overlays():
        raise UsageError(f"there is no overlay {overlay}", _manifests.overlays())
    try:
        streams.document(_manifests.rendered(overlay, image))
    except ValueError:
        raise UsageError(f"--image {image}: expected a name as registry/name:tag or name@sha256:…") from None
    return 0
