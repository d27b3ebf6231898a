#!/usr/bin/env python3
"""Time and memory of netk8s, each figure from processes of its own, all of one run of this file.

    python bench/run.py [--runs 5] [--services 20000] [--endpoints 15] [--skip-decode-all]

README.md in this folder says how to read it.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import generate

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "bench" / "data"
EXAMPLE = ROOT / "examples" / "nginx-nodeport"
ANSWERED = {0, 1, 6}
"""Exit statuses that come with an answer."""

CHECK = "netk8s check --node, every flow"

DECODE_ALL = """
import gc, sys
gc.disable()  # as the command line does
from netk8s import decode, snapshot
world = decode.decode(snapshot.read([sys.argv[1]]))
rules = (rule for node in world.nodes.values() for table in node.tables for chain in table.chains.values()
         for rule in chain.rules)
print(len(list(rules)) if sys.argv[2:] else sum(1 for rule in rules))
"""
SHARES = (8, 4, 2, 1)
"""The sizes over which cost is fitted: an eighth, a quarter, a half of the services, and all."""


@dataclass(frozen=True)
class Figures:
    """Medians over the runs of one command."""

    wall: float
    user: float
    rss: float
    said: str


def netk8s() -> list[str]:
    beside = Path(sys.executable).with_name("netk8s")
    found = str(beside) if beside.exists() else shutil.which("netk8s")
    if not found:
        sys.exit("netk8s is not installed for this Python; run `make bench`, or install it first")
    return [found]


def measure(argv: Sequence[str], runs: int, answered: set[int] | None = None) -> Figures:
    """One run unmeasured, so that the file is in the page cache for everybody, then the medians of ``runs``."""
    walls, users, peaks, said = [], [], [], ""
    for number in range(runs + 1):
        started = time.perf_counter()
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)
        assert process.stdout is not None and process.stderr is not None  # noqa: S101, PT018 - both are pipes
        said, complaint = process.stdout.read(), process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        process.stdout.close()
        process.stderr.close()
        if process.returncode not in (answered or {0}):
            sys.exit(f"{' '.join(argv)} ended with status {process.returncode}: {complaint.strip()[-500:]}")
        if number:
            walls.append(wall)
            users.append(usage.ru_utime)
            # Linux counts in KiB, macOS in bytes.
            peaks.append(usage.ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10))
    return Figures(statistics.median(walls), statistics.median(users), statistics.median(peaks), said)


def rules_file(node: Path) -> Path:
    plain = node / "iptables-save.txt"
    return plain if plain.exists() else plain.with_name("iptables-save.txt.gz")


def count_lines(path: Path, runs: int) -> Figures:
    if path.suffix == ".gz":
        return measure(["sh", "-c", 'gzip -dc "$1" | wc -l', "sh", str(path)], runs)
    return measure(["wc", "-l", str(path)], runs)


def node_ports(node: Path, count: int = 1) -> list[str]:
    """IP:PORT of node ports all over the chain (of one: in its middle), and of the node's first address."""
    path = rules_file(node)
    ports = []
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as lines:
        for line in lines:
            if line.startswith("-A KUBE-NODEPORTS ") and " --dport " in line:
                ports.append(line.split(" --dport ")[1].split()[0])
    links = json.loads((node / "ip-addr.json").read_text())
    infos = [info for link in links for info in link["addr_info"]]
    own = next(info["local"] for info in infos if info["family"] == "inet" and info["scope"] == "global")
    return [f"{own}:{ports[(2 * i + 1) * len(ports) // (2 * count)]}" for i in range(count)]


def bench_services(folder: Path, node: Path, count: int) -> None:
    """The same question of as many Services, each in a process of its own: what a chain's place in the dump makes of it."""
    walls, peak = [], 0.0
    for target in node_ports(node, count):
        got = measure(
            [*netk8s(), "trace", target, "--from", "client", "--dump", str(folder), "-o", "json"], 1, ANSWERED
        )
        walls.append(got.wall)
        peak = max(peak, got.rss)
    print(
        f"{f'{count} other NodePorts, once each':<46} {statistics.median(walls):8.3f} {'':8} {peak:9.1f}"
        f"  {min(walls):.3f} to {max(walls):.3f} s"
    )


def print_row(what: str, got: Figures, against: Figures | None = None) -> None:
    ratio = f"{got.wall / against.wall:8.1f}" if against else " " * 8
    print(f"{what:<46} {got.wall:8.3f} {got.user:8.3f} {got.rss:9.1f} {ratio}", flush=True)


def fit(sizes: Sequence[float], costs: Sequence[float]) -> tuple[float, float, float]:
    """Least squares of cost = start + each × size -> (start, each, the largest deviation from it as a share)."""
    each, start = statistics.linear_regression(sizes, costs)
    shares = (abs(cost - start - each * size) / cost for size, cost in zip(sizes, costs, strict=True) if cost)
    off = max(shares, default=0.0)
    return start, each, off


def restoring() -> dict[str, list[str]]:
    """iptables' own reading of a dump, which changes nothing, in a network namespace that ends with it."""
    tools = ("iptables-legacy-restore", "iptables-nft-restore")
    unshare = shutil.which("unshare")
    if unshare is None or not hasattr(os, "geteuid") or os.geteuid() != 0:
        return {}
    return {tool: [unshare, "--net", tool, "--test"] for tool in tools if shutil.which(tool)}


