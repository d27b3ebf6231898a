"""What is dialled, when every word of the target is resolved."""

from __future__ import annotations

from msgspec import Struct

from netk8s.model import PROTOCOL_NAMES, Addr

NAMES = {
    "nodeport": "NodePort", "clusterip": "Service port", "hostport": "hostPort", "healthcheck": "health check port",
}  # fmt: skip


class Dialled(Struct, frozen=True):
    """What is dialled: ``ip`` None for a NodePort, which every node answers."""

    ip: Addr | None
    port: int
    protocol: int
    kind: str
    service: str | None = None
    owner: str | None = None
    stands_for: str | None = None
    """What ``ip`` stands for when no dump tells the address."""
    families: tuple[int, ...] = ()
    """Those that a NodePort is served in, the Service's first one first; () when nothing tells."""

    def __str__(self) -> str:
        return f"{NAMES.get(self.kind, self.kind)} {self.port}/{PROTOCOL_NAMES[self.protocol]}"
