"""Builds kube-apiserver, kube-proxy and helm at the versions that the go.mod files here pin, once, into a cache.

``python tests/e2e/build.py`` prints where the programs are; with names, it builds those alone. The cache is
$NETK8S_E2E_CACHE, else $XDG_CACHE_HOME/netk8s-e2e, else ~/.cache/netk8s-e2e. The control plane takes about 15 minutes on
two cores the first time, helm about 4.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

HERE = Path(__file__).parent
PROGRAMS = {
    "kube-apiserver": ("controlplane", "k8s.io/kubernetes/cmd/kube-apiserver"),
    "kube-proxy": ("controlplane", "k8s.io/kubernetes/cmd/kube-proxy"),
    "helm": ("helm", "helm.sh/helm/v3/cmd/helm"),
}
"""A program: the folder of the module that pins it, and its package."""


def path(name: str) -> Path:
    """Where the program is, or will be, at the version that is pinned now."""
    cache = os.environ.get("NETK8S_E2E_CACHE")
    home = Path(cache) if cache else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "netk8s-e2e"
    sums = HERE / PROGRAMS[name][0] / "go.sum"
    return home / hashlib.sha256(sums.read_bytes()).hexdigest()[:12] / name


def lacking() -> list[str]:
    return [name for name in PROGRAMS if not path(name).is_file()]


def build(names: Iterable[str] = PROGRAMS) -> None:
    for name in set(names) & set(lacking()):
        module, package = PROGRAMS[name]
        where = path(name)
        where.parent.mkdir(parents=True, exist_ok=True)
        # One package after the other: the linker of two such programs at once needs several GiB.
        part = where.with_name(f".{name}.part")
        subprocess.run(["go", "build", "-p", "1", "-o", str(part), package], cwd=HERE / module, check=True)
        part.rename(where)


if __name__ == "__main__":
    wanted = sys.argv[1:] or list(PROGRAMS)
    build(wanted)
    print(*map(path, wanted), sep="\n")
