# SPDX-License-Identifier: GPL-2.0-only
"""Sockets in other network namespaces.

A socket stays in the namespace it was made in (net/core/sock.c, sk_alloc), so this process goes in, makes it and comes
back: no child process is needed that would have to be watched.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

CLONE_NEWNET = 0x40000000


class NoNamespace(Exception):
    """A namespace that is not there or cannot be entered."""


def path_of(word: str) -> str:
    """The file of a namespace that was named by its file, or by the id of a process in it."""
    path = f"/proc/{word}/ns/net" if word.isdecimal() else word
    if not os.path.exists(path):
        raise NoNamespace(f"there is no network namespace at {path}; give /run/netns/NAME, /proc/PID/ns/net or a PID")
    return path


@contextmanager
def entered(path: str | None) -> Iterator[None]:
    """In a network namespace for the time of the block; None: where we are."""
    if path is None:
        yield
        return
    back = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        _enter(path)
        try:
            yield
        finally:
            _setns(back, "where it came from")
    finally:
        os.close(back)


def _enter(path: str) -> None:
    try:
        fd = os.open(path, os.O_RDONLY)
    except OSError as error:
        raise NoNamespace(f"the network namespace {path} cannot be opened: {error.strerror}") from None
    try:
        _setns(fd, path)
    finally:
        os.close(fd)


def _setns(fd: int, path: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)  # os.setns is there from Python 3.12 on
    if libc.setns(fd, CLONE_NEWNET):
        why = os.strerror(ctypes.get_errno())
        raise NoNamespace(f"cannot enter the network namespace {path}: {why}; that needs root")
