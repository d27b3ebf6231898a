"""Memory that is given back to the kernel: what an agent reads for a moment is many times what it keeps.

glibc does so of its own accord only for blocks that are mapped, and with each that is freed it takes larger ones (up to 32
MiB) from heaps instead, whose ends it keeps (mallopt(3), M_MMAP_THRESHOLD).
"""

from __future__ import annotations

import ctypes

LARGE = 1 << 17
_M_MMAP_THRESHOLD = -3


def map_large() -> None:
    """From now on blocks of LARGE bytes and more are mapped, and given back when freed. Elsewhere than in glibc: nothing."""
    _call("mallopt", _M_MMAP_THRESHOLD, LARGE)


def give_back() -> None:
    """Gives the free pages of all heaps back. Elsewhere than in glibc: nothing."""
    _call("malloc_trim", 0)


def _call(name: str, *words: int) -> None:
    function = getattr(ctypes.CDLL(None), name, None)
    if function is not None:
        function(*words)
