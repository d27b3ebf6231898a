"""``sysctl -a`` and parts of it: kernel settings, ``name = value`` on a line each."""

from __future__ import annotations

import re
from collections.abc import Iterator

from netk8s.decode._text import first_lines, lines
from netk8s.errors import DecodeError
from netk8s.model import At, Coverage, Dump, Fact, Sysctl

NAME = "sysctl"

# procps prints "a.b = 1", busybox too; "a.b: 1" is the form of sysctl(8) on other systems and of some collectors.
_SETTING = re.compile(r"([^\s=:]*[./][^\s=:]*)\s*(?:=|:(?=\s|$))(.*)", re.DOTALL)
_ROOTS = frozenset({"abi", "crypto", "debug", "dev", "fs", "kernel", "net", "sunrpc", "user", "vm"})


def sniff(dump: Dump) -> bool:
    """The first lines are settings of the kernel's own trees (net, kernel, vm, …), noise aside."""
    found = [line for line in first_lines(dump)[:20] if not _noise(line)]
    for line in found:
        setting = _SETTING.fullmatch(line)
        if not setting or re.split(r"[./]", setting[1], maxsplit=1)[0] not in _ROOTS:
            return False
    return bool(found)


def decode(dump: Dump) -> Iterator[Fact]:
    """One Sysctl per setting, after Coverage "sysctl".

    A name is dotted, as sysctl(8) prints it: a dot within a device name is a slash there
    (``net.ipv4.conf.eth0/100.rp_filter``); a name written with slashes is turned into that form. A setting
    of several lines is printed as several settings of one name, and gives as many. Raises DecodeError.
    """
    yield Coverage("sysctl", At(dump.origin))
    for number, line in lines(dump):
        text = line.strip()
        if not text or _noise(text):
            continue
        setting = _SETTING.fullmatch(text)
        if not setting:
            why = "expected `name = value` as `sysctl -a` prints it; remove this line or take the dump again"
            raise DecodeError(dump.origin, number, why)
        yield Sysctl(_dotted(setting[1]), setting[2].strip(), At(dump.origin, number))


def _noise(line: str) -> bool:
    """Comments of sysctl.conf, and what sysctl says on standard error of keys that it may not read."""
    return line.startswith(("#", ";", "sysctl:", "error:", "warning:"))


def _dotted(name: str) -> str:
    """sysctl(8): where the first separator is a slash, slashes separate and dots are part of a name."""
    separator = re.search(r"[./]", name)
    return name.translate({ord("/"): ".", ord("."): "/"}) if separator and separator[0] == "/" else name
