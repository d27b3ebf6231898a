"""The formats of a package: its modules ``as_<name>``, found by their files."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterable, Sequence


def names(path: Iterable[str], order: Sequence[str]) -> tuple[str, ...]:
    """The names of the formats in a package's folders, those of ``order`` first. No module is imported."""
    found = {info.name.removeprefix("as_") for info in pkgutil.iter_modules(path) if info.name.startswith("as_")}
    return (*(name for name in order if name in found), *sorted(found.difference(order)))
