"""One node's network namespace: its facts with the indexes that hooks ask for."""

from __future__ import annotations

from collections.abc import Container, Iterable
from functools import cached_property
from ipaddress import ip_address

from netk8s.kernel.routing import Fib, local_routes
from netk8s.model import (
    Addr,
    Address,
    Bridge,
    IpSet,
    Link,
    Neighbour,
    Node,
    Packet,
    Question,
    Route,
    Socket,
    Table,
    VirtualServer,
)

_HOST_SCOPE = (Address("lo", ip_address("127.0.0.1"), 8, "host"), Address("lo", ip_address("::1"), 128, "host"))


class Netns:
    """Asks of one node. ``own`` are addresses known to be the node's without a dump (from objects, or stand-ins)."""

    def __init__(self, node: Node, own: Iterable[Addr] = (), foreign: Container[Addr] = frozenset()) -> None:
        self.node = node
        self.name = node.name
        self.own = frozenset(own)
        self.foreign = foreign
        self._fibs: dict[int, Fib] = {}
        self.memo: dict[object, tuple[object, object]] = {}
        """What kernel modules derive from the node's facts once: (the fact, what came of it)."""

    # -- what the dumps cover

    def routes_known(self, family: int) -> bool:
        return f"route{family}" in self.node.covered

    @property
    def addresses_known(self) -> bool:
        return "addr" in self.node.covered

    @property
    def sockets_known(self) -> bool:
        return "socket" in self.node.covered

    def rules_known(self, family: int) -> bool:
        return f"rules{family}" in self.node.covered or "nft" in self.node.covered

    # -- tables

    def tables(self, family: int, name: str) -> tuple[Table, ...]:
        """The tables of a name, in the order a hook asks those of one priority."""
        return self._tables.get((family, name), ())

    @cached_property
    def _tables(self) -> dict[tuple[int, str], tuple[Table, ...]]:
        out: dict[tuple[int, str], tuple[Table, ...]] = {}
        # Of two backends at one priority the chain registered last runs first; no rules dump shows the order.
        # nft's chains are taken as the later ones: a node moves from legacy to nft, seldom back.
        for table in sorted(self.node.tables, key=lambda t: {"nft": 0, "unknown": 1, "legacy": 2}[t.backend]):
            key = (table.family, table.name)
            out[key] = (*out.get(key, ()), table)
        return out

    def ipset(self, name: str) -> IpSet | None:
        return next((s for s in self.node.sets if s.name == name), None)

    # -- IPVS

    @property
    def virtual_servers_known(self) -> bool:
        return "ipvs" in self.node.covered

    def virtual_server(self, packet: Packet) -> VirtualServer | None:
        """The virtual server of a packet (ip_vs_service_find): by its mark, else its destination, else any port."""
        found = self._marked_servers.get((packet.family, packet.mark)) if packet.mark else None
        for port in (packet.dport, 0) if found is None else ():
            found = found or self._virtual_servers.get((packet.protocol, packet.dst, port))
        return found

    @cached_property
    def _virtual_servers(self) -> dict[tuple[int, Addr | None, int | None], VirtualServer]:
        return {(s.protocol, s.ip, s.port): s for s in self.node.virtual_servers if s.fwmark is None}

    @cached_property
    def _marked_servers(self) -> dict[tuple[int, int | None], VirtualServer]:
        return {(s.family, s.fwmark): s for s in self.node.virtual_servers if s.fwmark is not None}

    # -- addresses and routes

    @cached_property
    def addresses(self) -> dict[str, tuple[Address, ...]]:
        """Addresses by device, each list in the kernel's order."""
        out: dict[str, tuple[Address, ...]] = {}
        for address in self.node.addresses:
            out[address.dev] = (*out.get(address.dev, ()), address)
        return out

    @cached_property
    def devices(self) -> tuple[str, ...]:
        """Device names in creation order (by index)."""
        index = {link.name: link.index for link in self.node.links}
        for address in self.node.addresses:
            index.setdefault(address.dev, address.index)
        return tuple(sorted(index, key=lambda name: index[name]))

    @cached_property
    def links(self) -> dict[str, Link]:
        return {link.name: link for link in self.node.links}

    def fib(self, family: int) -> Fib:
        if family not in self._fibs:
            routes: Iterable[Route] = self.node.routes
            if not any(r.table == "local" and r.dst.version == family for r in self.node.routes):
                # "ip route" without "table all" leaves out what every address brings with it.
                known = self.node.addresses or _HOST_SCOPE
                extra = [Address("", ip, ip.max_prefixlen, "global") for ip in self.own]
                routes = (*self.node.routes, *local_routes((*known, *extra)))
            self._fibs[family] = Fib(family, routes, self.node.rules)
        return self._fibs[family]

    def is_local(self, addr: Addr) -> bool | None:
        """Whether an address is of this node, None when no dump tells."""
        if addr in self.own or addr.is_loopback:
            return True
        if self.addresses_known or any(r.table == "local" for r in self.node.routes):
            return self.fib(addr.version).address_type(addr) == "local"
        if addr in self.foreign or addr.is_multicast:
            return False
        return None

    def is_local_question(self, addr: Addr) -> Question:
        return Question(
            f"{self.name}:local:{addr}",
            f"{addr} is an address of {self.name}",
            f"{addr} is not an address of {self.name} (no dump lists its addresses)",
            default=False,
        )

    # -- neighbours, sockets, settings

    def neighbour(self, ip: Addr, dev: str) -> Neighbour | None:
        return self._neighbours.get((ip, dev))

    @cached_property
    def _neighbours(self) -> dict[tuple[Addr, str], Neighbour]:
        return {(n.ip, n.dev): n for n in self.node.neighbours}

    def port_of(self, mac: str, bridge: str) -> str | None:
        """The bridge port a MAC address was learnt on."""
        for entry in self.node.fdb:
            if entry.mac == mac and entry.dst is None:
                link = self.links.get(entry.dev)
                if (entry.master or (link.master if link else None)) == bridge and "self" not in entry.flags:
                    return entry.dev
        return None

    def sockets_at(self, protocol: int, ip: Addr, port: int) -> tuple[Socket, ...]:
        """Sockets that would take a packet for ip:port."""
        return tuple(
            s
            for s in self.node.sockets
            if s.protocol == protocol
            and s.port == port
            and ip.version in s.families
            and (s.ip is None or s.ip == ip or (s.ip.is_unspecified and s.ip.version <= ip.version))
        )

    def sysctl(self, name: str) -> str | None:
        found = self.node.sysctls.get(name)
        return found.value if found is not None else None

    def flag(self, name: str, default: bool | None = None) -> bool | None:
        """A sysctl as yes or no, ``default`` when no dump has it."""
        value = self.sysctl(name)
        if value is None:
            return default
        return value.strip() not in ("0", "")

    def number(self, name: str, default: int = 0) -> int:
        value = self.sysctl(name)
        try:
            return int(value) if value is not None else default
        except ValueError:
            return default

    def dev_setting(self, key: str, dev: str) -> int:
        """A net.ipv4.conf setting that is the larger of "all" and the device (IN_DEV_MAXCONF, IN_DEV_ORCONF)."""
        return max(self.number(f"net.ipv4.conf.all.{key}"), self.number(f"net.ipv4.conf.{_sysctl_dev(dev)}.{key}"))

    def forwards(self, family: int, dev: str) -> bool | None:
        """Whether packets that come in by ``dev`` are forwarded; None when no dump tells."""
        if family == 6:
            # ip6_forward asks the namespace's setting (net.ipv6.conf.all.forwarding) only.
            return self.flag("net.ipv6.conf.all.forwarding")
        own = self.flag(f"net.ipv4.conf.{_sysctl_dev(dev)}.forwarding")
        return own if own is not None else self.flag("net.ipv4.ip_forward")

    def bridge_netfilter(self, family: int, bridge: str | None = None) -> bool | None:
        """Whether frames of bridges pass the IP hooks (br_netfilter); None when no dump tells."""
        name = "net.bridge.bridge-nf-call-iptables" if family == 4 else "net.bridge.bridge-nf-call-ip6tables"
        value = self.flag(name)
        link = self.links.get(bridge or "")
        own = link.detail if link and isinstance(link.detail, Bridge) else Bridge()
        if value is None and "sysctl" in self.node.covered:
            # The setting does not exist while br_netfilter is not loaded.
            value = False
        if own.nf_call_iptables if family == 4 else own.nf_call_ip6tables:
            return True
        return value


def _sysctl_dev(dev: str) -> str:
    """A device name as sysctl writes it: dots and slashes change places (proc_sys names, vlan "eth0.5")."""
    return dev.translate({ord("."): "/", ord("/"): "."})
