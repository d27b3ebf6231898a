"""Faults done to a running cluster in kube-proxy's IPVS mode, inside user-mode Linux, as :mod:`.faults` does them.

::

    PYTHONPATH=tests python -m lab.faults_ipvs     # every fault, every flow: precision and recall
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from . import faults, uml, uml_ipvs
from .faults import (
    CNI_MASQUERADE,
    DNS,
    LOCAL,
    NODE,
    NOTHING,
    ONE,
    TOPOLOGY,
    WEB,
    Bench,
    Fault,
    asked_from_one_port,
    flush,
    links,
    older,
    rule,
    settings,
    with_gone,
    with_service,
)  # fmt: skip
from .kube_rules import kube_rules
from .topology import ServiceSpec, Topology, first_host

DEVICE = "kube-ipvs0"
A_FAULT = 240.0
"""Seconds that one may take on a busy machine."""


class IpvsBench(Bench):
    """A cluster whose nodes balance with IPVS; iptables is the legacy one."""

    def __init__(self, topology: Topology = TOPOLOGY) -> None:
        super().__init__("legacy", topology)

    def reload(self, topology: Topology, node: str = NODE, backend: str = "") -> None:
        there = topology.node(node)
        addresses = [f"{ip}/32" for ip in uml_ipvs.bound(topology, 4)]
        self.cluster.load(node, "*nat\nCOMMIT\n*filter\nCOMMIT\n", self.tool)
        self.on(node, "ipset", "flush")
        self.on(node, "ipset", "-exist", "restore", stdin=uml_ipvs.sets(topology, there, 4))
        self.cluster.load(node, self.rules(topology, node), self.tool)
        if any(line.split()[1] == f"{DEVICE}:" for line in self.on(node, "ip", "-o", "link").splitlines()):
            self.on(node, "ipvsadm", "--clear")
            self.ip(node, f"addr flush dev {DEVICE}")
        self.cluster.load_virtual_servers(node, uml_ipvs.virtual_servers(topology, there, 4), addresses)

    def rules(self, topology: Topology, node: str = NODE) -> str:
        rules = uml_ipvs.rules(topology, topology.node(node), 4)
        return rules.removesuffix("COMMIT\n") + f"{CNI_MASQUERADE}\nCOMMIT\n"

    def dump(self, folder: Path) -> None:
        """There are no nftables to be listed."""
        self.cluster.snapshot(folder)


def virtual_servers(service: ServiceSpec, node: str = NODE) -> list[tuple[str, str]]:
    """As options of ipvsadm: that of the ClusterIP, then those of the NodePort on each of a node's addresses."""
    kind = "-t" if service.protocol == "tcp" else "-u"
    there = TOPOLOGY.node(node)
    own = (there.ip(4), first_host(there.pod_cidr(4)).split("/")[0]) if service.node_port else ()
    return [(kind, f"{service.cluster_ips[0]}:{service.port}"), *((kind, f"{ip}:{service.node_port}") for ip in own)]


def ipvsadm(command: str, service: ServiceSpec, *words: str) -> Callable[[Bench], None]:
    """One command for each of a Service's virtual servers."""

    def do(bench: Bench) -> None:
        for virtual in virtual_servers(service):
            bench.on(NODE, "ipvsadm", command, *virtual, *words)

    return do


def run(*argv: str, node: str = NODE) -> Callable[[Bench], str]:
    return lambda bench: bench.on(node, *argv)


def left_behind(bench: Bench) -> None:
    """kube-proxy was in iptables mode once. It writes its own chains anew and leaves the others where they are."""
    older_rules = kube_rules(with_gone("one-old"), TOPOLOGY.node(NODE), 4)
    bench.cluster.load(NODE, older_rules, bench.tool)
    bench.on(NODE, "iptables-legacy-restore", "--noflush", stdin=IpvsBench.rules(bench, bench.topology))  # type: ignore[arg-type]


