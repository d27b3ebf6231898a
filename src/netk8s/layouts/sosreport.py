"""A report of ``sos report`` (an sosreport), of one node.

``sos_commands/<plugin>/<command with its options, _ for spaces>``, below a folder ``sosreport-<host>-…``. Rules are there as
``iptables -t <table> -nvL`` and as ``nft list ruleset``, with ``-a`` since 4.6.1. Sources:
sosreport/sos, sos/report/plugins/{networking,firewall_tables,kernel,conntrack,host,kubernetes}.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from netk8s.layouts._place import Parts, Place, never_whole
from netk8s.model import Missing

NAME = "sosreport"
FOLDERS = frozenset({"sos_commands", "etc"})
MANY = True

_OWN = re.compile(r"sosreport-.+", re.IGNORECASE)
# What the report's folder has beside sos_commands, and in an archive before it.
_BESIDE = frozenset({
    "boot", "dev", "etc", "home", "lib", "opt", "proc", "root", "run", "sos_logs", "sos_reports", "sos_strings", "sys",
    "usr", "var",
})  # fmt: skip
_PLUGINS = frozenset({"conntrack", "firewall_tables", "firewalld", "ipset", "ipvs", "kernel", "networking"})
_COMMAND = re.compile(
    r"ip6?tables(?:-legacy|-nft)?-save|nft_(?:-a_)?list_ruleset|nft_list_hooks|sysctl_-a|ss_-\w+|conntrack_-L(?:_.+)?"
    r"|ip_(?:-[\w]+_)*(?:link|addr|address|route_show_table_all|rule|rule_list|neigh|neigh_show)"
    r"|bridge_(?:-[\w]+_)*(?:fdb|link)_show|ipset_save|ipvsadm_-(?:Ln|Sn)"
)
_OBJECTS = re.compile(
    r"(?:microk8s_|k8s_)?(?:kubectl|oc)(?:_--kubeconfig\S*)?_get_-o_json(?:_--namespace\S+)?"
    r"_(?:endpoints|ingresses|nodes|pods|services)"
)
_HOST = (("sos_commands", "host", "hostname"), ("etc", "hostname"))
_RULES = re.compile(r"ip6?tables(?:-legacy|-nft)?-save|nft_(?:-a_)?list_ruleset")


def root(parts: Parts) -> Parts | None:
    """Before ``sos_commands``, or the folder that sos packs everything in."""
    if "sos_commands" in parts:
        return parts[: parts.index("sos_commands")]
    for i, part in enumerate(parts[:-1]):
        if _OWN.fullmatch(part) and parts[i + 1] in _BESIDE:
            return parts[: i + 1]
    return None


def place(parts: Parts) -> Place | None:
    """The outputs of commands that a trace asks for; the objects that kubectl printed as JSON."""
    if parts in _HOST:
        return Place(names_node=True)
    if parts[0] != "sos_commands" or len(parts) < 3:
        return None
    if len(parts) == 3 and parts[1] in _PLUGINS and _COMMAND.fullmatch(parts[2]):
        return Place(of_node=True)
    if parts[1:3] == ("kubernetes", "cluster-info") and _OBJECTS.fullmatch(parts[-1]):
        return Place(partial=True)
    return None


def node(root: Parts, texts: Mapping[Parts, bytes]) -> str | None:
    """What ``hostname`` printed, else the name of the report's folder: it has the host's name in it."""
    for path in _HOST:
        words = texts.get(path, b"").decode("utf-8", "replace").split()
        if len(words) == 1 and words[0].isprintable():
            return words[0]
    return root[-1] if root else None


whole = never_whole


def lacks(paths: Iterable[Parts], node: str) -> Iterable[Missing]:
    """The rules, where sos kept them only as ``iptables -L`` shows them."""
    if not any(_RULES.fullmatch(path[-1]) for path in paths):
        whose = f" of {node}" if node else ""
        yield Missing(
            f"the rules{whose}",
            "every translation and filter; `iptables -L`, which this sosreport may have, leaves parts of rules out: "
            "give the node's `iptables-save` beside it",
            node=node,
        )
