"""collect/nftables.py: what it gives is what the tool prints, and no tool is a gap."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from netk8s.collect import nftables
from netk8s.collect._text import Gap


@pytest.mark.lab
def test_it_is_what_the_tool_prints(spaces: Callable[[], Any]) -> None:
    space = spaces()
    code = (
        "from netk8s.collect import nftables\n"
        "*_, text = nftables.texts()\nprint(text.name, text.source, sep='|')\nprint(text.data.decode(), end='')"
    )
    first, _, rest = space.python(code).partition("\n")
    assert first == "nft-ruleset.txt|nft list ruleset"
    assert rest == space.run(*["nft", "list", "ruleset"])


TOLD = """
import json
from netk8s.collect import nftables
print(json.dumps([{text.name: getattr(text, "data", b"").decode() for text in nftables.texts()}, nftables.tables()]))
"""


@pytest.mark.lab
def test_tables_of_iptables_nft_are_taken_once_and_keep_their_place(spaces: Callable[[], Any]) -> None:
    space = spaces()
    space.run("nft", "add table ip first; add chain ip first c; add rule ip first c ip saddr 10.0.0.1 drop")
    space.run("iptables-nft", "-t", "nat", "-A", "PREROUTING", "-s", "10.0.0.2", "-j", "DNAT", "--to", "10.0.0.3")
    space.run("ip6tables-nft", "-A", "INPUT", "-s", "fd00::2", "-j", "DROP")
    space.run("nft", "add table inet last; add chain inet last c; add rule inet last c ip saddr 10.0.0.4 drop")
    found, tables = json.loads(space.python(TOLD))
    assert tables == [["ip", "first"], ["ip", "nat"], ["ip6", "filter"], ["inet", "last"]]
    ruleset = found["nft-ruleset.txt"]
    assert [line.split()[1:3] for line in ruleset.splitlines() if line.startswith("table ")] == tables
    assert ("10.0.0.1" in ruleset, "10.0.0.4" in ruleset) == (True, True)
    assert ("10.0.0.2" in ruleset, "fd00::2" in ruleset) == (False, False)
    assert "-A PREROUTING -s 10.0.0.2/32 -j DNAT" in found["iptables-save.txt"]
    assert "-A INPUT -s fd00::2/128 -j DROP" in found["ip6tables-save.txt"]


@pytest.mark.lab
@pytest.mark.parametrize(
    "others",
    [
        "add rule ip nat c ip saddr { 10.0.0.1, 10.0.0.2 } drop",  # printed without its set
        "add rule ip nat c ip saddr 10.0.0.1 ct state new drop",  # makes iptables-nft-save leave the table out
        "add chain ip nat own { type filter hook prerouting priority 5; }; add rule ip nat own ip saddr 10.0.0.1 drop",
    ],
)
def test_a_table_of_iptables_that_holds_more_than_it_can_say_is_listed_by_nft(
    spaces: Callable[[], Any], others: str
) -> None:
    space = spaces()
    space.run("nft", f"add table ip nat; add chain ip nat c; {others}")
    space.run("iptables-nft", "-A", "INPUT", "-s", "10.0.0.9", "-j", "DROP")
    found, _ = json.loads(space.python(TOLD))
    assert "10.0.0.1" in found["nft-ruleset.txt"]
    assert "10.0.0.9" not in found["nft-ruleset.txt"]
    assert "-A INPUT -s 10.0.0.9/32 -j DROP" in found["iptables-save.txt"]


@pytest.mark.usefixtures("bare")
def test_no_tool_is_a_gap() -> None:
    found = list(nftables.texts())
    assert found
    assert all(isinstance(text, Gap) and "not installed" in text.why for text in found)