def stale_entry(bench: Bench) -> None:
    """A client that keeps its port keeps its real server, as long as the node remembers, though that is gone.

    With expire_nodest_conn Linux forgets them at once (5.9).
    """
    bench.sysctl(NODE, **{"net.ipv4.vs.expire_nodest_conn": "0"})
    ipvsadm("-a", DNS, "-r", "10.244.2.9:5353", "-m")(bench)
    ipvsadm("-d", DNS, "-r", "10.244.1.9:5353")(bench)
    asked_from_one_port(bench, "pod/default/idle-1", DNS.cluster_ips[0], DNS.port)
    ipvsadm("-a", DNS, "-r", "10.244.1.9:5353", "-m")(bench)
    ipvsadm("-d", DNS, "-r", "10.244.2.9:5353")(bench)


ALSO = "NK204 NK205 NK402 NK525"
"""Nothing translates, or nothing is let in."""

REAL_ONE, REAL_WEB = ("-r", "10.244.1.24:8080"), ("-r", "10.244.2.5:8080")

OWN = (
    Fault("every real server has weight 0", ipvsadm("-e", ONE, *REAL_ONE, "-m", "-w", "0"), "NK607", "NK207"),
    Fault("one real server has weight 0", ipvsadm("-e", WEB, *REAL_WEB, "-m", "-w", "0"), "NK607", "NK206"),
    Fault("a real server is missing", ipvsadm("-d", WEB, *REAL_WEB), "NK607", "NK206"),
    Fault("a virtual server has no real server", ipvsadm("-d", ONE, *REAL_ONE), "NK607", "NK201 NK204"),
    Fault("stale real server", ipvsadm("-a", WEB, "-r", "10.244.1.240:8080", "-m", "-w", "1"), "NK605", "NK206 NK405"),
    Fault("real server on another port", lambda b: (ipvsadm("-d", ONE, *REAL_ONE)(b), ipvsadm("-a", ONE, "-r", "10.244.1.24:81", "-m", "-w", "1")(b)), "NK606", "NK206 NK404"),
    Fault("a real server weighs more", ipvsadm("-e", WEB, *REAL_WEB, "-m", "-w", "5"), NOTHING),
    Fault("no virtual server for a Service", ipvsadm("-D", ONE), "NK604", ALSO),
    Fault("no virtual server for a NodePort", run("ipvsadm", "-D", "-t", f"192.168.52.201:{ONE.node_port}"), "NK204", ALSO),
    Fault("no virtual servers at all", run("ipvsadm", "--clear"), "NK602", ALSO),
    Fault("address not on kube-ipvs0", run("ip", "addr", "del", f"{ONE.cluster_ips[0]}/32", "dev", DEVICE), "NK404", "NK205 NK525"),
    Fault("no kube-ipvs0", run("ip", "link", "del", DEVICE), "NK404", "NK205 NK525"),
    Fault("no entry in KUBE-CLUSTER-IP", run("ipset", "del", "KUBE-CLUSTER-IP", f"{ONE.cluster_ips[0]},tcp:{ONE.port}"), "NK205", "NK525 NK403 NK404 NK523"),
    Fault("KUBE-CLUSTER-IP empty", run("ipset", "flush", "KUBE-CLUSTER-IP"), "NK205", "NK525 NK403 NK404 NK523"),
    Fault("no entry in KUBE-LOOP-BACK", run("ipset", "del", "KUBE-LOOP-BACK", "10.244.1.24,tcp:8080,10.244.1.24"), "NK404", "NK403 NK525"),
    Fault("no entry in KUBE-NODE-PORT-TCP", run("ipset", "del", "KUBE-NODE-PORT-TCP", str(WEB.node_port)), "NK404", "NK403 NK525 NK609"),
    Fault("KUBE-POSTROUTING flushed", flush("KUBE-POSTROUTING"), "NK401", "NK403 NK404 NK523"),
    Fault("KUBE-MARK-MASQ flushed", flush("KUBE-MARK-MASQ"), "NK401", "NK403 NK404 NK523"),
    Fault("KUBE-SERVICES flushed", flush("KUBE-SERVICES"), "NK404", "NK403 NK523"),
    Fault("IPVS does not track", settings(**{"net.ipv4.vs.conntrack": "0"}), "NK401", "NK403 NK404 NK503 NK523"),
    Fault("other seconds of affinity", older(with_service(ONE, affinity=60)), "NK610", at=with_service(ONE, affinity=600)),
    Fault("affinity that is not asked for", older(with_service(WEB, affinity=600)), "NK610"),
    Fault("policy Local without a local endpoint", lambda b: None, "NK524", "NK202 NK403 NK404", at=with_service(LOCAL, pods=LOCAL.pods[1:])),
    Fault("entry of another policy", run("ipset", "del", "KUBE-NODE-PORT-LOCAL-TCP", str(LOCAL.node_port)), "NK609"),
    Fault("INPUT's policy is DROP", rule("-P", "INPUT", "DROP"), "NK402"),
    Fault("scheduler mh", ipvsadm("-E", WEB, "-s", "mh", "-b", "mh-port"), NOTHING),
    Fault("scheduler sh", ipvsadm("-E", WEB, "-s", "sh"), NOTHING),
    Fault("scheduler of connections", ipvsadm("-E", WEB, "-s", "wlc"), NOTHING),
    Fault("stale connection entry", stale_entry, "NK420", at=with_service(DNS, pods=("default/dns-a",))),
    Fault("a rule of routing for virtual addresses leads nowhere", links("route add unreachable default table 77", "rule add from 10.96.0.0/16 table 77 priority 90"), "NK404", "NK403"),
    Fault("rules of iptables mode left behind", left_behind, "NK603", "NK522 NK615"),
)  # fmt: skip

