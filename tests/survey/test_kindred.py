"""A flow that is answered by the walk of another has the answer and the findings that its own walk gives."""

from __future__ import annotations

import importlib.util
import os
import random
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import pytest
from msgspec.structs import replace

from netk8s import checkup, decode, dialects, snapshot
from netk8s.checkup import Checkup
from netk8s.kernel import _nft_values, matches
from netk8s.model import Cluster, Dump, Node, Snapshot, World
from netk8s.survey import Ground, Key, Kindred, Port, Question, _facts, _objects, _plain, questions
from tests.survey import cloned


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


def beside(world: World, **texts: str) -> World:
    """The world with more dumps of its first node."""
    first = next(iter(world.nodes))
    dumps = tuple(Dump(f"nodes/{first}/{name}.txt", text.encode(), first) for name, text in texts.items())
    (more,) = decode.decode(Snapshot(dumps)).nodes.values()
    node = replace(
        world.nodes[first], sets=more.sets, conntrack=more.conntrack, covered=world.nodes[first].covered | more.covered
    )  # fmt: skip
    return replace(world, nodes={**world.nodes, first: node})


def remembered(ports: Sequence[Port], rng: random.Random, *, strange: float) -> str:
    """Connections to Service ports as `conntrack -L` prints them; some go where no endpoint is, or on untranslated."""
    lines = []
    for port in ports:
        for dialled in port.dialled:
            protocol, number, state = ("udp", 17, "") if port.protocol == 17 else ("tcp", 6, "ESTABLISHED ")
            dst = dialled.ip or "172.16.0.11"
            answering: object = rng.choice(port.endpoints).ip if port.endpoints else dst
            if rng.random() < strange:
                answering = rng.choice((dst, "10.200.0.9"))
            client = f"10.128.{rng.randrange(4)}.{rng.randrange(1, 250)}"
            lines.append(
                f"{protocol} {number} 100 {state}src={client} dst={dst} sport={rng.randrange(1024, 60000)} "
                f"dport={dialled.port} src={answering} dst={client} sport={dialled.port if answering == dst else 8080} "
                "dport=40000 [ASSURED] mark=0 use=1"
            )
    return "\n".join([*lines, ""])


def of_udp(lines: list[str]) -> list[str]:
    return [line.replace("-p tcp", "-p udp").replace("-m tcp", "-m udp") for line in lines]


@pytest.mark.parametrize("udp", [False, True])
def test_services_with_connections_are_answered_as_if_each_was_walked(
    monkeypatch: pytest.MonkeyPatch, generated: Path, udp: bool
) -> None:
    plain = altered(generated, of_udp if udp else list)
    rng = random.Random(20261125 + udp)  # noqa: S311 - chance that can be repeated, no secret
    found = beside(plain, conntrack=remembered(Ground.of(plain).ports, rng, strange=0.2))
    shared, alone = both_ways(monkeypatch, found)
    codes = {problem.finding.code for problem in alone.problems}
    assert ("NK421" in codes) == udp
    assert len(alone.asked) * (0.3 if udp else 0.8) < assert_same(shared, alone)


def test_services_of_objects_with_connections_are_answered_as_if_each_was_walked(
    monkeypatch: pytest.MonkeyPatch, corpus: Path
) -> None:
    plain = world(corpus / "scale-5k")
    rng = random.Random(8)  # noqa: S311 - chance that can be repeated, no secret
    chosen = rng.sample(list(Ground.of(plain).ports), 20)
    found = beside(plain, conntrack=remembered(chosen, rng, strange=0.3))
    shared, alone = both_ways(monkeypatch, found, lambda ports: [port.key for port in chosen])
    assert assert_same(shared, alone) > 2
    assert "NK420" in {problem.finding.code for problem in alone.problems}


SETS = """create some hash:ip family inet hashsize 1024 maxelem 65536
add some 10.128.0.9
add some 10.96.0.12
create ports hash:ip,port family inet hashsize 1024 maxelem 65536
add ports 10.128.0.10,tcp:8080
add ports 10.128.0.11,tcp:80
add ports 10.128.0.12,udp:8080
create nets hash:net family inet hashsize 1024 maxelem 65536
add nets 10.128.0.32/29
add nets 10.128.0.34 nomatch
create numbers bitmap:port range 0-65535
add numbers 20007
add numbers 20030-20033
create both list:set size 8
add both some
add both nets
"""


def test_networks_behind_gateways_that_rules_name_stay_as_they_are(
    monkeypatch: pytest.MonkeyPatch, generated: Path
) -> None:
    nodes = world(generated).nodes.values()
    gated = [str(route.dst) for node in nodes for route in node.routes if any(hop.gateway for hop in route.nexthops)]

    def naming(lines: list[str]) -> list[str]:
        forward = next(i for i, line in enumerate(lines) if line.startswith("-A FORWARD"))
        rules = [f"-A FORWARD -s {net} -p tcp -m tcp --sport 8080 -j ACCEPT" for net in gated]
        return [*lines[:forward], *rules, *lines[forward:]]

    shared, alone = both_ways(monkeypatch, altered(generated, naming))
    assert assert_same(shared, alone) > 0


def asking_sets(lines: list[str]) -> list[str]:
    forward = next(i for i, line in enumerate(lines) if line.startswith("-A FORWARD"))
    return [
        *lines[:forward],
        "-A FORWARD -m set --match-set ports dst,dst -j DROP",
        "-A FORWARD -m set --match-set both dst -j REJECT",
        "-A FORWARD -m set --match-set some src -j DROP",
        "-A INPUT -m set --match-set numbers dst -j DROP",
        *lines[forward:],
    ]


