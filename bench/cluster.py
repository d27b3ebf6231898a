#!/usr/bin/env python3
"""What `netk8s check` and `netk8s trace` cost on a cluster of many nodes: traffic, memory, time.

    python bench/cluster.py [--nodes 100 1000] [--services 1000] [--endpoints 10] [--real 8] [--here]

The API server and the nodes' kernels are simulated (simulated.py, edge.py), all else is netk8s. README.md in this folder
says how to read it.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from run import netk8s

HERE = Path(__file__).resolve().parent


@contextmanager
def edge(nodes: int, services: int, endpoints: int, real: int, pace: float | None = None) -> Iterator[str]:
    """The URL of a simulated cluster's API server."""
    words = [sys.executable, str(HERE / "edge.py"), str(nodes), str(services), str(endpoints), "--real", str(real)]
    process = subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdin is not None and process.stdout is not None  # noqa: S101, PT018 - both are pipes
    try:
        port = process.stdout.readline().strip()
        if not port:
            sys.exit("the simulated cluster did not start")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.stdin.close()
        process.wait(60)


def stats(url: str) -> dict[str, float]:
    with urllib.request.urlopen(f"{url}/stats") as answer:  # noqa: S310 - our own
        found: dict[str, float] = json.load(answer)
    return found


def kubeconfig(folder: Path, url: str) -> str:
    path = folder / "kubeconfig"
    context = {"name": "c", "context": {"cluster": "c", "user": "u"}}
    clusters, users = [{"name": "c", "cluster": {"server": url}}], [{"name": "u", "user": {"token": "t"}}]
    path.write_text(
        json.dumps(
            {"apiVersion": "v1", "kind": "Config", "current-context": "c", "clusters": clusters, "users": users,
             "contexts": [context]}
        )
    )  # fmt: skip
    return str(path)


def measured(url: str, folder: Path, words: Sequence[str]) -> str:
    """Runs netk8s on a cluster and prints what it cost; its standard output."""
    before, begun = stats(url), time.perf_counter()
    out = folder / "out"
    with out.open("w") as file:
        process = subprocess.Popen(
            [*netk8s(), *words, "--kubeconfig", kubeconfig(folder, url)], stdout=file, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "HOME": str(folder), "NO_PROXY": "*"},
        )  # fmt: skip
        assert process.stderr is not None  # noqa: S101 - it is a pipe
        said = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    after = stats(url)
    if process.returncode not in (0, 1, 6):
        sys.exit(f"netk8s {' '.join(words)} ended with status {process.returncode}: {said.strip()[-600:]}")
    cost = {key: after[key] - before.get(key, 0) for key in after}
    print(f"\nnetk8s {' '.join(words)}")
    print(
        f"  this side     {wall:8.1f} s wall, {usage.ru_utime + usage.ru_stime:7.1f} s CPU, {usage.ru_maxrss / 1024:7.0f} MiB"
    )
    rows = (("lists", "lists"), ("checks", "check"), ("snapshots", "snapshot"))
    for what, key in rows:
        number = cost.get(f"{key}_requests", 0)
        if number:
            up, down = cost[f"{key}_up"], cost[f"{key}_down"]
            print(
                f"  {what:<12}  {number:8.0f} requests, {up / 1e6:9.2f} MB to the API server, {down / 1e6:9.2f} MB from it;",
                end=" ",
            )
            print(f"each {up / number / 1e3:.1f} kB and {down / number / 1e3:.1f} kB")
    really = cost.get("really", 0)
    if really:
        each = cost["children_seconds"] / really
        print(
            f"  an agent      {each:8.1f} s CPU, {after['children_peak'] / (1 << 20):7.0f} MiB at the peak ({really:.0f} real ones)"
        )
        print(f"  at once       {after['at_once']:8.0f} agents")
    for line in said.splitlines()[:5]:
        print(f"  {line}")
    return out.read_text()


def watched(url: str, folder: Path, nodes: int) -> None:
    """Prints what a round of netk8s watch costs in which nothing happened, after a first one."""
    words = ["watch", "--beside", "--every", "5", "-o", "json"]
    with subprocess.Popen(
        [*netk8s(), *words, "--kubeconfig", kubeconfig(folder, url)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, env={**os.environ, "HOME": str(folder), "NO_PROXY": "*"},
    ) as process:  # fmt: skip
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        if not process.stdout.readline():
            sys.exit(f"netk8s watch ended: {process.stderr.read() if process.stderr is not None else ''}")
        begun, first = cpu(process.pid), stats(url)
        while (now := stats(url))["check_requests"] < first["check_requests"] + nodes:
            time.sleep(0.2)
        time.sleep(2)
        now, used = stats(url), cpu(process.pid) - begun
        process.send_signal(signal.SIGINT)
    print(f"\nnetk8s {' '.join(words)}, a round in which nothing happened")
    print(f"  this side     {used:8.1f} s CPU")
    for what, key in (("lists", "lists"), ("checks", "check")):
        number, up, down = (now[f"{key}_{part}"] - first.get(f"{key}_{part}", 0) for part in ("requests", "up", "down"))
        print(
            f"  {what:<12}  {number:8.0f} requests, {up / 1e6:9.2f} MB to the API server, {down / 1e6:9.2f} MB from it"
        )
    worked, asked = (now[key] - first[key] for key in ("children_seconds", "really"))
    print(f"  the agents    {worked:8.1f} s CPU ({asked:.0f} real ones)")


def cpu(pid: int) -> float:
    """Seconds that a process has worked."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--services", type=int, default=1000)
    parser.add_argument("--endpoints", type=int, default=10)
    parser.add_argument(
        "--real", type=int, default=8, help="agents that really work; the others give the answer of one"
    )
    parser.add_argument("--pace", type=float, help="seconds that those take; default: as long as the one worked")
    parser.add_argument("--here", action="store_true", help="and all nodes' state taken to this side, as --here does")
    args = parser.parse_args()
    for nodes in args.nodes:
        print(f"\n== {nodes:,} nodes, {args.services:,} Services × {args.endpoints} endpoints")
        with (
            tempfile.TemporaryDirectory() as name,
            edge(nodes, args.services, args.endpoints, args.real, args.pace) as url,
        ):
            folder = Path(name)
            found = json.loads(measured(url, folder, ["check", "--beside", "-o", "json"]))
            print("\nand once more, with the objects as they were:", end="")
            measured(url, folder, ["check", "--beside", "-o", "json"])
            total = found["summary"]
            print(
                f"  {total['flows']:,} flows asked, {total['arrive']:,} arrive, {total['unknown']} not known;", end=" "
            )
            codes = sorted({(f["code"], len(f["nodes"])) for f in found["findings"] if f["severity"] == "error"})
            print("errors:", ", ".join(f"{code} ({count} nodes)" for code, count in codes) or "none")
            watched(url, folder, nodes)
            measured(url, folder, ["trace", "svc/team-00/app-00000", "--port", "80", "-o", "json"])
            if args.here:
                measured(url, folder, ["check", "--here", "-o", "json"])


if __name__ == "__main__":
    main()
