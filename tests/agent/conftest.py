"""What an agent reads from, made up."""

from __future__ import annotations

from collections.abc import Callable

from netk8s.model import Snapshot


def numbered(take: Callable[[], Snapshot]) -> Callable[[int], tuple[int, Snapshot | None]]:
    """``take`` as :meth:`netk8s.collect.kept.Kept.since`: a state that says what the one before said keeps its number."""
    states: list[object] = [None]

    def since(number: int) -> tuple[int, Snapshot | None]:
        found = take()
        said = (found.missing, [(dump.origin, dump.data) for dump in found.dumps])
        if said != states[-1]:
            states.append(said)
        now = len(states) - 1
        return now, None if now == number else found

    return since
