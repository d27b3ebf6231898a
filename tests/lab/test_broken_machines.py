"""The fuzzer is worth what it catches: machines with one thing broken on purpose differ from the kernel soon enough."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from msgspec.structs import replace

from netk8s import model
from netk8s.kernel import iptables, matches, routing, targets

from .differential import Pair, judged, masqueraded

WITHIN = 1000
SEED = 20260202


def goto_as_call(patch: pytest.MonkeyPatch) -> None:
    real = iptables._jump

    def jump(table: Any, rule: Any, hook: str, hit: Any, target: model.Target, here: Any) -> Any:
        return real(table, rule, hook, hit, replace(target, goto=False), here)

    patch.setattr(iptables, "_jump", jump)


def mark_does_nothing(patch: pytest.MonkeyPatch) -> None:
    _apply_instead(patch, "MARK", lambda target, branch, seen: iter([targets.Effect(branch, targets.CONTINUE)]))


def inversion_is_ignored(patch: pytest.MonkeyPatch) -> None:
    real = iptables.conditions

    def conditions(rule: model.Rule, seen: matches.Seen) -> Any:
        plain = tuple(replace(m, options=tuple(replace(o, negated=False) for o in m.options)) for m in rule.matches)
        return real(replace(rule, matches=plain), seen)

    patch.setattr(iptables, "conditions", conditions)


def masquerade_takes_the_first_address(patch: pytest.MonkeyPatch) -> None:
    def first(addresses: Mapping[str, tuple[model.Address, ...]], *_: Any, **__: Any) -> Any:
        every = [a for dev, items in addresses.items() if dev != "lo" for a in items if a.ip.version == 4]
        return (every[0] if every else None), "the first of the node"

    patch.setattr(targets, "select_address", first)


def policy_is_ignored(patch: pytest.MonkeyPatch) -> None:
    real = iptables._end

    def end(table: model.Table, hook: str, branch: Any, task: Any, tasks: list[Any]) -> Iterator[Any]:
        for verdict in real(table, hook, branch, task, tasks):
            yield replace(verdict, kind=targets.ACCEPT) if verdict.detail.startswith("policy ") else verdict

    patch.setattr(iptables, "_end", end)


def return_as_accept(patch: pytest.MonkeyPatch) -> None:
    _apply_instead(patch, "RETURN", lambda target, branch, seen: iter([targets.Effect(branch, targets.ACCEPT)]))


def the_last_route_wins(patch: pytest.MonkeyPatch) -> None:
    """A prefix match that takes the shortest prefix instead of the longest."""
    real = routing._Trie.candidates

    def candidates(self: Any, dst: model.Addr) -> Iterator[model.Route]:
        return iter(list(real(self, dst))[::-1])

    patch.setattr(routing._Trie, "candidates", candidates)


def policy_rules_are_ignored(patch: pytest.MonkeyPatch) -> None:
    real = routing.Fib.__init__

    def fib(self: Any, family: int, routes: Any, rules: Any) -> None:
        real(self, family, routes, ())

    patch.setattr(routing.Fib, "__init__", fib)


def _apply_instead(patch: pytest.MonkeyPatch, name: str, effect: targets.Apply) -> None:
    patch.setattr(targets, "_TARGETS", {**targets._TARGETS, name: effect})


RULES = (goto_as_call, mark_does_nothing, inversion_is_ignored, policy_is_ignored, return_as_accept)
ROUTES = (masquerade_takes_the_first_address, the_last_route_wins, policy_rules_are_ignored)


@pytest.mark.lab
@pytest.mark.parametrize("broken", RULES)
def test_a_broken_machine_is_caught(
    broken: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken(monkeypatch)
    assert _caught_after(pair for _, pair in judged(SEED, WITHIN)) <= WITHIN


@pytest.mark.lab
@pytest.mark.parametrize("broken", ROUTES)
def test_a_broken_way_out_is_caught(
    broken: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken(monkeypatch)
    assert _caught_after(pair for _, pair in masqueraded(SEED, WITHIN // 20)) <= WITHIN


def _caught_after(pairs: Iterator[Pair]) -> int:
    """How many pairs it took to the first one that differs. A machine that stumbles is not caught by its answer."""
    count = 0
    for pair in pairs:
        count += 1
        if pair.differences and pair.differences[0].kind not in ("error", "slow"):
            pairs.close()  # type: ignore[attr-defined]
            return count
    raise AssertionError(f"{count} pairs agree with the kernel")
