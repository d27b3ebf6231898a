"""What is read late is read as it is, and kept when it is asked for again."""

from __future__ import annotations

from netk8s.decode._nftables import Late


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
