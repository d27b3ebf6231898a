"""``netk8s agent``: what it says before it can listen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)


@pytest.mark.parametrize("place", ["9797", "localhost", ":1", "a:b", "127.0.0.1:99999"])
def test_a_place_that_is_none(place: str, netk8s: Callable) -> None:
    ran = netk8s("agent", "--listen", place, "--api-server", "https://192.0.2.1")
    assert ran.status == 2
    assert "expected IP:PORT" in ran.err


def test_outside_of_a_cluster_the_api_server_has_to_be_named(netk8s: Callable) -> None:
    ran = netk8s("agent")
    assert ran.status == 2
    assert "--api-server" in ran.err


def test_a_certificate_that_is_not_there(netk8s: Callable, tmp_path: Path) -> None:
    ran = netk8s("agent", "--api-server", "https://192.0.2.1", "--ca-file", str(tmp_path / "none"))
    assert ran.status == 2
    assert "No such file" in ran.err


@pytest.mark.parametrize("digest", ["", "abc", "g" * 64])
def test_a_digest_that_is_none(digest: str, netk8s: Callable) -> None:
    ran = netk8s("agent", "--accept", digest)
    assert ran.status == 2
    assert "64 hexadecimal digits" in ran.err
