"""Kernel settings in sysctl's own words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from netk8s import decode
from netk8s.collect import sysctls
from netk8s.collect._text import Gap
from netk8s.model import Dump


def test_settings_are_as_sysctl_prints_them() -> None:
    assert "net.ipv4.ip_forward = " in sysctls.settings()
    decoder = decode.recognise(Dump("sysctl.txt", sysctls.settings().encode(), "n"))
    assert decoder is not None
    assert decoder.NAME == "sysctl"


def test_a_dot_in_a_device_is_a_slash(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = tmp_path / "net/ipv4/conf/eth0.100"
    folder.mkdir(parents=True)
    (folder / "rp_filter").write_text("1\n")
    monkeypatch.setattr(sysctls, "ROOT", str(tmp_path))
    assert sysctls.settings() == "net.ipv4.conf.eth0/100.rp_filter = 1\n"


def test_nothing_to_read_is_a_gap(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sysctls, "ROOT", str(tmp_path))
    (gap,) = sysctls.texts()
    assert isinstance(gap, Gap)


@pytest.mark.lab
def test_they_equal_sysctls_own(spaces: Callable[[], Any]) -> None:
    space = spaces()
    space.run("sysctl", "-w", "net.ipv4.conf.lo.route_localnet=1")
    ours = space.python("from netk8s.collect import sysctls\nprint(sysctls.settings(), end='')").splitlines()
    theirs = {" ".join(line.split()) for line in space.run("sysctl", "-a").splitlines()}
    assert "net.ipv4.conf.lo.route_localnet = 1" in ours
    assert [line for line in ours if line not in theirs] == []
