"""Holds netk8s against real connections, there and back, in clusters that nobody has seen before.

::

    PYTHONPATH=tests python -m lab.connections --connections 2000 --seed 7 [--mode nftables]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from netk8s import decode, dialects, snapshot
from netk8s.model import Ask, Outcome, World
from netk8s.trace import trace

from .agent import close_all
from .cluster import Cluster
from .generate_cluster import NOBODYS_PORT, Asked, Drawn, random_cluster
from .kube_nft import LAYOUTS, kube_nft
from .worker import Connected

ATTEMPTS = 6
"""Connections to a Service of several endpoints: each is one of those that were predicted."""
PATIENT = 2.5

# A host that learns a better gateway from a redirect asks another one the next time: what no dump of a node tells.
NO_REDIRECTS = {
    f"net.ipv4.conf.{device}.{name}_redirects": "0" for device in ("all", "default", "ens33", "eth0") for name in
    ("accept", "send", "secure")
}  # fmt: skip
NO_REDIRECTS6 = {f"net.ipv6.conf.{device}.accept_redirects": "0" for device in ("all", "default")}

# What a sender may see of each verdict. Whether "nobody answers" comes as an error or as silence hangs on how long ARP
# has been trying, and whether an ICMP error finds its way; TCP takes an ICMPv6 error for a passing one.
SEEN = {
    "delivered": {"connected"},
    "refused": {"refused"},
    "dropped": {"timeout"},
    "unreachable": {"unreachable", "timeout"},
}

# Whether a host knows a MAC address although nobody answers its ARP hangs on who asked whom before; what a router knows
# is in no dump of a node. An answer names what it assumes of both and what it would be otherwise.
IN_NO_DUMP = (" ARP for ", "neighbour discovery", " does not know where it is")


@dataclass(frozen=True, slots=True)
class Held:
    """What came of a question: the connections made, netk8s' outcomes, and in what they differ ("" if in nothing)."""

    seed: int
    asked: Asked
    answers: tuple[Connected, ...]
    outcomes: tuple[Outcome, ...]
    difference: str


def held(seeds: Iterable[int], flows: int = 50, mode: str = "iptables") -> Iterator[Held]:
    """The questions of the clusters of these seeds, each held against its connections. ``mode``: kube-proxy's."""
    for seed in seeds:
        drawn = random_cluster(seed, flows)
        layout = LAYOUTS[seed % len(LAYOUTS)] if mode == "nftables" else ""
        with tempfile.TemporaryDirectory() as folder, running(drawn, layout) as cluster:
            if not drawn.late:
                cluster.snapshot(Path(folder))
            answers = connections(cluster, drawn.asked)
            if drawn.late:
                cluster.snapshot(Path(folder))
            world = decode.decode(snapshot.read([folder]))
            for asked in drawn.asked:
                outcomes = predicted(world, asked, cluster)
                difference = differs(asked, answers[asked], outcomes)
                if difference and any(answer.result == "timeout" for answer in answers[asked]):
                    # A machine that was busy: with more patience it shows.
                    answers[asked] = [again(cluster, asked)]
                    difference = differs(asked, answers[asked], outcomes)
                yield Held(seed, asked, tuple(answers[asked]), outcomes, difference)


def running(drawn: Drawn, layout: str = "") -> Cluster:
    """The cluster with its rules: of iptables mode, or of a layout of nftables mode."""
    cluster = Cluster(drawn.topology)
    try:
        pods = [f"pod/{pod.key}" for pod in drawn.topology.pods if not pod.host_network]
        for name in ("router", "client", "client-far", *(n.name for n in drawn.topology.nodes), *pods):
            device = "ens33" if name.startswith("k8s-") else "eth0"
            settings = {k: v for k, v in NO_REDIRECTS.items() if f".{device}." in k or ".all." in k or ".default." in k}
            cluster.host(name).call("sysctl", {**settings, **NO_REDIRECTS6})
        if layout:
            for node in drawn.topology.nodes:
                for family in (family for family in (4, 6) if node.ip(family)):
                    cluster.load_nft(node.name, kube_nft(drawn.topology, node, family, layout))
        else:
            cluster.load_kube_rules("nft")
        for (node, family), text in drawn.rules.items():
            command = "ip6tables-nft-restore" if family == 6 else "iptables-nft-restore"
            cluster.host(node).call("run", [command, "--noflush"], text)
    except BaseException:
        cluster.close()
        raise
    return cluster


