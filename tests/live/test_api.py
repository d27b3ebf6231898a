"""The API server's edge: credentials as the kubeconfig has them, and every failure in words."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from netk8s.errors import CollectError, UsageError
from netk8s.live import api


def access(path: str, **more: Any) -> api.Access:
    return api.Access(kubeconfig=path, **more)


def test_the_token_and_whom_to_act_as_are_sent(server: Any, kubeconfig: Callable[..., str]) -> None:
    server.answers["/api/v1/x"] = (200, b"{}")
    wanted = access(kubeconfig(server.url, namespace="shop"), user="jane", groups=("dev", "ops"))
    found = api.connect(wanted)
    assert found.get("/api/v1/x", {"limit": 5}) == b"{}"
    assert found.namespace == "shop"
    _, query, headers = server.asked[0]
    assert query == {"limit": "5"}
    assert headers["authorization"] == ["Bearer t0k3n"]
    assert (headers["Impersonate-User"], headers["Impersonate-Group"]) == (["jane"], ["dev", "ops"])
    assert "t0k3n" not in repr(found)


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (401, "wrong or have expired; log in again"),
        (403, "not allowed: pods is forbidden"),
        (429, "is busy"),
        (500, "answered 500: pods is forbidden"),
    ],
)
def test_an_error_is_said_in_the_servers_words(
    status: int, says: str, server: Any, kubeconfig: Callable[..., str]
) -> None:
    server.answers["/x"] = (status, {"kind": "Status", "message": "pods is forbidden"})
    with pytest.raises(api.Refused, match=says) as caught:
        api.connect(access(kubeconfig(server.url))).get("/x")
    assert (caught.value.status, caught.value.exit_status) == (status, 5)
    assert "t0k3n" not in str(caught.value)


def test_nobody_listens(kubeconfig: Callable[..., str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(CollectError, match="cannot be reached"):
            api.connect(access(kubeconfig(url))).get("/x")


def test_silence_ends_after_the_timeout(kubeconfig: Callable[..., str]) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(CollectError, match=r"no answer within 0\.2 s; allow it more with --request-timeout"):
            api.connect(access(kubeconfig(url), timeout=0.2)).get("/x")


def test_a_server_that_speaks_no_tls(server: Any, kubeconfig: Callable[..., str]) -> None:
    with pytest.raises(CollectError, match="TLS"):
        api.connect(access(kubeconfig(server.url.replace("http:", "https:")))).get("/x")


def test_a_name_that_does_not_resolve(kubeconfig: Callable[..., str]) -> None:
    with pytest.raises(CollectError, match=r"cannot be (resolved|reached)"):
        api.connect(access(kubeconfig("http://nowhere.invalid:6443"))).get("/x")


def test_a_proxy_of_the_kubeconfig_is_used(server: Any, kubeconfig: Callable[..., str]) -> None:
    server.answers["/x"] = (200, b"through")
    path = kubeconfig("http://api.invalid", **{"proxy-url": server.url})
    # A plain proxy is asked for the whole URL.
    assert api.connect(access(path)).get("/x") == b"through"


def test_an_unknown_context_lists_the_known(kubeconfig: Callable[..., str]) -> None:
    with pytest.raises(UsageError) as caught:
        api.connect(access(kubeconfig("http://127.0.0.1:1"), context="else"))
    assert caught.value.candidates == ("here", "there")


@pytest.mark.parametrize("text", ["", "{", "a: [", "[]", "kind: Config", "\x00"])
def test_a_damaged_kubeconfig_is_an_error_with_its_name(
    text: str, tmp_path: Path, kubeconfig: Callable[..., str]
) -> None:
    kubeconfig("http://127.0.0.1:1")
    path = tmp_path / "broken"
    path.write_text(text)
    with pytest.raises(CollectError, match="broken"):
        api.connect(access(str(path)))


def test_no_kubeconfig(kubeconfig: Callable[..., str], tmp_path: Path) -> None:
    with pytest.raises(CollectError, match=r"no kubeconfig at .*none; name one with --kubeconfig"):
        api.connect(access(str(tmp_path / "none")))


def test_what_is_too_long_is_not_read(
    server: Any, kubeconfig: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "MOST_BYTES", 1 << 20)
    server.answers["/x"] = (200, b" " * (3 << 20))
    with pytest.raises(CollectError, match="longer than 1 MiB"):
        api.connect(access(kubeconfig(server.url))).get("/x")


def test_several_kubeconfigs_are_one_as_for_kubectl(
    server: Any, kubeconfig: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first file that says something has it; a file that is not there says nothing."""
    first = Path(kubeconfig("http://127.0.0.1:1", namespace="one")).rename(tmp_path / "first")
    text = first.read_text().replace('"here"', '"other"').replace('"there"', '"far"').replace('"c"', '"c2"')
    (tmp_path / "second").write_text(text.replace("http://127.0.0.1:1", server.url).replace('"one"', '"two"'))
    monkeypatch.setenv("KUBECONFIG", f"{first}:{tmp_path / 'gone'}:{tmp_path / 'second'}")
    server.answers["/api/v1/x"] = (200, b"{}")
    current, other = api.connect(api.Access()), api.connect(api.Access(context="far"))
    assert (current.host, current.namespace) == ("http://127.0.0.1:1", "one")
    assert (other.host, other.namespace) == (server.url, "two")
    assert other.get("/api/v1/x") == b"{}"
    with pytest.raises(UsageError, match="has no context nowhere") as caught:
        api.connect(api.Access(context="nowhere"))
    assert set(caught.value.candidates) == {"here", "there", "other", "far"}
