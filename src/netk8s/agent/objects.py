"""The API's objects of earlier checks, by digest: who brings the digest of what is held need not bring the bytes.

What is held is asked for by the digest of its very bytes, is read for that one answer, and is given to nobody.
"""

from __future__ import annotations

import re
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from hashlib import sha256

MOST_BYTES = 16 << 20
"""Packed; 5,000 nodes with 50,000 endpoints are some 2 MB."""
SECONDS = 3600.0
"""For so long after the last check by which they were named."""
MOST_NAMED = 256
_NAMED = re.compile(r"([0-9a-f]{64})(?:=(\d{1,9}))?")


class Objects:
    """Pieces of bundles, of which those that were named longest ago go first."""

    def __init__(self, most: int = MOST_BYTES, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._clock = most, clock
        self._held: OrderedDict[str, tuple[bytes, float]] = OrderedDict()

    @property
    def size(self) -> int:
        """Bytes that are held."""
        return sum(len(data) for data, _ in self._held.values())

    def whole(self, named: str, body: bytes) -> tuple[bytes, list[str]]:
        """A bundle: the pieces that ``named`` names and what the body has besides; and the digests of what is lacking.

        ``named``: digests with commas between, each with ``=`` and a length if its bytes are in the body, which has them
        in this order and what is not named behind them. Raises ValueError for words of another form, and for bytes that
        are not those of their digest.
        """
        self._forget()
        found: list[tuple[str, bytes | None]] = []
        for digest, length in _digests(named):
            if length is None:
                held = self._held.get(digest)
                found.append((digest, held[0] if held is not None else None))
                continue
            piece, body = body[:length], body[length:]
            if sha256(piece).hexdigest() != digest:
                raise ValueError(f"the bytes that are to be {digest} are others")
            found.append((digest, piece))
        lacking = [digest for digest, data in found if data is None]
        for digest, data in found:
            if data is not None:
                self._keep(digest, data)
        return b"".join(data for _, data in found if data is not None) + body, lacking

    def _keep(self, digest: str, data: bytes) -> None:
        self._held[digest] = (data, self._clock())
        self._held.move_to_end(digest)
        size = self.size
        while size > self._most:
            _, (gone, _) = self._held.popitem(last=False)
            size -= len(gone)

    def _forget(self) -> None:
        ended = self._clock() - SECONDS
        for digest in [digest for digest, (_, named) in self._held.items() if named < ended]:
            del self._held[digest]


def _digests(named: str) -> Sequence[tuple[str, int | None]]:
    words = [word for word in named.split(",") if word]
    if len(words) > MOST_NAMED:
        raise ValueError(f"at most {MOST_NAMED} pieces make a bundle")
    found = []
    for word in words:
        match = _NAMED.fullmatch(word)
        if match is None:
            raise ValueError(
                "expected digests (sha256, hexadecimal) with commas between, with =LENGTH those that are sent"
            )
        found.append((match[1], None if match[2] is None else int(match[2])))
    return found
