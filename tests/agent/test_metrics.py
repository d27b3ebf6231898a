"""What the agent tells of itself."""

from __future__ import annotations

from netk8s.agent.metrics import Metrics


def test_a_snapshot_and_findings_are_counted() -> None:
    made = Metrics()
    made.took(12, 3456, 1, 0.5)
    made.answered(b'{"findings": [{"code": "NK101", "severity": "warning"}]}')
    made.answered(b"no document")
    text = made.text().decode()
    assert "netk8s_agent_snapshot_texts 12.0" in text
    assert "netk8s_agent_snapshot_bytes 3456.0" in text
    assert 'netk8s_agent_findings_total{code="NK101",severity="warning"} 1.0' in text


def test_two_agents_in_one_process() -> None:
    one, other = Metrics(), Metrics()
    one.took(1, 1, 0, 0.1)
    assert "netk8s_agent_snapshots_taken_total 1.0" in one.text().decode()
    assert "netk8s_agent_snapshots_taken_total 0.0" in other.text().decode()
