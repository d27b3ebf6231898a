"""kernel/registered.py: the place of what is registered at one priority, and how certain it is."""

from __future__ import annotations

from collections.abc import Callable

from netk8s.kernel import registered
from netk8s.kernel.netns import Netns
from netk8s.model import At, Hook, Node


def netns(*names: str, priority: int = 0) -> Netns:
    listed = [Hook("ip", "input", priority, function=name, at=At("h", n)) for n, name in enumerate(names, 1)]
    other = Hook("ip6", "input", priority, function="a"), Hook("ip", "output", priority, function="a")
    return Netns(Node("n", hooks=(*other, *listed)))


def places(space: Netns, *names: str) -> list[registered.Place] | None:
    def named(name: str) -> Callable[[Hook], bool]:
        return lambda hook: hook.function == name

    return registered.places(space, 4, "input", 0, [named(name) for name in names])


def test_two_are_in_the_kernels_order() -> None:
    assert places(netns("a", "b"), "b", "a") == [(1, True, At("h", 2)), (0, True, At("h", 1))]


def test_of_more_only_the_first_is_certain_and_the_others_are_the_wrong_way_round() -> None:
    # nft up to 1.1.6 puts each further one behind the first: the kernel's order is a, d, c, b.
    found = places(netns("a", "b", "c", "d"), "a", "b", "c", "d")
    assert found is not None
    assert [certain for _, certain, _ in found] == [True, False, False, False]
    assert sorted("abcd", key=lambda name: found["abcd".index(name)][0]) == ["a", "d", "c", "b"]


def test_what_is_not_listed_has_no_place() -> None:
    assert places(netns("a", "b"), "a", "c") is None
    assert places(netns("a", "b", priority=5), "a", "b") is None
    assert places(Netns(Node("n")), "a", "b") is None
