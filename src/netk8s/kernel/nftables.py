"""One nftables base chain: rules, statements, verdicts, jumps.

Sources: Linux net/netfilter/nf_tables_core.c (nft_do_chain), nft_{nat,masq,redir,reject,limit,quota,connlimit,dynset,
tproxy}.c. A statement that does not hold ends its rule; what statements before it changed stays changed (NFT_BREAK).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from ipaddress import ip_address

from msgspec import Struct, field
from msgspec.structs import replace

from netk8s.kernel import targets
from netk8s.kernel._nft_values import (
    BREAK,
    CONNTRACK_PRIORITY,
    Broken,
    Context,
    Dice,
    Unknown,
    Value,
    ask,
    covered,
    entry,
    in_constant,
    index_of,
    kind,
    known_value,
    matches,
    named_set,
    number,
    remembers,
    value,
)
from netk8s.kernel.flight import Branch
from netk8s.kernel.iptables import MOST_BRANCHES, MOST_FRAMES, Verdict
from netk8s.kernel.matches import Ask, Truth
from netk8s.kernel.netns import Netns
from netk8s.model import (
    TCP,
    NftChain,
    NftElement,
    NftExpr,
    NftRule,
    NftStatement,
    NftTable,
    NftValue,
    NftVerdict,
    Option,
    Packet,
    Question,
    Step,
    Target,
)

MOST_DICE = 256
"""Dice with more sides are not spelled out where each side leads elsewhere and no map tells where."""


# ---------------------------------------------------------------- a rule

NEXT, MISSED = "next", "missed"


class Hit(Struct, frozen=True):
    """A branch within a rule, and by which odds, answers and changes it came so far."""

    branch: Branch
    odds: Fraction = Fraction(1)
    asked: tuple[Ask, ...] = ()
    changes: tuple[tuple[str, str], ...] = ()

    def dice(self, odds: Fraction) -> Hit:
        return replace(self, branch=self.branch.dice(odds), odds=self.odds * odds)

    @property
    def assumed(self) -> bool:
        return any(a.question.default is not None for a in self.asked)

    @property
    def unknown(self) -> str:
        return "; ".join(
            a.question.if_true if a.wanted else a.question.if_false for a in self.asked if a.question.default is None
        )


class Done(Struct, frozen=True):
    """A branch at the end of a statement. ``end``: NEXT, MISSED, a verdict of nft, or what a target did."""

    hit: Hit
    end: str | NftVerdict | targets.Effect = NEXT


def _fork(truth: Truth, hit: Hit) -> Iterator[tuple[bool, Hit]]:
    """The branches of a truth."""
    if isinstance(truth, bool):
        yield truth, hit
    elif isinstance(truth, Fraction):
        if truth > 0:
            yield True, hit.dice(truth) if truth != 1 else hit
        if truth < 1:
            yield False, hit.dice(1 - truth) if truth != 0 else hit
    elif (told := dict(hit.branch.flight.told).get(truth.question.key)) is not None:
        yield told == truth.wanted, hit
    else:
        for answer, branch in hit.branch.ask(truth.question):
            matched = answer == truth.wanted
            asked = (*hit.asked, truth) if matched else hit.asked
            yield matched, replace(hit, branch=branch, asked=asked)


_STRANGE = NftElement("", NftExpr("unknown", ("an element that is not understood",)))
"""Stands for the element of a map that a packet has and that nobody can read."""


def _lookup(
    data: NftValue, key: NftValue, found: Value, hit: Hit, ctx: Context, rule: NftRule
) -> Iterator[tuple[Hit, NftElement | None]]:
    """The element of a map for a key, None where there is none."""
    if isinstance(found, Broken):
        yield hit, None
        return
    index = index_of(ctx, data, key)
    if index is None:
        name = data.words[0] if isinstance(data, NftExpr) and data.words else "map"
        gone = ask(
            ctx, rule, f"map {name}, which the dump does not have, has no element for the packet", key=f"map:{name}"
        )
        for absent, other in _fork(gone, hit):
            yield other, None if absent else _STRANGE
        return
    if isinstance(found, Dice):
        left = Fraction(1)
        noted = replace(hit, branch=hit.branch.assume(found.note)) if found.note else hit
        for parts, element in index.all:
            share = (
                Fraction(covered(found, parts[0]), found.count) if not isinstance(parts[0], Unknown) else Fraction(0)
            )
            if share:
                left -= share
                yield noted.dice(share) if share != 1 else noted, element
        if left > 0:
            yield noted.dice(left), None
        return
    known = known_value(found)
    if known is not None:
        here = index.find(known)
        named = named_set(ctx, data)
        if isinstance(here, Unknown):
            for matched, other in _fork(ask(ctx, rule, f"the packet is {here.what} of the map"), hit):
                yield other, _STRANGE if matched else None
        elif named is not None and named.dynamic and here is not None:
            for matched, other in _fork(remembers(ctx, rule, named, True, known), hit):
                yield other, here if matched else None
        else:
            yield hit, here
        return
    # One element after the other: may it be this one?
    values = found if isinstance(found, tuple) else (found,)
    rest = [hit]
    for parts, element in index.all:
        truths = [
            False if isinstance(v, tuple) else in_constant(v, p, ctx, rule, "the packet")
            for v, p in zip(values, parts, strict=False)
        ]
        if any(t is False for t in truths):
            continue
        following: list[Hit] = []
        for each in rest:
            hits = [each]
            for truth in truths:
                passed: list[Hit] = []
                for one in hits:
                    for matched, other in _fork(truth, one):
                        (passed if matched else following).append(other)
                hits = passed
            for one in hits:
                yield one, element
        rest = following
    for each in rest:
        yield each, None


def _valued(e: NftValue, hit: Hit, ctx: Context, rule: NftRule) -> Iterator[tuple[Hit, Value | NftValue]]:
    """The value of an expression, with maps looked up: the value that a map has for the packet, or BREAK."""
    if isinstance(e, NftExpr) and e.op == "map":
        key, data = e.args
        for keyed, found in _valued(key, hit, ctx, rule):
            for other, element in _lookup(data, key, _as_value(found), keyed, ctx, rule):
                if element is None or element.value is None:
                    yield other, BREAK
                else:
                    yield other, element.value
        return
    yield hit, value(e, ctx, hit.branch.flight)


def _as_value(found: Value | NftValue) -> Value:
    return (
        Unknown("an expression that is not understood")
        if isinstance(found, NftExpr | NftVerdict | NftElement)
        else found
    )


def evaluate(rule: NftRule, ctx: Context, branch: Branch) -> list[Done]:
    """What becomes of a packet at one rule: a branch for each way, MISSED where the rule does not match."""
    live = [Hit(branch)]
    out: list[Done] = []
    for s in rule.statements:
        following: list[Hit] = []
        for hit in live:
            for done in _statement(s, rule, ctx, hit):
                if done.end == NEXT:
                    following.append(done.hit)
                else:
                    out.append(done)
        live = following
        if not live:
            return out
    return [*(Done(hit, NftVerdict("continue")) for hit in live), *out]


def _statement(s: NftStatement, rule: NftRule, ctx: Context, hit: Hit) -> Iterator[Done]:
    if s.kind in ("counter", "log", "flow", "dup", "last") or (s.kind.startswith("ct ") and s.kind != "ct count"):
        yield Done(hit)
        return
    run = _STATEMENTS.get(s.kind)
    if run is not None:
        yield from run(s, rule, ctx, hit)
        return
    text = s.words[0] if s.words else s.kind
    truth = ask(ctx, rule, f"the packet matches “{text}”, which netk8s does not understand")
    for matched, other in _fork(truth, hit):
        yield Done(other, NEXT if matched else MISSED)


def _arg(s: NftStatement, i: int) -> NftValue:
    found = s.args[i]
    assert not isinstance(found, NftStatement)  # noqa: S101 - model.NftStatement says which operands a kind has
    return found


def _match(s: NftStatement, rule: NftRule, ctx: Context, hit: Hit) -> Iterator[Done]:
    for valued, left in _valued(_arg(s, 0), hit, ctx, rule):
        plain = _as_value(left)
        if isinstance(plain, Dice) and plain.note:
            valued = replace(valued, branch=valued.branch.assume(plain.note))
        for matched, other in _fork(matches(s, rule, ctx, plain), valued):
            yield Done(other, NEXT if matched else MISSED)


def _verdict(s: NftStatement, rule: NftRule, ctx: Context, hit: Hit) -> Iterator[Done]:
    found = s.args[0]
    assert isinstance(found, NftVerdict)  # noqa: S101 - model.NftStatement
    if found.kind == "queue":
        yield from _apply("NFQUEUE", (), rule, ctx, hit)
    else:
        yield Done(hit, found)


def _vmap(s: NftStatement, rule: NftRule, ctx: Context, hit: Hit) -> Iterator[Done]:
    key, data = _arg(s, 0), _arg(s, 1)
    for valued, found in _valued(key, hit, ctx, rule):
        for other, element in _lookup(data, key, _as_value(found), valued, ctx, rule):
            if element is None:
                yield Done(other, MISSED)
            elif not isinstance(element.value, NftVerdict):
                yield _unclear(rule, other, f"the verdict of “{rule.raw}”")
            else:
                yield Done(other, NEXT if element.value.kind == "continue" else element.value)


def _limit(s: NftStatement, rule: NftRule, ctx: Context, hit: Hit) -> Iterator[Done]:
    over = s.words[0] == "over"
    what = {"limit": "limit", "quota": "quota", "ct count": "number of connections"}[s.kind]
    text = f"traffic is {'above' if over else 'within'} the {what} of this rule"
    other_text = f"traffic is {'within' if over else 'above'} the {what} of this rule"
    within = Ask(Question(f"{ctx.netns.name}:{rule.at}:{rule.chain}:{text}", text, other_text, not over))
    for matched, other in _fork(within, hit):
        yield Done(other, NEXT if matched else MISSED)


def _dynset(s: NftStatement, rule: NftRule, ctx: Context, hit: Hit) -> Iterator[Done]:
    """add, update, delete: what is remembered for later packets, and for later rules of this one; limits within decide
    about this one. The element is there before they do (nft_dynset_eval)."""
    flight = hit.branch.flight
    key = value(_arg(s, 0), ctx, flight)
    if isinstance(key, Broken):
        yield Done(hit, MISSED)
        return
    operation, name = s.words
    named, known = ctx.table.sets.get(name), known_value(key)
    if named is not None and named.dynamic and not named.map and known is not None:
        question = remembers(ctx, rule, named, False, known).question
        told = flight.with_(told=(*flight.told, (question.key, operation != "delete")))
        hit = replace(hit, branch=hit.branch.fly(told))
    live = [hit]
    for nested in s.args[1:]:
        if isinstance(nested, NftStatement):
            following = []
            for each in live:
                for done in _statement(nested, rule, ctx, each):
                    if done.end == NEXT:
                        following.append(done.hit)
                    else:
                        yield done
            live = following
    for each in live:
        yield Done(each)


def _mangle(s: NftStatement, rule: NftRule, ctx: Context, hit: Hit) -> Iterator[Done]:
    key = _arg(s, 0)
    if not isinstance(key, NftExpr) or not _matters(key):
        yield Done(hit)
        return
    for valued, found in _valued(_arg(s, 1), hit, ctx, rule):
        new = _as_value(found) if not isinstance(found, str) else found
        if isinstance(new, str):
            new_number = number(new, kind(key))
            new = new_number if new_number is not None else Unknown(new)
        if isinstance(new, Broken):
            yield Done(valued, MISSED)
        elif isinstance(new, Dice) and new.count <= MOST_DICE:
            noted = replace(valued, branch=valued.branch.assume(new.note)) if new.note else valued
            for side in range(new.offset, new.offset + new.count):
                yield Done(_written(key, side, noted.dice(Fraction(1, new.count)), ctx))
        elif isinstance(new, int):
            yield Done(_written(key, new, valued, ctx))
        else:
            yield _unclear(rule, valued, f"what “{rule.raw}” sets")


def _matters(key: NftExpr) -> bool:
    """Whether rules, routes or delivery look at what is set."""
    if key.op == "payload":
        return len(key.words) > 1 and key.words[1] in ("saddr", "daddr", "sport", "dport")
    return key.op in ("meta", "ct") and key.words[0] == "mark"


def _written(key: NftExpr, new: int, hit: Hit, ctx: Context) -> Hit:
    flight = hit.branch.flight
    packet = flight.packet
    changed: tuple[tuple[str, str], ...] = ()
    if key.op == "ct":
        conn = flight.conn
        if entry(ctx, flight) is not None:
            changed = (("connection mark", f"{conn.mark:#x} → {new:#x}"),) if conn.mark != new else ()
            flight = flight.with_(conn=replace(conn, mark=new))
    elif key.op == "meta":
        changed = (("mark", f"{packet.mark:#x} → {new:#x}"),) if packet.mark != new else ()
        flight = flight.with_(packet=packet.replace(mark=new))
    else:
        after = _with_header(packet, key.words[1], new)
        changed = ((key.words[1], f"{_header(packet, key.words[1])} → {_header(after, key.words[1])}"),)
        flight = flight.with_(packet=after)
    return replace(hit, branch=hit.branch.fly(flight), changes=(*hit.changes, *changed))


_HEADERS = {"saddr": "src", "daddr": "dst", "sport": "sport", "dport": "dport"}


def _header(packet: Packet, name: str) -> object:
    return getattr(packet, _HEADERS[name])


def _with_header(packet: Packet, name: str, new: int) -> Packet:
    new &= (1 << (packet.src.max_prefixlen if name in ("saddr", "daddr") else 16)) - 1
    return packet.replace(**{_HEADERS[name]: type(packet.src)(new) if name in ("saddr", "daddr") else new})


def _notrack(s: NftStatement, rule: NftRule, ctx: Context, hit: Hit) -> Iterator[Done]:
    flight = hit.branch.flight
    # nft_notrack_eval leaves a packet alone that has an entry; one that is invalid to conntrack has none.
    if ctx.tracked and flight.conn.state != "INVALID":
        yield Done(hit)
        return
    yield Done(replace(hit, branch=hit.branch.fly(flight.with_(conn=replace(flight.conn, state="UNTRACKED")))))


# ---------------------------------------------------------------- translation, reject


def _unclear(rule: NftRule, hit: Hit, what: str) -> Done:
    return Done(hit, targets.Effect(hit.branch, targets.UNKNOWN, f"{what} ({rule.at}) is not understood"))


def _apply(name: str, options: tuple[Option, ...], rule: NftRule, ctx: Context, hit: Hit) -> Iterator[Done]:
    """The same code of the kernel stands behind a statement of nft and a target of iptables (nf_nat_*, nf_reject_*)."""
    for effect in targets.apply(Target(name, options), hit.branch, ctx.seen(hit.branch.flight, rule)):
        after = replace(hit, branch=effect.branch, changes=(*hit.changes, *effect.changes))
        yield Done(after, NEXT if effect.verdict == targets.CONTINUE else effect)


_NAT_FLAGS = {"random": "--random", "fully-random": "--random-fully", "persistent": "--persistent"}


def _flags(words: Sequence[str]) -> tuple[Option, ...]:
    return tuple(Option(_NAT_FLAGS[w]) for w in words if w in _NAT_FLAGS)


def _translate(s: NftStatement, rule: NftRule, ctx: Context, hit: Hit) -> Iterator[Done]:
    family, flags = s.words[0], s.words[1:]
    version = hit.branch.flight.packet.family
    name, option = ("DNAT", "--to-destination") if s.kind == "dnat" else ("SNAT", "--to-source")
    for valued, found in _valued(_arg(s, 0), hit, ctx, rule):
        if isinstance(found, Broken):
            yield Done(valued, MISSED)
            continue
        if family and (family == "ip") != (version == 4):
            yield Done(valued)  # nft_nat_inet_eval: a packet of the other family is left alone
            continue
        address, port = _spelled(found, version), _spelled(_arg(s, 1), 0)
        if isinstance(found, NftExpr) and found.op == "concat" and len(found.args) == 2:
            address, port = _spelled(found.args[0], version), _spelled(found.args[1], 0)
        elif isinstance(found, tuple) and len(found) == 2:
            address, port = _spelled(_plain_value(found[0]), version), _spelled(_plain_value(found[1]), 0)
        if address is None or port is None:
            yield _unclear(rule, valued, f"“{rule.raw}”")
        elif "netmap" in flags:
            yield from _apply("NETMAP", (Option("--to", (address,)),), rule, ctx, valued)
        else:
            if port:
                address = f"[{address}]" if ":" in address else address
                address = f"{address}:{port}"
            yield from _apply(name, (Option(option, (address,)), *_flags(flags)), rule, ctx, valued)


def _plain_value(found: Value) -> Value | NftValue:
    return found


def _spelled(found: Value | NftValue, version: int) -> str | None:
    """An address or port, or a range of them, as iptables writes it; "" for none, None when it is not known."""
    if isinstance(found, bool) or found is None:
        return None
    if isinstance(found, int):
        if version == 0:
            return str(found)
        size = 4 if version == 4 else 16
        return str(ip_address(found.to_bytes(size, "big"))) if 0 <= found < 1 << 8 * size else None
    if isinstance(found, str):
        return found
    if isinstance(found, NftExpr) and found.op == "range":
        low, high = (_spelled(a, version) for a in found.args)
        return None if low is None or high is None else f"{low}-{high}"
    if isinstance(found, NftExpr) and found.op == "prefix":
        return f"{found.args[0]}/{found.args[1]}"
    return None


def _masquerade(s: NftStatement, rule: NftRule, ctx: Context, hit: Hit) -> Iterator[Done]:
    ports = _spelled(_arg(s, 0), 0)
    options = _flags(s.words)
    if s.kind == "redirect":
        yield from _apply("REDIRECT", (*((Option("--to-ports", (ports,)),) if ports else ()), *options), rule, ctx, hit)
        return
    yield from _apply("MASQUERADE", (*((Option("--to-ports", (ports,)),) if ports else ()), *options), rule, ctx, hit)


_REJECTS = {
    4: {
        "no-route": "icmp-net-unreachable", "net-unreachable": "icmp-net-unreachable",
        "host-unreachable": "icmp-host-unreachable", "addr-unreachable": "icmp-host-unreachable",
        "prot-unreachable": "icmp-proto-unreachable", "port-unreachable": "icmp-port-unreachable",
        "net-prohibited": "icmp-net-prohibited", "host-prohibited": "icmp-host-prohibited",
        "admin-prohibited": "icmp-admin-prohibited",
    },
    6: {
        "no-route": "icmp6-no-route", "admin-prohibited": "icmp6-adm-prohibited",
        "addr-unreachable": "icmp6-addr-unreachable", "host-unreachable": "icmp6-addr-unreachable",
        "port-unreachable": "icmp6-port-unreachable", "policy-fail": "icmp6-policy-fail",
        "reject-route": "icmp6-reject-route",
    },
}  # fmt: skip
"""Codes of nft by the words that iptables has for them; icmpx has the ones both families share."""


def _reject(s: NftStatement, rule: NftRule, ctx: Context, hit: Hit) -> Iterator[Done]:
    sort, code = s.words
    version = hit.branch.flight.packet.family
    if sort in ("icmp", "icmpv6") and (sort == "icmp") != (version == 4):
        yield Done(hit, MISSED)  # nft asks for the family first (stmt_evaluate_reject_inet_family)
        return
    if sort == "tcp reset":
        if hit.branch.flight.packet.protocol != TCP:
            yield Done(hit, MISSED)
            return
        word = "tcp-reset"
    else:
        word = _REJECTS[version].get(code or "port-unreachable", f"{'icmp' if version == 4 else 'icmp6'}-{code}")
    yield from _apply("REJECT", (Option("--reject-with", (word,)),), rule, ctx, hit)


def _tproxy(s: NftStatement, rule: NftRule, ctx: Context, hit: Hit) -> Iterator[Done]:
    port = _spelled(_arg(s, 1), 0) or "0"
    for done in _apply("TPROXY", (Option("--on-port", (port,)),), rule, ctx, hit):
        # nft_tproxy_eval assigns the socket and goes on with the rule.
        yield Done(done.hit)


def _xt(s: NftStatement, rule: NftRule, ctx: Context, hit: Hit) -> Iterator[Done]:
    """An extension of iptables: JSON and text name it and keep its arguments to themselves."""
    sort, name = s.words
    if sort == "match":
        if name in ("comment", "nfacct"):
            yield Done(hit)
            return
        for matched, other in _fork(
            ask(ctx, rule, f"the packet matches iptables' “{name}”, whose options this dump hides"), hit
        ):
            yield Done(other, NEXT if matched else MISSED)
    elif name in ("MASQUERADE", "NOTRACK") or targets.has_no_effect(Target(name)):
        yield from _apply(name, (), rule, ctx, hit)
    else:
        why = f"this dump hides the options of target {name} ({rule.at}); iptables-save shows them"
        yield Done(hit, targets.Effect(hit.branch, targets.UNKNOWN, why))


_STATEMENTS: Mapping[str, Callable[[NftStatement, NftRule, Context, Hit], Iterator[Done]]] = {
    "match": _match,
    "verdict": _verdict,
    "vmap": _vmap,
    "limit": _limit,
    "quota": _limit,
    "ct count": _limit,
    "set": _dynset,
    "mangle": _mangle,
    "notrack": _notrack,
    "dnat": _translate,
    "snat": _translate,
    "masquerade": _masquerade,
    "redirect": _masquerade,
    "reject": _reject,
    "tproxy": _tproxy,
    "xt": _xt,
}


# ---------------------------------------------------------------- a base chain


class _Frame(Struct, frozen=True):
    """A chain that jumped and goes on at rule ``index`` when the called chain returns."""

    chain: NftChain
    index: int
    below: _Frame | None
    depth: int


class _Task(Struct, frozen=True):
    branch: Branch
    chain: NftChain
    index: int
    caller: _Frame | None
    gotos: int = 0
    """How often the packet was sent on by goto since the last jump."""


class _Run(Struct):
    """The traversal of one base chain: what is left to follow, what is finished."""

    ctx: Context
    base: NftChain
    tasks: list[_Task] = field(default_factory=list)


def traverse(table: NftTable, base: NftChain, hook: str, branch: Branch, netns: Netns) -> Iterator[Verdict]:
    """What becomes of a packet in a base chain: one verdict per branch.

    Raises DecodeError for elements that cannot be decoded, when the packet is looked up in them.
    """
    looped = branch.flight.looped or hook not in ("prerouting", "output")
    ctx = Context(table, hook, netns, looped or base.priority > CONNTRACK_PRIORITY)
    run = _Run(ctx, base, [_Task(branch, base, 0, None)])
    done = 0
    while run.tasks:
        task = run.tasks.pop()
        done += 1  # chains that go to each other in a circle come to no verdict
        current, chain, index = task.branch, task.chain, task.index
        ended = False
        for i in range(index, len(chain.rules)):
            rule = chain.rules[i]
            ways = evaluate(rule, ctx, current)
            if len(ways) == 1 and ways[0].end == MISSED:
                current = ways[0].hit.branch
                continue
            following: list[_Task] = []
            for way in ways:
                if way.end == MISSED:
                    following.append(_Task(way.hit.branch, chain, i + 1, task.caller, task.gotos))
                    continue
                for item in _follow(run, rule, way, _Task(way.hit.branch, chain, i + 1, task.caller, task.gotos)):
                    if isinstance(item, Verdict):
                        yield item
                    else:
                        following.append(item)
            if len(following) == 1 and following[0].chain is chain and following[0].index == i + 1 and len(ways) == 1:
                current = following[0].branch
                continue
            run.tasks.extend(reversed(following))
            ended = True
            break
        if not ended:
            for item in _return(run, current, task.caller):
                if isinstance(item, Verdict):
                    yield item
                else:
                    run.tasks.append(item)
        if done + len(run.tasks) > MOST_BRANCHES:
            why = f"more than {MOST_BRANCHES} ways through chain {base.name} of table {table.family} {table.name}"
            yield Verdict(branch, targets.UNKNOWN, why)
            return


def _return(run: _Run, branch: Branch, caller: _Frame | None) -> Iterator[Verdict | _Task]:
    """The end of a chain or a return: back to the chain that jumped here, or the policy."""
    if caller is not None:
        yield _Task(branch, caller.chain, caller.index, caller.below)
        return
    base, table = run.base, run.ctx.table
    if base.policy != "drop":
        yield Verdict(branch, targets.ACCEPT)
        return
    step = Step(run.ctx.hook, table.name, base.name, None, base.at, "policy drop", means=f"policy of {base.name}")
    yield Verdict(branch.step(step), targets.DROP, f"policy drop of {table.name} {base.name} ({base.at})")


def _follow(run: _Run, rule: NftRule, way: Done, here: _Task) -> Iterator[Verdict | _Task]:
    """What follows of a rule that matched."""
    hit, end = way.hit, way.end
    if isinstance(end, targets.Effect):
        logged = _log(
            run,
            rule,
            hit,
            f"{rule_action(rule)} {end.detail}".strip() if end.verdict == targets.REJECT else rule_action(rule),
        )
        detail = end.detail
        if end.verdict == targets.DROP and not detail:
            detail = f"dropped by the rule at {rule.at}"
        yield Verdict(logged, end.verdict, detail, end.bound, rule)
        return
    assert isinstance(end, NftVerdict)  # noqa: S101 - the other ends are dealt with where evaluate() is called
    if end.kind == "continue":
        yield replace(here, branch=_log(run, rule, hit, "continue"))
    elif end.kind == "accept":
        yield Verdict(_log(run, rule, hit, "accept"), targets.ACCEPT, rule=rule)
    elif end.kind == "drop":
        yield Verdict(_log(run, rule, hit, "drop"), targets.DROP, f"dropped by the rule at {rule.at}", rule=rule)
    elif end.kind == "return":
        yield from _return(run, _log(run, rule, hit, "return"), here.caller)
    elif end.kind in ("jump", "goto"):
        yield _enter(run, rule, hit, end, here)
    else:
        yield Verdict(
            _log(run, rule, hit, end.kind), targets.UNKNOWN, f"verdict {end.kind} of the rule at {rule.at}", rule=rule
        )


def _enter(run: _Run, rule: NftRule, hit: Hit, verdict: NftVerdict, here: _Task) -> Verdict | _Task:
    logged = _log(run, rule, hit, f"{verdict.kind} {verdict.chain}")
    chain = run.ctx.table.chains.get(verdict.chain)
    if chain is None:
        why = f"the rule at {rule.at} goes to chain {verdict.chain}, which the dump does not have"
        return Verdict(logged, targets.UNKNOWN, why, rule=rule)
    depth = here.caller.depth + 1 if here.caller else 1
    if verdict.kind == "goto" and here.gotos < MOST_FRAMES:
        # Not a call: what returns from there returns to the chain that last jumped.
        return _Task(logged, chain, 0, here.caller, here.gotos + 1)
    if verdict.kind == "goto" or depth > MOST_FRAMES:
        why = f"chains jump in a circle: {rule.chain} to {verdict.chain} ({rule.at})"
        return Verdict(logged, targets.UNKNOWN, why, rule=rule)
    return _Task(logged, chain, 0, _Frame(here.chain, here.index, here.caller, depth))


_ACTIONS = frozenset({"dnat", "snat", "masquerade", "redirect", "reject", "xt"})


def rule_action(rule: NftRule) -> str:
    """The statement that decides about the packet, by its name."""
    for s in reversed(rule.statements):
        if s.kind in _ACTIONS:
            return s.words[1] if s.kind == "xt" else s.kind
        if s.kind == "verdict" and isinstance(s.args[0], NftVerdict):
            return s.args[0].kind
    return "continue"


def _log(run: _Run, rule: NftRule, hit: Hit, action: str) -> Branch:
    return hit.branch.step(
        Step(
            run.ctx.hook, run.ctx.table.name, rule.chain, rule.raw, rule.at, action, hit.odds, hit.changes,
            assumed=hit.assumed, unknown=hit.unknown, nft=rule,
        )
    )  # fmt: skip
