"""``ip rule`` as it prints for people: the same rules as from JSON that was taken in the same moment."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from netk8s import decode
from netk8s.decode import ip_rule_text
from netk8s.errors import DecodeError
from netk8s.model import At, Dump, Fact, RoutingRule

RECORDED = Path(__file__).parent / "iproute2"


def facts(name: str) -> list[Fact]:
    dump = Dump(name, (RECORDED / name).read_bytes())
    decoder = decode.recognise(dump)
    assert decoder is not None
    assert (decoder.NAME == "ip-rule-text") is name.endswith(".txt")
    return [replace(fact, at=At("")) for fact in decoder.decode(dump)]


@pytest.mark.parametrize(("name", "count"), [("rule", 14), ("rule6", 3)])
def test_as_from_json(name: str, count: int) -> None:
    found = facts(f"{name}.txt")
    assert len(found) == count + 1
    assert found == facts(f"{name}.json")


def one(words: str) -> RoutingRule:
    (_, rule) = ip_rule_text.decode(Dump("x", f"9:\tfrom {words}\n".encode()))
    assert isinstance(rule, RoutingRule)
    return rule


def test_what_is_not_known_is_never_left_out() -> None:
    assert one("all lookup [l3mdev-table]").unknown == ("l3mdev",)
    assert "newword" in one("all newword 5 lookup main").unknown
    assert one("all iif gone [detached] lookup 5").unknown == ()
    assert one("all goto 99 [unresolved]").goto == 99


@pytest.mark.parametrize(
    "line", ["RTNETLINK answers: Operation not permitted", "9: lookup main", "9:\tfrom all fwmark x"]
)
def test_lines_that_are_no_rule(line: str) -> None:
    with pytest.raises(DecodeError) as error:
        list(ip_rule_text.decode(Dump("x", f"0:\tfrom all lookup local\n{line}\n".encode())))
    assert error.value.line == 2
