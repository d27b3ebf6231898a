"""netk8s against a kernel with IPVS, ipvlan and dummy devices: user-mode Linux, booted once for all of this file."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from netk8s import decode, dialects, findings, snapshot
from netk8s.errors import Netk8sError
from netk8s.model import Ask, Report, World
from netk8s.render.document import document
from netk8s.trace import trace

from . import uml
from .uml_cases import CASES, SILENT

pytestmark = pytest.mark.lab

CLIENTS = {("client", 4): "192.168.52.50", ("client", 6): "fd00:52::50", ("client-far", 4): "203.0.113.7"}


@pytest.fixture(scope="module")
def booted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, uml.Result]]:
    """The folder and the results of the one boot."""
    why = uml.available()
    if why and os.environ.get("NETK8S_REQUIRE_LAB") == "1":
        pytest.fail(f"user-mode Linux must run here (NETK8S_REQUIRE_LAB=1): {why}")
    if why:
        pytest.skip(f"user-mode Linux: {why}")
    folder = tmp_path_factory.mktemp("uml")
    return folder, uml.boot([uml.Case(name, f"lab.uml_cases:{run.__name__}") for name, run in CASES.items()], folder)


@dataclass(frozen=True)
class Ran:
    """A case that ran: its snapshot folder and netk8s' world of it, and the flows that were observed there."""

    folder: Path
    world: World
    flows: tuple[dict[str, Any], ...]

    def seen(self, name: str) -> Seen:
        """What came of a flow: (result, endpoint, address seen), each once."""
        return next(_seen(record) for record in self.flows if record["flow"]["name"] == name)


def ran(booted: tuple[Path, dict[str, uml.Result]], name: str) -> Ran:
    folder, results = booted
    assert not results[name].error, results[name].error
    world = decode.decode(snapshot.read([str(folder / name)]))
    return Ran(folder / name, world, tuple(results[name].value["flows"]))


Seen = frozenset[tuple[str, str | None, str | None]]


def _seen(record: dict[str, Any]) -> Seen:
    found = set()
    for result, endpoint, seen_ip, _ in record["outcomes"]:
        # Whether silence ends in "unreachable" depends on how long ARP has been trying.
        found.add(("silence", None, None) if result in SILENT else (result, endpoint, seen_ip))
    return frozenset(found)


def predicted(world: World, record: dict[str, Any]) -> tuple[str, list[Seen], str]:
    """netk8s' answer in the same words: the verdicts, for each outcome what would be seen of it, and the reasons."""
    flow = record["flow"]
    six = ":" in flow["ip"]
    source = flow["source"]
    if source.startswith("k8s-"):
        source = f"node/{source}"
    elif not source.startswith("pod/"):
        source = CLIENTS[source, 6 if six else 4]
    at = f"[{flow['ip']}]" if six else flow["ip"]
    ask = Ask(f"{at}:{flow['port']}", protocol=flow["protocol"], source=source, via=flow["via"] or None)
    named = dialects.label(world, trace(world, dialects.resolve(world, ask)))
    answer = msgspec.json.decode(msgspec.json.encode(document(Report(named, findings.check(world, named)))))
    ways: list[Seen] = []
    for outcome in answer["outcomes"]:
        silence = ("silence", None, None)
        if outcome["verdict"] == "delivered":
            to, seen_by = outcome["endpoint"], outcome["source_seen"] or {}
            host = f"[{to['ip']}]" if six else to["ip"]
            ways.append(frozenset({("connected", f"{host}:{to['port']}", seen_by.get("ip"))}))
        elif outcome["verdict"] == "refused":
            refused = ("refused", None, None)
            # Linux' TCP takes an ICMPv6 error for a passing one, and says so only with the next SYN, a second later.
            ways.append(frozenset({refused, silence} if six and flow["protocol"] == "tcp" else {refused}))
        else:
            ways.append(frozenset({silence}))
    verdicts = {outcome["verdict"] for outcome in answer["outcomes"]}
    why = "; ".join(str(outcome["reason"]) for outcome in answer["outcomes"] if outcome["reason"])
    return "unknown" if "unknown" in verdicts else "known", ways, why


def judged(case: Ran, exact: bool) -> tuple[Counter[str], list[str]]:
    """How many flows are right, wrong and unknown, and a line for each that is wrong. ``exact``: every predicted outcome
    must have been seen too, which chance does not promise and rr does."""
    counts: Counter[str] = Counter()
    wrong = []
    for record in case.flows:
        seen = _seen(record)
        try:
            verdict, ways, why = predicted(case.world, record)
        except Netk8sError as error:
            verdict, ways, why = "error", [], f"{type(error).__name__}: {error}"
        if verdict == "known":
            verdict = "right" if seen <= frozenset().union(*ways) else "wrong"
            if exact and not all(seen & way for way in ways):
                verdict = "wrong"
        counts[verdict] += 1
        if verdict in ("wrong", "error"):
            wrong.append(f"{record['flow']['name']}: {verdict}: seen {sorted(map(str, seen))}, predicted {ways} {why}")
    return counts, wrong