def bench_decode(services: int, endpoints: int, runs: int) -> None:
    """What it costs to decode or check all of a dump, over four sizes, beside what others need to read the same file."""
    commands = {
        "every rule decoded": [sys.executable, "-c", DECODE_ALL],
        "every rule decoded and kept": [sys.executable, "-c", DECODE_ALL, "keep"],
        "netk8s decode": [*netk8s(), "decode"],
        "netk8s decode -o json": [*netk8s(), "decode", "-o", "json"],
        CHECK: [*netk8s(), "check", "--node", generate.NODE],
        **{f"{tool} --test": argv for tool, argv in restoring().items()},
    }
    sizes: list[int] = []
    found: dict[str, list[Figures]] = {what: [] for what in commands}
    for share in SHARES:
        folder = DATA / f"{services // share}x{endpoints}"
        path = folder / "nodes" / generate.NODE / "iptables-save.txt"
        if not path.exists():
            generate.write(folder, services // share, endpoints)
        counted = count_lines(path, runs)
        with path.open("rb") as lines:
            sizes.append(sum(line.startswith(b"-A ") for line in lines))
        print(f"\n{services // share:,} services × {endpoints} endpoints: {sizes[-1]:,} rules")
        print_row("wc -l", counted, counted)
        for what, argv in commands.items():
            # The folder's other dumps are a node's routes and addresses; iptables reads one file.
            words = [*argv[:3], str(path), *argv[3:]] if argv[0] == sys.executable else [*argv, str(path)]
            if what == CHECK:
                words[-1] = str(folder)
            # What was printed is let go: a process starts with the memory of the one that measures.
            got = measure(words, runs, ANSWERED if what == CHECK else None)
            found[what].append(replace(got, said=""))
            print_row(what, found[what][-1], counted)
    print(f"\n{'fitted over the four sizes':<46} {'µs/rule':>8} {'start s':>8} {'off by':>8} {'B/rule':>8}")
    for what, figures in found.items():
        start, each, off = fit(sizes, [one.user for one in figures])
        _, memory, _ = fit(sizes, [one.rss for one in figures])
        print(f"{what:<46} {each * 1e6:8.2f} {start:8.2f} {off:8.1%} {memory * (1 << 20):8.0f}")


def bench_folder(title: str, folder: Path, runs: int, decode_all: bool) -> None:
    node = next(path for path in sorted((folder / "nodes").iterdir()) if path.is_dir())
    path = rules_file(node)
    counted = count_lines(path, runs)
    lines = int(counted.said.split()[0])
    print(f"\n{title}: {lines:,} lines, {path.stat().st_size / 1e6:,.1f} MB{' (gzip)' if path.suffix == '.gz' else ''}")
    print_row("gzip -dc | wc -l" if path.suffix == ".gz" else "wc -l", counted, counted)
    (target,) = node_ports(node)
    ask = [*netk8s(), "trace", target, "--from", "client", "--dump", str(folder), "-o", "json"]
    got = measure(ask, runs, ANSWERED)
    answer = json.loads(got.said)
    print_row("a NodePort from outside, folder", got, counted)
    verdicts = sorted({outcome["verdict"] for outcome in answer["outcomes"]})
    print(f"  {target}: {len(answer['outcomes'])} outcomes, {', '.join(verdicts)}")
    if decode_all:
        got = measure([sys.executable, "-c", DECODE_ALL, str(folder)], runs)
        print_row(f"every rule decoded ({int(got.said):,})", got, counted)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--services", type=int, default=20_000)
    parser.add_argument("--endpoints", type=int, default=15)
    parser.add_argument(
        "--traces", type=int, default=30, help="NodePorts of the large dump that are asked for once each"
    )
    parser.add_argument("--skip-decode-all", action="store_true", help="leave out decoding every rule, which is slow")
    parser.add_argument(
        "--decode-runs", type=int, default=1, help="runs of what decodes every rule of a generated dump"
    )
    args = parser.parse_args()

    print(f"{platform.platform()}, Python {platform.python_version()}, {os.cpu_count()} cores,", end=" ")
    print(f"load {os.getloadavg()[0]:.2f}; medians of {args.runs}")
    print(f"{'':<46} {'wall s':>8} {'user s':>8} {'peak MiB':>9} {'× wc -l':>8}")
    print_row("python -c pass", measure([sys.executable, "-c", "pass"], args.runs))
    print_row("netk8s --help", measure([*netk8s(), "--help"], args.runs))
    small = rules_file(EXAMPLE / "nodes" / "k8s-node1")
    one = [*netk8s(), "trace", "svc/nginx", "--port", "30000", "--dump", str(small), "-o", "json"]
    print_row("one node's iptables-save, svc/nginx", measure(one, args.runs, ANSWERED))
    whole = [*netk8s(), "trace", "svc/nginx", "--port", "30000", "--dump", str(EXAMPLE), "--via", "k8s-node1"]
    print_row("three nodes' folder, svc/nginx, as text", measure(whole, args.runs, ANSWERED))

    recorded = Path(os.environ.get("NETK8S_CORPUS") or ROOT / "../shared/corpus").resolve() / "scale-5k"
    if recorded.is_dir():
        bench_folder(
            "5,000 services × 4 endpoints, as kube-proxy wrote it", recorded, args.runs, not args.skip_decode_all
        )
    else:
        print("\n5,000 services × 4 endpoints: not measured, the recording is not here")

    folder = DATA / f"{args.services}x{args.endpoints}"
    if not rules_file(folder / "nodes" / generate.NODE).exists():
        generate.write(folder, args.services, args.endpoints)
    title = f"{args.services:,} services × {args.endpoints} endpoints, generated"
    bench_folder(title, folder, args.runs, decode_all=False)
    bench_services(folder, folder / "nodes" / generate.NODE, args.traces)
    if not args.skip_decode_all:
        bench_decode(args.services, args.endpoints, args.decode_runs)


if __name__ == "__main__":
    main()
