"""The API's objects by digest: held within bounds, used for who names them, and never others than they are named."""

from __future__ import annotations

from hashlib import sha256

import pytest

from netk8s.agent import objects
from netk8s.agent.objects import Objects

A, B, C = b"services", b"slices", b"nodes"


def digest(data: bytes) -> str:
    return sha256(data).hexdigest()


def brought(*pieces: bytes) -> str:
    return ",".join(f"{digest(data)}={len(data)}" for data in pieces)


def test_what_was_brought_once_is_not_lacking() -> None:
    held = Objects()
    assert held.whole(f"{digest(A)},{digest(B)}", b"own")[1] == [digest(A), digest(B)]
    assert held.whole(brought(A, B), A + B + b"own") == (A + B + b"own", [])
    assert held.whole(f"{digest(B)},{digest(A)}", b"mine") == (B + A + b"mine", []), "in the order that they are named"
    assert held.whole(f"{digest(A)},{brought(C)}", C) == (A + C, [])
    assert held.whole("", b"all of it") == (b"all of it", [])


def test_bytes_of_another_digest_are_not_taken() -> None:
    held = Objects()
    with pytest.raises(ValueError, match="are others"):
        held.whole(f"{digest(A)}={len(B)}", B)
    with pytest.raises(ValueError, match="are others"):
        held.whole(brought(A), A[:-1])
    assert held.size == 0


@pytest.mark.parametrize("named", ["x", "0" * 63, f"{'0' * 64}=x", f"{'0' * 64}=-1", ",".join(["0" * 64] * 257)])
def test_words_of_another_form(named: str) -> None:
    with pytest.raises(ValueError, match=r"digests|at most 256"):
        Objects().whole(named, b"")


def test_what_was_named_longest_ago_goes_first() -> None:
    held = Objects(most=len(A) + len(B))
    held.whole(brought(A, B), A + B)
    held.whole(digest(A), b"")
    assert held.whole(brought(C), C) == (C, [])
    assert held.size <= len(A) + len(B)
    assert held.whole(digest(B), b"")[1] == [digest(B)]
    large = b"x" * (len(A) + len(B) + 1)
    assert held.whole(brought(large), large) == (large, []), "what is too large to be held is used all the same"
    assert held.size == 0


def test_nothing_is_held_for_ever() -> None:
    now = [0.0]
    held = Objects(clock=lambda: now[0])
    held.whole(brought(A, B), A + B)
    now[0] = objects.SECONDS - 1
    held.whole(digest(A), b"")
    now[0] = objects.SECONDS + 1
    assert held.whole(f"{digest(A)},{digest(B)}", b"")[1] == [digest(B)]
    assert held.size == len(A)
