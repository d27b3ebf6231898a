"""One node with random rules, on bare wires: the kernel's side of the differential test.

The far end of every device is a wire in a second namespace with no addresses. Nobody there answers, so a packet has one
way and one trace. The node's devices have ARP switched off for the same reason: no neighbour is ever asked for.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Self

from . import snapshot_folder
from .agent import Agent
from .cluster import EVERYWHERE, FORWARDING
from .generate_rules import Layout, RuleSet, Sending, sets_text
from .observation import Headers, Observation, observe
from .rules import EMPTY_RULES
from .worker import Collected

# A redirect (a packet that leaves by the device it came in by) is an answer too, but not one of the rules'.
NO_REDIRECTS = {"net.ipv4.conf.all.send_redirects": "0", "net.ipv4.conf.default.send_redirects": "0"}


class NodeUnderTest:
    """A node of a layout with one backend. Load a ruleset, then send packets."""

    def __init__(self, backend: str, layout: Layout) -> None:
        self.backend, self.layout = backend, layout
        self.node, self.wires = Agent("node"), Agent("wires")
        self.saved: dict[int, str] = {}
        try:
            self._build()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.node.close()
        self.wires.close()

    def _build(self) -> None:
        node, wires = self.node, self.wires
        node.call("sysctl", {**EVERYWHERE, **FORWARDING, **NO_REDIRECTS})
        wires.call("sysctl", {"net.ipv6.conf.all.disable_ipv6": "1", "net.ipv6.conf.default.disable_ipv6": "1"})
        lines = ["link set lo up"]
        for device in self.layout.devices:
            name = device.name
            if name == "lo":
                lines += [f"addr add {address} dev lo" for address in device.addresses]
                continue
            lines += [f"link add {name} type veth peer name wire-{name} netns {wires.pid}", f"link set {name} arp off"]
            lines += [f"addr add {address} dev {name}" for address in device.addresses]
        # Up after the addresses are there: no router solicitation, no address detection in between.
        lines += [f"link set {device.name} up" for device in self.layout.devices if device.name != "lo"]
        node.call("ip", lines)
        wires.call("ip", [f"link set wire-{device.name} up" for device in self.layout.devices if device.name != "lo"])
        # Before the routes: a route keeps the source it would give, and a setting alone does not make it choose again.
        node.call("sysctl", dict(self.layout.sysctls))
        node.call("ip", [f"route add {route}" for device in self.layout.devices for route in device.routes])
        node.call("ip", [f"route add {route}" for route in self.layout.routes])
        node.call("ip", [rule for rule in self.layout.rules if not rule.startswith("-6 ")])
        # A batch has one family for all of its lines.
        six = [rule.removeprefix("-6 ") for rule in self.layout.rules if rule.startswith("-6 ")]
        if six:
            node.call("run", ["ip", "-6", "-batch", "-"], "\n".join(six) + "\n")
        node.call("run", ["ipset", "restore"], sets_text(self.layout))
        wires.call("tap", [f"wire-{device.name}" for device in self.layout.devices if device.name != "lo"])
        links = json.loads(node.call("run", ["ip", "-j", "link"]))
        self._macs = {link["ifname"]: link["address"] for link in links}
        for family in (4, 6):
            self.load_text(family, EMPTY_RULES)
        node.call("arm", self.backend)

    def load_text(self, family: int, text: str) -> str:
        """Loads iptables-restore text and returns what iptables-save makes of it."""
        self.node.call("load", self.backend, family, text)
        self.saved[family] = saved = self.node.call("save", self.backend, family)
        return str(saved)

    def load(self, rules: RuleSet) -> str:
        return self.load_text(rules.family, rules.text())

    def observe(self, sending: Sending, first: bool = True) -> Observation:
        """Sends one packet, the first of its connection, and says what the kernel did with it."""
        refused, collected = self.send(sending, first)
        return observe(sending.probe, refused, collected, self.saved[sending.probe.family])

    def send(self, sending: Sending, first: bool = True) -> tuple[str, Collected]:
        """Sends one packet: why the kernel would not send it ("" if it did), and what was seen of it."""
        probe = sending.probe
        if first:
            # An earlier connection can hold the port that a rule rewrites to; then the kernel drops or takes another.
            self.node.call("flush_conntrack")
        if sending.iif:
            self.node.call("forget")
            self.wires.call("send_frame", f"wire-{sending.iif}", probe.frame(self._macs[sending.iif]))
            return "", self.node.call("collect", probe)
        refused, collected = self.node.call("probe_local", probe)
        return refused, collected

    def ask_source(self, ip: str, port: int, mark: int) -> Observation:
        """What a UDP socket that is bound to no address gets: its source, and the device its datagram leaves by."""
        self.node.call("flush_conntrack")
        self.wires.call("caught")
        src, error = self.node.call("ask_source", ip, port, mark)
        out = [wire for wire, seen in self.wires.call("caught") if seen.dport == port]
        verdict = "unroutable" if error else "sent" if out else "local"
        headers = Headers(src, ip, None, port, mark)
        return Observation(verdict, (), headers, oif=out[0].removeprefix("wire-") if out else "", reason=error)

    def dump(self, folder: Path, name: str = "node", armed: str = "") -> Path:
        """The node's snapshot folder without a cluster's objects. The observer's own table is left out. ``armed``: whose
        rules are told from then on, the node's own backend's unless given."""
        self.node.call("disarm")
        snapshot_folder.write_node(folder / "nodes" / name, self.node, self.backend)
        (folder / "nodes" / name / "ip6-rule.json").write_text(self.node.call("run", ["ip", "-6", "-j", "rule"]))
        for extra in ("nft-ruleset.txt", "nft-ruleset.json"):
            # The nft view of iptables-nft's own tables would be a second copy that the loop does not renew.
            (folder / "nodes" / name / extra).unlink(missing_ok=True)
        self.node.call("arm", armed or self.backend)
        return folder
