"""Random IPVS: virtual servers, KUBE-* sets and rules of one node, and connections to ask it with. A seed is a case.

The cluster stays the same (:func:`topology`); a :class:`Setup` is what k8s-node1 is loaded with. Every setup has
addresses, NodePorts and marks of its own: IPVS keeps removed real servers for a while and takes them back with their
connections when the same virtual server gets the same one again.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from ipaddress import ip_address

from .topology import ClientSpec, NodeSpec, PodSpec, Topology, two_nodes
from .uml_ipvs import SETS, set_name

NODE = "k8s-node1"
ROUTES = (
    "10.96.0.0/12 via 192.168.52.201",
    "fd00:10:96::/47 via fd00:52::201",
    "10.244.1.1 via 192.168.52.201",
    "fd00:10:244:1::1 via fd00:52::201",
)
"""How the virtual servers' addresses are reached; the last two are the node's own in its pods' subnets."""
SETUPS_A_BOOT = 200
"""Each has the addresses 10.96.1.N and fd00:10:96:1::N."""
SOURCES = ("client", "client-far", NODE, "k8s-node2", *(f"pod/default/{name}" for name in ("toolbox", "far", "a", "c")))
SCHEDULERS = ("rr", "wrr", "sh", "lc", "wlc", "sed", "nq", "mh", "dh", "fo", "ovf", "lblc", "lblcr")
IN_TURN = ("rr", "wrr")
ONE_FOR_ALL = ("sh", "mh", "dh")
"""Schedulers that choose by a hash: one client and one address get one real server each time."""


@dataclass(frozen=True, slots=True)
class Connecting:
    """Connections from one host to one address, ``times`` in a row. ``scheduler`` and ``persistent`` are those of the
    virtual server that is met, "" for none."""

    source: str
    ip: str
    port: int
    protocol: str
    times: int
    scheduler: str = ""
    persistent: bool = False


@dataclass(frozen=True, slots=True)
class Setup:
    """What the node is loaded with. Texts are of ipvsadm, ipset and (by family) iptables-restore."""

    servers: str
    sets: str
    rules: Mapping[str, str]
    sysctls: Mapping[str, str]
    asked: tuple[Connecting, ...]


@dataclass
class _Virtual:
    """A virtual server as it is made up."""

    family: int
    protocol: str
    ip: str
    port: int
    scheduler: str
    options: list[str]
    reals: list[tuple[str, int, str, int]] = field(default_factory=list)
    """(address, port, method option, weight)."""
    mark: int = 0
    dialled: int = 0
    """The port that connections are made to."""

    def key(self) -> str:
        if self.mark:
            return f"-f {self.mark}{' -6' if self.family == 6 else ''}"
        return f"-{self.protocol[0]} {_at(self.ip, self.port)}"

    def text(self) -> str:
        lines = [" ".join([f"-A {self.key()} -s {self.scheduler}", *self.options])]
        lines += [f"-a {self.key()} -r {_at(ip, port)} {method} -w {weight}" for ip, port, method, weight in self.reals]
        return "".join(line + "\n" for line in lines)


def topology() -> Topology:
    """Two nodes, the second without any rules, and pods on both that answer on TCP and UDP."""
    both = (("tcp", 80), ("udp", 80))
    usual = two_nodes()
    pods = tuple(
        PodSpec(name, node, (f"10.244.{at}.{host}", f"fd00:10:244:{at}::{host}"), ports)
        for name, node, at, host, ports in (
            ("a", "k8s-node1", 1, 5, both),
            ("b", "k8s-node1", 1, 6, both),
            ("c", "k8s-node2", 2, 5, both),
            ("d", "k8s-node2", 2, 6, both),
            ("toolbox", "k8s-node1", 1, 120, ()),
            ("far", "k8s-node2", 2, 120, ()),
        )
    )
    host = PodSpec("host", NODE, (), (("tcp", 9100), ("udp", 9100)), host_network=True)
    first, second = usual.nodes
    clients = (
        ClientSpec("client", ("192.168.52.50/24", "fd00:52::50/64"), routes=ROUTES),
        ClientSpec("client-far", ("203.0.113.7/24", "2001:db8:113::7/64"), True),
    )
    far_node: NodeSpec = replace(second, extra=tuple(f"route add {route}" for route in ROUTES[:2]))
    return replace(usual, nodes=(first, far_node), pods=(*pods, host), clients=clients, services=())


def virtual_ips(number: int) -> dict[int, str]:
    """The addresses of a setup, on kube-ipvs0 whether it is loaded or not."""
    return {4: f"10.96.1.{number % SETUPS_A_BOOT + 1}", 6: f"fd00:10:96:1::{number % SETUPS_A_BOOT + 1:x}"}


