"""The rules that kube-proxy in iptables mode writes for one Service port, as iptables-save prints them.

After pkg/proxy/iptables/proxier.go (syncProxyRules, 1.25 to 1.36). Nothing is taken on trust: before a port is written
anew, what is written for its present state has to be what the dump holds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from ipaddress import ip_network

from msgspec import Struct

from netk8s.dialects.kube_proxy_iptables import chain_hash
from netk8s.intent import Where
from netk8s.model import Addr
from netk8s.whatif._plan import Plan, shown
from netk8s.whatif._save import Save

Lines = dict[tuple[str, str], list[str]]
"""Rules by (table, chain)."""

_SHARED = (
    ("filter", "KUBE-SERVICES"), ("filter", "KUBE-EXTERNAL-SERVICES"), ("filter", "KUBE-NODEPORTS"),
    ("filter", "KUBE-PROXY-FIREWALL"), ("nat", "KUBE-SERVICES"), ("nat", "KUBE-NODEPORTS"),
)  # fmt: skip
_FIRST_LINE = re.compile(
    r"-A KUBE-SV[CL]-\S+ (?P<before>! -s \S+ )?-d \S+ (?P<device>! -i \S+ )?-p \S+ .* -j KUBE-MARK-MASQ$"
)
_LOOPBACK = re.compile(
    r"-A KUBE-NODEPORTS -d (?P<net>127\.0\.0\.0/8|::1/128) -p .* --dport \d+(?P<more>.*) -j KUBE-EXT-\S+$"
)


class Style(Struct, frozen=True):
    """What flags and version make of a kube-proxy's rules, read from the rules themselves.

    ``local``: what tells pods, as (-s or -i, value), None where nothing does. ``loopback``: (network, more matches) of the
    rule that counts NodePorts on loopback addresses (1.32), None without it. ``large``: from 1000 endpoints on the rules
    of single endpoints have no comments.
    """

    local: tuple[str, str] | None
    masquerade_all: bool
    loopback: tuple[str, str] | None
    large: bool = False


def style(save: Save) -> Style:
    """The style of a dump's rules."""
    nat = save.section("nat")
    local: tuple[str, str] | None = None
    everything = False
    for chain, rules in nat.rules.items():
        if chain.startswith(("KUBE-SVC-", "KUBE-SVL-")):
            found = next((m for m in map(_FIRST_LINE.match, rules[:1]) if m is not None), None)
            if found is not None:
                words = (found["before"] or found["device"] or "").split()
                everything = not words
                local = (words[1], words[2]) if words else None
                break
    if everything:
        # With --masquerade-all the rules of the policy Local still tell what detects pods.
        pods = (
            re.match(r"-A KUBE-EXT-\S+ (-[si]) (\S+) .*pod traffic for", rule)
            for rules in nat.rules.values()
            for rule in rules
        )
        told = next((found for found in pods if found is not None), None)
        local = (told[1], told[2]) if told is not None else None
    loops = (_LOOPBACK.match(rule) for rule in nat.rules.get("KUBE-NODEPORTS", ()))
    loop = next((found for found in loops if found is not None), None)
    ends = (rules[0] for chain, rules in nat.rules.items() if chain.startswith("KUBE-SEP-") and rules)
    large = any(" --comment " not in rule for rule in ends)
    return Style(local, everything, None if loop is None else (loop["net"], loop["more"]), large)


def present(save: Save, plan: Plan) -> Lines:
    """The rules that a dump has for a port: its own chains, and its rules in those of all."""
    name, own = plan.name, _hash(plan)
    found: Lines = {}
    mine = re.compile(rf'--comment "{re.escape(name)}(?: [^"]*)?" ')
    for table, chain in _SHARED:
        if table in save.tables:
            lines = [line for line in save.tables[table].rules.get(chain, ()) if mine.search(line)]
            if lines:
                found[table, chain] = lines
    nat = save.section("nat")
    for kind in ("SVC", "SVL", "EXT", "FW"):
        chain = f"KUBE-{kind}-{own}"
        if chain in nat.declared:
            found["nat", chain] = list(nat.rules.get(chain, ()))
    for kind in ("SVC", "SVL"):
        for line in found.get(("nat", f"KUBE-{kind}-{own}"), ()):
            target = line.rpartition(" ")[2]
            if target.startswith("KUBE-SEP-"):
                found["nat", target] = list(nat.rules.get(target, ()))
    return found


def written(plan: Plan, node_ips: Sequence[Addr], how: Style) -> Lines:
    """The rules of a port's state: in the order of kube-proxy within each chain."""
    return _Writer(plan, node_ips, how).lines()


