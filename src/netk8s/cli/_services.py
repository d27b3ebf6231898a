"""``--service``: which ports are meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from netk8s.errors import NotFound
from netk8s.survey import Key, Port


def ports_of(ports: Iterable[Port], names: Sequence[str]) -> list[Key] | None:
    """The ports of the Services that are named ([svc/][NAMESPACE/]NAME), None (all) when none is.

    Raises NotFound for a name that no Service has.
    """
    if not names:
        return None
    known = list(ports)
    out: list[Key] = []
    for name in names:
        full = name.removeprefix("svc/")
        full = full if "/" in full else f"default/{full}"
        found = [port.key for port in known if port.service == full]
        if not found:
            services = list(dict.fromkeys(port.service for port in known))
            raise NotFound(f"service {full}", difflib.get_close_matches(full, services, n=5, cutoff=0.5))
        out += found
    return out
