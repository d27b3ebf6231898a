"""The packet's way hangs on something that no dump tells.

What it sees
------------
An answer "unknown", or odds that are partly unknown, for another reason than a match or target
that is not understood (that is NK501): a node without dumps, an ipset that is not in them,
rules of a kind that this version does not read.

Why it matters
--------------
netk8s does not guess. What it says of the other ways holds; what it does not know may still
break the connection.

Example
-------
  NK503 warning  the way is not known to its end: no iptables-save dump of worker-2
     routes of worker-2 (where the packet leaves)

What to do
----------
Give the dumps that are named as missing and ask again: `netk8s decode` lists what a dump
covers. Where the version cannot follow, the steps up to there hold, and the rest is yours to
look at.
"""

from __future__ import annotations

from collections.abc import Iterator

from netk8s.findings._reading import UNKNOWN, live, places, stops
from netk8s.model import Finding, Trace, World

CODE = "NK503"
SEVERITY = "warning"
SUMMARY = "The way hangs on something that no dump tells."

_OURS = ("not understood", "netk8s understands", "does not understand")
"""Reasons that are NK501's."""


def check(world: World, trace: Trace) -> Iterator[Finding]:
    del world
    for stop in stops(trace):
        if stop.kind == UNKNOWN and not any(words in stop.why for words in _OURS):
            lacking = [f"missing: {m.what} ({m.needed_for})" for m in stop.way.missing]
            yield _finding(f"the way is not known to its end: {stop.why}", places(stop.step, *lacking))
    for way in live(trace):
        for choice in way.choices:
            question = choice.question
            if question.default is None and not any(words in question.if_true for words in _OURS):
                yield _finding(f"no dump tells whether {question.if_true}", places(question.key.partition(":")[0]))


def _finding(summary: str, evidence: tuple[str, ...]) -> Finding:
    return Finding(
        CODE,
        SEVERITY,
        summary,
        evidence,
        "Give the dumps that are named as missing and ask again. The steps up to there, and the other ways, hold.",
        proven=False,
    )
