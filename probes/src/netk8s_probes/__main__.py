# SPDX-License-Identifier: GPL-2.0-only
"""``netk8s-probes``, and ``netk8s probe`` where netk8s is installed too."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence

from netk8s_probes import __version__, plan
from netk8s_probes.namespaces import NoNamespace, path_of
from netk8s_probes.plan import KINDS, MOST, Refused


def parser() -> argparse.ArgumentParser:
    words = argparse.ArgumentParser(
        prog="netk8s-probes",
        description="Sends one marked packet or connection and writes down where it was seen and what came back.",
        epilog="Exit status: 0 answered, 1 refused, unreachable or no answer, 2 usage, 5 the kernel does not let it.",
    )
    words.add_argument("target", metavar="IP:PORT", help="whom to send to; [IPv6]:PORT; for an echo IP")
    words.add_argument("--kind", choices=KINDS, default="connect", help="what is sent (default: connect)")
    words.add_argument("--from-namespace", metavar="NETNS", help="network namespace that sends: a file, or a PID in it")
    words.add_argument("--sniff", metavar="[NODE=][NETNS@]DEV", action="append", default=[], help="listen at a hop")
    words.add_argument(
        "--end", metavar="[NODE=][NETNS@]DEV", action="append", default=[], help="listen at the other end"
    )
    words.add_argument("--sport", type=int, default=0, help="source port (default: a free one)")
    words.add_argument("--timeout", type=float, default=0.9, help="seconds to wait for an answer (default: 0.9)")
    words.add_argument("--count", type=int, default=1, help=f"how many, at most {MOST} (default: 1)")
    words.add_argument("--interval", type=float, default=1.0, help="seconds between two (default: 1)")
    words.add_argument("--source", default="", help="who sends, in the words of netk8s trace --from; only written down")
    words.add_argument("--write", metavar="FILE", help="where the observation goes (default: standard output)")
    words.add_argument("--dry-run", action="store_true", help="say what would be sent, and send nothing")
    words.add_argument("--version", action="version", version=f"netk8s-probes {__version__}")
    return words


def main(argv: Sequence[str] | None = None) -> int:
    said = parser().parse_args(argv)
    try:
        return _run(said)
    except (Refused, NoNamespace) as error:
        print(f"netk8s-probes: {error}", file=sys.stderr)
        return 5 if "need root" in str(error) or "cannot" in str(error) else 2
    except KeyboardInterrupt:
        return 130


def _run(said: argparse.Namespace) -> int:
    plan.limits(said.count, said.interval)
    if not 0.05 <= said.timeout <= 60:
        raise Refused("--timeout is 0.05 to 60 seconds")
    if not 0 <= said.sport <= 65535:
        raise Refused("--sport is 1 to 65535")
    if said.count > 1 and said.sport:
        raise Refused("with --sport only one probe is sent: a second one from the same port is the same connection")
    dst, dport = plan.target(said.target, said.kind)
    places = tuple(plan.place(text) for text in said.sniff) + tuple(plan.place(text, end=True) for text in said.end)
    namespace = path_of(said.from_namespace) if said.from_namespace else None
    first = plan.made(said.kind, dst, dport, namespace, places, said.sport)
    print(f"netk8s-probes: {first.sentence(said.count, said.interval)}", file=sys.stderr, flush=True)
    if said.dry_run:
        print("netk8s-probes: --dry-run: nothing was sent", file=sys.stderr)
        return 0
    from netk8s_probes.run import run  # scapy takes a second to import, and a dry run needs none of it

    found = []
    for number in range(said.count):
        if number:
            time.sleep(said.interval)
            first = plan.made(said.kind, dst, dport, namespace, places)
        found.append(run(first, said.timeout, said.source))
    text = "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in found)
    if said.write:
        try:
            with open(said.write, "w", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise Refused(f"cannot write {said.write}: {error.strerror}") from None
    else:
        sys.stdout.write(text)
    return 0 if all(one["result"] == "connected" for one in found) else 1


if __name__ == "__main__":
    sys.exit(main())
