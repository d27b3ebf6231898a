"""A snapshot with something changed in it, held against what kube-proxy itself wrote in both states."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest
from msgspec.structs import replace

from netk8s import decode, dialects, snapshot
from netk8s.changes import changes
from netk8s.errors import NotFound, NotKnown, UsageError
from netk8s.model import Dump, ServicePort, Snapshot, World
from netk8s.whatif import Wanted, _iptables, _ipvs, _nftables, whatif
from netk8s.whatif._plan import Plan, planned
from netk8s.whatif._save import Save

CASE = "headline-nodeport-30000"
IPTABLES = (
    CASE, "iptables-nft-matrix", "iptables-nft-matrix-kp136", "iptables-legacy-matrix", "iptables-nft-dual-stack",
    "iptables-nft-masquerade-all", "iptables-nft-no-cluster-cidr", "iptables-nft-detect-local-bridge",
    "iptables-nft-macvlan-bridge",
)  # fmt: skip

NFTABLES = (("nftables-matrix", 90), ("nftables-matrix-kp136", 90), ("nftables-dual-stack-kp136", 36))
"""Cases with the number of ports, counted in services.json, times three nodes, in each family."""


def taken(corpus: Path, case: str = CASE) -> Snapshot:
    return snapshot.read([str(corpus / case)])


# ---------------------------------------------------------------- every state that was recorded


def plans(world: World, node: str, family: int, every: int = 1) -> Iterator[Plan]:
    """Of every port of a family, what is to be programmed on a node."""
    (item,) = [item for item in world.cluster.nodes if item.name == node]
    for port in world.cluster.services[::every]:
        if any(ip.version == family for ip in port.cluster_ips) and not port.proxy:
            key = (port.namespace, port.service, port.name, port.protocol)
            known = [e for e in world.cluster.endpoints if (e.namespace, e.service, e.port_name, e.protocol) == key]
            yield planned(port, known, family, node, item.zone)


def written(found: Snapshot, every: int = 1) -> Iterator[tuple[str, list[str]]]:
    """Of every port on every node, in each family: what is written otherwise than the real kube-proxy wrote it."""
    world = decode.decode(found)
    for dump in found.dumps:
        name = dump.origin.rpartition("/")[2].removesuffix(".gz")
        if name not in ("iptables-save.txt", "ip6tables-save.txt"):
            continue
        family, save = (4 if name == "iptables-save.txt" else 6), Save(dump)
        how = _iptables.style(save)
        (item,) = [item for item in world.cluster.nodes if item.name == dump.node]
        ips = [ip_address(text) for kind, text in item.addresses if kind == "InternalIP"]
        for plan in plans(world, item.name, family, every):
            told = list(_iptables.differing(_iptables.present(save, plan), _iptables.written(plan, ips, how)))
            yield f"{dump.node} {family} {plan.name}", told


def written_in_nftables(found: Snapshot, every: int = 1) -> Iterator[tuple[str, list[str]]]:
    """The same of nftables mode."""
    world = decode.decode(found)
    ips = {ip for s in world.cluster.services for ip in s.cluster_ips}
    for node in world.nodes.values():
        for table in node.nft:
            if table.name != "kube-proxy":
                continue
            ruleset = _nftables.Ruleset(table, ips)
            for plan in plans(world, node.name, 4 if table.family == "ip" else 6, every):
                rules = ruleset.written(plan)
                yield (
                    f"{node.name} {table.family} {plan.name}",
                    list(_nftables.differing(ruleset.present(plan, rules), rules)),
                )


def written_in_ipvs(found: Snapshot) -> Iterator[tuple[str, list[str]]]:
    """The same of IPVS mode."""
    world = decode.decode(found)
    for node in world.nodes.values():
        ipvs = _ipvs.Ipvs(node, 4)
        for plan in plans(world, node.name, 4):
            part = ipvs.written(plan)
            assert part.servers
            yield f"{node.name} {plan.name}", list(_ipvs.differing(ipvs.present(plan, part), part))


def test_every_port_is_programmed_as_kube_proxy_programmed_it_in_ipvs_mode(corpus: Path) -> None:
    """Also without an endpoint, with none on the node (those of others then), not ready ones, SCTP."""
    told = list(written_in_ipvs(taken(corpus, "ipvs-rr-matrix")))
    assert len(told) == 90
    assert [(name, lines) for name, lines in told if lines] == []


@pytest.mark.parametrize("case", IPTABLES)
def test_every_port_is_written_as_kube_proxy_wrote_it(corpus: Path, case: str) -> None:
    """1.30 and 1.36: policies, ranges, affinity, no endpoints, none on the node, draining ones, SCTP, several ports."""
    found = list(written(taken(corpus, case)))
    assert len(found) >= 6
    assert [(name, told) for name, told in found if told] == []


@pytest.mark.parametrize("form", ["txt", "json"])
@pytest.mark.parametrize(("case", "ports"), NFTABLES)
def test_every_port_is_written_as_kube_proxy_wrote_it_in_nftables_mode(
    corpus: Path, case: str, ports: int, form: str
) -> None:
    """1.30 and 1.36, from either form of the dump; IPv4 and IPv6."""
    found = taken(corpus, case)
    dumps = tuple(d for d in found.dumps if "nft-ruleset" not in d.origin or d.origin.endswith(form))
    told = list(written_in_nftables(Snapshot(dumps)))
    assert len(told) == ports
    assert [(name, lines) for name, lines in told if lines] == []


def test_a_large_cluster_is_written_as_kube_proxy_wrote_it_in_nftables_mode(corpus: Path) -> None:
    told = list(written_in_nftables(taken(corpus, "scale-5k-nftables"), every=100))
    assert len(told) == 51
    assert [(name, lines) for name, lines in told if lines] == []


def test_a_large_cluster_is_written_as_kube_proxy_wrote_it(corpus: Path) -> None:
    """From 1000 endpoints on the rules of single endpoints have no comments. One Service in a hundred is looked at."""
    found = taken(corpus, "scale-5k")
    told = list(written(found, every=100))
    assert len(told) == 51
    assert [(name, lines) for name, lines in told if lines] == []


def test_a_version_that_writes_otherwise_is_noticed(corpus: Path) -> None:
    told = [name for name, lines in written(taken(corpus, "headline-nodeport-30000-kp123")) if lines]
    assert len(told) == 6


@pytest.mark.parametrize("case", [CASE, "iptables-legacy-matrix", "iptables-nft-portmap-hostport"])
def test_a_dump_taken_apart_and_put_together_says_the_same(corpus: Path, case: str) -> None:
    found = taken(corpus, case)
    again = Snapshot(
        tuple(
            Dump(d.origin, Save(d).text().data, d.node, d.pod) if d.origin.endswith("tables-save.txt") else d
            for d in found.dumps
        )
    )
    a, b = (dialects.complete(decode.decode(each)) for each in (found, again))
    assert changes(a, b, dialects.programmed(a), dialects.programmed(b)).found == ()


# ---------------------------------------------------------------- pairs that the real kube-proxy wrote


def service(name: str, port_name: str, namespace: str = "ns1", **spec: object) -> dict[str, object]:
    lb = spec.pop("lb", None)
    port = {"port": 80, "targetPort": 80, "protocol": "TCP", **({"name": port_name} if port_name else {})}
    if "nodePort" in spec:
        port["nodePort"] = spec.pop("nodePort")
    status = {"loadBalancer": {"ingress": [{"ip": lb}]}} if lb else {}
    kind = "LoadBalancer" if lb else "ClusterIP"
    return {
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"type": kind, "ports": [port], **spec},
        "status": status,
    }


def recorded(root: Path, ruleset: str, item: dict[str, object], ends: dict[str, str], port_name: str = "") -> Snapshot:
    """A ruleset of kube-proxy's own tests with the objects that it was written for. ``ends``: node by address."""
    return with_objects(root, ruleset, [item], [slice_of("ns1", "svc1", ends, port_name)])


