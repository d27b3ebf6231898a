"""How findings read a finished trace: the ways that count, where one stopped and why, what a rule asks for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

from msgspec import Struct

from netk8s import objects
from netk8s.model import (
    Addr,
    At,
    Endpoint,
    Hop,
    Node,
    Option,
    Rule,
    ServicePort,
    Step,
    Table,
    Trace,
    Way,
    World,
)

MOST_NAMED = 3
"""A summary names at most so many endpoints or addresses; evidence names at most EVIDENCE places."""
EVIDENCE = 12

# ---------------------------------------------------------------- the ways


def live(trace: Trace) -> list[Way]:
    """The ways under what is assumed; the others are alternatives."""
    return [
        way
        for way in trace.ways
        if all(c.question.default is None or c.answer == c.question.default for c in way.choices)
    ]


def proven(ways: Iterable[Way]) -> bool:
    """Whether one of the ways rests on nothing but the dumps. What a node remembers of clients does not count."""
    return any(
        not way.assumptions
        and all(c.question.memory for c in way.choices)
        and not any(_supposed(s) for _, s in steps(way))
        for way in ways
    )


def _supposed(step: Step) -> bool:
    """A rule without a line was not in the dump: it is one that its writer always makes."""
    return step.rule is not None and (step.at is None or not step.at.line)


def graded(severity: str, ways: Iterable[Way]) -> str:
    """A warning where an error hangs on an open question: the packet's fate is then not known, not bad."""
    sure = any(all(c.question.default is not None or c.question.memory for c in way.choices) for way in ways)
    return severity if sure or severity != "error" else "warning"


def steps(way: Way) -> Iterator[tuple[Hop, Step]]:
    for hop in way.hops:
        for step in hop.steps:
            yield hop, step


def arrived(way: Way) -> bool:
    """Delivered, and answered as far as is known."""
    return way.verdict == "delivered"


# ---------------------------------------------------------------- where a packet stopped

RULE, ROUTE, SILENCE, HAIRPIN, SOCKET = "rule", "route", "silence", "hairpin", "socket"
UNTRANSLATED, OUTSIDE, POD, TRANSLATION, BALANCER, UNKNOWN, OTHER = (
    "untranslated", "outside", "pod", "translation", "balancer", "unknown", "other",
)  # fmt: skip
REVERSE, BYPASS, DIRECT, PARENT, DEAD = "reverse", "bypass", "direct", "parent", "dead"


class Stop(Struct, frozen=True):
    """Where and why a packet went no further. ``back``: the packet is the answer.

    ``kind`` tells what stopped it: RULE a rule or policy, ROUTE the routing decision, SILENCE a next hop that does
    not answer, DEAD a device that carries nothing, HAIRPIN a bridge port, SOCKET the lack of one, UNTRANSLATED a
    Service address that no rule takes, OUTSIDE the network outside the cluster, POD the pod's own kernel,
    TRANSLATION an answer that comes from the wrong address, DIRECT the same where the answer went to a pod past the
    rules of the pod's own node, REVERSE rp_filter, BYPASS a pod whose packets pass no rule, PARENT a node and a pod
    on one of its devices that do not hear each other, BALANCER a virtual server of IPVS without a real server to
    give, UNKNOWN what no dump tells.
    """

    kind: str
    why: str
    node: str
    step: Step | None
    way: Way
    back: bool

    @property
    def what(self) -> str:
        return "the answer" if self.back else "the packet"


def stops(trace: Trace) -> Iterator[Stop]:
    """Where each way under the defaults stopped; nothing for one that arrived."""
    for way in live(trace):
        if way.verdict == "unknown":
            yield _stop(trace, way, way.hops, way.reason, back=False)
            continue
        if way.reply:
            yield _stop(trace, way, way.reply_hops, way.reply, back=True)
        if not arrived(way) and (not way.reply or way.reason.startswith("nobody listens on")):
            yield _stop(trace, way, way.hops, way.reason, back=False)


_HANDED = re.compile(r" hands it to pod \S+ past every hook of the node$")

