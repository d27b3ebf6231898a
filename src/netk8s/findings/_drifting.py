"""How the findings of drift word a difference: where it is, what goes on in the old way."""

from __future__ import annotations

from netk8s.drift import Difference
from netk8s.findings._reading import address, named, places


def ends(found: Difference) -> str:
    """The endpoints that differ: by name, or their number."""
    return named((address(ip, port) for ip, port in found.ends), "endpoints")


def still(found: Difference) -> str:
    """What tracked connections keep alive, "" for nothing."""
    if not found.connections:
        return ""
    many = found.connections > 1
    return f"; {found.connections} tracked connection{'s' if many else ''} still go{'' if many else 'es'} there"


def evidence(found: Difference) -> tuple[str, ...]:
    """Rules, objects and the tracked connection."""
    return places(*found.at, found.connection)


def restart(node: str) -> str:
    """What to do where kube-proxy is behind."""
    return (
        f"See whether kube-proxy runs on {node}, reaches the API and what it logs; a restart writes all rules anew and keeps "
        "established connections. Take the dumps of nodes and API at one time, else the difference may be theirs."
    )
