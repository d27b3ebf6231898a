"""``netk8s watch``: checks again when something changes, and prints what is new."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import TYPE_CHECKING

import click

from netk8s.cli import _live, _parts
from netk8s.cli._input import dump_options, world_of

if TYPE_CHECKING:
    from netk8s.checkup import Checkup
    from netk8s.cli import Streams

LOOK = 0.5
"""Seconds between two looks at the files."""


@click.command("watch", short_help="Check again on every change, and print what is new.")
@click.argument("dumps", metavar="[DUMP]...", nargs=-1)
@click.option(
    "--service", "services", metavar="NAME", multiple=True,
    help="Only this Service ([NAMESPACE/]NAME); may be repeated.",
)  # fmt: skip
@click.option(
    "--severity", type=click.Choice(["error", "warning", "info"]), default="warning", show_default=True,
    help="Only findings at least so severe.",
)  # fmt: skip
@click.option(
    "--every", type=click.FloatRange(min=5), metavar="SECONDS", default=60.0, show_default=True,
    help="Without DUMP: how long to wait before the cluster is asked again.",
)  # fmt: skip
@click.option(
    "--settle", type=click.FloatRange(min=0), metavar="SECONDS", default=1.0, show_default=True,
    help="With DUMP: how long the files have to stay as they are before they are read.",
)  # fmt: skip
@click.option(
    "--beside/--here", "beside", default=None,
    help="Without DUMP: who checks, as with netk8s check. By --beside, nodes that come, go or do not answer for a while are "
    f"no changes. Default: --beside beyond {_parts.MOST_HERE} nodes.",
)  # fmt: skip
@click.option("--once", is_flag=True, help="End after the first change that is worth telling.")
@dump_options
@_live.live_options
@click.option(
    "-o", "--output", "format_", type=click.Choice(["text", "json"]), default="text", show_default=True,
    help="How to print it; json is a line for each change.",
)  # fmt: skip
@click.pass_obj
def command(
    streams: Streams, dumps: tuple[str, ...], services: tuple[str, ...], severity: str, every: float, settle: float,
    beside: bool | None, once: bool, node: str | None, unwrap: bool, format_: str, cluster: _live.Wanted,
) -> int:  # fmt: skip
    """Check DUMP (files, a folder, an archive) and again whenever its files change; without DUMP the cluster of the
    kubeconfig, and again every so many seconds. Prints how things stand, then only what is new: findings that come and
    go, flows that come out differently, Services. What cannot be read for a while is told once and tried again.

    Ctrl-C ends it. The exit status is that of netk8s check for the last state.

    \b
    Exit status
      0  no finding is an error           4  the Service was not found
      1  some finding is an error         5  the cluster could not be reached at the beginning
      2  usage                            6  no error, but some answer is not known
      3  unreadable input at the beginning
    """
    from netk8s.cli.check import exit_status
    from netk8s.errors import UsageError
    from netk8s.news import news

    if "-" in dumps:
        raise UsageError("standard input cannot be watched; give the path of a file or folder")

    # What an earlier state was made of has to go: this process asks more than one question.
    gc.enable()
    with _live.ended_by_signals(lambda: None):
        last: Checkup | None = None
        try:
            rounds = changed(lambda: fingerprint(dumps), settle) if dumps else _ticks(every)
            state = _states(streams, dumps, services, node, unwrap, cluster, beside)
            for found, after, before in _checked(streams, rounds, state, severity):
                last = found
                new = None if before is None else news(before, after)
                if new is None or new:
                    _show(streams, found, new, format_)
                if once and new:
                    break
        except KeyboardInterrupt:
            if last is None:
                raise
    # `rounds` never ends by itself, so there was a first one.
    return exit_status(last) if last is not None else 0


_State = tuple["Checkup", "Checkup", "Checkup | None"]
"""How things are; and, of what can be held against each other, how they are and were, None for that at the beginning."""


def _states(
    streams: Streams, dumps: Sequence[str], services: Sequence[str], node: str | None, unwrap: bool,
    cluster: _live.Wanted, beside: bool | None,
) -> Callable[[], _State]:  # fmt: skip
    """What gives the state of now, each time that it is called."""
    from netk8s import checkup
    from netk8s.cli._services import ports_of

    server = None if dumps else _parts.server_beside(cluster, beside)
    if server is not None:
        return _parts.Rounds(server, cluster, streams, services).next
    last: Checkup | None = None

    def here() -> _State:
        nonlocal last
        world = world_of(dumps, streams, node=node, unwrap=unwrap) if dumps else _live.world(cluster, streams)
        before, last = last, checkup.check(world, lambda ports: ports_of(ports, services))
        return last, last, before

    return here


def _checked(streams: Streams, rounds: Iterator[None], state: Callable[[], _State], severity: str) -> Iterator[_State]:
    """The state in each round that could be read. The first has to be."""
    from netk8s import checkup
    from netk8s.errors import Netk8sError

    first, told = True, ""
    for _ in rounds:
        try:
            now, after, before = state()
        except Netk8sError as error:
            if first:
                raise
            if str(error) != told:
                streams.message(f"netk8s: {error}; waiting for the next change")
            told = str(error)
            continue
        first, told = False, ""
        was = None if before is None else checkup.only(before, severity=severity)
        yield checkup.only(now, severity=severity), checkup.only(after, severity=severity), was


def _show(streams: Streams, found: Checkup, new: object, format_: str) -> None:
    from datetime import UTC, datetime

    from netk8s.cli.trace import width
    from netk8s.news import News
    from netk8s.render import watched

    since = new if isinstance(new, News) else None
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    if format_ == "json":
        streams.document(watched.as_json(found, since, now))
    else:
        streams.print(watched.as_text(found, since, now, width=width(streams), ascii=not streams.unicode))
    streams.stdout.flush()


def _ticks(every: float) -> Iterator[None]:
    while True:
        yield None
        time.sleep(every)


def changed(look: Callable[[], Hashable], settle: float, sleep: Callable[[float], None] = time.sleep) -> Iterator[None]:
    """Once at the beginning, then after each change that has come to rest for ``settle`` seconds.

    ``look`` gives what differs when something changed.
    """
    seen = look()
    yield None
    while True:
        sleep(LOOK)
        now = look()
        if now == seen:
            continue
        rest = 0.0
        while rest < settle:
            sleep(LOOK)
            later = look()
            rest = rest + LOOK if later == now else 0.0
            now = later
        if now != seen:
            seen = now
            yield None


def fingerprint(paths: Sequence[str]) -> Hashable:
    """What the files at these paths and in these folders look like from outside: names, sizes, times."""
    found: list[tuple[object, ...]] = []
    for path in paths:
        if not os.path.isdir(path):
            found.append(_looks(path))
            continue
        for folder, names, files in os.walk(path):
            names.sort()
            found += (_looks(os.path.join(folder, name)) for name in sorted(files))
    return tuple(found)


def _looks(path: str) -> tuple[object, ...]:
    try:
        info = os.stat(path)
    except OSError:
        return (path, None)
    return (path, info.st_ino, info.st_size, info.st_mtime_ns)
