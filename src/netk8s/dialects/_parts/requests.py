"""How hosts and paths of a request match those of routes."""

from __future__ import annotations

from netk8s.model import Request


def path_of(request: Request) -> str:
    """The path without its query."""
    return (request.path or "/").partition("?")[0] or "/"


def params_of(request: Request) -> dict[str, str]:
    """The query's parameters; of one that is repeated the first."""
    out: dict[str, str] = {}
    for pair in (request.path or "").partition("?")[2].split("&"):
        name, _, value = pair.partition("=")
        if name:
            out.setdefault(name, value)
    return out


def host_rank(pattern: str, host: str, *, labels: int | None) -> tuple[int, int] | None:
    """How well a host fits a pattern, greater is better: exact, then wildcard by length, then "" (every host).

    ``labels``: how many the ``*`` stands for, None for any number. None: it does not fit.
    """
    if not pattern:
        return (0, 0)
    if pattern == host:
        return (2, len(pattern))
    if pattern.startswith("*.") and host.endswith(pattern[1:]):
        front = host[: -len(pattern[1:])]
        if front and (labels is None or front.count(".") + 1 == labels):
            return (1, len(pattern))
    return None


def under(path: str, prefix: str) -> bool:
    """Whether a path is the prefix or below it, element by element: /foo holds /foo, /foo/ and /foo/a, not /foobar."""
    short = prefix.rstrip("/")
    return path == short or path.startswith(f"{short}/")