SHARED = {
    "nothing": "", "ip_forward off": "", "forwarding off on one device": "", "bridge-nf off": "", "hairpin off": "", "missing route": "", "FORWARD's policy is DROP": "", "raw drop of a NodePort": "",
    "INPUT drop of a NodePort": "NK402", "no endpoints": "", "hostNetwork process gone": "", "a process listens on a NodePort": "",
    "wrong cluster CIDR": "", "a rule of routing leads nowhere": "",
}  # fmt: skip
"""Faults that are nobody's rules, by name, with the code where it is another than in iptables mode."""

FAULTS = (*(replace(f, codes=SHARED[f.name] or f.codes) for f in faults.FAULTS if f.name in SHARED), *OWN)


def inside(folder: Path, name: str, most: int | None) -> dict[str, Any]:
    """A case of user-mode Linux: what came of a fault."""
    fault = next(fault for fault in FAULTS if fault.name == name)
    with IpvsBench(fault.at) as bench:
        found = faults.done(bench, fault, folder, most)
    first = f"{found.first.code} {found.first.summary}" if found.first else "nothing"
    told = {key: getattr(found, key) for key in ("flows", "failing", "errors", "wrong", "false")}
    return {**told, "first": first}


def outcomes(chosen: Sequence[Fault], folder: Path, most: int | None = None) -> dict[str, uml.Result]:
    """By name of fault. ``most``: of so many flows, those of errors first."""
    cases = {f"fault-{FAULTS.index(fault)}": fault.name for fault in chosen}
    asked = [
        uml.Case(key, f"lab.faults_ipvs:{inside.__name__}", {"name": name, "most": most}) for key, name in cases.items()
    ]
    told = uml.boot(asked, folder, A_FAULT * len(asked))
    return {name: told[key] for key, name in cases.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=[""], nargs="+", help="faults whose name has one of these")
    parser.add_argument("--most", type=int, default=None, help="of so many flows")
    parser.add_argument("--folder", type=Path, default=None, help="where the dumps are left")
    options = parser.parse_args()
    total = [0, 0, 0, 0, 0]
    with tempfile.TemporaryDirectory() as scratch:
        chosen = [fault for fault in FAULTS if any(words in fault.name for words in options.only)]
        for name, result in outcomes(chosen, options.folder or Path(scratch), options.most).items():
            if result.error:
                print(f"{name}: {result.error}")
                total[3] += 1
                continue
            came = result.value
            print(
                f"{name}: {came['flows']} flows, {came['failing']} fail, {came['errors']} errors; first: {came['first']} ({result.seconds} s)"
            )
            for text in (*came["wrong"], *came["false"]):
                print(f"    {text}")
            counts = (came["flows"], came["failing"], came["errors"], len(came["wrong"]), len(came["false"]))
            total = [a + b for a, b in zip(total, counts, strict=True)]
    print("flows {}, of which {} fail; errors with flows {}; wrong answers {}, false findings {}".format(*total))
    return int(bool(total[3] or total[4]))


if __name__ == "__main__":
    sys.exit(main())
