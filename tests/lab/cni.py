"""The real CNI plugins at work in the lab: what a container runtime does for a pod (CNI specification 1.0, section 3).

Each plugin is a program that reads its configuration, makes links, addresses and rules in the namespaces of node and pod
and prints a result, which the next plugin of the chain gets as ``prevResult``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from .agent import Agent

PLUGINS = Path("/usr/lib/cni")
"""Where Debian's containernetworking-plugins has them."""
NEEDED = ("bridge", "portmap", "ptp", "macvlan", "firewall", "host-local")

Mapping = tuple[str, int, int, str]
"""(protocol, port of the host, port of the container, address of the host or "")."""


def available() -> str:
    """ "" when the plugins are there, else why not."""
    lacking = [name for name in NEEDED if not (PLUGINS / name).is_file()]
    return f"no CNI plugins {', '.join(lacking)} in {PLUGINS} (package containernetworking-plugins)" if lacking else ""


class Runtime:
    """What kubelet's container runtime does with a network configuration on one node."""

    def __init__(self, node: Agent, folder: Path, backend: str, plugins: Sequence[dict[str, Any]]) -> None:
        self.node = node
        self.plugins = plugins
        self.folder = folder
        # The plugins run whatever "iptables" is; this one is of the backend that the test is about.
        tools = folder / "bin"
        tools.mkdir(parents=True, exist_ok=True)
        for name in ("iptables", "ip6tables"):
            for tail in ("", "-save", "-restore"):
                link = tools / f"{name}{tail}"
                if not link.exists():
                    link.symlink_to(f"/usr/sbin/{name}-{backend}{tail}")
        self.path = f"{tools}:{os.environ.get('PATH', '/usr/sbin:/usr/bin:/sbin:/bin')}"

    def add(self, pod: Agent, key: str, ip: str, subnet: str, mappings: Sequence[Mapping] = ()) -> None:
        """Attaches a pod (namespace/name) with one address to the network."""
        result: dict[str, Any] | None = None
        for plugin in self.plugins:
            conf: dict[str, Any] = {"cniVersion": "0.4.0", "name": "lab", **plugin}
            if plugin["type"] != "portmap" and "ipam" in plugin:
                pool = {"subnet": subnet, "rangeStart": ip, "rangeEnd": ip}
                ipam = {"type": "host-local", "dataDir": str(self.folder / key.replace("/", "-")), "ranges": [[pool]]}
                conf["ipam"] = {**ipam, **plugin["ipam"]}
            if plugin.get("capabilities", {}).get("portMappings"):
                names = ("protocol", "hostPort", "containerPort", "hostIP")
                found = [dict(zip(names, mapping, strict=True)) for mapping in mappings]
                conf["runtimeConfig"] = {"portMappings": [{k: v for k, v in m.items() if v} for m in found]}
            if result is not None:
                conf["prevResult"] = result
            environment = {
                "CNI_COMMAND": "ADD",
                "CNI_CONTAINERID": sha256(key.encode()).hexdigest()[:12],
                "CNI_NETNS": f"/proc/{pod.pid}/ns/net",
                "CNI_IFNAME": "eth0",
                "CNI_PATH": str(PLUGINS),
                "PATH": self.path,
            }
            command = ["env", *(f"{k}={v}" for k, v in environment.items()), str(PLUGINS / plugin["type"])]
            answer = self.node.call("run", command, json.dumps(conf))
            result = json.loads(answer) if answer.strip() else result
