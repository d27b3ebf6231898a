"""Faults put into recorded clusters that are healthy: each is found by its own code, and the healthy ones stay quiet.

A fault is an edit of the decoded facts or of the dumps' text, of the kind that a real fault leaves. Which flow it breaks
is part of the table. ``first`` is the code of the first finding that is more than information.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from msgspec.structs import replace

from netk8s import decode, dialects, findings, snapshot
from netk8s.drift import drift
from netk8s.model import Ask, Dump, Finding, Snapshot, World
from netk8s.trace import trace

IPTABLES, IPVS, NFTABLES = "iptables-nft-matrix", "ipvs-rr-matrix", "nftables-matrix"
NODE, OTHER = "k8s-node1", "k8s-node2"

Edit = Callable[[Snapshot], Snapshot]


@dataclass(frozen=True)
class Fault:
    """``codes``: one of these is the first finding that is no information. ``also``: told beside it, and true."""

    name: str
    case: str
    edit: Edit
    ask: Ask
    codes: str
    also: str = ""


def text(file: str, change: Callable[[str], str], node: str = NODE) -> Edit:
    """An edit of one dump's text; it has to change something."""
    origin = f"nodes/{node}/{file}" if "/" not in file else file

    def edit(taken: Snapshot) -> Snapshot:
        (dump,) = [d for d in taken.dumps if d.origin.endswith(origin)]
        before = bytes(dump.data).decode()
        after = change(before)
        assert after != before, f"{origin} is not changed"
        new = replace(dump, data=after.encode())
        return replace(taken, dumps=tuple(new if d is dump else d for d in taken.dumps))

    return edit


def sub(pattern: str, by: str = "", count: int = 0) -> Callable[[str], str]:
    return lambda before: re.sub(pattern, by, before, count=count, flags=re.M)


def both(*edits: Edit) -> Edit:
    def edit(taken: Snapshot) -> Snapshot:
        for each in edits:
            taken = each(taken)
        return taken

    return edit


def added(file: str, data: str, node: str = NODE) -> Edit:
    """A dump more, in place of one of that name."""
    origin = f"nodes/{node}/{file}"

    def edit(taken: Snapshot) -> Snapshot:
        kept = [d for d in taken.dumps if not d.origin.endswith(origin)]
        return replace(taken, dumps=(*kept, Dump(origin, data.encode(), node)))

    return edit


def without(*files: str, node: str = NODE) -> Edit:
    def edit(taken: Snapshot) -> Snapshot:
        gone = tuple(f"nodes/{node}/{f}" for f in files)
        return replace(taken, dumps=tuple(d for d in taken.dumps if not d.origin.endswith(gone)))

    return edit


