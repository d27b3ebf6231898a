"""The command line: the only place that prints or exits.

A subcommand is a module of this package with ``command``, a click command that returns the exit status. Only
click is imported here, and a subcommand imports what it needs when it runs: ``netk8s --help`` has to be quick.
"""

from __future__ import annotations

import atexit
import errno
import gc
import os
import pkgutil
import sys
import threading
from collections.abc import Iterable, Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from importlib import import_module
from typing import BinaryIO, NoReturn, TextIO, cast

import click

from netk8s import __version__
from netk8s.errors import Netk8sError, NotFound, UsageError

INTERNAL_ERROR, NOT_WRITTEN, INTERRUPTED = 70, 74, 130
"""The first two as sysexits.h has them (EX_SOFTWARE, EX_IOERR)."""
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})


@dataclass(frozen=True, slots=True)
class Streams:
    """Where a command reads and prints; click's context carries it as ``obj``."""

    stdin: BinaryIO | None
    stdout: TextIO
    stderr: TextIO

    @property
    def unicode(self) -> bool:
        """Whether the output can show more than ASCII."""
        try:
            "→├─…".encode(self.stdout.encoding or "utf-8")
        except (UnicodeEncodeError, LookupError):
            return False
        return True

    def print(self, text: str) -> None:
        """Text for people, in whatever encoding the output has. ``text`` ends with its line feed."""
        encoding = self.stdout.encoding
        if encoding:
            text = text.encode(encoding, "backslashreplace").decode(encoding)
        self.stdout.write(text)

    def document(self, text: str) -> None:
        """Text for programs: UTF-8, whatever the terminal's encoding is."""
        self.documents((text,))

    def documents(self, parts: Iterable[str]) -> None:
        """One :meth:`document` in parts, each written before the next is made."""
        raw = getattr(self.stdout, "buffer", None)
        self.stdout.flush()
        for part in parts:
            if raw is None:
                self.stdout.write(part)
            else:
                raw.write(part.encode())
        if raw is not None:
            raw.flush()

    def message(self, text: str) -> None:
        """One line to standard error: messages of errors quote inputs, which may hold anything."""
        for line in text.splitlines() or [""]:
            clean = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
            encoding = self.stderr.encoding or "utf-8"
            self.stderr.write(clean.encode(encoding, "backslashreplace").decode(encoding) + "\n")


class Commands(click.Group):
    """The subcommands by the files that are there, imported when one is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(info.name for info in pkgutil.iter_modules(__path__) if not info.name.startswith("_"))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        return cast(click.Command, import_module(f"{__name__}.{cmd_name}").command)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, message="netk8s %(version)s")
def cli() -> None:
    """Where does this packet go, who changed its source address, and why does it not arrive?

    netk8s answers from what a node's kernel really holds: rules, routes and addresses, as iptables-save, ip and
    kubectl print them.

    \b
      netk8s trace svc/nginx --port 30000 --dump node.iptables-save
      netk8s decode node.iptables-save
      netk8s explain NK101
    """


def run(
    argv: Sequence[str],
    stdout: TextIO | None = None,
    stderr: TextIO | None = None,
    stdin: BinaryIO | None = None,
) -> int:
    """Run one command line and return its exit status. Nothing is printed elsewhere, no exception gets out."""
    streams = Streams(stdin, stdout or sys.stdout, stderr or sys.stderr)
    try:
        # click prints its help and version to sys.stdout. Its own main() would deal with a closed pipe and with
        # Ctrl-C in ways of its own, so the context is made and invoked here.
        with redirect_stdout(streams.stdout), redirect_stderr(streams.stderr):
            with cli.make_context("netk8s", list(argv), obj=streams) as context:
                status = cli.invoke(context)
            streams.stdout.flush()
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.ClickException as error:
        return _usage(streams, error)
    except Netk8sError as error:
        return _said(streams, error)
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output has seen enough (netk8s … | head). Python would complain once more at its end.
        _silence(streams.stdout)
        return 141
    except OSError as error:
        if error.errno not in _NO_ROOM or error.filename is not None:
            return _internal(streams, error)
        _silence(streams.stdout)
        streams.message(f"netk8s: the output could not be written whole: {error.strerror}")
        return NOT_WRITTEN
    except Exception as error:
        return _internal(streams, error)
    return status if isinstance(status, int) else 0


def main() -> None:
    """The entry point ``netk8s``."""
    # One question and the process is over: collecting cycles among a cluster's objects takes longer than reading them.
    gc.disable()
    if "_NETK8S_COMPLETE" in os.environ:
        cli.main(prog_name="netk8s")  # click's shell completion, which prints and exits
    try:
        status = run(sys.argv[1:], stdin=getattr(sys.stdin, "buffer", None))
        sys.stdout.flush()
    except BrokenPipeError:
        _silence(sys.stdout)
        status = 141
    except KeyboardInterrupt:
        status = INTERRUPTED
    _end(status)


def _end(status: int) -> NoReturn:
    """End the process without taking a large cluster's objects apart one by one, which the kernel does at once.

    What others registered for the end is run, and other threads are waited for, as Python's own end does.
    """
    with suppress(OSError, ValueError):
        sys.stderr.flush()
    if sys.flags.inspect or threading.active_count() > 1:
        sys.exit(status)
    atexit._run_exitfuncs()
    os._exit(status)


def _usage(streams: Streams, error: click.ClickException) -> int:
    """A command line that click does not accept."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "netk8s"
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        streams.print(f"{error.format_message()}\n")
        return 2
    streams.message(f"netk8s: {_lower(error.format_message())}")
    streams.message(f"see `{path} --help`")
    return 2


def _lower(text: str) -> str:
    """click begins its messages with a capital and ends them with a full stop; ours are one form."""
    text = " ".join(text.split())
    return text[:1].lower() + text[1:].removesuffix(".")


def _said(streams: Streams, error: Netk8sError) -> int:
    """An error of netk8s' own: one line, and the choices below it."""
    candidates: tuple[str, ...] = ()
    text = str(error)
    if isinstance(error, NotFound | UsageError):
        candidates = error.candidates
    if candidates:
        listed = ", ".join(candidates)
        text = text.removesuffix(listed).rstrip(" :;")
        if text.endswith("; nearest"):
            text = text.removesuffix("; nearest")
    # A message may quote its input: a line feed in it must not look like one of ours.
    streams.message(f"netk8s: {' '.join(text.split())}")
    if candidates:
        streams.message("nearest:" if isinstance(error, NotFound) else "choices:")
        for candidate in candidates:
            streams.message(f"  {' '.join(candidate.split())}")
    return error.exit_status


def _internal(streams: Streams, error: Exception) -> int:
    """A bug of netk8s, never the user's fault."""
    if os.environ.get("NETK8S_DEBUG") == "1":
        import traceback

        streams.stderr.write("".join(traceback.format_exception(error)))
    what = " ".join(f"{type(error).__name__}: {error}".split())
    streams.message(f"netk8s: internal error, please report it: {what[:300]}")
    if os.environ.get("NETK8S_DEBUG") != "1":
        streams.message("NETK8S_DEBUG=1 shows where")
    return INTERNAL_ERROR


def _silence(stream: TextIO) -> None:
    """What is still to be written goes nowhere, without a complaint when Python ends."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    except (OSError, ValueError, AttributeError):
        return
