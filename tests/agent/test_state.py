"""What of a node's texts is another state, and what only runs on."""

from __future__ import annotations

import pytest

from netk8s.agent.state import digest
from netk8s.model import Dump, Missing, Snapshot

ENTRY = (
    "ipv4     2 tcp      6 {left} ESTABLISHED src=10.0.0.1 dst=10.0.0.2 sport=1 dport=80 packets={n} bytes=9 "
    "src=10.0.0.2 dst=10.0.0.1 sport=80 dport=1 packets=1 bytes=9 [ASSURED] mark={mark} use=1\n"
)
TWO = "tcp      6 {left} SYN_SENT src=10.0.0.9 dst=10.0.0.2 sport=1 dport=80 [UNREPLIED] mark=0 use=1\n"
NEIGH = '[{{"dst":"10.0.0.2","dev":"eth0","lladdr":"02:00:00:00:00:01","state":["{state}"]}}]'


def state(connections: str = "", neighbours: str = "[]", rules: str = "*nat\nCOMMIT\n") -> str:
    texts = {"conntrack.txt": connections, "ip-neigh.json": neighbours, "iptables-save.txt": rules}
    return digest(Snapshot(tuple(Dump(f"nodes/n1/{name}", text.encode(), "n1") for name, text in texts.items())))


def test_timers_counters_and_the_order_of_connections_run_on() -> None:
    before = ENTRY.format(left=431999, n=5, mark=0) + TWO.format(left=119)
    after = TWO.format(left=60) + ENTRY.format(left=431000, n=77, mark=0)
    assert state(before) == state(after)


@pytest.mark.parametrize(
    "after",
    ["", ENTRY.format(left=5, n=5, mark=1), ENTRY.format(left=5, n=5, mark=0).replace("ESTABLISHED", "TIME_WAIT"),
     ENTRY.format(left=5, n=5, mark=0).replace("dport=80", "dport=81")],
)  # fmt: skip
def test_another_connection_is_another_state(after: str) -> None:
    assert state(ENTRY.format(left=5, n=5, mark=0)) != state(after)


def test_a_neighbour_that_no_longer_answers_is_another_state() -> None:
    reached, stale, failed = (state(neighbours=NEIGH.format(state=word)) for word in ("REACHABLE", "STALE", "FAILED"))
    assert reached == stale != failed


def test_every_other_text_counts_and_so_does_what_is_missing() -> None:
    assert state() != state(rules="*nat\n:A - [0:0]\nCOMMIT\n")
    gap = Missing("ipset-save.txt (no ipset)", "sets")
    assert digest(Snapshot(())) != digest(Snapshot((), (gap,)))
