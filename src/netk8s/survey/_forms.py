"""Chains of iptables that differ in names only: their *form* is read once for all of them.

A large node has hundreds of thousands of chains of a few forms. In a form, marks stand for the names that kube-proxy writes:
the chain's own, those of other Services' chains, one address. Chains of one form are the same rules but for these.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from msgspec import Struct

from netk8s.survey._chains import CHAIN, FOUR

OWN, HOST, OTHER = MARKS = "\x04", "\x05", "\x06"
_MARK = re.compile(f"([{OWN}{HOST}{OTHER}])")
_FOUR = re.compile(FOUR, re.ASCII)
_ONE_HOST = re.compile(f"{FOUR}(?:/32)?", re.ASCII)
_CHAIN = re.compile(f"({CHAIN})")
_BEHIND_HOST = re.compile(r"(?:/\d+)?", re.ASCII)
_MASK = "255.255.255.255"
_MOST = 10_000
"""Forms that are kept. Whose rules have more is not what this is for."""


class Form(Struct, frozen=True):
    """Rules with marks in the place of names. ``rest``: the other words, which are the same in all rules of the form."""

    number: int
    text: str
    rest: frozenset[str]


class Forms:
    """The forms that were met. ``split`` parts a text in words, at odd places, and what is between them.

    It has to find a chain, or an IPv4 host, by what it looks like and by the characters around it, whichever it is.
    """

    def __init__(self, split: Callable[[str], list[str]]) -> None:
        self._split = split
        self._known: dict[str, Form | None] = {}

    def of(self, chain: str, text: str) -> tuple[Form, list[str]] | None:
        """The form of a chain's rules, a text without MARKS, and the names in it: the chain's own, a host, others.

        None where anything else in them may be a name too, or a name does not stand by itself.
        """
        form = text.replace(chain, OWN)
        at = form.find(" -s " if chain.startswith("KUBE-SEP-") else " -d ") + 4
        host = form[at : form.find("/", at)] if at > 3 else ""
        names = [chain]
        if _FOUR.fullmatch(host) is not None:
            form = form.replace(host, HOST)
            names.append(host)
        if "KUBE-S" in form or "KUBE-E" in form:
            pieces = _CHAIN.split(form)
            names += pieces[1::2]
            form = OTHER.join(pieces[::2])
        if form in self._known:
            known = self._known[form]
        elif len(self._known) < _MOST:
            known = self._known[form] = self._new(form, names, text)
        else:
            known = None
        return None if known is None else (known, names)

    def _new(self, form: str, names: Sequence[str], text: str) -> Form | None:
        marks, at = _marks(form, names), 0
        rest = []
        for place, part in enumerate(self._split(text)):
            mark, word = marks.pop(at, ("", "")) if place % 2 else ("", "")
            if mark == HOST:
                by_itself = part.startswith(word) and _BEHIND_HOST.fullmatch(part, len(word)) is not None
            else:
                by_itself = not mark or part == word
            if not by_itself:
                return None
            if place % 2 and not mark:
                rest.append(part)
            at += len(part)
        # A mark that is left stands in a word or between words.
        if marks or any(_CHAIN.search(word) or (word != _MASK and _ONE_HOST.fullmatch(word)) for word in rest):
            return None
        return Form(len(self._known), form, frozenset(rest))


def _marks(form: str, names: Sequence[str]) -> dict[int, tuple[str, str]]:
    """Where in the text each mark's name begins: the mark, the name."""
    own, *more = names
    host = more.pop(0) if HOST in form else ""
    found: dict[int, tuple[str, str]] = {}
    at = 0
    for piece in _MARK.split(form):
        word = own if piece == OWN else host if piece == HOST else more.pop(0) if piece == OTHER else piece
        if piece in MARKS:
            found[at] = (piece, word)
        at += len(word)
    return found