# The walk tells why it ended in these words (netk8s.trace). A test holds them against every recorded flow.
_WORDS = (
    (REVERSE, re.compile(r"rp_filter")),
    (BYPASS, re.compile(r"^packets of pods on \S+ of \S+ pass no rule")),
    (PARENT, re.compile(r"the pods on it do not hear each other$")),
    (HAIRPIN, re.compile(r"hairpin mode is off|has no hairpin mode")),
    (SOCKET, re.compile(r"^nobody listens on ")),
    (
        DEAD,
        re.compile(
            r"(?:is switched off|has no carrier \(state \w+\)|is down \([^)]*\)), so nobody (?:answers for|hears) "
        ),
    ),
    (SILENCE, re.compile(r"^nobody answers for |so nobody answers for it on ")),
    (UNTRANSLATED, re.compile(r"^no rule of \S+ translates ")),
    (OUTSIDE, re.compile(r"^the network outside the cluster has no route ")),
    (POD, re.compile(r"^the pod drops a packet from ")),
    (BALANCER, re.compile(r"^virtual server .* has no real server|falls on a real server of weight 0")),
    (TRANSLATION, re.compile(r"bypasses the node that translated|^the answer goes to ")),
    (
        ROUTE,
        re.compile(
            r"has no route |has an? (?:unreachable|prohibit|blackhole) route|does not forward packets|martian"
            r"|goes in a circle|no route of its own|has no source address|is a \w+ address"
        ),
    ),
)


def _stop(trace: Trace, way: Way, hops: tuple[Hop, ...], why: str, *, back: bool) -> Stop:
    last = hops[-1] if hops else None
    step = last.steps[-1] if last is not None and last.steps else None
    node = last.node if last is not None else trace.flow.node
    kind = OTHER
    if way.verdict == "unknown":
        kind = UNKNOWN
    elif (
        step is not None
        and why.startswith(f"{node}: ")
        and (step.rule is not None or step.action.startswith("policy "))
    ):
        kind = RULE
    else:
        kind = next((kind for kind, words in _WORDS if words.search(why)), OTHER)
    if kind == TRANSLATION and back and step is not None and _HANDED.search(step.action):
        kind = DIRECT
    if kind == SILENCE and not back and way.packet.dst == trace.flow.packet.dst and trace.flow.service is not None:
        kind = UNTRANSLATED
    return Stop(kind, why, node, step, way, back)


# ---------------------------------------------------------------- rules


def target(rule: Rule | None) -> str:
    return rule.target.name if rule is not None and rule.target is not None else ""


def option(rule: Rule | None, *names: str) -> Option | None:
    """The first option of a rule with one of these names, in a match."""
    for match in rule.matches if rule is not None else ():
        for each in match.options:
            if each.name in names:
                return each
    return None


def short(rule: str) -> str:
    """A rule without its comment, no longer than fits into a sentence."""
    words = re.sub(r' -m comment --comment (?:"(?:[^"\\]|\\.)*"|\S+)', "", rule)
    return words if len(words) <= 110 else f"{words[:107]}…"


def places(*items: At | Step | str | None) -> tuple[str, ...]:
    """Evidence in order, each place once, those without a file left out."""
    out: dict[str, None] = {}
    for item in items:
        at = item.at if isinstance(item, Step) else item
        text = str(at) if at is not None else ""
        if text and not text.startswith(":"):
            out[text] = None
    return tuple(out)[:EVIDENCE]


def tables(node: Node | None, family: int, name: str) -> Iterator[Table]:
    for table in node.tables if node is not None else ():
        if table.family == family and table.name == name:
            yield table


def sysctl(world: World, node: str, *names: str) -> At | None:
    """Where a node's dump has the first of these settings."""
    found = world.nodes.get(node)
    return next((found.sysctls[name].at for name in names if name in found.sysctls), None) if found else None


def route_dump(world: World, node: str, family: int) -> At | None:
    """The dump that has a node's routes, as a whole: what is missing has no line."""
    found = world.nodes.get(node)
    origins = [r.at.origin for r in found.routes if r.dst.version == family and r.at.origin] if found else []
    return At(origins[0]) if origins else None


# ---------------------------------------------------------------- the cluster's objects


def service_port(world: World, trace: Trace) -> ServicePort | None:
    """The Service port that was dialled, None when no object tells."""
    flow = trace.flow
    return _service_port(world, flow.service, flow.packet.protocol, flow.packet.dport, flow.kind == "nodeport")


