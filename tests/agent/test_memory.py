"""Large blocks are given back when they are freed, in whichever order and thread."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

CODE = """
import threading
from netk8s.agent import memory

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

def use():
    for size in (2, 24, 4, 16):  # MiB: the first that is freed has glibc take all others from heaps
        bytearray(size << 20)

def rows():
    return [bytes(2000) for _ in range(20_000)]

if {apart}:
    memory.map_large()
before = resident()
used, ended = threading.Event(), threading.Event()
threading.Thread(target=lambda: (use(), used.set(), ended.wait())).start()
kept = rows()[::50]
used.wait()
if {apart}:
    memory.give_back()
print((resident() - before) >> 20)
ended.set()
"""


def grown(apart: bool) -> int:
    code = CODE.format(apart=apart)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps what is freed")
def test_what_is_freed_is_given_back() -> None:
    assert grown(False) > 10, "nothing to give back: this test shows nothing"
    assert grown(True) < 6