RULES, SYSCTL, ROUTES, LINKS = "iptables-save.txt", "sysctl.txt", "ip-route.json", "ip-link.json"
POD, CLIENT = "pod/default/toolbox-k8s-node1", "192.168.52.50"
NGINX, SINGLE = Ask("10.96.120.30:80", source=POD), Ask("10.96.52.1:8000", source=POD)
NODEPORT = Ask("192.168.52.201:30000", source=CLIENT)
SELF = Ask("10.96.52.1:8000", source="10.244.1.24")
DNS = Ask("10.96.53.53:53", protocol="udp", source=POD)
UDP = "udp 17 28 src=10.244.1.120 dst=10.96.53.53 sport=40001 dport=53 src={} dst=10.244.1.120 sport={} dport=40001 mark=0 use=1\n"
ONE = '-m comment --comment "default/single'
RAW = (
    "*raw\n:PREROUTING ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n-A PREROUTING -p tcp -m tcp --dport 30000 -j DROP\nCOMMIT\n"
)
FIREWALL = "table ip ufw {\n\tchain forward {\n\t\ttype filter hook forward priority 0; policy drop;\n\t}\n}\n"
FORWARDING = sub(r"^(net\.ipv4\.(?:ip_forward|conf\.\S+\.forwarding)) = 1$", r"\1 = 0")
FAULTS = (
    Fault("stale endpoint", IPTABLES, text(RULES, sub("to-destination 10.244.1.24:", "to-destination 10.244.1.240:")), SINGLE, "NK206", "NK405"),
    Fault("KUBE-POSTROUTING flushed", IPTABLES, text(RULES, sub(r"^-A KUBE-POSTROUTING .*\n")), NODEPORT, "NK401", "NK403 NK404"),
    Fault("chain of a Service flushed", IPTABLES, text(RULES, sub(r"^-A KUBE-SVC-GI2DS44EQ6V3GHV6 .*\n")), SINGLE, "NK205"),
    Fault("KUBE-SERVICES flushed", IPTABLES, text(RULES, sub(r"^-A KUBE-SERVICES .*\n")), SINGLE, "NK205"),
    Fault("half-programmed: no rule for a Service", IPTABLES, text(RULES, sub(r"^-A KUBE-SERVICES .*default/single .*\n")), SINGLE, "NK205"),
    Fault("half-programmed: endpoint chain without DNAT", IPTABLES, text(RULES, sub(r"^-A KUBE-SEP-YUCSBRIGNJRVY3VS .*DNAT.*\n")), SINGLE, "NK205"),
    Fault("endpoint missing from the rules", IPTABLES, text(RULES, sub(r"^-A KUBE-SVC-2CMXP7HKUVJN7L6M .*KUBE-SEP-C4VXQDW52UV45WW3\n")), NGINX, "NK206"),
    Fault("wrong probability", IPTABLES, text(RULES, sub("0.33333333349(.*KUBE-SEP-C4VXQDW52UV45WW3)", r"0.90000000000\1")), NGINX, "NK303"),
    Fault("second backend", IPTABLES, lambda s: added("iptables-legacy-save.txt", next(bytes(d.data).decode().replace("(nf_tables)", "(legacy)") for d in s.dumps if d.origin.endswith(f"{NODE}/{RULES}")))(s), SINGLE, "NK504"),
    Fault("ip_forward off", IPTABLES, text(SYSCTL, FORWARDING), NGINX, "NK404"),
    Fault("bridge-nf off", IPTABLES, text(SYSCTL, sub(r"(bridge-nf-call-iptables) = 1", r"\1 = 0")), SINGLE, "NK407", "NK403"),
    Fault("hairpin off", IPTABLES, text(LINKS, sub('"hairpin":true', '"hairpin":false')), SELF, "NK406"),
    Fault("hairpin not masqueraded", IPTABLES, text(RULES, sub(r"^-A KUBE-SEP-YUCSBRIGNJRVY3VS -s .*\n")), SELF, "NK404", "NK403"),
    Fault("missing route", IPTABLES, text(ROUTES, sub(r'\{"dst":"10\.244\.2\.0/24"[^}]*\},')), NGINX, "NK404 NK405"),
    Fault("blackhole route", IPTABLES, text(ROUTES, sub(r'\{"dst":"10\.244\.2\.0/24"[^}]*\}', '{"type":"blackhole","dst":"10.244.2.0/24","flags":[]}')), NGINX, "NK404"),
    Fault("FORWARD DROP", IPTABLES, text(RULES, lambda t: re.sub(r"-A FLANNEL-FWD .*\n", "", t).replace("*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT", "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD DROP")), SINGLE, "NK402"),
    Fault("wrong cluster CIDR", IPTABLES, text(RULES, sub(r"! -s 10\.244\.0\.0/16 (-d 10\.96\.)", r"! -s 10.99.0.0/16 \1")), SINGLE, "NK101"),
    Fault("raw drop of a NodePort", IPTABLES, text(RULES, lambda t: t + RAW), NODEPORT, "NK402"),
    Fault("INPUT drop of a NodePort", IPTABLES, text(RULES, sub(r"^(-A INPUT -j KUBE-FIREWALL)$", r"-A INPUT -p tcp -m tcp --dport 30000 -j DROP\n\1")), NODEPORT, "NK502"),
    Fault("no endpoints", IPTABLES, text(RULES, lambda t: re.sub(r"^-A KUBE-SERVICES (.*default/single) cluster IP(.*) -j KUBE-SVC-.*\n", "", t, flags=re.M).replace("-A KUBE-FORWARD -m conntrack", f'-A KUBE-SERVICES -d 10.96.52.1/32 -p tcp {ONE} has no endpoints" -m tcp --dport 8000 -j REJECT --reject-with icmp-port-unreachable\n-A KUBE-FORWARD -m conntrack', 1)), SINGLE, "NK201"),
    Fault("a node does not answer", IPTABLES, added("ip-neigh.json", '[{"dst":"192.168.52.202","dev":"ens33","state":["FAILED"]}]'), NGINX, "NK405"),
    Fault("hostNetwork process gone", IPTABLES, text("listening.txt", sub(r"^tcp LISTEN \S+:6443\n"), "k8s-master"), Ask("10.96.0.1:443", source=POD), "NK204"),
    Fault("localhost NodePort without route_localnet", IPTABLES, text(SYSCTL, sub(r"route_localnet = 1", "route_localnet = 0")), Ask("127.0.0.1:30000", source=f"node/{NODE}"), "NK408"),
    Fault("rp_filter", IPTABLES, both(text(ROUTES, sub(r'\{"dst":"10\.244\.1\.0/24"[^}]*\}', '{"dst":"10.244.1.0/24","dev":"cni0","scope":"link","flags":[]}'), OTHER), text(SYSCTL, sub(r"(net\.ipv4\.conf\.all\.rp_filter) = \d", r"\1 = 1"), OTHER)), NGINX, "NK411", "NK404 NK405"),
    Fault("stale UDP connection", IPTABLES, added("conntrack.txt", UDP.format("10.244.1.99", 5353)), DNS, "NK420"),
    Fault("UDP connection from before the Service", IPTABLES, added("conntrack.txt", UDP.format("10.96.53.53", 53)), DNS, "NK421"),
    Fault("connection table full", IPTABLES, text(SYSCTL, lambda t: t + "net.netfilter.nf_conntrack_count = 4096\nnet.netfilter.nf_conntrack_max = 4096\n"), DNS, "NK423"),
    Fault("IPVS: weight 0 everywhere", IPVS, text("ipvsadm-save.txt", sub(r"(10\.244\.1\.24:8080 -m -w) 1", r"\1 0")), SINGLE, "NK207"),
    Fault("IPVS: stale real server", IPVS, text("ipvsadm-save.txt", sub(r"-r 10\.244\.1\.24:8080", "-r 10.244.1.240:8080")), SINGLE, "NK206", "NK405"),
    Fault("IPVS: no real server", IPVS, text("ipvsadm-save.txt", sub(r"^-a .* -r 10\.244\.1\.24:8080 .*\n")), SINGLE, "NK201"),
    Fault("IPVS: virtual server missing", IPVS, both(without("ipvsadm-Ln.txt", "ipvsadm-stats.txt"), text("ipvsadm-save.txt", sub(r"^-[Aa] -t 10\.96\.52\.1:8000 .*\n"))), SINGLE, "NK204 NK525", "NK204 NK525"),
    Fault("IPVS: missing entry of an ipset", IPVS, text("ipset-save.txt", sub(r"^add KUBE-CLUSTER-IP 10\.96\.52\.1,tcp:8000\n")), SINGLE, "NK205 NK525", "NK205 NK525"),
    Fault("IPVS: a set missing from the dump", IPVS, text("ipset-save.txt", sub(r"^(?:create|add) KUBE-NODE-PORT-TCP .*\n")), NODEPORT, "NK501 NK503", "NK501 NK503 NK403 NK404"),
    Fault("IPVS: leftovers of iptables mode", IPVS, text(RULES, sub(r"^(:KUBE-NODE-PORT - .*\n)(?=(?:.*\n)*:KUBE-POSTROUTING)", r":KUBE-NODEPORTS - [0:0]\n\1")), SINGLE, "NK522"),
    Fault("nftables: stale endpoint", NFTABLES, both(without("nft-ruleset.json"), text("nft-ruleset.txt", sub(r"dnat to 10\.244\.1\.24:8080", "dnat to 10.244.1.240:8080"))), SINGLE, "NK206", "NK405"),
    Fault("nftables: Service missing", NFTABLES, both(without("nft-ruleset.json"), text("nft-ruleset.txt", sub(r"10\.96\.52\.1 \. tcp \. 8000 : goto service-[^,}]*,\s*"))), SINGLE, "NK205"),
    Fault("nftables: masquerading flushed", NFTABLES, both(without("nft-ruleset.json"), text("nft-ruleset.txt", sub(r"(chain masquerading \{\n)(?:\t\t.*\n)*", r"\1"))), NODEPORT, "NK401 NK403 NK404", "NK403 NK404"),
    Fault("nftables: forward drop of a firewall", NFTABLES, both(without("nft-ruleset.json"), text("nft-ruleset.txt", lambda t: t + FIREWALL)), SINGLE, "NK402"),
)  # fmt: skip