def test_services_that_ipsets_tell_apart_are_answered_as_if_each_was_walked(
    monkeypatch: pytest.MonkeyPatch, generated: Path
) -> None:
    plain = altered(generated, asking_sets)
    shared, alone = both_ways(monkeypatch, beside(plain, ipset=SETS))
    assert assert_same(shared, alone) > len(alone.asked) * 0.6
    lost = {each.question.port.key for each in alone.asked if each.fate == "fails"}
    assert 3 < len(lost) < len(alone.ports) / 2


@pytest.mark.parametrize("entry", ["10.128.0.9-10.128.0.12", "10.128.0.9,eth0"])
def test_ranges_and_devices_in_sets_are_not_overlooked(
    monkeypatch: pytest.MonkeyPatch, generated: Path, entry: str
) -> None:
    plain = altered(generated, asking_sets)
    sets = SETS.replace("add some 10.128.0.9\n", f"add some {entry}\n")
    shared, alone = both_ways(monkeypatch, beside(plain, ipset=sets))
    assert assert_same(shared, alone) > len(alone.asked) * 0.5


def test_rules_that_give_source_ports_share_nothing_where_connections_are_known(generated: Path) -> None:
    def with_ports(lines: list[str]) -> list[str]:
        return [line.replace("-j MASQUERADE", "-p tcp -j MASQUERADE --to-ports 4000") for line in lines]

    plain = altered(generated, with_ports)
    line = "tcp 6 9 ESTABLISHED src=10.1.1.1 dst=10.1.1.2 sport=1 dport=2 src=10.1.1.2 dst=10.1.1.1 sport=2 dport=1\n"
    assert Kindred(Ground.of(plain)).able
    assert not Kindred(Ground.of(beside(plain, conntrack=line))).able
    assert not Kindred(Ground.of(beside(world(generated), conntrack=line + "tcp 6 9 src=x\n"))).able


@pytest.mark.parametrize(
    "rule",
    [
        "-A FORWARD -m iprange --dst-range 10.128.0.9-10.128.0.12 -j DROP",
        "-A FORWARD -m newer --than this -j DROP",
        "-A PREROUTING -d 10.128.0.0/16 -j NETMAP --to 10.129.0.0/16",
    ],
)
def test_rules_that_are_not_known_to_be_plain_share_nothing(generated: Path, rule: str) -> None:
    assert Kindred(Ground.of(world(generated))).able

    def with_rule(lines: list[str]) -> list[str]:
        place = max(i for i, line in enumerate(lines) if line.startswith(rule[:11]))
        return [*lines[: place + 1], rule, *lines[place + 1 :]]

    assert not Kindred(Ground.of(altered(generated, with_rule))).able


def test_no_fact_and_no_match_is_there_that_nobody_has_looked_at() -> None:
    """A new field or match that a walk may look at has to be judged before answers are shared with it."""
    assert set(Node.__struct_fields__) == _facts.NODE_FIELDS
    assert set(Cluster.__struct_fields__) == _objects.CLUSTER_FIELDS | _objects.UNREAD
    assert World.__struct_fields__ == ("nodes", "cluster", "missing", "notes", "unread", "observations")
    assert Question.__struct_fields__ == ("port", "dialled", "address", "client", "ask", "at", "sender")
    assert Port.__struct_fields__ == (
        "service", "name", "protocol", "dialled", "endpoints", "families", "source_ranges", "node", "rows",
    )  # fmt: skip
    assert set(matches._MODULES) - _plain.MATCHES == {"", "iprange", "cgroup", "socket", "string"}
    assert set(_nft_values._VALUES) - _plain.EXPRESSIONS == {
        "&", "|", "^", "<<", ">>", "jhash", "symhash", "rt", "socket", "exthdr",
    }  # fmt: skip


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


MODES = ["nftables-dual-stack-kp136", "iptables-nft-dual-stack", "ipvs-rr-matrix"]
COPIED = frozenset({"default/lb", "default/web-local"})


@cache
def copies(case: Path) -> dict[str, tuple[str, str | None]]:
    return cloned.copied(cloned.dumps(case), 2, COPIED)


def of_copies(ports: Sequence[Port]) -> list[Key]:
    return [port.key for port in ports if port.service.partition("-c")[0] in COPIED]


@pytest.mark.parametrize("case", MODES)
def test_copies_are_answered_as_if_each_was_walked(monkeypatch: pytest.MonkeyPatch, corpus: Path, case: str) -> None:
    shared, alone = both_ways(monkeypatch, cloned.world(copies(corpus / case)), of_copies)
    assert assert_same(shared, alone) > len(alone.asked) * 0.3


@pytest.mark.parametrize("case", MODES)
@pytest.mark.parametrize("seed", range(int(os.environ.get("NETK8S_KINDRED_RUNS", "1"))))
def test_copies_broken_at_random_are_answered_as_if_each_was_walked(
    monkeypatch: pytest.MonkeyPatch, corpus: Path, case: str, seed: int
) -> None:
    rng = random.Random(f"{case} {seed}")  # noqa: S311 - chance that can be repeated, no secret
    texts = cloned.policed(cloned.broken(copies(corpus / case), rng, 6), rng)
    shared, alone = both_ways(monkeypatch, cloned.world(texts), of_copies)
    assert_same(shared, alone)
