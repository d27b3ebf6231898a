"""What is dialled, when every word of the target is resolved."""

from __future__ import annotations

from dataclasses import dataclass

from netk8s.model import PROTOCOL_NAMES, Addr


@dataclass(frozen=True, slots=True)
class Dialled:
    """What is dialled: ``ip`` None for a NodePort, which every node answers."""

    ip: Addr | None
    port: int
    protocol: int
    kind: str
    service: str | None = None
    owner: str | None = None

    def __str__(self) -> str:
        name = {"nodeport": "NodePort", "clusterip": "Service port", "hostport": "hostPort"}.get(self.kind, self.kind)
        return f"{name} {self.port}/{PROTOCOL_NAMES[self.protocol]}"
