"""A flow that is answered by the walk of another has the answer and the findings that its own walk gives."""

from __future__ import annotations

import importlib.util
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace

from netk8s import checkup, decode, dialects, snapshot
from netk8s.checkup import Checkup
from netk8s.model import World
from netk8s.survey import Ground, Key, Kindred, Port, Question, questions


def world(*paths: Path) -> World:
    return dialects.complete(decode.decode(snapshot.read([str(path) for path in paths])))


@pytest.fixture(scope="module")
def generated(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    spec = importlib.util.spec_from_file_location("generate", root / "bench" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    folder: Path = tmp_path_factory.mktemp("generated")
    module.write(folder, 40, 2)
    return folder


def both_ways(
    monkeypatch: pytest.MonkeyPatch, world: World, wanted: Callable[[Sequence[Port]], list[Key]] | None = None
) -> tuple[Checkup, Checkup]:
    """The checkup as it is, and one in which every flow is walked."""
    shared = checkup.check(world, wanted)
    monkeypatch.setattr(Kindred, "of", lambda self, question: None)
    return shared, checkup.check(world, wanted)


def assert_same(shared: Checkup, alone: Checkup) -> int:
    """The number of flows that were not walked."""
    assert len(shared.asked) == len(alone.asked)
    for one, other in zip(shared.asked, alone.asked, strict=True):
        assert one.question == other.question
        assert one.answer == other.answer, one.question.ask
        assert one.fate == other.fate
        assert one.problems == other.problems, one.question.ask
    assert shared.problems == alone.problems
    assert list(checkup.lines(shared)) == list(checkup.lines(alone))
    return sum(each.names is not None for each in shared.asked)


def test_generated_services_are_answered_as_if_each_was_walked(
    monkeypatch: pytest.MonkeyPatch, generated: Path
) -> None:
    shared, alone = both_ways(monkeypatch, world(generated))
    assert assert_same(shared, alone) > len(alone.asked) * 0.8


def altered(folder: Path, change: Callable[[list[str]], list[str]]) -> World:
    """The generated world with its rules changed."""
    (path,) = folder.glob("nodes/*/iptables-save.txt")
    text = "\n".join(change(path.read_text().splitlines())) + "\n"
    other = path.with_name("changed.txt")
    other.write_text(text)
    try:
        return world(*(p for p in path.parent.iterdir() if p != path))
    finally:
        other.unlink()


def changed_somewhere(lines: list[str]) -> list[str]:
    """Rules of single Services broken in ways of their own, and rules of others that tell addresses apart."""
    rng = random.Random(20261124)  # noqa: S311 - chance that can be repeated, no secret
    out = []
    for line in lines:
        if line.startswith("-A KUBE-S") and rng.random() < 0.02:
            match rng.randrange(4):
                case 0:
                    continue
                case 1:
                    line = line.replace("/32", "/31")
                case 2:
                    line = line.replace(":8080", ":8081")
                case 3:
                    line = line.replace("-p tcp", "-p udp").replace("-m tcp", "-m udp")
        out.append(line)
    forward = next(i for i, line in enumerate(out) if line.startswith("-A FORWARD"))
    return [
        *out[:forward],
        "-A FORWARD -d 10.128.0.9/32 -j DROP",
        "-A FORWARD -d 10.128.0.32/29 -p tcp -m tcp --dport 8000:8090 -j REJECT",
        "-A INPUT -p tcp -m tcp --dport 20007 -j DROP",
        *out[forward:],
    ]


def test_what_tells_services_apart_is_not_overlooked(monkeypatch: pytest.MonkeyPatch, generated: Path) -> None:
    shared, alone = both_ways(monkeypatch, altered(generated, changed_somewhere))
    assert assert_same(shared, alone) > len(alone.asked) * 0.3
    assert {each.fate for each in alone.asked} == {"arrives", "fails", "unknown"}


def test_services_of_objects_are_answered_as_if_each_was_walked(monkeypatch: pytest.MonkeyPatch, corpus: Path) -> None:
    def some(ports: Sequence[Port]) -> list[Key]:
        return [port.key for port in random.Random(4).sample(list(ports), 24)]  # noqa: S311 - can be repeated

    shared, alone = both_ways(monkeypatch, world(corpus / "scale-5k"), some)
    assert assert_same(shared, alone) > 10


@pytest.mark.parametrize("gap", ["conntrack", "sets"])
def test_facts_that_are_not_looked_through_share_nothing(generated: Path, corpus: Path, gap: str) -> None:
    plain = world(generated)
    rich = world(corpus / ("ipvs-rr-matrix" if gap == "sets" else "iptables-legacy-matrix"))
    facts = next(getattr(node, gap) for node in rich.nodes.values() if getattr(node, gap))
    nodes = {name: replace(node, **{gap: facts}) for name, node in plain.nodes.items()}
    assert Kindred(Ground.of(plain)).able
    assert not Kindred(Ground.of(replace(plain, nodes=nodes))).able


def test_a_question_names_what_it_is_about(generated: Path) -> None:
    ground = Ground.of(world(generated))
    kindred = Kindred(ground)
    first: dict[object, Question] = {}
    for question in questions([ground]):
        like = kindred.of(question)
        if like is None:
            continue
        assert like[1].words[0] == question.port.service
        assert str(question.port.endpoints[0].ip) in like[1].words
        other = first.setdefault(like[0], question)
        assert other.kind == question.kind
        assert other.client == question.client
    assert len(first) < 80