def connections(cluster: Cluster, asked: Iterable[Asked]) -> dict[Asked, list[Connected]]:
    """Those of one host one after the other, those of different hosts side by side: silence takes its time."""
    left: dict[str, list[Asked]] = {}
    out: dict[Asked, list[Connected]] = {}
    several = {ip for s in cluster.topology.services if len(s.pods) > 1 for ip in s.cluster_ips}
    ports = {s.node_port for s in cluster.topology.services if len(s.pods) > 1}
    for each in asked:
        attempts = ATTEMPTS if each.ip in several or each.port in ports or each.ip == "198.51.100.9" else 1
        left.setdefault(each.source, []).extend([each] * attempts)
        out[each] = []
    while any(left.values()):
        turn = {source: queue.pop(0) for source, queue in left.items() if queue}
        for source, each in turn.items():
            cluster.host(source).post("connect", each.ip, each.port, each.protocol)
        for source, each in turn.items():
            out[each].append(cluster.host(source).wait())
            if len(out[each]) >= 2 and all(answer.result == "timeout" for answer in out[each]):
                left[source] = [other for other in left[source] if other != each]
    return out


def again(cluster: Cluster, asked: Asked) -> Connected:
    answer: Connected = cluster.host(asked.source).call(
        "connect", asked.ip, asked.port, asked.protocol, timeout=PATIENT
    )
    return answer


def predicted(world: World, asked: Asked, cluster: Cluster) -> tuple[Outcome, ...]:
    """netk8s' outcomes of a question."""
    source = asked.source
    if source.startswith("k8s-"):
        source = f"node/{source}"
    elif not source.startswith("pod/"):
        spec = next(client for client in cluster.topology.clients if client.name == source)
        source = next(a.split("/")[0] for a in spec.addresses if (":" in a) == (":" in asked.ip))
    at = f"[{asked.ip}]" if ":" in asked.ip else asked.ip
    ask = Ask(f"{at}:{asked.port}", protocol=asked.protocol, source=source, via=asked.via or None)
    found = trace(world, dialects.resolve(world, ask))
    either = [
        o for other in found.alternatives if any(w in other.condition for w in IN_NO_DUMP) for o in other.outcomes
    ]
    return (*found.outcomes, *either)


def differs(asked: Asked, answers: Iterable[Connected], outcomes: tuple[Outcome, ...]) -> str:
    """ "" if every answer is one of the outcomes, and the only outcome was not missed; else what is wrong."""
    told = [f"{o.verdict} {o.reached.ip if o.reached else ''} seen {o.source}: {o.reason}" for o in outcomes]
    for answer in answers:
        if not any(_fits(asked, answer, outcome) for outcome in outcomes):
            seen = f"{answer.result} {answer.endpoint or ''} seen {answer.seen_src_ip}"
            return f"kernel: {seen}; netk8s: {' | '.join(told)}"
    return ""


def _fits(asked: Asked, answer: Connected, outcome: Outcome) -> bool:
    results = SEEN.get(outcome.verdict, set())
    if outcome.verdict == "unknown":
        return True
    if outcome.verdict == "dropped" and "TTL" in outcome.reason:
        results = {"timeout", "unreachable"}  # ICMP time exceeded
    if asked.port == NOBODYS_PORT and (outcome.verdict == "delivered" or "the client's next packet" in outcome.reason):
        results = {"refused"}  # what listens in a pod is in no dump, and who is refused sends no next packet
    if ":" in asked.ip and asked.protocol == "tcp" and outcome.verdict == "refused":
        results = {"refused", "timeout"}
    if answer.result not in results:
        return False
    if answer.result != "connected":
        return True
    if outcome.reached is None or answer.endpoint is None:
        return False
    host = answer.endpoint.rpartition(":")[0].strip("[]")
    same = ip_address(host) == outcome.reached.ip
    return same and ip_address(answer.seen_src_ip or "::") == outcome.source


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=2000, help="ask until so many questions were held")
    parser.add_argument("--seed", type=int, default=1, help="the first cluster; each next one has the next number")
    parser.add_argument("--clusters", type=int, default=0, help="so many clusters and no more")
    parser.add_argument("--mode", choices=("iptables", "nftables"), default="iptables", help="kube-proxy's")
    parser.add_argument("--flows", type=int, default=50, help="questions of a cluster")
    options = parser.parse_args()
    start, made, tried = time.monotonic(), 0, 0
    results: Counter[str] = Counter()
    wrong: list[Held] = []
    clusters: set[int] = set()
    last = options.seed + options.clusters if options.clusters else sys.maxsize
    for each in held(iter(range(options.seed, last)), options.flows, options.mode):
        made += 1
        tried += len(each.answers)
        clusters.add(each.seed)
        results[each.answers[0].result] += 1
        if any(outcome.verdict == "unknown" for outcome in each.outcomes):
            results["(told as unknown)"] += 1
        if each.difference:
            wrong.append(each)
            print(f"seed {each.seed} {each.asked}\n  {each.difference}", flush=True)
        if made >= options.connections and not options.clusters:
            break
    print(f"{made} questions, {tried} connections, {len(clusters)} clusters in {time.monotonic() - start:.0f} s")
    print("kernel:", dict(results.most_common()))
    print("mismatches:", len(wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    finally:
        close_all()
