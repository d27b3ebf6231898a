"""API objects as kubectl spells them, now and then with something odd in them, and how two readings of them are compared."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import strategies as st

from netk8s.decode import _json, kubectl
from netk8s.errors import DecodeError
from netk8s.model import Dump

odd = st.sampled_from(
    [None, "", "x", 0, 80, 80.0, 70000, -1, 1.5, True, [], {}, [None], ["10.0.0.1"], "TCP", "80", "\ud800", "é"]
)


def or_odd(usual: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """What is usual, or once in some thirty times something else."""
    return st.integers(0, 30).flatmap(lambda n: odd if n == 0 else usual)


def an_object(**members: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """An object with some of these members."""
    return or_odd(st.fixed_dictionaries({}, optional={name: or_odd(each) for name, each in members.items()}))


def told(data: bytes) -> object:
    """The facts of a list, or what is complained of."""
    try:
        return list(kubectl.decode(Dump("x", data)))
    except DecodeError as error:
        return str(error)


def read_alike(listed: Sequence[object]) -> None:
    """Asserts that items are read quickly as they are read member by member: the same facts, the same complaints."""
    data = json.dumps({"kind": "List", "apiVersion": "v1", "items": listed}).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_json, "_LARGE", 1 << 40)
        slow = told(data)
        patch.setattr(_json, "_LARGE", 0)
        assert told(data) == slow
