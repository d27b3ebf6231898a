"""Builds kube-apiserver and kube-proxy at the version that controlplane/go.mod pins, once, into a cache.

``python tests/e2e/build.py`` prints the folder with the programs. The cache is $NETK8S_E2E_CACHE, else
$XDG_CACHE_HOME/netk8s-e2e, else ~/.cache/netk8s-e2e. Takes about 15 minutes on two cores the first time.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

MODULE = Path(__file__).parent / "controlplane"
PROGRAMS = ("kube-apiserver", "kube-proxy")


def folder() -> Path:
    """Where the programs of this go.mod are, whether they are built or not."""
    cache = os.environ.get("NETK8S_E2E_CACHE")
    home = Path(cache) if cache else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "netk8s-e2e"
    return home / hashlib.sha256((MODULE / "go.sum").read_bytes()).hexdigest()[:12]


def lacking() -> list[str]:
    return [name for name in PROGRAMS if not (folder() / name).is_file()]


def build() -> Path:
    """The folder with the programs."""
    where = folder()
    where.mkdir(parents=True, exist_ok=True)
    for name in lacking():
        # One package after the other: the linker of two such programs at once needs several GiB.
        part = where / f".{name}.part"
        subprocess.run(
            ["go", "build", "-p", "1", "-o", str(part), f"k8s.io/kubernetes/cmd/{name}"], cwd=MODULE, check=True
        )
        part.rename(where / name)
    return where


if __name__ == "__main__":
    print(build())
    sys.exit(0)
