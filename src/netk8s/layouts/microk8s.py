"""What ``microk8s inspect`` packs: ``inspection-report/`` of one node, with the cluster's objects.

``k8s/cluster-info-dump`` is what ``kubectl cluster-info dump -A`` prints. ``network/`` has ``ip addr``, ``ip route`` and
``ss -pln``, and the rules as ``iptables -S`` (of one table) and ``iptables -L`` only. Source: canonical/microk8s,
scripts/inspect.sh.
"""

from __future__ import annotations

from collections.abc import Iterable

from netk8s.layouts._place import Parts, Place, nameless, never_whole
from netk8s.model import Missing

NAME = "microk8s inspect"
FOLDERS = frozenset({"k8s", "network"})
MANY = False

_OWN = "inspection-report"
_FOLDERS = frozenset({"apparmor", "args", "juju", "k8s", "network", "sys"})
# Files that a node's own commands printed into the report's folder are taken as they are.
_RULES = frozenset({"iptables-save", "ip6tables-save", "nft-ruleset"})
_NODE = frozenset({"ip-addr", "ip-route", "ss", *_RULES})


def root(parts: Parts) -> Parts | None:
    """The folder ``inspection-report`` with one of its own folders in it."""
    for i, part in enumerate(parts[:-1]):
        if part == _OWN and parts[i + 1] in _FOLDERS:
            return parts[: i + 1]
    return None


def place(parts: Parts) -> Place | None:
    """The cluster's objects, the node's addresses, routes and sockets, and rules where they are whole."""
    if parts == ("k8s", "cluster-info-dump"):
        return Place(partial=True)
    return Place(of_node=True) if len(parts) == 2 and parts[0] == "network" and parts[1] in _NODE else None


node = nameless
whole = never_whole


def lacks(paths: Iterable[Parts], node: str) -> Iterable[Missing]:
    """The rules: neither ``iptables -S`` of the table filter alone nor ``iptables -L`` has all of them."""
    if not any(path[-1] in _RULES for path in paths):
        yield Missing(
            "the node's rules",
            "every translation and filter; the report has `iptables -L`, which leaves parts of rules out: give the node's "
            "`iptables-save` beside it",
        )
