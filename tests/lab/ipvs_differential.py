"""Holds netk8s against the kernel on random IPVS setups, in user-mode Linux: endpoints, sources and rules.

::

    PYTHONPATH=tests python -m lab.ipvs_differential --cases 500 --seed 7

A case is a row of connections from one host to one address (:class:`.generate_ipvs.Connecting`). rr and wrr are held to
their exact shares, a scheduler by a hash to one real server for one client, the others to what they may choose.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from netk8s import dialects
from netk8s.decode import decode
from netk8s.model import Ask, Outcome, Snapshot, Trace, World
from netk8s.snapshot import read
from netk8s.trace import trace

from . import uml
from .generate_ipvs import IN_TURN, NODE, ONE_FOR_ALL, SETUPS_A_BOOT, Connecting, IpvsGenerator, Setup, topology
from .rules import parse_saved
from .uml_cases import SILENT

PER_SETUP = 5
LISTENED = frozenset(port for pod in topology().pods for _, port in pod.ports)
SECONDS_A_CASE = 4.0
"""What the watchdog allows; a case takes a tenth of it."""
CLIENTS = {
    ("client", 4): "192.168.52.50",
    ("client", 6): "fd00:52::50",
    ("client-far", 4): "203.0.113.7",
    ("client-far", 6): "2001:db8:113::7",
}
Came = tuple[str, str | None, str | None]
"""What came of a connection: (result, endpoint, the source it saw)."""
Steps = tuple[tuple[str, str, str], ...]


@dataclass(frozen=True, slots=True)
class IpvsCase:
    """A row of connections, what was seen of it, and in what netk8s differs ("" for nothing)."""

    setup: Setup
    asked: Connecting
    seen: tuple[Came, ...]
    kind: str
    difference: str
    dumps: Mapping[str, str]


def observed(setups: Sequence[Setup], folder: Path) -> list[dict[str, Any]]:
    """What the kernel did, setup by setup, in one boot; the cluster's snapshot is in ``folder/ipvs``."""
    patience = 30 + SECONDS_A_CASE * sum(len(setup.asked) for setup in setups)
    case = uml.Case("ipvs", "lab.ipvs_cases:run", {"setups": [asdict(setup) for setup in setups]})
    result = uml.boot([case], folder, patience)["ipvs"]
    if result.error:
        raise uml.LabError(result.error)
    return [json.loads((folder / "ipvs" / f"{number}.json").read_text()) for number in range(len(setups))]


def judged(setups: Sequence[Setup], folder: Path) -> Iterator[IpvsCase]:
    """Boots, connects and compares."""
    told = observed(setups, folder)
    base = read([str(folder / "ipvs")])
    for setup, one in zip(setups, told, strict=True):
        world = _world(base, setup, one["dumps"])
        for asked, answers in zip(setup.asked, one["seen"], strict=True):
            seen = tuple(_came(answer) for answer in answers)
            paths = [_named(answer["path"], one["dumps"], asked) for answer in answers]
            try:
                kind, difference = compared(answered(world, asked), asked, seen, paths)
            except Exception as error:
                kind, difference = "error", f"{type(error).__name__}: {error}"
            yield IpvsCase(setup, asked, seen, kind, difference, one["dumps"])


def _world(base: Snapshot, setup: Setup, dumps: Mapping[str, str]) -> World:
    """The cluster's snapshot with the dumps of a setup in place of the node's own."""
    changed = []
    for dump in base.dumps:
        folder, _, name = dump.origin.rpartition("/")
        if folder.endswith(f"nodes/{NODE}") and name == "sysctl.txt":
            lines = [line for line in dump.data.decode().splitlines() if line.split(" = ")[0] not in setup.sysctls]
            lines += [f"{name} = {value}" for name, value in setup.sysctls.items()]
            changed.append(replace(dump, data="".join(line + "\n" for line in lines).encode()))
        elif folder.endswith(f"nodes/{NODE}") and name in dumps:
            changed.append(replace(dump, data=dumps[name].encode()))
        elif not name.endswith("-counters.txt"):
            changed.append(dump)
    return decode(replace(base, dumps=tuple(changed)))


def answered(world: World, asked: Connecting) -> Trace:
    six = ":" in asked.ip
    source, via = asked.source, None
    if source.startswith("k8s-"):
        source = f"node/{source}"
    elif not source.startswith("pod/"):
        source, via = CLIENTS[source, 6 if six else 4], NODE
    at = f"[{asked.ip}]" if six else asked.ip
    ask = Ask(f"{at}:{asked.port}", protocol=asked.protocol, source=source, via=via)
    return trace(world, dialects.resolve(world, ask))


def _came(answer: Mapping[str, Any]) -> Came:
    if answer["result"] in SILENT:
        return ("silence", None, None)
    return (answer["result"], answer["endpoint"], answer["seen_src_ip"])


def _named(path: Sequence[Sequence[Any]], dumps: Mapping[str, str], asked: Connecting) -> Steps:
    """The rules of the kernel's trace. A number behind the last rule is the chain's end or its policy, no rule."""
    saved = parse_saved(dumps["ip6tables-save.txt" if ":" in asked.ip else "iptables-save.txt"])
    steps = []
    for table, chain, number in path:
        rules = saved.get((table, chain), [])
        if number <= len(rules):
            steps.append((table, chain, rules[number - 1]))
    return tuple(steps)