LISTENING, IPVSADM = "listening.txt", "ipvsadm-save.txt"
ONE_LISTING = without("ipvsadm-Ln.txt", "ipvsadm-stats.txt")
DRIFTS = (
    ("a process listens on a NodePort", IPTABLES, text(LISTENING, lambda t: t + "tcp LISTEN 0.0.0.0:30000\n"), "NK612"),
    ("an endpoint on another port", IPTABLES, text(RULES, sub("to-destination 10.244.1.24:8080", "to-destination 10.244.1.24:81")), "NK606"),
    ("rules of an older endpoint", IPTABLES, text(RULES, sub("to-destination 10.244.1.24:8080", "to-destination 10.244.1.240:8080")), "NK605 NK607"),
    ("another chance for one endpoint", IPTABLES, text(RULES, sub("0.33333333349(.*KUBE-SEP-C4VXQDW52UV45WW3)", r"0.90000000000\1")), "NK611"),
    ("a chain of no Service", IPTABLES, text(RULES, sub(r"^(:KUBE-SVC-GI2DS44EQ6V3GHV6 .*\n)", r"\1:KUBE-SVC-AAAAAAAAAAAAAAAA - [0:0]\n")), "NK615"),
    ("a node without kube-proxy", IPTABLES, both(text(RULES, sub(r"^.*KUBE-.*\n")), without("ip6tables-save.txt", "nft-ruleset.json", "nft-ruleset.txt")), "NK602"),
    ("IPVS: no virtual server for a Service", IPVS, both(ONE_LISTING, text(IPVSADM, sub(r"^-[Aa] -t 10\.96\.52\.1:8000 .*\n"))), "NK604"),
    ("IPVS: other seconds of affinity", IPVS, both(ONE_LISTING, text(IPVSADM, sub(r"(-A -t 10\.96\.60\.10:80 .*)-p 600", r"\g<1>-p 900"))), "NK610"),
)  # fmt: skip
"""Faults that are seen without a packet: name, case, edit, the codes that are told of this node and no others."""

