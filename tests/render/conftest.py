"""Reports built by hand, one per kind of answer, for every renderer's tests."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from ipaddress import ip_address

import pytest
from msgspec.structs import replace

from netk8s.model import (
    Alternative,
    At,
    Choice,
    Finding,
    Flow,
    Hop,
    Leg,
    Missing,
    Outcome,
    Packet,
    Question,
    Reached,
    Reply,
    Report,
    Rewrite,
    Step,
    Trace,
    Way,
)

DUMP = "nodes/n1/iptables-save.txt"
HOSTILE = 'a"b\\c`d<e>f&g;h#i|j{k}[l](m)%%{init}%%\n\r\x1b[31m\u202e\udcff -j "DROP" end --> ]'


def rule(line: int, table: str, raw: str, action: str, hook: str = "prerouting", **more: object) -> Step:
    return Step(
        hook, table, raw.split()[1], raw, At(DUMP, line), action, **more  # type: ignore[arg-type]
    )  # fmt: skip


def nodeport(ips: tuple[str, ...], client: str, node: str, gateway: str) -> Report:
    """svc/nginx by its NodePort: like the real thing, with a packet masqueraded on its way."""
    count = len(ips)
    src, dst, seen = ip_address(client), ip_address(node), ip_address(gateway)
    host = 32 if src.version == 4 else 128
    nginx = "-m comment --comment default/nginx"
    service, external, jump = "KUBE-SVC-2CMXP7HKUVJN7L6M", "KUBE-EXT-2CMXP7HKUVJN7L6M", "jump KUBE-MARK-MASQ"
    nodeports = '-m comment --comment "nodeports; NOTE: this must be the last rule" -m addrtype --dst-type LOCAL'
    entry = (
        rule(71, "nat", '-A PREROUTING -m comment --comment "service portals" -j KUBE-SERVICES', "jump KUBE-SERVICES"),
        rule(
            84, "nat", f"-A KUBE-SERVICES {nodeports} -j KUBE-NODEPORTS", "jump KUBE-NODEPORTS",
            means="NodePort lookup",
        ),
        rule(88, "nat", f"-A KUBE-NODEPORTS -p tcp {nginx} -m tcp --dport 30000 -j {external}", f"jump {external}"),
        rule(85, "nat", f'-A {external} -m comment --comment "masquerade traffic" -j KUBE-MARK-MASQ', jump),
        rule(
            87, "nat", "-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000", "MARK",
            changes=(("mark", "0x0 → 0x4000"),), means="asks for masquerade",
        ),
        rule(86, "nat", f"-A {external} -j {service}", f"jump {service}"),
    )  # fmt: skip
    ways, outcomes = [], []
    for number, text in enumerate(ips):
        ip = ip_address(text)
        to = f"[{ip}]:80" if ip.version == 6 else f"{ip}:80"
        sep = "KUBE-SEP-" + "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"[number % 32] * 16
        last = number + 1 == count
        dice = "" if last else f"-m statistic --mode random --probability {float(Fraction(1, count - number)):.11f} "
        dnat = f"{f'[{dst}]' if dst.version == 6 else dst}:30000 → {to}"
        one = f'-m comment --comment "default/nginx -> {to}"'
        new = '-m conntrack --ctstate NEW -m comment --comment "load balancer firewall"'
        snat = '-m comment --comment "service traffic requiring SNAT" -j MASQUERADE --random-fully'
        steps = (
            *entry,
            rule(
                100 + number, "nat", f"-A {service} {one} {dice}-j {sep}", f"jump {sep}",
                odds=Fraction(1, count - number),
            ),
            rule(
                200 + number, "nat", f"-A {sep} -p tcp {nginx} -m tcp -j DNAT --to-destination {to}", "DNAT",
                changes=(("dst", dnat),),
            ),
            Step("routing", "", "", None, At("nodes/n1/ip-route.json", 3), f"{ip} is on cni0"),
            rule(30, "filter", f"-A FORWARD {new} -j KUBE-PROXY-FIREWALL", "jump KUBE-PROXY-FIREWALL", "forward"),
            rule(31, "filter", "-A FORWARD -j KUBE-FORWARD", "jump KUBE-FORWARD", "forward"),
            rule(43, "filter", "-A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT", "ACCEPT", "forward"),
            rule(73, "nat", "-A POSTROUTING -j KUBE-POSTROUTING", "jump KUBE-POSTROUTING", "postrouting"),
            rule(
                97, "nat", "-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0", "MARK", "postrouting",
                changes=(("mark", "0x4000 → 0x0"),),
            ),
            rule(
                98, "nat", f"-A KUBE-POSTROUTING {snat}", "MASQUERADE", "postrouting",
                changes=(("src", f"{src} → {seen}"),),
            ),
        )  # fmt: skip
        reached = Reached(ip, 80, f"default/nginx-7c5ddbdf54-4xk2{number % 10}", "n1")
        rewrite = Rewrite(
            "n1", steps[-1].rule, steps[-1].at, src, seen, f"first address of cni0 whose subnet holds {ip}/{host}",
            "KUBE-POSTROUTING", "nat",
        )  # fmt: skip
        odds = Fraction(1, count)
        packet = Packet(6, seen, ip, None, 80)
        ways.append(
            Way(
                (Hop("n1", "ens33", "cni0", steps),), odds, (), "delivered", "", packet, reached, seen, True, (rewrite,)
            )
        )
        outcomes.append(Outcome("delivered", odds, reached, seen, False, "", (number,), (rewrite,)))
    flow = Flow("svc/default/nginx", "client", "outside", "n1", Packet(6, src, dst, None, 30000), iif="ens33")
    trace = Trace(flow, tuple(ways), tuple(outcomes), (), Reply(True, "n1 undoes both translations"), (), ())
    finding = Finding(
        "NK101", "warning", f"the endpoints of svc/default/nginx do not see the client {src}, but {seen}",
        (f"{DUMP}:98", f"{DUMP}:85"), "set externalTrafficPolicy: Local; nodes without an endpoint then refuse", True,
    )  # fmt: skip
    return Report(trace, (finding,))


def failing(verdict: str, reason: str) -> Report:
    """One way that does not arrive."""
    packet = Packet(17, ip_address("10.244.1.7"), ip_address("10.96.0.10"), 40000, 53)
    text = "-A KUBE-SERVICES -d 10.96.0.10/32 -p udp -m udp --dport 53 -j REJECT --reject-with icmp-port-unreachable"
    step = rule(50, "filter", text, "REJECT", "forward")
    way = Way((Hop("n1", "cni0", None, (step,)),), Fraction(1), (), verdict, reason, packet, reply_known=False)
    outcome = Outcome(verdict, None if verdict == "unknown" else Fraction(1), None, None, None, reason, (0,))
    flow = Flow("svc/kube-system/kube-dns", "pod/default/web", "pod", "n1", packet, pod="default/web")
    missing = (Missing("routes of n1", "the way after PREROUTING"),) if verdict == "unknown" else ()
    return Report(Trace(flow, (way,), (outcome,), (), Reply(None, ""), (), missing))


def forked() -> Report:
    """A question that nobody can answer, an assumption with its alternative, and an unknown source."""
    question = Question("recent", "the list `seen` holds the source", "the list `seen` does not hold the source")
    base = nodeport(("10.244.1.5",), "192.0.2.9", "10.0.0.1", "10.244.1.1").trace
    (way,) = base.ways
    (hop,) = way.hops
    recent = "-A PREROUTING -m recent --rcheck --name seen -j DROP"
    mystery = rule(20, "mangle", recent, "DROP", unknown="the recent list seen")
    dropped = replace(
        way, hops=(replace(hop, steps=(mystery,)),), choices=(Choice(question, True),), verdict="dropped",
        reason="dropped by mangle PREROUTING", reached=None, source=None, rewrites=(),
    )  # fmt: skip
    passed = replace(way, choices=(Choice(question, False),), source=None, source_known=False)
    (delivered,) = base.outcomes
    outcomes = (
        Outcome("unknown", None, None, None, None, "the recent list seen decides", (0, 1)),
        replace(delivered, odds=None, source=None, preserved=False, assumed=True),
        replace(delivered, odds=None, source=None, preserved=None),
    )
    other = Alternative("the legacy nat chains were registered last", base.outcomes)
    flow = replace(base.flow, stand_ins=((base.flow.packet.src, "the client"),))
    trace = replace(
        base, flow=flow, ways=(dropped, passed), outcomes=outcomes, alternatives=(other,),
        reply=Reply(False, "the endpoint answers the client directly"),
        assumptions=("the nft nat chains were registered last",),
        missing=(Missing("recent lists of n1", "rule nodes/n1/iptables-save.txt:20"),),
    )  # fmt: skip
    return Report(trace, ())


def hostile() -> Report:
    """Whoever may create a Service may write comments. And a dump may hold bytes that are no UTF-8."""
    base = nodeport(("10.244.1.5", "10.244.1.6"), "192.0.2.9", "10.0.0.1", "10.244.1.1").trace

    def spoil(step: Step) -> Step:
        return replace(
            step, rule=f'-A {step.chain} -m comment --comment "{HOSTILE}" -j X{HOSTILE}', chain=step.chain + HOSTILE,
            action=step.action + HOSTILE, means=HOSTILE, changes=(("mark", HOSTILE),), at=At("dumps/" + HOSTILE, 3),
        )  # fmt: skip

    def name(reached: Reached | None) -> Reached | None:
        return reached and replace(reached, pod="default/" + HOSTILE, node=HOSTILE)

    ways = tuple(
        replace(
            way, reached=name(way.reached), reason=HOSTILE,
            hops=tuple(Hop(HOSTILE, HOSTILE, HOSTILE, tuple(map(spoil, hop.steps))) for hop in way.hops),
        )
        for way in base.ways
    )  # fmt: skip
    outcomes = tuple(replace(one, reached=name(one.reached), reason=HOSTILE) for one in base.outcomes)
    flow = replace(base.flow, target="svc/" + HOSTILE, source=HOSTILE, node=HOSTILE, iif=HOSTILE)
    trace = replace(
        base, flow=flow, ways=ways, outcomes=outcomes, reply=Reply(None, HOSTILE), assumptions=(HOSTILE,),
        missing=(Missing(HOSTILE, HOSTILE),), alternatives=(Alternative(HOSTILE, outcomes),),
    )  # fmt: skip
    return Report(trace, (Finding("NK999", "error", HOSTILE, (HOSTILE,), HOSTILE, False),))


def legs() -> Report:
    """A question of two packets: to one of two proxies, then from it; the other way ends there."""
    first = nodeport(("10.244.1.5", "10.244.1.6"), "192.0.2.9", "10.0.0.1", "10.244.1.1")
    second = nodeport(("10.244.2.9",), "10.244.1.5", "10.96.0.7", "10.244.1.0")
    half = Fraction(1, 2)
    outcomes = (
        replace(second.trace.outcomes[0], odds=half, preserved=False, ways=()),
        Outcome("refused", half, None, None, None, "proxy 10.244.1.6 has no route for this host: HTTP 404", ()),
    )
    whole = replace(first.trace, ways=(), outcomes=outcomes)
    notes = ("the proxy puts the client's address into X-Forwarded-For",)
    return Report(
        whole, first.findings, notes,
        (
            Leg("client to proxy", first.trace, first.findings),
            Leg("proxy to pod", second.trace, (), after=(0, 0), notes=notes),
            Leg("proxy to its own name server", second.trace, (), None, (0, 0), besides=True),
        ),
    )  # fmt: skip


REPORTS: dict[str, Callable[[], Report]] = {
    "nodeport": lambda: nodeport(("10.244.1.5", "10.244.1.6", "10.244.1.7"), "192.0.2.50", "192.0.2.201", "10.244.1.1"),
    "one endpoint": lambda: nodeport(("10.244.1.5",), "192.0.2.50", "192.0.2.201", "10.244.1.1"),
    "crowd": lambda: nodeport(tuple(f"10.244.1.{n}" for n in range(2, 252)), "192.0.2.50", "192.0.2.201", "10.244.1.1"),
    "v6": lambda: nodeport(
        tuple(f"2001:db8:aaaa:bbbb:cccc:dddd:eeee:fff{n}" for n in range(3)),
        "2001:db8:1111:2222:3333:4444:5555:6666", "2001:db8:7777:8888:9999:aaaa:bbbb:cccc",
        "2001:db8:aaaa:bbbb:ffff:ffff:ffff:ffff",
    ),
    "refused": lambda: failing("refused", "no endpoints: kube-proxy rejects it"),
    "dropped": lambda: failing("dropped", "policy DROP of filter FORWARD"),
    "unreachable": lambda: failing("unreachable", "no route to 10.96.0.10"),
    "unknown": lambda: failing("unknown", "no routes of n1"),
    "forked": forked,
    "legs": legs,
    "hostile": hostile,
}  # fmt: skip


@pytest.fixture(params=list(REPORTS))
def report(request: pytest.FixtureRequest) -> Report:
    """Every kind of report, one after the other."""
    return REPORTS[request.param]()


@pytest.fixture
def build() -> Callable[[str], Report]:
    """The report of a name."""
    return lambda name: REPORTS[name]()
