"""The folder that ``kubectl cluster-info dump --output-directory=DIR`` writes, and what it prints without that.

``nodes.json``, ``<namespace>/<kind>.json`` and ``<namespace>/<pod>/logs.txt``; ``-o yaml`` gives ``.yaml``. Source:
kubernetes/kubectl, pkg/cmd/clusterinfo/clusterinfo_dump.go.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from msgspec.structs import replace

from netk8s.layouts._place import Parts, Place, nameless, nothing, stem
from netk8s.model import Dump

NAME = "cluster-info dump"
FOLDERS = None
MANY = False

_TELLING = frozenset({"replication-controllers.json", "replication-controllers.yaml"})
_SYSTEM = frozenset({"default", "kube-node-lease", "kube-public", "kube-system"})


def root(parts: Parts) -> Parts | None:
    """A list with a name that only this command gives, and gives in every namespace."""
    return parts[:-2] if len(parts) >= 2 and parts[-1] in _TELLING else None


def place(parts: Parts) -> Place | None:
    """The lists of Services, Pods and Nodes; no log, no list of another kind but for the namespace that it shows."""
    if len(parts) == 1:
        return Place() if stem(parts[0]) == "nodes" else None
    return Place(partial=True) if len(parts) == 2 and stem(parts[1]) in ("pods", "services") else None


node = nameless
lacks = nothing


def whole(paths: Iterable[Parts]) -> bool:
    """With ``-A`` there are the namespaces that every API server makes; without it the command names but two."""
    return {path[0] for path in paths if len(path) == 2} >= _SYSTEM


_START = b"==== START logs for container "
_MARK = re.compile(rb"^==== (START|END) logs for container (\S+ of pod \S+) ====$", re.MULTILINE)


def printed(dump: Dump) -> Dump:
    """A dump in which the logs that the command prints between the objects are blank lines; any other as it is.

    A log ends at the last line that says so of its container, whatever the container printed itself.
    """
    if not dump.data[:64].lstrip().startswith(b"{") or dump.data.find(b"\n" + _START) < 0:
        return dump
    data = bytes(dump.data)
    ends = {mark[2]: mark.end() for mark in _MARK.finditer(data) if mark[1] == b"END"}
    kept, at = [], 0
    for mark in _MARK.finditer(data):
        if mark.start() < at or mark[1] == b"END":
            continue
        end = ends.get(mark[2], len(data))
        kept += [data[at : mark.start()], b"\n" * data.count(b"\n", mark.start(), end)]
        at = end
    return replace(dump, data=b"".join((*kept, data[at:])), partial=True)
