"""The messages people read, and the exit statuses of the contract."""

from __future__ import annotations

import pytest

from netk8s.errors import CollectError, DecodeError, Netk8sError, NotFound, UsageError


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (UsageError("--port 53 is ambiguous", ["53/udp", "53/tcp"]), 2, "--port 53 is ambiguous: 53/udp, 53/tcp"),
        (UsageError("two targets"), 2, "two targets"),
        (DecodeError("node.txt", 7, "expected a rule"), 3, "node.txt:7: expected a rule"),
        (DecodeError("node.txt", 0, "is empty"), 3, "node.txt: is empty"),
        (NotFound("service a/b", ["svc/a/c"]), 4, "service a/b was not found; nearest: svc/a/c"),
        (NotFound("service a/b", (), "service a/b is headless"), 4, "service a/b is headless"),
        (CollectError("agent of n1 timed out"), 5, "agent of n1 timed out"),
    ],
)
def test_message_and_exit_status(error: Netk8sError, status: int, text: str) -> None:
    assert isinstance(error, Netk8sError)
    assert (error.exit_status, str(error)) == (status, text)


def test_a_decode_error_says_where() -> None:
    error = DecodeError("nodes/n1/iptables-save.txt", 12, "no COMMIT")
    assert (error.origin, error.line, error.why) == ("nodes/n1/iptables-save.txt", 12, "no COMMIT")
