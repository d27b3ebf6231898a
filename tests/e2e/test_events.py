"""Findings of an agent's check as Events that the real API server takes, with no more rights than the overlay gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

NODE = "k8s-node1"


def events(plane: Any) -> dict[str, dict[str, Any]]:
    found = json.loads(plane.kubectl("-n", "default", "get", "events", "-o", "json"))["items"]
    return {e["metadata"]["name"]: e for e in found if e["source"].get("component") == "netk8s-agent"}


@pytest.mark.e2e
def test_findings_are_events_once(plane: Any, root: Path, tmp_path: Path) -> None:
    objects = json.loads(plane.kubectl("get", "services,endpointslices,pods,nodes", "-A", "-o", "json"))
    body = tmp_path / "question"
    body.write_text(json.dumps({"question": {"service": "default/nginx"}, "objects": objects}))
    asked = ("-X", "POST", "--data-binary", f"@{body}")
    token = plane.token("netk8s-client", "--audience=netk8s.dev")

    def check() -> None:
        status, why = plane.ask_agent(NODE, "/v1/check", token, *asked)
        assert status == 200, why

    def written_since(before: dict[str, dict[str, Any]]) -> bool:
        found = events(plane)
        return bool(found) and all(found[name]["lastTimestamp"] != e["lastTimestamp"] for name, e in before.items())

    check()
    assert events(plane) == {}, "nobody asked for Events"
    access = root / "daemonset/overlays/events/access.yaml"
    plane.kubectl("apply", "-f", str(access))
    try:
        first: dict[str, dict[str, Any]] = {}
        for _ in range(2):
            # The second agent knows nothing of the first one's Events.
            plane.stop(plane.agents[NODE])
            plane.start_agent(NODE, "--events")
            plane.wait(lambda: plane.ask_agent(NODE, "/healthz", "")[0] == 200, 30, "the agent with --events")
            check()
            check()
            plane.wait(lambda first=first: written_since(first), 30, "Events")
            first = first or events(plane)
        found = events(plane)
        assert found.keys() == first.keys()
        assert {e["reason"] for e in found.values()} >= {"NK101"}
        assert {(e["involvedObject"]["name"], e["count"], e["type"]) for e in found.values()} == {(NODE, 1, "Warning")}
        described = plane.kubectl("describe", "node", NODE)
        assert "NK101" in described
    finally:
        plane.stop(plane.agents[NODE])
        plane.kubectl("delete", "-f", str(access))
        plane.kubectl("-n", "default", "delete", "events", "--all")
        plane.start_agent(NODE)
        plane.wait(lambda: plane.ask_agent(NODE, "/healthz", "")[0] == 200, 30, "the agent")
