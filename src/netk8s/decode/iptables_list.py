"""What ``iptables -L`` prints, which is recognised so that it can be refused with what to give instead.

A listing is made for people: devices only with ``-v``, numbers rounded without ``-x``, names for addresses without ``-n``,
and every match and target in words of its own extension (print() beside save() in iptables' extensions/). So
what a rule says is not to be had from it for certain. sos (``iptables -t nat -nvL``) and ``microk8s inspect`` keep it.
"""

from __future__ import annotations

import re

from netk8s.decode._text import first_lines
from netk8s.model import Dump

REFUSED = (
    "is what `iptables -L` prints and leaves parts of rules out; give the output of `iptables-save`, or of `iptables -S` and "
    "`iptables -t nat -S`"
)
_CHAIN = re.compile(r"Chain \S+ \((?:policy [A-Z]+(?: \d+[KMGT]? packets, \d+[KMGT]? bytes)?|\d+ references)\)$")


def sniff(dump: Dump) -> bool:
    """A chain's head; what iptables warns of before it does not count."""
    found = [line for line in first_lines(dump) if not line.startswith("#")]
    return bool(found) and _CHAIN.match(found[0]) is not None
