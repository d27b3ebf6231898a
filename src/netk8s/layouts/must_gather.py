"""What ``oc adm must-gather`` and ``oc adm inspect`` write: objects as YAML, of the namespaces that were asked for.

``cluster-scoped-resources/<group>/<resource>/<name>.yaml`` and ``namespaces/<namespace>/<group>/<resource>.yaml``, below a
folder per image. Sources: openshift/enhancements, enhancements/oc/{must-gather,inspect}.md; openshift/oc,
pkg/cli/admin/inspect; openshift/must-gather, collection-scripts/.
"""

from __future__ import annotations

from netk8s.layouts._place import OBJECTS, Parts, Place, nameless, never_whole, nothing, stem

NAME = "must-gather"
FOLDERS = frozenset({"cluster-scoped-resources", "namespaces"})
MANY = False

_CLUSTER = "cluster-scoped-resources"
_NAMESPACES = "namespaces"
_GROUPS = frozenset({"core", "discovery.k8s.io", "networking.k8s.io", "gateway.networking.k8s.io"})
_SCOPED = frozenset({"gatewayclasses", "ingressclasses", "namespaces", "nodes"})


def root(parts: Parts) -> Parts | None:
    """Before ``cluster-scoped-resources``, or ``namespaces`` with a group's folder in a namespace's."""
    if _CLUSTER in parts:
        return parts[: parts.index(_CLUSTER)]
    if _NAMESPACES in parts:
        i = parts.index(_NAMESPACES)
        if len(parts) == i + 4 and parts[i + 2] in _GROUPS and parts[-1].endswith(".yaml"):
            return parts[:i]
    return None


def place(parts: Parts) -> Place | None:
    """The objects that netk8s reads. A list holds those of one namespace, and most namespaces have none here."""
    if not parts[-1].endswith(".yaml"):
        return None
    if parts[0] == _CLUSTER and len(parts) == 4 and parts[1] in _GROUPS and parts[2] in _SCOPED:
        return Place(partial=True)
    if parts[0] == _NAMESPACES:
        if len(parts) == 3 and stem(parts[2]) == parts[1]:
            return Place(partial=True)
        if len(parts) == 4 and parts[2] in _GROUPS and stem(parts[3]) in OBJECTS:
            return Place(partial=True)
    return None


node = nameless
whole = never_whole
lacks = nothing
