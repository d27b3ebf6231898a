"""The lines of a chain by destination give the decisions and steps of the plain scan, on random rules and packets.

A sample runs each time; ``NETK8S_INDEX_PAIRS=100000`` runs so many pairs.
"""

from __future__ import annotations

import ipaddress
import os
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pytest
from msgspec.structs import replace

from netk8s.decode import iptables_save
from netk8s.kernel import iptables
from netk8s.kernel.flight import Branch, Conn, Flight, steps_of, tuple_of
from netk8s.kernel.netns import Netns
from netk8s.model import SCTP, TCP, UDP, Dump, Node, Packet, Rule, Table

PAIRS = int(os.environ.get("NETK8S_INDEX_PAIRS", "1500"))
PACKETS_PER_RULESET = 50
NETNS = Netns(Node("n", covered=frozenset({"addr", "route4", "rules4"})))
HOSTS = [f"10.96.0.{i}" for i in range(1, 40)] + ["110.96.0.1", "10.96.0.100"]
PORTS = [53, 80, 443, 8000, 8080, 30000, 30001, 30080]
CHAINS = ["S", "N", "A", "B"]


@dataclass(frozen=True)
class Linear:
    """The rules of a chain without any index."""

    rules: tuple[Rule, ...]

    def __len__(self) -> int:
        return len(self.rules)

    def __iter__(self) -> Iterator[Rule]:
        return iter(self.rules)

    def relevant(self, daddr: str, protocol: str, dport: int | None) -> Iterable[Rule]:
        return self.rules

    def mentioning(self, text: str) -> Iterable[Rule]:
        return [rule for rule in self.rules if text in rule.raw]

    def texts(self) -> Iterable[tuple[int, str]]:
        return [(rule.at.line, rule.raw) for rule in self.rules]


def a_rule(rng: random.Random, chain: str) -> str:
    def some(*choices: str) -> str:
        return rng.choice(choices)

    host, port, low = rng.choice(HOSTS), rng.choice(PORTS), rng.choice(PORTS)
    later = CHAINS[CHAINS.index(chain) + 1 :] if chain in CHAINS else CHAINS
    protocol = some("tcp", "tcp", "udp", "sctp")
    destination = some("", "", f"-d {host}/32", f"-d {host}/32", f"-d {host}/32", f"! -d {host}/32", f"-d {host}/28",
                       f"-d {host}", "-d 10.96.0.0/12")  # fmt: skip
    ports = some("", f"-m {protocol} --dport {port}", f"-m {protocol} --dport {port}", f"-m {protocol} ! --dport {port}",
                 f"-m {protocol} --dport {min(low, port)}:{max(low, port)}", f"-m multiport --dports {port},{low}",
                 f"-m {protocol} --sport {port} --dport {low}")  # fmt: skip
    words = (
        some("", "", "", "! -s 10.244.0.0/16", "-s 10.244.1.0/24"),
        destination,
        f"-p {protocol}" if ports or rng.random() < 0.5 else "",
        some("", "", f"-m comment --comment a/b{port}", f'-m comment --comment "x --dport {port} -j DROP"'),
        some("", "", "", "-m addrtype --dst-type LOCAL", "-m mark --mark 0x1/0x1",
             "-m statistic --mode random --probability 0.25000000000", "-m recent --rcheck --seconds 9 --name q --rsource"),
        ports,
    )  # fmt: skip
    target = some("ACCEPT", "RETURN", "MARK --set-xmark 0x1/0x1", "DROP", f"DNAT --to-destination 10.244.1.{port % 99}:8080",
                  *(f"{verb} {name}" for name in later for verb in ("=j", "=j", "=g")))  # fmt: skip
    verdict = f"-{target[1:]}" if target.startswith("=") else f"-j {target}"
    return " ".join(word for word in (f"-A {chain}", *words, verdict) if word)


def a_table(rng: random.Random) -> Table:
    lines = ["*nat", ":PREROUTING ACCEPT [0:0]", *(f":{name} - [0:0]" for name in CHAINS)]
    lines += [a_rule(rng, "PREROUTING") for _ in range(rng.randrange(4))] + ["-A PREROUTING -j S"]
    for name in CHAINS:
        # From short chains, which are scanned, to some that are much longer than what is indexed.
        lines += [a_rule(rng, name) for _ in range(rng.choice((5, 40, 90)))]
    facts = iptables_save.decode(Dump("t", "\n".join([*lines, "COMMIT", ""]).encode(), "n"))
    (table,) = (fact for fact in facts if isinstance(fact, Table))
    return table


def a_packet(rng: random.Random) -> Packet:
    port = rng.choice([*PORTS, *PORTS, rng.randrange(65536), None])
    source = rng.choice(["10.244.1.7", "192.0.2.9"])
    target = rng.choice([*HOSTS, "198.51.100.7"])
    protocol = rng.choice([TCP, TCP, UDP, SCTP])
    return Packet(protocol, ipaddress.ip_address(source), ipaddress.ip_address(target), rng.choice([None, 40000]), port)


def decisions(table: Table, packet: Packet) -> list[object]:
    there = tuple_of(packet)
    flight = Flight(packet, Conn("NEW", "ORIGINAL", there, there.reversed()), iif="eth0")
    return [
        (v.kind, v.detail, v.bound, v.rule, v.missing, v.branch.flight, v.branch.odds, v.branch.choices,
         v.branch.assumptions, steps_of(v.branch.log))
        for v in iptables.traverse(table, "prerouting", Branch(flight), NETNS)
    ]  # fmt: skip


def test_decisions_and_steps_are_those_of_the_plain_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(iptables_save, "_PASSES", 0)
    monkeypatch.setattr(iptables, "MOST_BRANCHES", 300)
    rng = random.Random(7)  # noqa: S311 - chance that can be repeated, no secret
    left_out = steps = pairs = 0
    while pairs < PAIRS:
        table = a_table(rng)
        plain = replace(
            table, chains={n: replace(c, rules=Linear(tuple(c.rules))) for n, c in dict(table.chains.items()).items()}
        )
        for _ in range(min(PACKETS_PER_RULESET, PAIRS - pairs)):
            packet = a_packet(rng)
            found = decisions(table, packet)
            assert found == decisions(plain, packet), (packet, [r.raw for r in table.chains["S"].rules])
            rules = table.chains["S"].rules
            left_out += len(rules) - len(list(rules.relevant(str(packet.dst), "tcp", packet.dport)))
            steps += sum(len(one[-1]) for one in found)  # type: ignore[index]
            pairs += 1
    assert left_out > PAIRS, "the index leaves nothing out"
    assert steps > PAIRS, "hardly a rule matched"
