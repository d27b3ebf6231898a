"""One table at one hook: jump, goto, return, policy, dice and doubt (ipt_do_table)."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from ipaddress import ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netk8s.decode import iptables_save
from netk8s.errors import DecodeError
from netk8s.kernel import iptables, targets
from netk8s.kernel.flight import Branch, Conn, Flight, steps_of, tuple_of
from netk8s.kernel.iptables import Verdict
from netk8s.kernel.netns import Netns
from netk8s.model import TCP, Dump, Node, Packet, Table

PACKET = Packet(TCP, ip_address("192.0.2.7"), ip_address("10.96.0.1"), 40000, 80)
NETNS = Netns(Node("n", covered=frozenset({"addr", "route4", "rules4"})))


def table(rules: Iterable[str], policy: str = "ACCEPT", name: str = "filter", hook: str = "FORWARD") -> Table:
    """Rules as "CHAIN words"; every chain that has or is given rules is declared."""
    lines = list(rules)
    chains = dict.fromkeys(line.split()[0] for line in lines)
    chains.pop(hook, None)
    text = [
        f"*{name}",
        f":{hook} {policy} [0:0]",
        *(f":{c} - [0:0]" for c in chains),
        *(f"-A {line}" for line in lines),
        "COMMIT",
        "",
    ]
    (found,) = [f for f in iptables_save.decode(Dump("x", "\n".join(text).encode())) if isinstance(f, Table)]
    return found


def start(packet: Packet = PACKET) -> Branch:
    there = tuple_of(packet)
    return Branch(Flight(packet, Conn("NEW", "ORIGINAL", there, there.reversed()), iif="eth0", oif="eth1"))


def run(rules: Iterable[str], policy: str = "ACCEPT", packet: Packet = PACKET) -> list[Verdict]:
    return list(iptables.traverse(table(rules, policy), "forward", start(packet), NETNS))


def mark(rules: Iterable[str], policy: str = "ACCEPT") -> int:
    """The mark behind the table: which MARK rules a packet passed."""
    (verdict,) = run(rules, policy)
    assert verdict.kind == targets.ACCEPT
    return verdict.branch.flight.packet.mark


def bit(i: int) -> str:
    return f"-j MARK --set-xmark {1 << i:#x}/{1 << i:#x}"


# ---------------------------------------------------------------- an empty table


@pytest.mark.parametrize(("policy", "kind"), [("ACCEPT", targets.ACCEPT), ("DROP", targets.DROP)])
def test_a_policy_decides_at_the_end(policy: str, kind: str) -> None:
    (verdict,) = run([], policy)
    assert (verdict.kind, verdict.branch.flight, verdict.bound) == (kind, start().flight, False)
    (same,) = run(["FORWARD -s 10.9.9.9/32 -j ACCEPT", "OTHER -j DROP"], policy)
    assert same.kind == kind


def test_a_dropping_policy_is_a_step_with_its_line() -> None:
    (verdict,) = run([], "DROP")
    (step,) = steps_of(verdict.branch.log)
    assert (step.action, step.at.line if step.at else 0) == ("policy DROP", 2)
    assert "x:2" in verdict.detail


def test_a_hook_without_chain_lets_everything_pass() -> None:
    (verdict,) = iptables.traverse(table([]), "postrouting", start(), NETNS)
    assert (verdict.kind, verdict.branch) == (targets.ACCEPT, start())


# ---------------------------------------------------------------- jump, return, goto


def test_rules_run_in_order_until_a_verdict() -> None:
    assert mark([f"FORWARD {bit(0)}", f"FORWARD {bit(1)}", "FORWARD -j ACCEPT", f"FORWARD {bit(2)}"], "DROP") == 0b11


def test_a_jump_comes_back_behind_itself() -> None:
    rules = [f"FORWARD {bit(0)}", "FORWARD -j A", f"FORWARD {bit(2)}", f"A {bit(1)}"]
    assert mark(rules) == 0b111


def test_return_comes_back_early() -> None:
    rules = ["FORWARD -j A", f"FORWARD {bit(2)}", f"A {bit(0)}", "A -j RETURN", f"A {bit(1)}"]
    assert mark(rules) == 0b101


def test_return_in_the_base_chain_is_the_policy() -> None:
    (verdict,) = run(["FORWARD -j RETURN", "FORWARD -j ACCEPT"], "DROP")
    assert verdict.kind == targets.DROP


def test_return_at_depth_three_comes_back_to_depth_two() -> None:
    rules = [
        "FORWARD -j A", f"FORWARD {bit(5)}",
        f"A {bit(0)}", "A -j B", f"A {bit(4)}",
        f"B {bit(1)}", "B -j C", f"B {bit(3)}",
        f"C {bit(2)}", "C -j RETURN", f"C {bit(6)}",
    ]  # fmt: skip
    assert mark(rules) == 0b111111


def test_accept_at_depth_ends_the_table() -> None:
    rules = ["FORWARD -j A", "FORWARD -j DROP", "A -j B", "A -j DROP", "B -j ACCEPT"]
    (verdict,) = run(rules, "DROP")
    assert verdict.kind == targets.ACCEPT


def test_goto_does_not_come_back_to_its_chain() -> None:
    """FORWARD calls A, A goes to B: what ends in B comes back to FORWARD, behind the call of A."""
    rules = ["FORWARD -j A", f"FORWARD {bit(2)}", f"A {bit(0)}", "A -g B", f"A {bit(3)}", f"B {bit(1)}"]
    assert mark(rules) == 0b111


def test_goto_from_the_base_chain_ends_with_the_policy() -> None:
    (verdict,) = run([f"FORWARD {bit(0)}", "FORWARD -g A", "FORWARD -j ACCEPT", f"A {bit(1)}"], "DROP")
    assert verdict.kind == targets.DROP
    assert verdict.branch.flight.packet.mark == 0b11


def test_goto_at_depth_and_a_call_behind_it() -> None:
    """A calls B, B goes to C, C calls D and returns: on goes A behind its call of B."""
    rules = [
        "FORWARD -j A", f"FORWARD {bit(4)}",
        "A -j B", f"A {bit(3)}",
        f"B {bit(0)}", "B -g C", f"B {bit(7)}",
        "C -j D", f"C {bit(2)}", "C -j RETURN", f"C {bit(7)}",
        f"D {bit(1)}", "D -j RETURN", f"D {bit(7)}",
    ]  # fmt: skip
    assert mark(rules) == 0b11111


def test_a_called_chain_may_be_called_again() -> None:
    rules = ["FORWARD -j A", f"FORWARD {bit(0)}", "FORWARD -j A", f"FORWARD {bit(1)}", "A -j RETURN"]
    assert mark(rules) == 0b11


def test_a_rule_without_target_only_counts() -> None:
    assert mark([f"FORWARD {bit(0)}", "FORWARD -p tcp", f"FORWARD {bit(1)}"]) == 0b11


def test_what_a_rule_changes_the_next_one_sees() -> None:
    rules = [f"FORWARD {bit(0)}", "FORWARD -m mark --mark 0x1/0x1 -j A", f"A {bit(1)}"]
    assert mark(rules) == 0b11
    toggled = [
        "FORWARD -j MARK --set-xmark 0x4000/0x4000",
        "FORWARD -j MARK --set-xmark 0x4000/0x0",
        "FORWARD -m mark ! --mark 0x4000/0x4000 -j ACCEPT",
    ]
    assert mark(toggled, "DROP") == 0


def test_kube_postrouting() -> None:
    """The three rules of 1.18 and later: unmarked packets return, marked ones lose the mark."""
    rules = [
        "FORWARD -j K",
        f"FORWARD {bit(1)}",
        "K -m mark ! --mark 0x4000/0x4000 -j RETURN",
        "K -j MARK --set-xmark 0x4000/0x0",
        f"K {bit(0)}",
    ]
    assert mark(rules) == 0b10
    assert mark(["FORWARD -j MARK --set-xmark 0x4000/0x4000", *rules]) == 0b11


@pytest.mark.parametrize("depth", [1, 15, 100, 500])
def test_deep_calls(depth: int) -> None:
    rules = ["FORWARD -j C0", f"FORWARD {bit(1)}", *(f"C{i} -j C{i + 1}" for i in range(depth)), f"C{depth} {bit(0)}"]
    assert mark(rules) == 0b11


@pytest.mark.parametrize(
    "rules",
    [
        ["FORWARD -j A", "A -j A"],
        ["FORWARD -j A", "A -j B", "B -j C", "C -j A"],
        ["FORWARD -j FORWARD"],
        ["FORWARD -g A", "A -g B", "B -g A"],
        ["FORWARD -g FORWARD"],
        ["FORWARD -j A", "A -g B", "B -j A"],
    ],
)
def test_chains_that_jump_in_a_circle_end(rules: list[str]) -> None:
    """No kernel loads these; a dump that was edited may hold them."""
    found = run(rules)
    assert any(v.kind == targets.UNKNOWN and ("circle" in v.detail or "ways" in v.detail) for v in found)


def test_a_chain_that_is_not_there_is_unknown() -> None:
    (verdict,) = run(["FORWARD -p tcp -j NOWHERE"])
    assert verdict.kind == targets.UNKNOWN
    assert "NOWHERE" in verdict.detail
    assert "x:3" in verdict.detail


def test_a_rule_that_cannot_be_decoded_is_refused_where_a_packet_meets_it() -> None:
    assert run(["FORWARD -j ACCEPT", "OTHER -m"], "DROP")[0].kind == targets.ACCEPT
    with pytest.raises(DecodeError) as error:
        run(["FORWARD -j OTHER", "OTHER -m"])
    assert error.value.line == 5


def test_reject_and_its_rule() -> None:
    (verdict,) = run(["FORWARD -p tcp -j REJECT --reject-with tcp-reset"])
    assert (verdict.kind, verdict.detail) == (targets.REJECT, "tcp-reset")
    assert verdict.rule is not None
    assert verdict.rule.at.line == 3


def test_steps_are_the_rules_that_matched() -> None:
    (verdict,) = run(["FORWARD -p udp -j DROP", "FORWARD -j A", "A -p tcp -j ACCEPT"])
    steps = steps_of(verdict.branch.log)
    assert [(s.chain, s.action, s.at.line if s.at else 0, s.table, s.hook) for s in steps] == [
        ("FORWARD", "jump A", 5, "filter", "forward"),
        ("A", "ACCEPT", 6, "filter", "forward"),
    ]
    assert steps[1].rule == "-A A -p tcp -j ACCEPT"
    assert all(s.odds == 1 for s in steps)


# ---------------------------------------------------------------- dice


def balance(n: int) -> list[str]:
    """A service chain of n endpoints as kube-proxy writes it and iptables-save prints it."""
    rules = ["FORWARD -j SVC", "FORWARD -j DROP"]
    for i in range(n):
        dice = ""
        if i < n - 1:
            kept = round(float(f"{1 / (n - i):.10f}") * (1 << 31))
            dice = f"-m statistic --mode random --probability {kept / (1 << 31):.11f} "
        rules.append(f"SVC {dice}-j SEP{i}")
    rules += [f"SEP{i} -j MARK --set-xmark {i:#x}/0xffffffff" for i in range(n)]
    return [*rules, *(f"SEP{i} -j ACCEPT" for i in range(n))]


@pytest.mark.parametrize("n", [*range(1, 31), 100, 333, 1000, 1500])
def test_every_endpoint_has_its_exact_share(n: int) -> None:
    found = run(balance(n), "DROP")
    assert [v.kind for v in found] == [targets.ACCEPT] * n
    assert [v.branch.flight.packet.mark for v in found] == list(range(n))
    assert [v.branch.odds for v in found] == [Fraction(1, n)] * n
    assert sum(v.branch.odds for v in found) == 1


def test_all_sizes_add_up_to_one() -> None:
    """The shares of every n to 1500, by the same arithmetic without building each chain."""
    from netk8s.kernel.matches import probability

    for n in range(1, 1501):
        left, total = Fraction(1), Fraction(0)
        for i in range(n - 1):
            kept = round(float(f"{1 / (n - i):.10f}") * (1 << 31))
            odds = probability(f"{kept / (1 << 31):.11f}")
            assert odds == Fraction(1, n - i)
            if n > 40 and i > 3:
                break
            total += left * odds
            left *= 1 - odds
        if n <= 40:
            assert total + left == 1
            assert left == Fraction(1, n)


def test_the_share_that_no_rule_takes_goes_on() -> None:
    found = run(["FORWARD -m statistic --mode random --probability 0.25 -j DROP", "FORWARD -j ACCEPT"])
    assert {v.kind: v.branch.odds for v in found} == {targets.DROP: Fraction(1, 4), targets.ACCEPT: Fraction(3, 4)}
    drop = next(v for v in found if v.kind == targets.DROP)
    assert steps_of(drop.branch.log)[0].odds == Fraction(1, 4)


def test_dice_within_dice_multiply() -> None:
    rules = [
        "FORWARD -m statistic --mode random --probability 0.5 -j A", "FORWARD -j DROP",
        "A -m statistic --mode random --probability 0.25 -j ACCEPT",
    ]  # fmt: skip
    found = run(rules)
    assert sum(v.branch.odds for v in found if v.kind == targets.ACCEPT) == Fraction(1, 8)
    assert sum(v.branch.odds for v in found if v.kind == targets.DROP) == Fraction(7, 8)


def test_dice_over_a_log_rule_are_not_followed_apart() -> None:
    found = run(["FORWARD -m statistic --mode random --probability 0.5 -j LOG", "FORWARD -j ACCEPT"])
    assert [v.branch.odds for v in found] == [1]


# ---------------------------------------------------------------- doubt


def test_a_match_that_is_not_understood_is_followed_both_ways() -> None:
    yes, no = run(["FORWARD -m geoip --source-country DE -j DROP", "FORWARD -j ACCEPT"])
    assert (yes.kind, no.kind) == (targets.DROP, targets.ACCEPT)
    assert (yes.branch.odds, no.branch.odds) == (1, 1)
    assert (yes.branch.choices[0].answer, no.branch.choices[0].answer) == (True, False)
    assert yes.branch.choices[0].question == no.branch.choices[0].question
    assert "geoip" in steps_of(yes.branch.log)[0].unknown


def test_an_inverted_doubt_is_the_same_doubt() -> None:
    rules = [
        "FORWARD -m set --match-set a src -j ACCEPT",
        "FORWARD -m set ! --match-set a src -j DROP",
        "FORWARD -j REJECT",
    ]
    found = run(rules)
    assert [v.kind for v in found] == [targets.ACCEPT, targets.DROP]
    assert [v.branch.choices[0].answer for v in found] == [True, False]


def test_dice_and_doubt_are_kept_apart() -> None:
    rules = [
        "FORWARD -m statistic --mode random --probability 0.5 -m geoip --source-country DE -j DROP",
        "FORWARD -j ACCEPT",
    ]
    found = run(rules)
    for answer in (True, False):
        agreeing = [v for v in found if all(c.answer is answer for c in v.branch.choices)]
        assert sum(v.branch.odds for v in agreeing) == 1
    assert sum(v.branch.odds for v in found if v.kind == targets.DROP) == Fraction(1, 2)


def test_dice_in_front_of_an_answer_given_before() -> None:
    """The second rule rolls dice and asks what the first one asked: where that was denied, all of the packet goes on."""
    rules = [
        "FORWARD -m set --match-set a src -j ACCEPT",
        "FORWARD -m statistic --mode random --probability 0.5 -m set --match-set a src -j DROP",
        "FORWARD -m statistic --mode random --probability 0.5 -m set ! --match-set a src -j DROP",
    ]
    found = run(rules)
    denied = [v for v in found if not v.branch.choices[0].answer]
    assert {(v.kind, v.branch.odds) for v in denied} == {
        (targets.DROP, Fraction(1, 2)),
        (targets.ACCEPT, Fraction(1, 2)),
    }
    assert [(v.kind, v.branch.odds) for v in found if v.branch.choices[0].answer] == [(targets.ACCEPT, 1)]


def test_an_assumed_match_has_an_alternative() -> None:
    found = run(["FORWARD -m limit --limit 1/s -j ACCEPT", "FORWARD -j DROP"])
    assert [(v.kind, v.branch.off_default) for v in found] == [(targets.ACCEPT, False), (targets.DROP, True)]
    assert steps_of(found[0].branch.log)[0].assumed


# ---------------------------------------------------------------- hypothesis

CHAINS = ["A", "B", "C"]
MATCH = st.sampled_from(
    ["", "-p tcp", "-p udp", "! -p tcp", "-s 192.0.2.0/24", "-d 10.96.0.1/32 -p tcp -m tcp --dport 80", "-m mark --mark 0x1/0x1",
     "-m statistic --mode random --probability 0.5", "-m statistic --mode random --probability 0.33333333349",
     "-m statistic --mode nth --every 3 --packet 0"]
)  # fmt: skip
DOUBT = st.sampled_from(
    ["-m geoip --source-country DE", "-m set --match-set a src", "-m limit --limit 1/s", "-m u32 --u32 0=1"]
)


@st.composite
def ruleset(draw: st.DrawFn, match: st.SearchStrategy[str]) -> list[str]:
    """Rules whose jumps go only to later chains, as any kernel demands."""
    out = []
    for level, chain in enumerate(["FORWARD", *CHAINS]):
        later = CHAINS[level:]
        target = st.sampled_from(
            ["-j ACCEPT", "-j DROP", "-j RETURN", "-j LOG", bit(0), "-j MARK --set-xmark 0x1/0x0", ""]
            + [f"-{word} {name}" for name in later for word in "jg"]
        )
        out += [f"{chain} {draw(match)} {draw(target)}" for _ in range(draw(st.integers(0, 4)))]
        out.append(f"{chain} -j LOG")
    return out


def reference(rules: list[str], policy: str) -> str:
    """A plain interpreter of the rules without dice, with Python's own stack as the kernel's."""
    chains: dict[str, list[str]] = {}
    for line in rules:
        chain, _, rest = line.partition(" ")
        chains.setdefault(chain, []).append(rest.strip())
    marked = 0

    def holds(words: str) -> bool:
        return {"": True, "-p tcp": True, "-p udp": False, "! -p tcp": False, "-s 192.0.2.0/24": True,
                "-d 10.96.0.1/32 -p tcp -m tcp --dport 80": True, "-m mark --mark 0x1/0x1": marked & 1 == 1}[words]  # fmt: skip

    def walk(chain: str) -> str:
        nonlocal marked
        for rule in chains.get(chain, []):
            words = rule.split()
            cut = next((i for i, w in enumerate(words) if w in ("-j", "-g")), len(words))
            if not holds(" ".join(words[:cut])) or cut == len(words):
                continue
            word, target = words[cut], words[cut + 1]
            if target in ("ACCEPT", "DROP"):
                return target
            if target == "RETURN":
                return ""
            if target == "MARK":
                marked = marked | 1 if words[-1] == "0x1/0x1" else marked ^ 1
            elif target != "LOG":
                verdict = walk(target)
                if verdict or word == "-g":
                    return verdict
        return ""

    return walk("FORWARD") or policy


SURE = MATCH.filter(lambda text: "statistic" not in text)


@given(ruleset(SURE), st.sampled_from(["ACCEPT", "DROP"]))
@settings(max_examples=300)
def test_the_verdict_is_that_of_a_plain_interpreter(rules: list[str], policy: str) -> None:
    (verdict,) = run(rules, policy)
    assert verdict.kind == {"ACCEPT": targets.ACCEPT, "DROP": targets.DROP}[reference(rules, policy)]
    assert verdict.branch.odds == 1


@given(ruleset(MATCH), st.sampled_from(["ACCEPT", "DROP"]))
@settings(max_examples=200)
def test_the_odds_of_all_ways_add_up_to_one(rules: list[str], policy: str) -> None:
    found = run(rules, policy)
    assert sum(v.branch.odds for v in found) == 1
    assert {v.kind for v in found} <= {targets.ACCEPT, targets.DROP}
    assert all(v.branch.odds > 0 for v in found)


@given(ruleset(MATCH | DOUBT), st.sampled_from(["ACCEPT", "DROP"]))
@settings(max_examples=200)
def test_the_odds_add_up_to_one_under_every_answer(rules: list[str], policy: str) -> None:
    found = run(rules, policy)
    questions = {c.question.key: c.question for v in found for c in v.branch.choices}
    usual = {key: q.default if q.default is not None else True for key, q in questions.items()}
    for changed in [None, *questions]:
        answers = {**usual, **({changed: not usual[changed]} if changed else {})}
        live = [v for v in found if all(answers[c.question.key] == c.answer for c in v.branch.choices)]
        assert sum(v.branch.odds for v in live) == 1
