"""A rule on the packet's way has a match or target that netk8s does not understand.

What it sees
------------
A match module or target without a model here, in a rule that this packet came to and that could
decide what becomes of it. Rules whose understood matches fail anyway, and targets that only
log, do not count.

Why it matters
--------------
netk8s follows both answers to such a match and says what each would come to; it never leaves a
rule out. The part of the odds that hangs on it is "unknown".

Example
-------
  NK501 warning  the rule at worker-1.iptables-save:12 may match or not: “-m geoip
                 --source-country DE” is not understood
     worker-1.iptables-save:12

What to do
----------
Read the rule and decide which of the alternatives is yours. `iptables -L -v -n` shows by its
counters whether the rule ever matched. If the module is a common one, tell netk8s's authors; it
is one function.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from netk8s.findings._reading import live, places
from netk8s.model import Finding, Question, Trace, World

CODE = "NK501"
SEVERITY = "warning"
SUMMARY = "A match or target on the way is not understood."

_REMEDY = (
    "Read the rule and take the alternative that fits; its counters (iptables -L -v -n) tell whether it ever matched. "
    "Everything else in the answer holds for both."
)
_TARGET = re.compile(r"(?:of the rule|the rule) at (\S+?:\d+)")


def check(world: World, trace: Trace) -> Iterator[Finding]:
    del world
    for way in live(trace):
        for choice in way.choices:
            question = choice.question
            if "netk8s does not understand" in question.if_true:
                at = _place(question)
                words = question.if_true.partition("“")[2].partition("”")[0]
                yield _finding(f"the rule at {at} may match or not: “{words}” is not understood", at)
        if way.verdict == "unknown" and ("not understood" in way.reason or "netk8s understands" in way.reason):
            found = _TARGET.search(way.reason)
            yield _finding(way.reason, found[1] if found else "")


def _place(question: Question) -> str:
    """The rule that asks: a question's key is node, place and words."""
    return question.key.removesuffix(f":{question.if_true}").partition(":")[2]


def _finding(summary: str, at: str) -> Finding:
    return Finding(CODE, SEVERITY, summary, places(at), _REMEDY, proven=False)
