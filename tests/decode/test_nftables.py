"""What is read late is read as it is, and kept when it is asked for again."""

from __future__ import annotations

import pytest

from netk8s.decode import nft_json, nft_text
from netk8s.decode._nftables import Late, merged
from netk8s.errors import DecodeError
from netk8s.model import Dump, NftTable


def test_what_is_passed_over_once_is_kept_from_the_second_time_on() -> None:
    made: list[int] = []

    def load() -> list[int]:
        made.append(1)
        return [1, 2]

    late = Late(load, passing=True)
    assert list(late) == [1, 2]
    assert list(late) == [1, 2]
    assert (len(late), late[1], late[:1], list(late)) == (2, 2, [1], [1, 2])
    assert len(made) == 2


def test_what_is_not_passed_over_is_made_once() -> None:
    made: list[int] = []
    late = Late(lambda: made.append(1) or [3])
    assert (list(late), list(late), len(late)) == ([3], [3], 1)
    assert len(made) == 1
    passed = Late(lambda: made.append(1) or [3], passing=True)
    assert (len(passed), list(passed), list(passed)) == (1, [3], [3])
    assert len(made) == 2


def test_a_flag_that_json_lost_is_taken_from_the_text_or_asked_for() -> None:
    """nft 1.0.6 on a table that is switched off, and on one that is owned: some other word of the listing."""
    listed = '{"nftables": [{"table": {"family": "ip", "name": "t", "handle": 1, "flags": "tcp"}}]}'
    json = list(nft_json.decode(Dump("n.json", listed.encode())))
    for flags, dormant in (("dormant", True), ("owner", False)):
        text = list(nft_text.decode(Dump("n.txt", f"table ip t {{\n\tflags {flags}\n}}\n".encode())))
        for facts in (json + text, text + json):
            (table,) = merged([fact for fact in facts if isinstance(fact, NftTable)])
            assert table.dormant is dormant
    with pytest.raises(DecodeError, match="`nft list ruleset`"):
        merged([fact for fact in json if isinstance(fact, NftTable)])
