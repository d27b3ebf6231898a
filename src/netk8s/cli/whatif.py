"""``netk8s whatif``: which flows would come out differently if something were changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from netk8s.cli._input import difference_options

if TYPE_CHECKING:
    from netk8s.cli import Streams

_CHANGES = (
    ("--external-policy", "external", "SERVICE=POLICY", "Its externalTrafficPolicy is Cluster or Local."),
    ("--internal-policy", "internal", "SERVICE=POLICY", "Its internalTrafficPolicy is Cluster or Local."),
    ("--affinity", "affinity", "SERVICE=AFFINITY", "Its sessionAffinity is None, ClientIP or ClientIP:SECONDS."),
    ("--no-endpoint", "endpoints", "IP[:PORT]", "This endpoint is gone, from every Service."),
    ("--no-pod", "pods", "NAMESPACE/NAME", "This pod is gone, with its endpoints."),
    ("--drain", "drained", "NODE", "The pods of this node are gone, and start nowhere else."),
    ("--sysctl", "sysctls", "[NODE:]NAME=VALUE", "This setting, on one node or on all that have it."),
    (
        "--rule",
        "rules",
        "'[NODE:] RULE'",
        "-A, -I or -D, a chain and a rule, as for iptables (-t TABLE, ip6tables first), or a command of nft "
        "(add, insert, delete rule; add chain, table).",
    ),
)


def _changes(function: Callable[..., Any]) -> Callable[..., Any]:
    for option, name, metavar, text in reversed(_CHANGES):
        function = click.option(option, name, metavar=metavar, multiple=True, help=text)(function)
    return function


@click.command("whatif", short_help="Show which flows would differ if something were changed.")
@click.argument("dumps", metavar="DUMP...", nargs=-1, required=True)
@_changes
@difference_options
@click.pass_obj
def command(
    streams: Streams, /, dumps: tuple[str, ...], services: tuple[str, ...], node: str | None, unwrap: bool, format_: str,
    **changes: tuple[str, ...],
) -> int:  # fmt: skip
    """Change something in a snapshot and show which flows come out differently then, as netk8s diff does: A is the
    snapshot as it is, B as it would be. Every change may be repeated. Nothing but the copy in memory is changed.

    A Service's change is written into the nodes' rules as kube-proxy writes it, on each node in its own mode: iptables
    (1.25 and later), nftables or IPVS. Where the rules are not what it writes for the present state, what it would
    write is not known.

    \b
    Exit status
      0  no flow differs                  4  a Service, pod, endpoint, node, setting, chain or rule
      1  some flow differs                   was not found
      2  usage                            6  it is not known which rules there would be, or none
      3  unreadable input                    differs and some answer is not known
    """
    from netk8s import dialects, snapshot, whatif
    from netk8s.cli.diff import difference, show
    from netk8s.errors import UsageError

    if not any(changes.values()):
        raise UsageError("nothing is to be changed", [option for option, *_ in _CHANGES])
    wanted = whatif.Wanted(**changes)
    found = whatif.whatif(snapshot.read(dumps, node=node, stdin=streams.stdin), wanted, unwrap=unwrap)
    for note in found.notes:
        streams.message(f"netk8s: {note}")
    worlds = (dialects.complete(found.before), dialects.complete(found.after))
    outcomes, facts = difference(streams, worlds, services)
    name = ", ".join(dumps)
    words = " ".join(f"{option} {_quoted(text)}" for option, field, *_ in _CHANGES for text in changes[field])
    show(streams, outcomes, facts, (name, f"{name} with {words}"), format_)
    if outcomes.flows:
        return 1
    return 6 if outcomes.unknown else 0


def _quoted(text: str) -> str:
    import shlex

    return shlex.quote(text)
