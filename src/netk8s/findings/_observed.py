"""What of an observation differs from the trace, as summaries with their evidence."""

from __future__ import annotations

from collections.abc import Iterator

from netk8s.model import Observation, Trace, World
from netk8s.verification import PATH, verified


def differing(world: World, trace: Trace, about: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """(summary, evidence) of every difference about "source", "path" or "verdict"."""
    for found in verified(trace, world.observations):
        for difference in found.differences:
            if difference.about == about:
                text = difference.text if about == PATH else f"{_sent(found.observation)}: {difference.text}"
                yield text, (str(found.observation.at), *difference.evidence)


def _sent(observation: Observation) -> str:
    packet = observation.sent
    port = "" if packet.dport is None else f" port {packet.dport}"
    return f"sent {packet.src} to {packet.dst}{port}"