# Every finding asks for the same Service.
@lru_cache(maxsize=4)
def _service_port(
    world: World, service: str | None, protocol: int, number: int | None, by_node_port: bool
) -> ServicePort | None:
    namespace, _, name = (service or "").partition("/")
    for each in objects.of(world.cluster).services_named(namespace, name):
        dialled = each.node_port if by_node_port else each.port
        if (each.protocol, dialled) == (protocol, number):
            return each
    return None


@lru_cache(maxsize=4)
def endpoints(world: World, port: ServicePort, family: int) -> tuple[Endpoint, ...]:
    """All endpoints of a Service port, ready or not."""
    return tuple(
        e
        for e in objects.of(world.cluster).endpoints_of(port.namespace, port.service)
        if (e.port_name, e.protocol) == (port.name, port.protocol) and e.ip.version == family
    )


def usable(found: Iterable[Endpoint]) -> list[Endpoint]:
    """Those that traffic goes to: ready ones, or, when there are none, terminating ones that still serve."""
    all_ = list(found)
    return [e for e in all_ if e.ready] or [e for e in all_ if e.terminating and e.serving]


def node_names(world: World) -> list[str]:
    return list(dict.fromkeys([*(n.name for n in world.cluster.nodes), *world.nodes]))


# Comments of kube-proxy: "default/nginx:http has no endpoints", "masquerade traffic for default/nginx …".
_NAMED = re.compile(r"(?:^|for )([a-z0-9.-]+/[a-z0-9.-]+(?::[a-zA-Z0-9-]+)?)(?= |$)")


def service_name(trace: Trace, *rules: Rule | None) -> str:
    """ "namespace/name" of the Service that was dialled, by the question or else by comments; "" if nothing tells."""
    if trace.flow.service:
        return trace.flow.service
    for rule in rules:
        found = _NAMED.search(rule.comment) if rule is not None and rule.comment else None
        if found is not None:
            return found[1]
    return ""


# ---------------------------------------------------------------- words


def grouped(found: Iterable[Stop]) -> list[list[Stop]]:
    """Stops that differ in nothing but the endpoint the packet was for: one finding tells of all of them."""
    out: dict[object, list[Stop]] = {}
    for stop in found:
        at = stop.step.at if stop.kind == RULE and stop.step is not None else None
        key = (stop.kind, stop.node, stop.back, at, "" if at is not None else _without(stop, ""))
        out.setdefault(key, []).append(stop)
    return list(out.values())


def why(group: list[Stop]) -> str:
    """The reason of stops that were grouped, with all the addresses it holds for."""
    return _without(group[0], named((str(stop.way.packet.dst) for stop in group), "addresses"))


def _without(stop: Stop, other: str) -> str:
    """A stop's reason with other words for the endpoint's address."""
    return re.sub(rf"(?<![\w.:]){re.escape(str(stop.way.packet.dst))}(?![\w.])", other, stop.why)


def ends(ways: Iterable[Way]) -> str:
    """What the ways lead to: endpoints by name, or their number."""
    return named((address(way.packet.dst, way.packet.dport) for way in ways), "endpoints")


def named(items: Iterable[str], what: str) -> str:
    """A few items by name, many by their number."""
    all_ = list(dict.fromkeys(items))
    if len(all_) > MOST_NAMED:
        return f"{len(all_)} {what}"
    return " and ".join([", ".join(all_[:-1]), all_[-1]] if len(all_) > 1 else all_)


def several(items: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and 3 more"."""
    if len(items) > MOST_NAMED:
        return f"{', '.join(items[: MOST_NAMED - 1])} and {len(items) - MOST_NAMED + 1} more"
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)


def address(ip: Addr, port: int | None) -> str:
    host = f"[{ip}]" if ip.version == 6 and port is not None else str(ip)
    return host if port is None else f"{host}:{port}"


def sender(trace: Trace) -> str:
    """Who asked, in words."""
    flow = trace.flow
    return {"pod": f"pod {flow.pod}" if flow.pod else "the pod", "node": flow.node}.get(flow.origin, "the client")


def dialled(trace: Trace) -> str:
    return address(trace.flow.packet.dst, trace.flow.packet.dport)
