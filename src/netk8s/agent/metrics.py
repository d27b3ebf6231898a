"""What the agent tells of itself, in Prometheus' words."""

from __future__ import annotations

import json
import time
from datetime import datetime
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """A registry of its own: one process may have several agents, as tests do."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        made: Any = {"registry": self.registry, "namespace": "netk8s_agent"}
        self.requests = Counter("requests", "Requests answered.", ["path", "status"], **made)
        self.seconds = Histogram(
            "request_seconds", "How long a request took.", ["path"], buckets=(0.01, 0.1, 0.5, 1, 2, 5, 10, 30), **made
        )
        self.running = Gauge("requests_running", "Requests that are being answered.", **made)
        self.taken = Counter(
            "snapshots_taken", "Snapshots taken of the kernel; the others were given out again.", **made
        )
        self.failed = Counter("snapshots_failed", "Snapshots that could not be taken.", **made)
        self.texts = Gauge("snapshot_texts", "Texts of the snapshot that is held.", **made)
        self.size = Gauge("snapshot_bytes", "Bytes of the snapshot that is held, before it is packed.", **made)
        self.missing = Gauge("snapshot_missing", "Texts that could not be taken.", **made)
        self.duration = Gauge("snapshot_seconds", "How long the snapshot took to be taken.", **made)
        self.at = Gauge("snapshot_timestamp_seconds", "When the snapshot that is held was taken.", **made)
        self.reviews = Counter("access_decisions", "Decisions on tokens.", ["status"], **made)
        self.api = Gauge("api_server_reached", "1 when the API server answered when it was asked last.", **made)
        self.certificate = Gauge("certificate_ends_timestamp_seconds", "When the agent's certificate ends.", **made)
        self.findings = Counter(
            "findings", "Findings of the answers that were given here.", ["code", "severity"], **made
        )

    def took(self, texts: int, size: int, missing: int, seconds: float) -> None:
        self.taken.inc()
        self.texts.set(texts)
        self.size.set(size)
        self.missing.set(missing)
        self.duration.set(seconds)
        self.at.set(time.time())

    def certificate_ends(self, when: datetime) -> None:
        self.certificate.set(when.timestamp())

    def answered(self, document: bytes) -> None:
        """Counts the findings of a document of the contract."""
        try:
            found = json.loads(document).get("findings") or ()
        except (ValueError, AttributeError):
            return
        for finding in found:
            self.findings.labels(str(finding.get("code")), str(finding.get("severity"))).inc()

    def text(self) -> bytes:
        return generate_latest(self.registry)
