"""One iptables table at one hook: chains, jump, goto, return, policy.

Sources: Linux net/ipv4/netfilter/ip_tables.c (ipt_do_table), net/netfilter/nf_tables_core.c (nft_do_chain); both
backends behave alike here. A work list, not recursion: a chain of thousands of endpoints is normal.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from msgspec import Struct
from msgspec.structs import replace

from netk8s.kernel import targets
from netk8s.kernel.flight import Branch
from netk8s.kernel.matches import Ask, Seen, conditions
from netk8s.kernel.netns import Netns
from netk8s.model import PROTOCOL_NAMES, Missing, NftRule, Rule, Step, Table, Target

MOST_FRAMES = 512
"""Deeper than any kernel allows (nft 16 jumps, legacy its stack size): chains that jump in a circle."""
MOST_BRANCHES = 200_000
MOST_OPEN = 8
"""A branch on which more than this is not known is followed no further: 256 ways, and no odds for any of them."""


class Verdict(Struct, frozen=True):
    """How a table let go of a packet. ``kind`` is accept, drop, reject or unknown; ``bound`` see targets.Effect.

    ``missing``: the dump that would have told more.
    """

    branch: Branch
    kind: str
    detail: str = ""
    bound: bool = False
    rule: Rule | NftRule | None = None
    missing: Missing | None = None


class _Frame(Struct, frozen=True):
    """A chain that jumped and goes on at rule ``index`` when the called chain returns."""

    chain: str
    index: int
    below: _Frame | None
    depth: int


class _Task(Struct, frozen=True):
    branch: Branch
    chain: str
    index: int
    caller: _Frame | None


def traverse(table: Table, hook: str, branch: Branch, netns: Netns) -> Iterator[Verdict]:
    """What becomes of a packet in ``table`` at ``hook`` ("prerouting", …): one verdict per branch.

    Raises DecodeError for a rule that cannot be decoded, when the packet comes to its chain.
    """
    if table.name == "raw" and not branch.flight.looped:
        # Conntrack looks at the packet behind raw: in raw there is no entry yet.
        conn = branch.flight.conn
        unseen = branch.fly(branch.flight.with_(conn=replace(conn, state="INVALID")))
        for verdict in _traverse(table, hook, unseen, netns):
            after = verdict.branch.flight
            if after.conn.state != "UNTRACKED":
                after = after.with_(conn=replace(after.conn, state=conn.state))
            yield replace(verdict, branch=verdict.branch.fly(after))
        return
    yield from _traverse(table, hook, branch, netns)


def _traverse(table: Table, hook: str, branch: Branch, netns: Netns) -> Iterator[Verdict]:
    base = hook.upper()
    if base not in table.chains:
        yield Verdict(branch, targets.ACCEPT)
        return
    packet = branch.flight.packet
    where = (str(packet.dst), PROTOCOL_NAMES.get(packet.protocol, str(packet.protocol)), packet.dport)
    # Addresses and ports do not change while a packet is in one table, so neither do the rules that can match.
    rules: dict[str, list[Rule]] = {}
    tasks = [_Task(branch, base, 0, None)]
    done = 0
    while tasks:
        task = tasks.pop()
        done += 1  # chains that go to each other in a circle come to no verdict
        chain = rules.get(task.chain)
        if chain is None:
            chain = rules[task.chain] = list(table.chains[task.chain].rules.relevant(*where))
        current, index = task.branch, task.index
        waiting: list[_Task] = []
        ended = False
        while index < len(chain):
            rule = chain[index]
            index += 1
            tried = _try(rule, hook, current, netns)
            if tried is None:
                why = f"more than {MOST_OPEN} matches of rules on the way to {rule.at} hang on what no dump tells"
                yield Verdict(current, targets.UNKNOWN, why)
                done += 1
                ended = True
                break
            matched, missed = tried
            if not matched:
                assert len(missed) == 1  # noqa: S101 - a rule that cannot match leaves the packet as it is
                current = missed[0]
                continue
            for other in reversed(missed):
                waiting.append(_Task(other, task.chain, index, task.caller))
            following = []
            for hit in matched:
                following.extend(_act(table, rule, hook, hit, netns, _Task(hit.branch, task.chain, index, task.caller)))
            only = following[0] if len(following) == 1 and not missed else None
            if isinstance(only, _Task) and only.chain == task.chain and only.index == index:
                current = only.branch
                continue
            for item in following:
                if isinstance(item, Verdict):
                    yield item
            # The branch that matched goes first, then those that did not, so answers come in the rules' order.
            tasks.extend(waiting)
            tasks.extend(reversed([item for item in following if isinstance(item, _Task)]))
            waiting = []
            ended = True
            break
        if not ended:
            yield from _end(table, hook, current, task, tasks)
        if done + len(tasks) > MOST_BRANCHES:
            yield Verdict(branch, targets.UNKNOWN, f"more than {MOST_BRANCHES} ways through table {table.name}")
            return


def _end(table: Table, hook: str, branch: Branch, task: _Task, tasks: list[_Task]) -> Iterator[Verdict]:
    """The end of a chain or a RETURN: back to the chain that jumped here, or the policy."""
    frame = task.caller
    if frame is not None:
        tasks.append(_Task(branch, frame.chain, frame.index, frame.below))
        return
    chain = table.chains[hook.upper()]
    if chain.policy is None or chain.policy == "ACCEPT":
        yield Verdict(branch, targets.ACCEPT)
    elif chain.policy == "DROP":
        means = f"policy of {chain.name}"
        step = Step(
            hook, table.name, chain.name, None, chain.at, "policy DROP", means=means, backend=table.backend
        )  # fmt: skip
        yield Verdict(branch.step(step), targets.DROP, f"policy DROP of {table.name} {chain.name} ({chain.at})")
    else:
        yield Verdict(branch, targets.UNKNOWN, f"policy {chain.policy} of {table.name} {chain.name}")


class _Hit(Struct, frozen=True):
    """A branch that matched a rule: by which odds, and by which answers to what is not known."""

    branch: Branch
    odds: Fraction = Fraction(1)
    asked: tuple[Ask, ...] = ()

    @property
    def assumed(self) -> bool:
        return any(a.question.default is not None for a in self.asked)

    @property
    def unknown(self) -> str:
        return "; ".join(
            a.question.if_true if a.wanted else a.question.if_false for a in self.asked if a.question.default is None
        )


def _try(rule: Rule, hook: str, branch: Branch, netns: Netns) -> tuple[list[_Hit], list[Branch]] | None:
    """(branches that match, branches that do not); None when too much is open already to follow both."""
    seen = Seen(branch.flight, hook, netns, rule)
    open_ = conditions(rule, seen)
    if open_ is None:
        return [], [branch]
    if not open_:
        return [_Hit(branch)], []
    if targets.has_no_effect(rule.target):
        # Nothing of the packet's way hangs on it: no reason to follow both.
        likely = all(isinstance(c, Ask) and c.question.default == c.wanted for c in open_)
        asked = tuple(c for c in open_ if isinstance(c, Ask))
        return ([_Hit(branch, asked=asked)], []) if likely else ([], [branch])
    asked_now = [c.question for c in open_ if isinstance(c, Ask) and c.question.default is None]
    if any(branch.answered(q) is None for q in asked_now) and branch.doubts >= MOST_OPEN:
        return None
    hits = [_Hit(branch)]
    missed: list[Branch] = []
    for condition in open_:
        following = []
        for hit in hits:
            if isinstance(condition, Fraction):
                following.append(_Hit(hit.branch.dice(condition), hit.odds * condition, hit.asked))
                missed.append(hit.branch.dice(1 - condition))
            else:
                for answer, other in hit.branch.ask(condition.question):
                    if answer == condition.wanted:
                        following.append(_Hit(other, hit.odds, (*hit.asked, condition)))
                    else:
                        missed.append(other)
        hits = following
    # Dice in front of an answer that was given before: the rule cannot match, and the packet goes on whole.
    return (hits, missed) if hits else ([], [branch])


def _act(table: Table, rule: Rule, hook: str, hit: _Hit, netns: Netns, here: _Task) -> list[Verdict | _Task]:
    """What follows of a rule that matched."""
    target, branch = rule.target, hit.branch
    if target is None:
        logged = _log(table, rule, hook, hit, branch, "continue")
        return [_Task(logged, here.chain, here.index, here.caller)]
    if not targets.is_target(target.name):
        return [_jump(table, rule, hook, hit, target, here)]
    out: list[Verdict | _Task] = []
    for effect in targets.apply(target, branch, Seen(branch.flight, hook, netns, rule)):
        action = f"{target.name} {effect.detail}".strip() if target.name == "REJECT" else target.name
        logged = _log(table, rule, hook, hit, effect.branch, action, effect.changes)
        if effect.verdict == targets.CONTINUE:
            out.append(_Task(logged, here.chain, here.index, here.caller))
        elif effect.verdict == targets.RETURN:
            ending: list[_Task] = []
            out.extend(_end(table, hook, logged, here, ending))
            out.extend(ending)
        else:
            detail = effect.detail
            if effect.verdict == targets.DROP and not detail:
                said = f" ({rule.comment})" if rule.comment else ""
                detail = f"dropped by the rule at {rule.at}{said}"
            out.append(Verdict(logged, effect.verdict, detail, effect.bound, rule))
    return out


def _jump(table: Table, rule: Rule, hook: str, hit: _Hit, target: Target, here: _Task) -> Verdict | _Task:
    logged = _log(table, rule, hook, hit, hit.branch, f"{'goto' if target.goto else 'jump'} {target.name}")
    if target.name not in table.chains:
        why = (
            f"the rule at {rule.at} goes to {target.name}, which is no chain of the dump and no target that netk8s "
            "understands"
        )
        return Verdict(logged, targets.UNKNOWN, why, rule=rule)
    if target.goto:
        # Not a call: what returns from there returns to the chain that last jumped.
        return _Task(logged, target.name, 0, here.caller)
    depth = here.caller.depth + 1 if here.caller else 1
    if depth > MOST_FRAMES:
        return Verdict(
            logged, targets.UNKNOWN, f"chains jump in a circle: {rule.chain} to {target.name} ({rule.at})", rule=rule
        )
    return _Task(logged, target.name, 0, _Frame(here.chain, here.index, here.caller, depth))


def _log(
    table: Table,
    rule: Rule,
    hook: str,
    hit: _Hit,
    branch: Branch,
    action: str,
    changes: tuple[tuple[str, str], ...] = (),
) -> Branch:
    return branch.step(
        Step(
            hook, table.name, rule.chain, rule.raw, rule.at, action, hit.odds, changes,
            assumed=hit.assumed, unknown=hit.unknown, backend=table.backend, detail=rule,
        )
    )  # fmt: skip