class IpvsGenerator:
    """Setups from a seed, one after the other."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)  # noqa: S311
        self.made = 0

    def setup(self, asked: int = 5) -> Setup:
        """One with ``asked`` rows of connections."""
        number, rng = self.made, self.random
        self.made += 1
        made = [self._virtual(number, place) for place in range(rng.randint(2, 4))]
        # One for what is dialled: those by mark and those for any port have port 80 in common.
        virtual = list({(one.protocol, one.ip, one.dialled): one for one in made}.values())
        masks = self._masks()
        sysctls = {
            "net.ipv4.vs.conntrack": rng.choice("11110"),
            "net.ipv4.vs.expire_nodest_conn": rng.choice("110"),
            "net.ipv4.vs.expire_quiescent_template": rng.choice("110"),
        }
        rows = tuple(self._connecting(rng.choice(virtual)) for _ in range(asked))
        members = self._members(virtual)
        return Setup(
            "".join(one.text() for one in virtual),
            _sets_text(members),
            {str(family): self._rules(family, virtual, masks) for family in (4, 6)},
            sysctls,
            rows,
        )

    # ------------------------------------------------------------ virtual servers

    def _virtual(self, number: int, place: int) -> _Virtual:
        rng = self.random
        family = rng.choice((4, 4, 4, 6))
        scheduler = rng.choice(("rr", "rr", "wrr", "wrr", "sh", "lc", *SCHEDULERS))
        port = 1000 + number * 8 + place
        kind = rng.choice(("cluster", "cluster", "cluster", "node", "node", "mark", "any"))
        ip = virtual_ips(number)[family]
        options = []
        if kind == "node":
            ip = rng.choice({4: ("192.168.52.201", "10.244.1.1"), 6: ("fd00:52::201", "fd00:10:244:1::1")}[family])
            port = 20000 + number * 8 + place
        if scheduler == "sh" and rng.random() < 0.5:
            options.append("-b sh-fallback" if rng.random() < 0.7 else "-b sh-port")
        if scheduler == "mh" and rng.random() < 0.3:
            options.append("-b mh-fallback")
        if kind == "any" or rng.random() < 0.2:
            options.append(f"-p {rng.choice((60, 300, 10800))}")
            if rng.random() < 0.3:
                options.append({4: "-M 255.255.255.0", 6: "-M 64"}[family])
        one = _Virtual(family, rng.choice(("tcp", "tcp", "udp")), ip, port, scheduler, options)
        same_port = kind in ("mark", "any")
        if kind == "mark":
            # The address is told apart by its setup, the mark by its place.
            one.mark, one.dialled = 100 + number * 8 + place, 80
        elif kind == "any":
            one.port, one.dialled = 0, 80
        else:
            one.dialled = port
        candidates = self._candidates(family, same_port)
        for address, to in rng.sample(candidates, rng.choice((0, 1, 1, 2, 2, 3, 3, 4))):
            method = rng.choice(("-m",) * 12 + ("-g", "-i"))
            weight = rng.choice((1, 1, 1, 1, 2, 3, 0)) if scheduler != "rr" else rng.choice((1, 1, 1, 1, 1, 0))
            # Direct routing and tunnels keep the port, and the kernel has them list the virtual one.
            one.reals.append((address, to if method == "-m" else one.port if not one.mark else 0, method, weight))
        return one

    def _candidates(self, family: int, same_port: bool) -> list[tuple[str, int]]:
        pods = {
            4: ("10.244.1.5", "10.244.1.6", "10.244.2.5", "10.244.2.6"),
            6: tuple(f"fd00:10:244:{n}::{h}" for n in (1, 2) for h in (5, 6)),
        }
        found = [(ip, 0 if same_port else 80) for ip in pods[family]]
        if not same_port:
            found.append(({4: "192.168.52.201", 6: "fd00:52::201"}[family], 9100))
        return found

    def _connecting(self, one: _Virtual) -> Connecting:
        rng = self.random
        weights = [weight for *_, weight in one.reals if weight]
        persistent = any(option.startswith("-p ") for option in one.options)
        if one.scheduler == "rr" and weights and not persistent:
            times = len(weights)
        elif one.scheduler == "wrr" and weights and not persistent:
            times = sum(weights) // math.gcd(*weights)
        else:
            times = 3
        source = rng.choice(SOURCES)
        port = one.dialled if rng.random() < 0.95 else one.dialled + 4000
        met = port == one.dialled
        scheduler = f"{one.scheduler}-port" if "-b sh-port" in one.options else one.scheduler
        return Connecting(source, one.ip, port, one.protocol, times if met else 1, scheduler if met else "", persistent)

    # ------------------------------------------------------------ sets and rules

    def _members(self, virtual: list[_Virtual]) -> dict[tuple[str, int], list[str]]:
        """By set and family; each entry is where kube-proxy would have it, or where it would not."""
        rng = self.random
        found: dict[tuple[str, int], list[str]] = {(name, family): [] for name in SETS for family in (4, 6)}
        clients = {4: ("192.168.52.0/24", "10.244.0.0/16", "203.0.113.7"), 6: ("fd00:52::/64", "fd00:10:244::/48")}
        for one in virtual:
            pair = f"{one.ip},{one.protocol}:{one.dialled}"
            for name in (
                "CLUSTER-IP",
                "EXTERNAL-IP",
                "EXTERNAL-IP-LOCAL",
                "LOAD-BALANCER",
                "LOAD-BALANCER-LOCAL",
                "LOAD-BALANCER-FW",
            ):
                if rng.random() < (0.5 if name == "CLUSTER-IP" else 0.2):
                    found[name, one.family].append(pair)
            if rng.random() < 0.3:
                found["LOAD-BALANCER-SOURCE-CIDR", one.family].append(f"{pair},{rng.choice(clients[one.family])}")
            if rng.random() < 0.3:
                found["LOAD-BALANCER-SOURCE-IP", one.family].append(
                    f"{pair},{clients[one.family][0].split('/')[0][:-1]}50"
                    if one.family == 4
                    else f"{pair},fd00:52::50"
                )
            for suffix, odds in (
                (f"NODE-PORT-{one.protocol.upper()}", 0.6),
                (f"NODE-PORT-LOCAL-{one.protocol.upper()}", 0.2),
                ("HEALTH-CHECK-NODE-PORT", 0.1),
            ):
                if rng.random() < odds:
                    found[suffix, one.family].append(str(one.dialled))
            if rng.random() < 0.8:
                found["IPVS-IPS", one.family].append(one.ip)
            for ip, port, _, _ in one.reals:
                if rng.random() < 0.6:
                    found["LOOP-BACK", one.family].append(f"{ip},{one.protocol}:{port or one.dialled},{ip}")
        return found

    def _masks(self) -> tuple[str, str, str]:
        """What KUBE-MARK-MASQ sets, what KUBE-POSTROUTING asks for, and what it takes out again."""
        rng = self.random
        bit = rng.choice((0x4000, 0x4000, 0x8000, 0x1, 0x10000))
        asked = bit if rng.random() < 0.93 else bit << 1
        return f"{bit:#x}/{bit:#x}", f"{asked:#x}/{asked:#x}", f"{bit:#x}/0x0"

    def _rules(self, family: int, virtual: list[_Virtual], masks: tuple[str, str, str]) -> str:
        mark, asked, cleared = masks
        cidr = {4: "10.244.0.0/16", 6: "fd00:10:244::/48"}[family]
        unreachable = {4: "icmp-port-unreachable", 6: "icmp6-port-unreachable"}[family]

        def match(name: str, fields: str = "dst,dst") -> str:
            return f"-m set --match-set {set_name(name, family)} {fields}"

        not_bridged = "-m physdev ! --physdev-is-in -m addrtype ! --src-type LOCAL -j ACCEPT"
        marks = [
            f"-A {chain} -d {one.ip} -p {one.protocol} --dport {one.dialled} -j MARK --set-mark {one.mark}"
            for one in virtual
            if one.mark and one.family == family
            for chain in ("PREROUTING", "OUTPUT")
        ]
        services = [
            *(["! -s " + cidr + " " + match("CLUSTER-IP") + " -j KUBE-MARK-MASQ"]),
            f"{match('CLUSTER-IP', 'src,dst')} -j KUBE-MARK-MASQ",
            f"{match('EXTERNAL-IP')} -j KUBE-MARK-MASQ",
            f"{match('EXTERNAL-IP')} {not_bridged}",
            f"{match('EXTERNAL-IP')} -m addrtype --dst-type LOCAL -j ACCEPT",
            f"{match('EXTERNAL-IP-LOCAL')} {not_bridged}",
            f"{match('EXTERNAL-IP-LOCAL')} -m addrtype --dst-type LOCAL -j ACCEPT",
            "-m addrtype --dst-type LOCAL -j KUBE-NODE-PORT",
            f"{match('LOAD-BALANCER')} -j KUBE-LOAD-BALANCER",
            f"{match('CLUSTER-IP')} -j ACCEPT",
            f"{match('LOAD-BALANCER')} -j ACCEPT",
        ]
        node_ports = [
            rule
            for p in ("tcp", "udp")
            for rule in (
                f"-p {p} {match(f'NODE-PORT-LOCAL-{p.upper()}', 'dst')} -j RETURN",
                f"-p {p} {match(f'NODE-PORT-{p.upper()}', 'dst')} -j KUBE-MARK-MASQ",
            )
        ]
        chains = {
            "KUBE-SERVICES": services,
            "KUBE-NODE-PORT": node_ports,
            "KUBE-LOAD-BALANCER": [f"{match('LOAD-BALANCER-LOCAL')} -j RETURN", "-j KUBE-MARK-MASQ"],
            "KUBE-MARK-MASQ": [f"-j MARK --set-xmark {mark}"],
            "KUBE-POSTROUTING": [
                f"{match('LOOP-BACK', 'dst,dst,src')} -j MASQUERADE",
                f"-m mark ! --mark {asked} -j RETURN",
                f"-j MARK --set-xmark {cleared}",
                f"-j MASQUERADE{self.random.choice((' --random-fully', ''))}",
            ],
        }
        ends = {
            "KUBE-FORWARD": [
                f"-m mark --mark {asked} -j ACCEPT",
                "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
            ],
            "KUBE-IPVS-FILTER": [
                *(
                    f"{match(name)} -j RETURN"
                    for name in ("LOAD-BALANCER", "CLUSTER-IP", "EXTERNAL-IP", "EXTERNAL-IP-LOCAL")
                ),
                f"{match('HEALTH-CHECK-NODE-PORT', 'dst')} -j RETURN",
                f"-m conntrack --ctstate NEW {match('IPVS-IPS', 'dst')} -j REJECT --reject-with {unreachable}",
            ],
            "KUBE-IPVS-OUT-FILTER": [],
            "KUBE-NODE-PORT": [f"{match('HEALTH-CHECK-NODE-PORT', 'dst')} -j ACCEPT"],
            "KUBE-PROXY-FIREWALL": [
                f"{match('LOAD-BALANCER-FW')} -j KUBE-SOURCE-RANGES-FIREWALL",
            ],
            "KUBE-SOURCE-RANGES-FIREWALL": [
                f"{match('LOAD-BALANCER-SOURCE-CIDR', 'dst,dst,src')} -j RETURN",
                f"{match('LOAD-BALANCER-SOURCE-IP', 'dst,dst,src')} -j RETURN",
                "-j DROP",
            ],
        }
        entry = ["PREROUTING -j KUBE-SERVICES", "OUTPUT -j KUBE-SERVICES", "POSTROUTING -j KUBE-POSTROUTING"]
        access = [
            "INPUT -j KUBE-IPVS-FILTER",
            "INPUT -j KUBE-PROXY-FIREWALL",
            "INPUT -j KUBE-NODE-PORT",
            "FORWARD -j KUBE-PROXY-FIREWALL",
            "FORWARD -j KUBE-FORWARD",
            "OUTPUT -j KUBE-IPVS-OUT-FILTER",
        ]
        policy = {4: "DROP", 6: "ACCEPT"}[family] if self.random.random() < 0.05 else "ACCEPT"
        lines = ["*mangle", ":PREROUTING ACCEPT", ":OUTPUT ACCEPT", *marks, "COMMIT"]
        lines += ["*filter", ":INPUT ACCEPT", f":FORWARD {policy}", ":OUTPUT ACCEPT"]
        lines += [f":{name} -" for name in ends]
        lines += [f"-A {rule}" for rule in self._some(access)]
        lines += [f"-A {name} {rule}" for name, rules in ends.items() for rule in self._some(rules)]
        lines += ["COMMIT", "*nat", *(f":{hook} ACCEPT" for hook in ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"))]
        lines += [f":{name} -" for name in chains]
        lines += [f"-A {rule}" for rule in self._some(entry)]
        lines += [f"-A {name} {rule}" for name, rules in chains.items() for rule in self._some(rules)]
        return "\n".join([*lines, "COMMIT", ""])

    def _some(self, rules: list[str]) -> list[str]:
        """Most of the rules, now and then two of them the other way round."""
        kept = [rule for rule in rules if self.random.random() < 0.92]
        if len(kept) > 1 and self.random.random() < 0.08:
            at = self.random.randrange(len(kept) - 1)
            kept[at], kept[at + 1] = kept[at + 1], kept[at]
        return kept


def _sets_text(members: Mapping[tuple[str, int], list[str]]) -> str:
    """``ipset restore`` text that empties and fills the sets, which stay."""
    lines = []
    for (name, family), entries in members.items():
        lines.append(f"flush {set_name(name, family)}")
        lines += [f"add {set_name(name, family)} {entry}" for entry in dict.fromkeys(entries)]
    return "".join(line + "\n" for line in lines)


def sets_made() -> str:
    """``ipset restore`` text that makes the sets, empty."""
    lines = []
    for family in (4, 6):
        for name, kind in SETS.items():
            more = "range 0-65535" if kind == "bitmap:port" else f"family {'inet6' if family == 6 else 'inet'}"
            lines.append(f"create {set_name(name, family)} {kind} {more}")
    return "".join(line + "\n" for line in lines)


def _at(ip: str, port: int) -> str:
    return f"[{ip}]:{port}" if ip_address(ip).version == 6 else f"{ip}:{port}"