BENIGN = {"NK101", "NK301", "NK526", "NK408"}
"""Warnings of healthy clusters that are true, and the refusal of NodePorts at 127.0.0.1."""


def told(world: World, ask: Ask) -> list[Finding]:
    walked = dialects.label(world, trace(world, dialects.resolve(world, ask)))
    return [f for f in findings.check(world, walked) if f.severity != "info"]


@pytest.fixture(scope="module")
def taken(corpus: Path) -> Callable[[str], Snapshot]:
    known: dict[str, Snapshot] = {}

    def read(case: str) -> Snapshot:
        if case not in known:
            whole = snapshot.read([str(corpus / case)])
            # What connections show of the order of hooks is another test's, and a fault changes nothing of it.
            known[case] = replace(whole, dumps=tuple(d for d in whole.dumps if not d.origin.endswith("conntrack.txt")))
        return known[case]

    return read


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_is_found_first_by_its_own_code_and_nothing_false_is_told(
    fault: Fault, taken: Callable[[str], Snapshot]
) -> None:
    healthy = taken(fault.case)
    quiet = told(dialects.complete(decode.decode(healthy)), fault.ask)
    before = {f.code for f in quiet}
    assert before <= BENIGN, [f.summary for f in quiet]
    found = told(dialects.complete(decode.decode(fault.edit(healthy))), fault.ask)
    lines = "\n".join(f"{f.code} {f.severity}: {f.summary}" for f in found)
    own = [f.code for f in found if f.code not in before]
    assert own, f"nothing is found\n{lines}"
    assert own[0] in fault.codes.split(), lines
    assert set(own) <= {*fault.codes.split(), *fault.also.split()}, lines


@pytest.mark.parametrize(("name", "case", "edit", "codes"), DRIFTS, ids=[name for name, *_ in DRIFTS])
def test_a_fault_that_needs_no_packet_is_found_by_its_own_code_alone(
    name: str, case: str, edit: Edit, codes: str, taken: Callable[[str], Snapshot]
) -> None:
    def drifted(found: Snapshot) -> list[Finding]:
        world = dialects.complete(decode.decode(found))
        return list(findings.drifted(drift(world, dialects.programmed(world))))

    assert drifted(taken(case)) == []
    found = drifted(edit(taken(case)))
    assert {finding.code for finding in found} == set(codes.split()), [finding.summary for finding in found]
    assert all(NODE in finding.summary for finding in found)


def test_the_page_on_faults_has_them_all(root: Path) -> None:
    page = (root / "docs/faults.md").read_text(encoding="utf-8")
    rows = [(fault.name, fault.codes) for fault in FAULTS] + [(name, codes) for name, _, _, codes in DRIFTS]
    assert [line for line in page.splitlines() if line.startswith("| ")][1:] == [
        f"| {name} | {', '.join(codes.split())} |" for name, codes in rows
    ]
    assert f"{len(rows)} kinds" in page