def slice_of(namespace: str, name: str, ends: dict[str, str], port_name: str) -> dict[str, object]:
    return {
        "metadata": {"name": "s", "namespace": namespace, "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4", "ports": [{"port": 80, "protocol": "TCP", "name": port_name}],
        "endpoints": [{"addresses": [ip], "nodeName": node, "conditions": {"ready": True, "serving": True, "terminating": False}}
                      for ip, node in ends.items()],
    }  # fmt: skip


def with_objects(
    root: Path, ruleset: str, services: list[dict[str, object]], slices: list[dict[str, object]]
) -> Snapshot:
    node = {"metadata": {"name": "here"}, "status": {"addresses": [{"type": "InternalIP", "address": "192.168.0.2"}]}}

    def listed(kind: str, api: str, *items: dict[str, object]) -> bytes:
        whole = [{"apiVersion": api, "kind": kind, **each} for each in items]
        return json.dumps({"apiVersion": "v1", "kind": "List", "items": whole}).encode()

    rules = (root / "tests/flows/rulesets" / f"{ruleset}.txt").read_bytes()
    form = "nft-ruleset.txt" if ruleset.startswith("nftables") else "iptables-save.txt"
    return Snapshot(
        (
            Dump("cluster/services.json", listed("Service", "v1", *services)),
            Dump("cluster/endpointslices.json", listed("EndpointSlice", "discovery.k8s.io/v1", *slices)),
            Dump("cluster/nodes.json", listed("Node", "v1", node)),
            Dump(f"nodes/here/{form}", rules, "here"),
        )
    )


Told = dict[str, object]


def rules_of(found: Snapshot | World, name: str = "here") -> Told:
    """The rules of the node by chain, and the elements of maps: where a chain stands means nothing.

    kube-proxy in nftables mode empties the chains that it needs no more, and deletes them later.
    """
    node = (decode.decode(found) if isinstance(found, Snapshot) else found).nodes[name]
    told: Told = {}
    for table in node.tables:
        chains = {name: [rule.raw for rule in chain.rules] for name, chain in table.chains.items() if len(chain.rules)}
        told[table.name] = (sorted(table.chains), chains)
    for native in node.nft:
        told[native.name] = {name: [(r.statements, r.comment) for r in chain.rules]
                             for name, chain in native.chains.items() if chain.rules}  # fmt: skip
        told[f"elements of {native.name}"] = {
            name: {element.key: (element.value, element.comment) for element in each.elements}
            for name, each in native.sets.items()
        }
    return told


def of_ruleset(root: Path, ruleset: str, without: bytes = b"-") -> Told:
    """The rules of another ruleset of kube-proxy's own tests."""
    text = (root / "tests/flows/rulesets" / f"{ruleset}.txt").read_bytes()
    if without != b"-":
        lines = [line for line in text.splitlines() if without not in line]
        assert len(lines) == len(text.splitlines()) - 1
        text = b"\n".join(lines)
    return rules_of(Snapshot((Dump("x", text, "here"),)))


def becomes(found: Snapshot, wanted: Wanted) -> Told:
    """The rules of the node after a change, as they are decoded then."""
    return rules_of(whatif(found, wanted).after)


EXTERNAL = {"clusterIP": "172.30.0.41", "clusterIPs": ["172.30.0.41"], "externalIPs": ["192.168.99.11"], "lb": "1.2.3.4",
            "nodePort": 3001}  # fmt: skip
ONE_HERE = {"10.180.0.1": "elsewhere", "10.180.2.1": "here"}
PLAIN = {"clusterIP": "172.30.1.1", "clusterIPs": ["172.30.1.1"]}
THREE = {"10.0.1.1": "here", "10.0.1.2": "elsewhere", "10.0.1.3": "elsewhere"}
READY = {"10.0.1.1": "here", "10.0.1.2": "here", "10.0.1.5": "elsewhere"}


MODES = pytest.mark.parametrize("mode", ["iptables", "nftables"])


@MODES
def test_external_policy_cluster(root: Path, mode: str) -> None:
    item = service("svc1", "p80", **EXTERNAL, externalTrafficPolicy="Local", healthCheckNodePort=30000)
    found = recorded(root, f"{mode}-externalpolicylocal", item, ONE_HERE, "p80")
    wanted = Wanted(external=("ns1/svc1=Cluster",))
    assert becomes(found, wanted) == of_ruleset(root, f"{mode}-externalpolicycluster")
    assert whatif(found, wanted).notes == ()


@MODES
def test_external_policy_local(root: Path, mode: str) -> None:
    """The port for health checks is the API server's to choose, so its rule is left out, and that is said."""
    found = recorded(root, f"{mode}-externalpolicycluster", service("svc1", "p80", **EXTERNAL), ONE_HERE, "p80")
    wanted = Wanted(external=("svc/ns1/svc1=Local",))
    rule = b"health check node port" if mode == "iptables" else b"-"
    assert becomes(found, wanted) == of_ruleset(root, f"{mode}-externalpolicylocal", without=rule)
    assert len(whatif(found, wanted).notes) == 1


ONE_LOCAL = "internalpolicy-internalpolicy-is-local-and-there-is-one-local-endpoint"


@MODES
def test_internal_policy_local(root: Path, mode: str) -> None:
    found = recorded(root, f"{mode}-internalpolicy-internalpolicy-is-cluster", service("svc1", "", **PLAIN), THREE)
    assert becomes(found, Wanted(internal=("ns1/svc1=Local",))) == of_ruleset(root, f"{mode}-{ONE_LOCAL}")


@MODES
def test_internal_policy_cluster(root: Path, mode: str) -> None:
    item = service("svc1", "", **PLAIN, internalTrafficPolicy="Local")
    found = recorded(root, f"{mode}-{ONE_LOCAL}", item, THREE)
    cluster = of_ruleset(root, f"{mode}-internalpolicy-internalpolicy-is-cluster")
    assert becomes(found, Wanted(internal=("ns1/svc1=Cluster",))) == cluster


@MODES
def test_endpoints_away(root: Path, mode: str) -> None:
    found = recorded(root, f"{mode}-internalpolicy-internalpolicy-is-cluster", service("svc1", "", **PLAIN), THREE)
    wanted = Wanted(endpoints=("10.0.1.1", "10.0.1.2:80", "10.0.1.3"))
    assert becomes(found, wanted) == of_ruleset(root, f"{mode}-internalpolicy-internalpolicy-is-cluster-2")


@pytest.mark.parametrize(
    ("ruleset", "ends"),
    [
        (ONE_LOCAL, THREE),
        ("internalpolicy-internalpolicy-is-local-and-there-are-no-local-endpoint", dict.fromkeys(THREE, "elsewhere")),
        (
            "internalpolicy-internalpolicy-is-local-and-there-are-multiple-local-en",
            {"10.0.1.1": "here", "10.0.1.2": "here", "10.0.1.3": "elsewhere"},
        ),
    ],
)
def test_endpoints_of_the_internal_policy_local_away(root: Path, ruleset: str, ends: dict[str, str]) -> None:
    """Without any endpoint it refuses, where it dropped while the other nodes had some."""
    item = service("svc1", "", **PLAIN, internalTrafficPolicy="Local")
    found = recorded(root, f"nftables-{ruleset}", item, ends)
    assert becomes(found, Wanted(endpoints=tuple(ends))) == of_ruleset(root, f"nftables-{ruleset}-2")


@MODES
@pytest.mark.parametrize("policy", ["cluster", "local"])
def test_endpoints_of_a_load_balancer_away(root: Path, mode: str, policy: str) -> None:
    spec = {"externalTrafficPolicy": "Local", "healthCheckNodePort": 30000} if policy == "local" else {}
    name = f"{mode}-terminatingendpointspolicy{policy}-ready-endpoints-exist"
    found = recorded(root, name, service("svc1", "", **PLAIN, lb="1.2.3.4", **spec), READY)
    assert becomes(found, Wanted(endpoints=tuple(READY))) == of_ruleset(root, f"{name}-2")


def masqueraded(root: Path, ruleset: str) -> Snapshot:
    """What TestInternalExternalMasquerade has: a Service of each policy, one endpoint here and one elsewhere."""
    policies: dict[int, dict[str, object]] = {
        1: {}, 2: {"externalTrafficPolicy": "Local", "healthCheckNodePort": 30002}, 3: {"internalTrafficPolicy": "Local"},
    }  # fmt: skip
    lbs = {1: "1.2.3.4", 2: "5.6.7.8", 3: "9.10.11.12"}
    services = [
        service(f"svc{n}", "p80", f"ns{n}", clusterIP=f"172.30.0.4{n}", clusterIPs=[f"172.30.0.4{n}"], lb=lbs[n],
                nodePort=3000 + n, **more)
        for n, more in policies.items()
    ]  # fmt: skip
    slices = [
        slice_of(f"ns{n}", f"svc{n}", {f"10.180.0.{n}": "here", f"10.180.1.{n}": "elsewhere"}, "p80") for n in policies
    ]
    return with_objects(root, ruleset, services, slices)


FLAGS = ("base", "masqueradeall", "no-localtrafficdetector", "masqueradeall-no-localtrafficdetector")


@pytest.mark.parametrize("flags", FLAGS)
def test_flags_are_read_from_the_rules(root: Path, flags: str) -> None:
    """--masquerade-all, and whether anything tells pods, in either mode."""
    told = [*written(masqueraded(root, f"iptables-internalexternalmasquerade-{flags}")),
            *written_in_nftables(masqueraded(root, f"nftables-internalexternalmasquerade-{flags}"))]  # fmt: skip
    assert len(told) == 6
    assert [(name, lines) for name, lines in told if lines] == []


def test_the_pods_of_masquerade_all_may_be_told_by_no_rule(root: Path) -> None:
    """Another Service of the policy Local shows what tells pods; without one it is not known."""
    found = masqueraded(root, "nftables-internalexternalmasquerade-masqueradeall")
    chains = whatif(found, Wanted(external=("ns1/svc1=Local",))).after.nodes["here"].nft[0].chains
    (first, *_) = [chain for name, chain in chains.items() if name.startswith("external-ULMVA6XW")]
    assert first.rules[0].raw.startswith("ip saddr 10.0.0.0/8 goto service-ULMVA6XW")
    alone = tuple(
        replace(d, data=re.sub(rb"(?s)\tchain external-42NFTM6N.*?\n\t}\n", b"", bytes(d.data))) if d.node else d
        for d in found.dumps
    )
    with pytest.raises(NotKnown, match="no rule shows"):
        whatif(Snapshot(alone), Wanted(external=("ns1/svc1=Local",)))


# ---------------------------------------------------------------- objects, rules, settings of a recorded cluster


def ports(found: Snapshot, wanted: Wanted, name: str) -> tuple[ServicePort, ...]:
    return tuple(s for s in whatif(found, wanted).after.cluster.services if s.service == name)


def test_a_pod_away_takes_its_endpoints_along(corpus: Path) -> None:
    found = taken(corpus)
    before = decode.decode(found)
    pod = next(e.pod for e in before.cluster.endpoints if e.service == "nginx")
    after = whatif(found, Wanted(pods=(str(pod),))).after
    gone = {e.ip for e in before.cluster.endpoints} - {e.ip for e in after.cluster.endpoints}
    assert len(gone) == 1
    assert pod not in {f"{p.namespace}/{p.name}" for p in after.cluster.pods}
    rows = [row for row in dialects.programmed(dialects.complete(after)) if row.service == "default/nginx"]
    assert len(rows) == 6
    assert {frozenset(end.odds for end in row.backends) for row in rows} == {frozenset({rows[0].backends[0].odds})}
    assert {len(row.backends) for row in rows} == {2}
    assert not gone & {end.ip for row in rows for end in row.backends}


def test_a_drained_node_has_no_endpoints_and_its_own_services_stay(corpus: Path) -> None:
    found = whatif(taken(corpus, "iptables-nft-matrix"), Wanted(drained=("k8s-node1",)))
    left = [e for e in found.after.cluster.endpoints if e.node == "k8s-node1"]
    assert {str(e.ip) for e in left} == {"192.168.52.201"}
    assert {p.host_network for p in found.after.cluster.pods if p.node == "k8s-node1"} == {True}
    assert "k8s-node1 is drained" in found.notes[0]


def test_a_rule_in_and_out(corpus: Path) -> None:
    found = taken(corpus)
    wanted = Wanted(rules=("k8s-node1: iptables -I FORWARD -s 10.9.9.9/32 -p tcp --dport 80 -j DROP",))
    after = whatif(found, wanted).after
    (table,) = [t for t in after.nodes["k8s-node1"].tables if (t.family, t.name) == (4, "filter")]
    assert next(iter(table.chains["FORWARD"].rules)).raw == "-A FORWARD -s 10.9.9.9/32 -p tcp -m tcp --dport 80 -j DROP"
    again = Wanted(rules=(*wanted.rules, "k8s-node1: -D FORWARD -s 10.9.9.9/32 -p tcp -m tcp --dport 80 -j DROP"))
    a, b = (dialects.complete(each) for each in (whatif(found, again).before, whatif(found, again).after))
    assert changes(a, b, dialects.programmed(a), dialects.programmed(b)).found == ()


def test_a_table_that_no_dump_has_is_made(corpus: Path) -> None:
    after = whatif(taken(corpus), Wanted(rules=("k8s-node1: -t raw -A PREROUTING -s 10.9.9.9/32 -j DROP",))).after
    raw = [t for t in after.nodes["k8s-node1"].tables if (t.family, t.name) == (4, "raw")]
    assert [(t.backend, [r.raw for r in t.chains["PREROUTING"].rules]) for t in raw] == [
        ("nft", ["-A PREROUTING -s 10.9.9.9/32 -j DROP"])
    ]


def test_forwarding_is_that_of_every_device(corpus: Path) -> None:
    """inet_forward_change() writes net.ipv4.ip_forward to all, default and each device; other settings stay."""
    found = taken(corpus)
    before = decode.decode(found).nodes["k8s-node1"].sysctls
    after = whatif(found, Wanted(sysctls=("k8s-node1:net.ipv4.ip_forward=0",))).after
    have = after.nodes["k8s-node1"].sysctls
    changed = {name for name, each in have.items() if each.value != before[name].value}
    assert changed == {name for name in have if (name.startswith("net.ipv4.") and name.endswith("forward"))
                       or (name.startswith("net.ipv4.conf.") and name.endswith(".forwarding"))}  # fmt: skip
    assert {have[name].value for name in changed} == {"0"}
    assert after.nodes["k8s-node2"].sysctls["net.ipv4.ip_forward"].value == "1"
    alone = whatif(found, Wanted(sysctls=("net.ipv4.conf.all.rp_filter=1",))).after
    assert [n.sysctls["net.ipv4.conf.all.rp_filter"].value for n in alone.nodes.values()] == ["1", "1", "1"]
    assert alone.nodes["k8s-node1"].sysctls["net.ipv4.conf.cni0.rp_filter"].value == "0"


# ---------------------------------------------------------------- what is not known, not there, not understood


@pytest.mark.parametrize(
    ("case", "why"),
    [
        ("headline-nodeport-30000-kp123", "1.25"),
        ("broken-stale-node", "k8s-node2: the rules of svc/default/nginx"),
    ],
)
def test_rules_that_cannot_be_written(corpus: Path, case: str, why: str) -> None:
    with pytest.raises(NotKnown, match=why):
        whatif(taken(corpus, case), Wanted(external=("nginx=Local",)))


def edited(found: Snapshot, old: bytes, new: bytes) -> Snapshot:
    """A snapshot with something else in its dumps."""
    dumps = tuple(replace(d, data=bytes(d.data).replace(old, new)) if old in bytes(d.data) else d for d in found.dumps)
    assert dumps != found.dumps
    return Snapshot(dumps)


@pytest.mark.parametrize(
    ("case", "old", "new"),
    [
        ("nftables-matrix-kp136", b"10.244.1.6 . 80, 1 : 10.244.1.7 . 80", b"10.244.1.6 . 80, 1 : 10.244.9.9 . 80"),
        (
            "nftables-matrix-kp136",
            b"\t\tgoto service-ECO34HEO",
            b"\t\tip saddr 10.9.9.9 drop\n\t\tgoto service-ECO34HEO",
        ),
        ("nftables-matrix", b"tcp . 30000 : goto external-ECO34HEO", b"tcp . 30000 : goto external-SSHJNHUS"),
        (
            "ipvs-rr-matrix",
            b"-a -t 192.168.52.201:30000 -r 10.244.2.6:80",
            b"-a -t 192.168.52.201:30000 -r 10.244.2.99:80",
        ),
        ("ipvs-rr-matrix", b"-A -t 192.168.52.201:30000 -s rr", b"-A -t 192.168.52.201:30000 -s rr -p 60"),
        ("ipvs-rr-matrix", b"add KUBE-LOOP-BACK 10.244.1.6,tcp:80,10.244.1.6\n", b""),
    ],
)
def test_what_was_changed_by_hand_is_noticed(corpus: Path, case: str, old: bytes, new: bytes) -> None:
    kept = tuple(
        d
        for d in taken(corpus, case).dumps
        if not d.origin.endswith(("nft-ruleset.json", "ipvsadm-Ln.txt", "stats.txt"))
    )
    with pytest.raises(NotKnown, match="svc/default/nginx are not what a kube-proxy"):
        whatif(edited(Snapshot(kept), old, new), Wanted(external=("nginx=Local",)))


def test_a_node_in_ipvs_mode_without_its_sets(corpus: Path) -> None:
    kept = tuple(d for d in taken(corpus, "ipvs-rr-matrix").dumps if not d.origin.endswith("ipset-save.txt"))
    with pytest.raises(NotKnown, match="add ipset save"):
        whatif(Snapshot(kept), Wanted(external=("nginx=Local",)))


def test_virtual_servers_of_somebody_else(corpus: Path) -> None:
    """A load balancer beside a kube-proxy in iptables mode, and the device that a kube-proxy in IPVS mode left there."""
    found = taken(corpus)
    more = Dump(
        "nodes/k8s-node1/ipvs.txt",
        b"-A -t 192.168.52.99:80 -s rr\n-a -t 192.168.52.99:80 -r 192.168.52.7:80 -m\n",
        "k8s-node1",
    )
    after = whatif(Snapshot((*found.dumps, more)), Wanted(external=("nginx=Local",))).after
    assert [str(server.ip) for server in after.nodes["k8s-node1"].virtual_servers] == ["192.168.52.99"]
    alone = whatif(found, Wanted(external=("nginx=Local",))).after
    assert rules_of(alone, "k8s-node1") == rules_of(after, "k8s-node1")


def test_a_node_in_two_modes(corpus: Path) -> None:
    one, other = taken(corpus, "nftables-matrix"), taken(corpus, "iptables-legacy-matrix")
    rules = [d for d in other.dumps if d.origin.endswith("k8s-node1/iptables-save.txt")]
    left = [d for d in one.dumps if not d.origin.endswith("k8s-node1/iptables-save.txt")]
    with pytest.raises(NotKnown, match="in nftables and iptables mode"):
        whatif(Snapshot((*left, *rules)), Wanted(external=("nginx=Local",)))


@pytest.mark.parametrize("case", ["both-backends-legacy-then-nft", "both-backends-stale-nft-wins"])
def test_rules_in_both_backends(corpus: Path, case: str) -> None:
    with pytest.raises(NotKnown, match="both backends"):
        whatif(taken(corpus, case), Wanted(external=("nginx=Local",)))


def test_a_change_of_rules_by_hand_within_those_of_a_service_is_noticed(corpus: Path) -> None:
    """After such a rule it is not known what kube-proxy would leave of it."""
    found = taken(corpus)
    text = b"\n-A KUBE-EXT-2CMXP7HKUVJN7L6M -j "
    edited = tuple(
        Dump(d.origin, bytes(d.data).replace(text, b"\n-A KUBE-EXT-2CMXP7HKUVJN7L6M -s 10.9.9.9/32 -j DROP" + text), d.node)
        if text in bytes(d.data) else d
        for d in found.dumps
    )  # fmt: skip
    assert edited != found.dumps
    with pytest.raises(NotKnown, match="not what a kube-proxy"):
        whatif(Snapshot(edited), Wanted(external=("nginx=Local",)))


@pytest.mark.parametrize(
    ("wanted", "near"),
    [
        (Wanted(external=("ngnix=Local",)), "default/nginx"),
        (Wanted(endpoints=("10.244.1.99",)), None),
        (Wanted(pods=("default/nginks",)), None),
        (Wanted(drained=("k8s-node9",)), None),
        (Wanted(sysctls=("net.ipv4.ip_forwarding=0",)), None),
        (Wanted(sysctls=("k8s-node9:net.ipv4.ip_forward=0",)), None),
        (Wanted(rules=("k8s-node1: -A FORWARDS -j DROP",)), None),
        (Wanted(rules=("k8s-node1: -t nut -A FORWARD -j DROP",)), None),
        (Wanted(rules=("k8s-node1: -D FORWARD -s 10.9.9.9/32 -j DROP",)), None),
    ],
)
def test_what_is_not_there(corpus: Path, wanted: Wanted, near: str | None) -> None:
    with pytest.raises(NotFound) as raised:
        whatif(taken(corpus), wanted)
    if near is not None:
        assert raised.value.candidates[0] == near


@pytest.mark.parametrize(
    "wanted",
    [
        Wanted(external=("nginx=local",)),
        Wanted(external=("kubernetes=Local",)),
        Wanted(sysctls=("net.ipv4.ip_forward",)),
        Wanted(rules=("-A FORWARD -j DROP",)),
        Wanted(rules=("k8s-node1: -A FORWARD -m comment --comment 'x",)),
        Wanted(rules=("k8s-node1: -F FORWARD",)),
        Wanted(rules=("k8s-node1: -I FORWARD 99 -j DROP",)),
        Wanted(rules=("k8s-node1: -D FORWARD 99",)),
        Wanted(rules=("k8s-node1:",)),
    ],
)
def test_what_is_not_understood(corpus: Path, wanted: Wanted) -> None:
    with pytest.raises(UsageError):
        whatif(taken(corpus), wanted)
