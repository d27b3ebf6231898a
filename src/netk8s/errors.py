"""The errors of netk8s: a small tree, each with the message a person reads.

Exit statuses are those of the contract; only ``cli`` turns an error into one.
"""

from __future__ import annotations

from collections.abc import Iterable


class Netk8sError(Exception):
    """Anything netk8s reports itself. ``exit_status`` is what the command line ends with."""

    exit_status = 2


class UsageError(Netk8sError):
    """A question that cannot be asked: contradictory or ambiguous words. ``candidates`` are the choices."""

    exit_status = 2

    def __init__(self, why: str, candidates: Iterable[str] = ()) -> None:
        self.why = why
        self.candidates = tuple(candidates)
        super().__init__(why if not self.candidates else f"{why}: {', '.join(self.candidates)}")


class DecodeError(Netk8sError):
    """An input that could not be read or decoded.

    ``origin`` and ``line`` (1-based; 0: the file as a whole) say where, ``why`` what was expected and what to do.
    """

    exit_status = 3

    def __init__(self, origin: str, line: int, why: str) -> None:
        self.origin, self.line, self.why = origin, line, why
        super().__init__(f"{origin}:{line}: {why}" if line else f"{origin}: {why}")


class NotFound(Netk8sError):
    """A target that is not in the input. ``candidates`` are the nearest names."""

    exit_status = 4

    def __init__(self, name: str, candidates: Iterable[str] = (), why: str = "") -> None:
        self.name, self.candidates = name, tuple(candidates)
        text = why or f"{name} was not found"
        if self.candidates:
            text += f"; nearest: {', '.join(self.candidates)}"
        super().__init__(text)


class CollectError(Netk8sError):
    """A live source (cluster, agent, kernel) that could not be reached or read."""

    exit_status = 5


class NotKnown(Netk8sError):
    """A question whose answer cannot be known from this input."""

    exit_status = 6
