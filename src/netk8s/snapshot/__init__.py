"""Texts in, texts out: files, folders, archives and standard input become the dumps of a Snapshot.

Nothing is written to disk and no name in an archive is ever opened: a member is its bytes and its name.
"""

from netk8s.snapshot._bytes import MAP_FROM, printable
from netk8s.snapshot._reading import read
from netk8s.snapshot._writing import beginning, packed, save

__all__ = ["MAP_FROM", "beginning", "packed", "printable", "read", "save"]