def _possible(outcome: Outcome, asked: Connecting) -> frozenset[Came]:
    """What may be seen of an outcome; all of it where the outcome is that nothing is known."""
    silence: Came = ("silence", None, None)
    if outcome.verdict == "delivered" and outcome.reached is not None:
        ip, port = outcome.reached.ip, outcome.reached.port
        if port not in LISTENED:
            # A virtual server of any port passes it on, and the endpoint's own kernel says that nobody is there.
            return frozenset({("refused", None, None)})
        host = f"[{ip}]:{port}" if ip.version == 6 else f"{ip}:{port}"
        return frozenset({("connected", host, None if outcome.source is None else str(outcome.source))})
    if outcome.verdict == "refused":
        refused: Came = ("refused", None, None)
        # Linux' TCP takes an ICMPv6 error for a passing one, and says so only with the next SYN, a second later.
        return frozenset({refused, silence} if ":" in asked.ip and asked.protocol == "tcp" else {refused})
    return frozenset({silence})


def compared(answer: Trace, asked: Connecting, seen: Sequence[Came], paths: Sequence[Steps]) -> tuple[str, str]:
    """("right", ""), ("unknown", ""), or what is wrong: its kind and words."""
    outcomes = (*answer.outcomes, *(o for other in answer.alternatives for o in other.outcomes))
    unknown = [o for o in outcomes if o.verdict == "unknown"]
    known = [(o, _possible(o, asked)) for o in outcomes if o.verdict != "unknown"]
    strange = [came for came in seen if not any(came in possible for _, possible in known)]
    if strange and not unknown:
        return "outcome", f"seen {strange[0]}, predicted {[sorted(map(str, p)) for _, p in known]} {_why(answer)}"
    if not unknown and asked.scheduler in IN_TURN and not asked.persistent and len(seen) == asked.times:
        counts = Counter(seen)
        for outcome, possible in known:
            share = sum((o.odds or Fraction(0) for o, p in known if p == possible), Fraction(0))
            got = sum(counts[came] for came in possible)
            if outcome in answer.outcomes and got != share * asked.times:
                return "share", f"{got} of {asked.times} were {sorted(map(str, possible))}, predicted {share}"
    if asked.scheduler in ONE_FOR_ALL or asked.persistent:
        ends = {came[1] for came in seen}
        if len(ends) > 1 and not unknown:
            return "one for all", f"{sorted(map(str, ends))}"
    ways = [_rules(way) for way in answer.ways]
    for path in paths:
        if path not in ways and not unknown:
            return "path", f"kernel {path}, predicted {ways[:3]}"
    return ("unknown", "") if unknown else ("right", "")


def _rules(way: Any) -> Steps:
    return tuple(
        (step.table, step.chain, step.rule)
        for hop in way.hops
        if hop.node == NODE
        for step in hop.steps
        if step.rule is not None
    )


def _why(answer: Trace) -> str:
    return "; ".join(dict.fromkeys(str(o.reason) for o in answer.outcomes if o.reason))


def describe(case: IpvsCase) -> str:
    """A case as a person reads it."""
    family = "ip6tables-save.txt" if ":" in case.asked.ip else "iptables-save.txt"
    lines = [
        f"--- {case.asked}",
        f"  seen: {case.seen}",
        f"  {case.kind}: {case.difference}",
        f"  {dict(case.setup.sysctls)}",
    ]
    lines += ["  " + line for line in case.dumps["ipvsadm-save.txt"].splitlines()]
    lines += ["  " + line for line in case.dumps["ipset-save.txt"].splitlines() if line.startswith("add ")]
    lines += ["  " + line for line in case.dumps[family].splitlines() if line.startswith(("-A", "*"))]
    return "\n".join(lines)


def runs(seed: int, cases: int, folder: Path) -> Iterator[IpvsCase]:
    """Cases from a seed, as many boots as it takes."""
    generator = IpvsGenerator(seed)
    left = cases
    while left > 0:
        count = min(SETUPS_A_BOOT, -(-left // PER_SETUP))
        generator.made = 0
        setups = [generator.setup(PER_SETUP) for _ in range(count)]
        left -= count * PER_SETUP
        yield from judged(setups, folder / str(left))


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--show", type=int, default=5, help="how many mismatches to print")
    options = parser.parse_args(argv)
    start, shown = time.monotonic(), 0
    kinds: Counter[str] = Counter()
    came: Counter[str] = Counter()
    schedulers: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="nk-ipvs-") as folder:
        for case in runs(options.seed, options.cases, Path(folder)):
            kinds[case.kind] += 1
            came.update(one[0] for one in case.seen)
            schedulers[case.asked.scheduler or "none"] += 1
            if case.difference and shown < options.show:
                shown += 1
                print(describe(case), flush=True)
    wrong = sum(count for kind, count in kinds.items() if kind not in ("right", "unknown"))
    print(f"{kinds.total()} cases in {time.monotonic() - start:.0f} s: {dict(kinds.most_common())}")
    print("connections:", dict(came.most_common()))
    print("schedulers:", dict(schedulers.most_common()))
    print("mismatches:", wrong)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
