"""collect/sockets.py: what it gives is what the tool prints, and no tool is a gap."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from netk8s.collect import sockets
from netk8s.collect._text import Gap, Text


@pytest.mark.lab
def test_it_is_what_the_tool_prints(spaces: Callable[[], Any]) -> None:
    space = spaces()
    code = (
        "from netk8s.collect import sockets\n"
        "text = next(iter(sockets.texts()))\nprint(text.name, text.source, sep='|')\nprint(text.data.decode(), end='')"
    )
    first, _, rest = space.python(code).partition("\n")
    assert first == "listening.txt|ss -Hlntu"
    assert rest == space.run(*["ss", "-Hlntu"])


# An address, its family's socket options, and how ss writes a socket that listens there.
SOCKETS = """
import socket
made = []
def listen(family, kind, address, v6only=None, device=None):
    made.append(one := socket.socket(family, kind))
    if v6only is not None:
        one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, v6only)
    if device:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device)
    one.bind(address)
    if kind == socket.SOCK_STREAM:
        one.listen()
    return one
four, six, tcp, udp = socket.AF_INET, socket.AF_INET6, socket.SOCK_STREAM, socket.SOCK_DGRAM
listen(four, tcp, ("127.0.0.1", 80)), listen(four, tcp, ("0.0.0.0", 81)), listen(six, tcp, ("::", 82), 0)
listen(six, tcp, ("::", 83), 1), listen(six, tcp, ("::1", 84)), listen(four, tcp, ("0.0.0.0", 85), None, b"lo")
listen(six, tcp, ("::", 86), 0, b"lo"), listen(six, tcp, ("::ffff:127.0.0.1", 87), 0)
listen(four, udp, ("127.0.0.1", 90)), listen(six, udp, ("::", 92), 0)
listen(four, udp, ("0.0.0.0", 93)).connect(("127.0.0.1", 90))
"""


@pytest.mark.lab
def test_the_kernel_says_what_ss_says(
    spaces: Callable[[], Any], differences: Callable[..., tuple[list[str], list[str]]]
) -> None:
    code = f"""{SOCKETS}
import json, subprocess
from netk8s.collect import sockets
said = subprocess.run(["ss", "-Hlntu"], capture_output=True, text=True, check=True).stdout
print(json.dumps([sockets.listening().decode(), said]))
"""
    ours, ss = json.loads(spaces().python(code))
    assert ss.count("\n") == 10
    assert differences(ours.encode(), ss.encode()) == ([], [])


def test_without_ss_the_kernel_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (text,) = sockets.texts()
    assert isinstance(text, Text)
    assert text.source == "netlink (sock_diag)"


def test_a_kernel_that_refuses_is_a_gap(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    def refused(*_: object) -> None:
        raise OSError(errno.EPROTONOSUPPORT, "Protocol not supported")

    monkeypatch.setattr(sockets.socket, "socket", refused)
    (gap,) = sockets.texts()
    assert isinstance(gap, Gap)
    assert "ss" in gap.why
    assert "Protocol not supported" in gap.why
