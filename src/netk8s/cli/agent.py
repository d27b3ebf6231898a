"""``netk8s agent``: the process that a DaemonSet runs on every node."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from netk8s.cli import Streams

SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"


@click.command("agent", short_help="Hand out this node's state to those who may have it (for the DaemonSet).")
@click.option("--node", metavar="NAME", envvar="NODE_NAME", help="The node's name in the cluster; default: $NODE_NAME.")
@click.option("--listen", metavar="IP:PORT", default="[::]:9797", show_default=True, help="Port 0: any that is free.")
@click.option("--namespace-path", metavar="NETNS", help="The network namespace of the node; default: where this runs.")
@click.option("--api-server", metavar="URL", help="Default: the cluster's own, as every pod knows it.")
@click.option("--token-file", metavar="FILE", default=f"{SERVICE_ACCOUNT}/token", show_default=True)
@click.option("--ca-file", metavar="FILE", default=f"{SERVICE_ACCOUNT}/ca.crt", show_default=True)
@click.option(
    "--accept",
    metavar="SHA256",
    help="Take the one token with this digest (hexadecimal), and ask no API server: for trace --agentless.",
)
@click.option(
    "--pods",
    "enter",
    is_flag=True,
    help="Enter the network namespaces of pods that are asked for: takes SYS_ADMIN, SYS_PTRACE and hostPID.",
)
@click.option(
    "--events",
    "tells",
    is_flag=True,
    help="Write errors and warnings of checks as Events of the node: takes create and patch of events in default.",
)
@click.pass_obj
def command(
    streams: Streams,
    node: str | None,
    listen: str,
    namespace_path: str | None,
    api_server: str | None,
    token_file: str,
    ca_file: str,
    accept: str | None,
    enter: bool,
    tells: bool,
) -> int:
    """Answer GET /v1/snapshot, POST /v1/trace and POST /v1/check over HTTPS, for tokens that the API server knows and
    that may `get snapshots.netk8s.dev`; /healthz, /readyz, /metrics beside them.

    Nothing on the node is changed. See docs/threat-model.md.
    """
    import asyncio
    import gc
    import logging
    import signal
    from functools import partial

    from netk8s.collect import connection, namespaces
    from netk8s.collect.kept import Kept
    from netk8s.collect.kept import pods as entered_pods
    from netk8s.errors import CollectError, UsageError

    try:
        from netk8s.agent import access, memory, server
        from netk8s.agent.certificate import Certificate
        from netk8s.agent.events import Events
        from netk8s.agent.holding import Holding
    except ImportError as error:
        raise CollectError(f"the agent needs {error.name}: pip install 'netk8s[agent]'") from None
    name = node or connection.local_name()
    host, port = _place(listen)
    where = namespaces.path_of(namespace_path) if namespace_path else None
    reviews: access.Decides
    told: Events | None = None
    if accept is not None and tells:
        raise UsageError(
            "--accept and --events: an agent that takes one token asks no API server, so it tells it nothing"
        )
    if accept is not None:
        if not re.fullmatch("[0-9a-fA-F]{64}", accept):
            raise UsageError("--accept: expected 64 hexadecimal digits, the SHA-256 digest of a token")
        reviews, asked = access.OneToken(accept), "one token, no API server"
    else:
        url = api_server or _inside()
        try:
            api = access.ApiServer(url, token_file, ca_file)
            reviews, asked = access.Reviews(api), f"API server {url}"
            told = Events(name, api.send) if tells else None
        except OSError as error:
            raise UsageError(f"--ca-file {ca_file}: {error.strerror or error}") from None
    # The command line does without, as it is over after one question; this one stays.
    gc.enable()
    memory.map_large()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=streams.stderr)

    async def run(kept: Kept) -> None:
        pods = partial(entered_pods, name, path=where) if enter else None
        agent = server.Agent(name, Holding(kept.since), reviews, pods=pods, events=told)
        certificate = Certificate((name, *([host] if host not in ("::", "0.0.0.0") else [])))  # noqa: S104
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)

        def ready(at: int) -> None:
            server.LOG.info("node %s, port %d, %s", name, at, asked)

        await server.serve(agent, host, port, certificate, stop, ready)

    try:
        with Kept(name, where) as kept:
            asyncio.run(run(kept))
    except OSError as error:
        raise CollectError(f"cannot listen on {listen}: {error.strerror or error}") from None
    return 0


def _place(text: str) -> tuple[str, int]:
    from netk8s.errors import UsageError

    host, _, port = text.rpartition(":")
    if not port.isdecimal() or int(port) > 65535 or not host:
        raise UsageError(f"--listen {text}: expected IP:PORT or [IPv6]:PORT")
    return host.strip("[]"), int(port)


def _inside() -> str:
    """The API server as the kubelet tells every container."""
    from netk8s.errors import UsageError

    host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        raise UsageError("this is no pod: name the API server with --api-server")
    return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
