"""``netk8s trace``: one packet's ways, from the question to the printed answer."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from netk8s import render
from netk8s.cli import _live
from netk8s.cli._input import dump_options, world_of
from netk8s.errors import UsageError

if TYPE_CHECKING:
    from netk8s.cli import Streams
    from netk8s.model import Ask, Report, Request

TEXT_WIDTH = 100
"""Text is never wider than this, however wide the terminal is: longer lines are hard to read."""

_FOR_PEOPLE = ("text", "wide")


@click.command("trace", short_help="Follow a packet to every endpoint it may reach.")
@click.argument("target", shell_complete=_live.completed)
@click.option(
    "--port", metavar="PORT", help="The port that is dialled: a NodePort, a Service port (number or name), a hostPort."
)
@click.option(
    "--protocol",
    type=click.Choice(["tcp", "udp", "sctp"], case_sensitive=False),
    help="Default: the port's own, else tcp.",
)
@click.option(
    "--from",
    "source",
    metavar="SOURCE",
    help="client (outside the cluster), an IP or IP:PORT, pod/NAMESPACE/NAME or node/NAME.",
)
@click.option(
    "--sport",
    type=click.IntRange(1, 65535),
    help="The source port: the packet is one of a tracked connection if a conntrack dump lists it, else a first one.",
)
@click.option(
    "--family",
    type=click.Choice(["4", "6", "both"]),
    help="IPv4, IPv6, or each by itself. Default: the sender's, else the first that the target has.",
)
@click.option("--host", metavar="HOST", help="The Host of a request to an Ingress or Gateway. Default: its only one.")
@click.option("--path", metavar="PATH", help="The path of that request, with its query if it has one.")
@click.option("--method", default="GET", metavar="METHOD", help="The method of that request. Default: GET.")
@click.option(
    "--header", "headers", metavar="NAME:VALUE", multiple=True, help="A header of that request; may be repeated."
)
@click.option("--name", metavar="NAME", help="With the target dns: the name that the pod looks up.")
@click.option("--via", metavar="NODE", help="The node an outside packet enters at, where its address does not say so.")
@click.option(
    "--dump",
    "dumps",
    metavar="PATH",
    multiple=True,
    help="A dump, a folder or archive of dumps, or - for standard input; may be repeated. Default: the cluster itself.",
)
@dump_options
@_live.live_options
@click.option(
    "--enter-pods",
    is_flag=True,
    help="Have the agents look into the network namespaces of the pods at both ends, where they may.",
)
@click.option("-n", "--namespace", metavar="NAMESPACE", help="The namespace of a TARGET without one.")
@click.option(
    "-o",
    "--output",
    "format_",
    type=click.Choice(render.formats()),
    default="text",
    show_default=True,
    help="How to print the answer.",
)
@click.option(
    "--color",
    type=click.Choice(["auto", "always", "never"]),
    default="auto",
    show_default=True,
    help="Colour; auto: on a terminal, unless NO_COLOR is set.",
)
@click.pass_obj
def command(
    streams: Streams,
    target: str,
    port: str | None,
    protocol: str | None,
    source: str | None,
    sport: int | None,
    family: str | None,
    host: str | None,
    path: str | None,
    method: str,
    headers: tuple[str, ...],
    name: str | None,
    via: str | None,
    dumps: tuple[str, ...],
    node: str | None,
    unwrap: bool,
    namespace: str | None,
    format_: str,
    color: str,
    enter_pods: bool,
    cluster: _live.Wanted,
) -> int:
    """Follow a packet to TARGET: to every endpoint it may reach, with the odds of each, the source address that
    the endpoint sees, and the rule that rewrote it.

    \b
    TARGET is one of
      svc/NAME, svc/NAMESPACE/NAME   a Service; --port says which port
      pod/NAMESPACE/NAME, node/NAME  with --port
      IP:PORT, [IPv6]:PORT           an address
      ingress/NAME                   a request to an Ingress, and what its controller sends on
      gateway/NAME, httproute/NAME   the same by the Gateway API
      dns                            a pod's (--from) DNS query; --name says what it looks up

    Without --dump the cluster of the kubeconfig is asked: its objects, and the agents of the nodes on the way.

    \b
    Exit status
      0  every outcome is delivered, and no finding is an error
      1  some outcome is not delivered, or a finding is an error
      2  usage                 4  the target was not found
      3  unreadable input      5  the cluster could not be reached
      6  the answer is not known
    """
    from netk8s.model import Ask

    ask = Ask(
        target, port, protocol and protocol.lower(), source, via, node, namespace, sport, family,
        _request(target, host, path, method, headers), name,
    )  # fmt: skip
    if name is not None and target != "dns":
        raise UsageError("--name goes with the target dns")
    if dumps:
        report = answer(ask, dumps, streams, unwrap=unwrap)
    else:
        if enter_pods and cluster.agentless:
            raise UsageError("--enter-pods takes agents that run with more rights: it does not go with --agentless")
        report = _live.answer(ask, replace(cluster, enter_pods=enter_pods), streams)
    people = format_ in _FOR_PEOPLE
    text = render.render(
        report,
        format_,
        color=people and colored(streams, color),
        width=width(streams),
        ascii=people and not streams.unicode,
    )
    if people:
        streams.print(text)
    else:
        streams.document(text)
    return exit_status(report)


def _request(target: str, host: str | None, path: str | None, method: str, headers: Sequence[str]) -> Request:
    """The request of the options. Raises UsageError for a target that takes none, and for a header without a colon."""
    from netk8s.model import Request

    if target.partition("/")[0] not in ("ingress", "ing", "gateway", "gtw", "httproute"):
        if host is not None or path is not None or headers or method != "GET":
            raise UsageError(
                "--host, --path, --method and --header go with ingress/NAME, gateway/NAME or httproute/NAME"
            )
        return Request()
    if path is not None and not path.startswith("/"):
        raise UsageError(f"--path {path}: a path begins with /")
    split = [header.partition(":") for header in headers]
    if not all(colon and named.strip() for named, colon, _ in split):
        raise UsageError("--header is NAME:VALUE")
    return Request(host, path, method.upper(), tuple((named.strip(), value.strip()) for named, _, value in split))


def answer(ask: Ask, dumps: Sequence[str], streams: Streams, *, unwrap: bool) -> Report:
    """The whole walk: texts, facts, the question, the ways, their meaning, the findings."""
    from netk8s import journey

    return journey.answer(world_of(dumps, streams, node=ask.node, unwrap=unwrap), ask)


def exit_status(report: Report) -> int:
    """0: all delivered and no error; 1: not so; 6: not known, whatever else is."""
    traces = (report.trace, *(leg.trace for leg in report.legs))
    verdicts = {outcome.verdict for trace in traces for outcome in trace.outcomes}
    if not verdicts or "unknown" in verdicts:
        return 6
    failed = verdicts != {"delivered"} or any(finding.severity == "error" for finding in report.findings)
    return 1 if failed else 0


def colored(streams: Streams, wish: str) -> bool:
    """Colour on a terminal only, and not where the user or the terminal does without (https://no-color.org)."""
    if wish != "auto":
        return wish == "always"
    return streams.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def width(streams: Streams) -> int:
    """The columns to fill: those of a narrow terminal, else as many as read well."""
    if not streams.stdout.isatty():
        return TEXT_WIDTH
    return min(TEXT_WIDTH, shutil.get_terminal_size((TEXT_WIDTH, 24)).columns)