def exchange(save: Save, old: Lines, new: Lines) -> None:
    """Puts the new rules of a port in the place of the old ones."""
    for table, chain in dict.fromkeys((*old, *new)):
        section = save.section(table)
        if (table, chain) not in _SHARED:
            section.rules.pop(chain, None)
            section.declared.pop(chain, None)
            if (table, chain) in new:
                section.declared[chain] = f":{chain} - [0:0]"
                section.rules[chain] = list(new[table, chain])
            continue
        rules = section.rules.setdefault(chain, [])
        section.declared.setdefault(chain, f":{chain} - [0:0]")
        gone = set(old.get((table, chain), ()))
        at = next((i for i, rule in enumerate(rules) if rule in gone), None)
        kept = [rule for rule in rules if rule not in gone]
        if at is None:
            # The rule for NodePorts has to stay the last of its chain.
            at = len(kept) - (bool(kept) and kept[-1].endswith(" -j KUBE-NODEPORTS"))
        section.rules[chain] = [*kept[:at], *new.get((table, chain), ()), *kept[at:]]


def _hash(plan: Plan) -> str:
    return chain_hash(plan.service, plan.port.name, plan.protocol)


class _Writer:
    def __init__(self, plan: Plan, node_ips: Sequence[Addr], how: Style) -> None:
        self.plan, self.port, self.how = plan, plan.port, how
        self.name, self.protocol = plan.name, plan.protocol
        self.node_ips = node_ips
        own = _hash(plan)
        self.svc, self.svl, self.ext, self.fw = (f"KUBE-{kind}-{own}" for kind in ("SVC", "SVL", "EXT", "FW"))
        self.bits = 32 if plan.family == 4 else 128
        self.out: Lines = {}

    def put(self, table: str, chain: str, *words: str) -> None:
        self.out.setdefault((table, chain), []).append(" ".join(("-A", chain, *(word for word in words if word))))

    def comment(self, text: str) -> str:
        return f'-m comment --comment "{text}"'

    def of_endpoint(self, text: str) -> str:
        return "" if self.how.large else self.comment(text)

    def to(
        self, ip: Addr | None, number: int, comment: str, *, first: str = "", device: str = "", more: str = ""
    ) -> tuple[str, ...]:
        """The words of a rule for a destination, as iptables-save orders them."""
        dst = f"-d {ip}/{self.bits}" if ip is not None else ""
        return (
            first, dst, device, f"-p {self.protocol}", self.comment(comment), more,
            f"-m {self.protocol} --dport {number}",
        )  # fmt: skip

    def lines(self) -> Lines:
        plan = self.plan
        self._dialled()
        if plan.serves_inside:
            self._masqueraded_inside(self.svl if plan.inside_local else self.svc)
        if plan.some and plan.outside:
            self._external()
        if plan.some and plan.lb_ips and plan.ranges:
            self._firewall()
        if plan.cluster_ends:
            self._balanced(self.svc, plan.cluster_ends)
        if plan.local_ends:
            self._balanced(self.svl, plan.local_ends)
        for end in plan.used:
            self._endpoint(end)
        return self.out

    def _dialled(self) -> None:
        plan, port = self.plan, self.port
        reject = f"REJECT --reject-with {'icmp' if plan.family == 4 else 'icmp6'}-port-unreachable"
        stop, why = ("DROP", "has no local endpoints") if plan.some else (reject, "has no endpoints")
        for ip in plan.cluster_ips:
            if plan.serves_inside:
                chain = self.svl if plan.inside_local else self.svc
                self.put("nat", "KUBE-SERVICES", *self.to(ip, port.port, f"{self.name} cluster IP"), f"-j {chain}")
            else:
                self.put("filter", "KUBE-SERVICES", *self.to(ip, port.port, f"{self.name} {why}"), f"-j {stop}")
        walled = bool(plan.lb_ips and plan.ranges)
        for ips, what, chain in (
            (plan.external_ips, "external IP", self.ext),
            (plan.lb_ips, "loadbalancer IP", self.fw if walled else self.ext),
        ):
            for ip in ips:
                if plan.some:
                    self.put("nat", "KUBE-SERVICES", *self.to(ip, port.port, f"{self.name} {what}"), f"-j {chain}")
                if plan.some and chain == self.fw:
                    text = f"{self.name} traffic not accepted by {self.fw}"
                    self.put("filter", "KUBE-PROXY-FIREWALL", *self.to(ip, port.port, text), "-j DROP")
                if not plan.serves_outside:
                    self.put(
                        "filter", "KUBE-EXTERNAL-SERVICES", *self.to(ip, port.port, f"{self.name} {why}"), f"-j {stop}"
                    )
        if port.node_port:
            number = port.node_port
            if plan.some and self.how.loopback is not None:
                net, more = self.how.loopback
                words = self.to(None, number, self.name, first=f"-d {net}")
                self.put("nat", "KUBE-NODEPORTS", *words, more.strip(), f"-j {self.ext}")
            if plan.some:
                self.put("nat", "KUBE-NODEPORTS", *self.to(None, number, self.name), f"-j {self.ext}")
            if not plan.serves_outside:
                words = self.to(None, number, f"{self.name} {why}", more="-m addrtype --dst-type LOCAL")
                self.put("filter", "KUBE-EXTERNAL-SERVICES", *words, f"-j {stop}")
        if port.health_check_node_port:
            text = self.comment(f"{self.name} health check node port")
            self.put(
                "filter", "KUBE-NODEPORTS", "-p tcp", text, f"-m tcp --dport {port.health_check_node_port} -j ACCEPT"
            )

    def _masqueraded_inside(self, chain: str) -> None:
        if not self.how.masquerade_all and self.how.local is None:
            return
        kind, value = self.how.local if self.how.local is not None and not self.how.masquerade_all else ("", "")
        first = f"! -s {value}" if kind == "-s" else ""
        device = f"! -i {value}" if kind == "-i" else ""
        for ip in self.plan.cluster_ips:
            words = self.to(ip, self.port.port, f"{self.name} cluster IP", first=first, device=device)
            self.put("nat", chain, *words, "-j KUBE-MARK-MASQ")

    def _external(self) -> None:
        local = self.plan.outside_local
        destinations = f"{self.name} external destinations"
        if not local:
            self.put("nat", self.ext, self.comment(f"masquerade traffic for {destinations}"), "-j KUBE-MARK-MASQ")
        else:
            if self.how.local is not None:
                pods = " ".join(self.how.local)
                self.put("nat", self.ext, pods, self.comment(f"pod traffic for {destinations}"), f"-j {self.svc}")
            own = "-m addrtype --src-type LOCAL"
            self.put(
                "nat", self.ext, self.comment(f"masquerade LOCAL traffic for {destinations}"), own, "-j KUBE-MARK-MASQ"
            )
            self.put("nat", self.ext, self.comment(f"route LOCAL traffic for {destinations}"), own, f"-j {self.svc}")
        if self.plan.serves_outside:
            self.put("nat", self.ext, f"-j {self.svl if local else self.svc}")

    def _firewall(self) -> None:
        text = self.comment(f"{self.name} loadbalancer IP")
        itself = False
        for each in self.plan.ranges:
            net = ip_network(each.strip(), strict=False)
            self.put("nat", self.fw, f"-s {net}" if net.prefixlen else "", text, f"-j {self.ext}")
            itself = itself or any(ip in net for ip in self.node_ips if ip.version == net.version)
        for ip in self.plan.lb_ips if itself else ():
            # The node itself, which dials the address with the address as its source.
            self.put("nat", self.fw, f"-s {ip}/{self.bits}", text, f"-j {self.ext}")
        self.put("nat", self.fw, self.comment(f"other traffic to {self.name} will be dropped by KUBE-PROXY-FIREWALL"))

    def _balanced(self, chain: str, ends: Sequence[Where]) -> None:
        mask = "255.255.255.255" if self.plan.family == 4 else ":".join(["ffff"] * 8)
        if self.port.affinity == "ClientIP":
            seconds = self.port.affinity_seconds or 10800
            for end in ends:
                recent = (
                    f"-m recent --rcheck --seconds {seconds} --reap --name {self._sep(end)} --mask {mask} --rsource"
                )
                self.put("nat", chain, self.of_endpoint(f"{self.name} -> {shown(end)}"), recent, f"-j {self._sep(end)}")
        for place, end in enumerate(ends):
            left = len(ends) - place
            dice = f"-m statistic --mode random --probability {_odds(left)}" if left > 1 else ""
            self.put("nat", chain, self.of_endpoint(f"{self.name} -> {shown(end)}"), dice, f"-j {self._sep(end)}")

    def _endpoint(self, end: Where) -> None:
        chain = self._sep(end)
        mask = "255.255.255.255" if self.plan.family == 4 else ":".join(["ffff"] * 8)
        sticky = f"-m recent --set --name {chain} --mask {mask} --rsource" if self.port.affinity == "ClientIP" else ""
        self.put("nat", chain, f"-s {end[0]}/{self.bits}", self.of_endpoint(self.name), "-j KUBE-MARK-MASQ")
        self.put(
            "nat", chain, f"-p {self.protocol}", self.of_endpoint(self.name), sticky, f"-m {self.protocol}",
            f"-j DNAT --to-destination {shown(end)}",
        )  # fmt: skip

    def _sep(self, end: Where) -> str:
        return "KUBE-SEP-" + chain_hash(self.plan.service, self.port.name, self.protocol, shown(end))


def _odds(count: int) -> str:
    """1/count as kube-proxy writes it (ten digits), the kernel keeps it (31 bits) and iptables-save prints it."""
    kept = int(float(f"{1 / count:.10f}") * (1 << 31) + 0.5)
    return f"{kept / (1 << 31):.11f}"


def differing(one: Lines, other: Lines) -> Iterator[str]:
    """The first rule of each chain that two writings do not share."""
    for key in dict.fromkeys((*one, *other)):
        a, b = one.get(key, []), other.get(key, [])
        a, b = (sorted(a), sorted(b)) if key in _SHARED else (a, b)
        if a != b:
            yield next((x for x in (*a, *b) if (x in a) != (x in b)), f"the order of {key[1]}")
