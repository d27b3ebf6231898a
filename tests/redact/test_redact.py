"""A redacted snapshot: nothing of the original is left, and every packet takes the same way."""

from __future__ import annotations

import base64
import functools
import hashlib
import ipaddress
import itertools
import json
import os
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from netk8s import decode, dialects, snapshot
from netk8s.decode import kubectl
from netk8s.dialects.kube_proxy_iptables import chain_hash
from netk8s.dialects.pod_devices import pod_devices
from netk8s.errors import Netk8sError
from netk8s.journey import answer
from netk8s.model import Ask, Dump, Missing, OldEndpoint, Snapshot, World
from netk8s.redact import Redacted, Redaction, redact, special
from netk8s.redact._addresses import Addresses
from netk8s.redact._names import PUBLIC
from netk8s.render.document import document

KEY = b"\x07" * 32
FEW = 6
"""Questions per recorded cluster, unless NETK8S_REDACT=all asks for every one."""
QUICK = [
    "both-backends-stale-nft-wins",
    "headline-nodeport-30000",
    "iptables-nft-flannel-vxlan",
    "ipvs-rr-matrix",
    "nftables-dual-stack-kp136",
]
ALL = os.environ.get("NETK8S_REDACT") == "all"


def cases(corpus: Path) -> list[str]:
    return sorted(path.parent.name for path in corpus.glob("*/observed.jsonl")) if ALL else QUICK


def world(taken: Snapshot) -> World:
    return dialects.complete(decode.decode(taken))


def asks(folder: Path) -> list[Ask]:
    """Questions of the recorded connections, spread over them."""
    flows = [json.loads(line) for line in (folder / "observed.jsonl").read_text(encoding="utf-8").splitlines()]
    step = 1 if ALL else max(1, len(flows) // FEW)
    out = []
    for flow in flows[::step]:
        nodes = {path.name for path in (folder / "nodes").iterdir()}
        who = flow["from"]
        source = f"node/{who}" if who in nodes else who if who.startswith("pod/") else flow["src_ip"]
        ip = f"[{flow['dst_ip']}]" if ":" in flow["dst_ip"] else flow["dst_ip"]
        via = flow.get("via_node")
        out.append(Ask(f"{ip}:{flow['dst_port']}", protocol=flow["proto"].lower(), source=source, via=via))
    return out


def mapped(ask: Ask, redaction: Redaction) -> Ask:
    name = redaction.texts.name
    source = ask.source or ""
    kind, slash, rest = source.partition("/")
    new = f"{kind}/{name(rest)}" if slash else name(source)
    return Ask(name(ask.target), protocol=ask.protocol, source=new, via=name(ask.via) if ask.via else None)


def told(of: World, ask: Ask) -> dict[str, Any] | str:
    try:
        return msgspec.json.decode(msgspec.json.encode(document(answer(of, ask))))
    except Netk8sError as error:
        return type(error).__name__


def essence(doc: dict[str, Any] | str, redaction: Redaction | None) -> Any:
    """What an answer says of the way, in the words of the redacted snapshot."""
    if isinstance(doc, str):
        return doc

    def same(text: Any) -> Any:
        return text

    name = redaction.texts.name if redaction else same
    syntax = redaction.texts.syntax if redaction else same

    def of(value: Any, word: Any) -> Any:
        if isinstance(value, dict):
            return {k: of(v, word) for k, v in value.items()}
        return word(value) if isinstance(value, str) else value

    def hop(each: dict[str, Any]) -> Any:
        steps = [
            {
                "rule": of(s["rule"], syntax), "chain": of(s["chain"], syntax), "action": of(s["action"], syntax),
                "odds": s["odds_exact"], "hook": s["hook"], "table": s["table"], "line": line(s["at"]),
                "assumed": s["assumed"],
            }
            for s in each["steps"] if s["rule"] is not None
        ]  # fmt: skip
        return {
            "node": of(each["node"], name),
            "in": of(each["in"], syntax),
            "out": of(each["out"], syntax),
            "s": steps,
        }

    outcomes = [
        {
            "verdict": o["verdict"], "odds": o["odds_exact"], "endpoint": of(o["endpoint"], name),
            "seen": name(o["source_seen"]["ip"]) if o["source_seen"] and o["source_seen"]["ip"] else None,
            "preserved": o["source_seen"]["preserved"] if o["source_seen"] else None,
        }
        for o in doc["outcomes"]
    ]  # fmt: skip
    paths = [{"odds": p["odds_exact"], "hops": [hop(h) for h in p["hops"]]} for p in doc["paths"]]
    return {
        "outcomes": sorted(outcomes, key=str), "paths": sorted(paths, key=str), "symmetric": doc["reply"]["symmetric"],
        "findings": sorted((f["code"], f["severity"], f["proven"]) for f in doc["findings"]),
    }  # fmt: skip


def line(at: str) -> str:
    return at.rpartition(":")[2]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" in metafunc.fixturenames:
        folder = Path(os.environ.get("NETK8S_CORPUS") or Path(__file__).parent / "../../../shared/corpus").resolve()
        metafunc.parametrize("case", cases(folder) if ALL and folder.is_dir() else QUICK)


@functools.lru_cache(maxsize=1)
def made(folder: Path) -> tuple[Snapshot, Redaction, Redacted]:
    taken = snapshot.read([str(folder)])
    redaction = Redaction(taken, KEY)
    return taken, redaction, redaction.redacted()


def test_every_packet_takes_the_same_way_step_by_step(corpus: Path, case: str) -> None:
    taken, redaction, done = made(corpus / case)
    assert not done.left_out
    before, after = world(taken), world(done.snapshot)
    assert not after.unread
    asked = asks(corpus / case)
    for ask in asked:
        new = mapped(ask, redaction)
        expected, found = essence(told(before, ask), redaction), essence(told(after, new), None)
        assert found == expected, (ask, new)


def originals(taken: Snapshot) -> set[str]:
    """The names, addresses and MACs of a snapshot, found without the code that replaces them."""
    out: set[str] = set()
    for dump in taken.dumps:
        text = bytes(dump.data[:]).decode()
        out.update(part for name in (dump.node, *(dump.pod or "").split("/")) if name for part in name.split("."))
        if dump.node is None and text.lstrip().startswith("{"):
            for item in json.loads(text)["items"]:
                metadata = item["metadata"]
                out.update(filter(None, (metadata["name"], metadata.get("namespace"), metadata.get("uid"))))
                out.update((metadata.get("labels") or {}).values())
        out.update(re.findall(r"\b(?:[0-9a-f]{2}:){5}[0-9a-f]{2}\b", text))
        out.update(re.findall(r"\bveth[0-9a-f]{8}\b", text))
        out.update(re.findall(r"KUBE-[A-Z]{3}-([A-Z2-7]{16})\b", text))
        out.update(re.findall(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.])", text))
    return out - PUBLIC


def test_nothing_of_the_original_is_left(corpus: Path, case: str, tmp_path: Path) -> None:
    taken, _, done = made(corpus / case)
    snapshot.save(done.snapshot, str(tmp_path / "out"))
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert len(files) == len(done.snapshot.dumps) + 1
    texts = ["/".join(path.relative_to(tmp_path).parts) + "\n" + path.read_text() for path in files]
    texts = [text.replace("service.kubernetes.io/headless", "") for text in texts]
    words = {word for text in texts for word in re.findall(r"[\w.:-]+|[\w-]+", text)}
    words |= {word for text in texts for word in re.findall(r"[\w-]+", text)}
    words |= {word for text in texts for word in re.findall(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.])", text)}
    new = {*done.addresses.values(), *done.names.values()}
    left = sorted(word for word in originals(taken) & words if word not in new and not public(word))
    assert not left


def public(word: str) -> bool:
    """What is the same in every cluster, or says nothing of anybody."""
    try:
        return special(ipaddress.ip_address(word))
    except ValueError:
        group = ":" in word and int(word[:2], 16) & 1 == 1
        return (
            group
            or (len(set(word.split(":"))) == 1 and ":" in word)
            or word.isdecimal()
            or word in ("linux", "true", "false")
        )


def test_another_key_gives_other_words_and_the_same_key_the_same(corpus: Path) -> None:
    taken = snapshot.read([str(corpus / QUICK[1])])
    first, again, other = redact(taken, KEY), redact(taken, KEY), redact(taken)
    assert [d.data for d in first.snapshot.dumps] == [d.data for d in again.snapshot.dumps]
    differ = [name for name in first.names if first.names[name] != other.names[name]]
    assert differ == list(first.names)


def texts_of(*dumps: Dump) -> dict[str, str]:
    done = redact(Snapshot(dumps), KEY)
    return {dump.origin: bytes(dump.data[:]).decode() for dump in done.snapshot.dumps}


POD = {
    "apiVersion": "v1", "kind": "Pod",
    "metadata": {"name": "till-1", "namespace": "shop", "annotations": {"token": "s3cr3t"}, "labels": {"team": "acme"}},
    "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "acme/till", "env": [{"name": "PW", "value": "hunter2"}]}]},
    "status": {"podIP": "10.9.8.7"},
}  # fmt: skip


def test_objects_lose_what_no_answer_needs() -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"key": "aHVudGVyMg=="}}
    config = {
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "coredns", "namespace": "kube-system"},
        "data": {"Corefile": ".:53 {\n kubernetes corp.example {\n }\n}", "password": "hunter2"},
    }  # fmt: skip
    listed = {"apiVersion": "v1", "kind": "List", "items": [POD, secret, config]}
    done = redact(Snapshot((Dump("all.json", json.dumps(listed).encode()),)), KEY)
    text = bytes(done.snapshot.dumps[0].data[:]).decode()
    for gone in ("till", "shop", "acme", "s3cr3t", "hunter2", "aHVudGVyMg", "10.9.8.7", "corp", "example", "n1"):
        assert gone not in text
    cluster = decode.decode(done.snapshot).cluster
    assert [pod.name for pod in cluster.pods] == [done.names["till-1"]]
    assert cluster.config_maps[0].data == (("Corefile", f"kubernetes {done.names['corp']}.{done.names['example']}\n"),)
    assert done.left_out == ("Secret objects: not needed for an answer",)


def test_endpoints_objects_stay_what_they_are() -> None:
    address = {
        "ip": "10.244.1.5",
        "nodeName": "blue-7",
        "hostname": "secret",
        "targetRef": {"kind": "Pod", "name": "web-1"},
    }
    item = {
        "apiVersion": "v1", "kind": "Endpoints",
        "metadata": {"name": "web", "annotations": {"endpoints.kubernetes.io/over-capacity": "truncated", "note": "secret"}},
        "subsets": [{"addresses": [address], "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]}],
    }  # fmt: skip
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": [item]}).encode()
    (changed,) = texts_of(Dump("cluster/endpoints.json", text)).values()
    assert not [word for word in ("secret", "blue-7", "web-1", "10.244.1.5") if word in changed]
    (found,) = kubectl_facts(changed)
    assert (found.truncated, found.endpoint.port, found.endpoint.protocol) == (True, 80, 6)
    assert found.endpoint.node
    assert found.endpoint.pod


def kubectl_facts(text: str) -> list[OldEndpoint]:
    return [fact for fact in kubectl.decode(Dump("x", text.encode())) if isinstance(fact, OldEndpoint)]


def test_an_unknown_text_is_left_out_and_said() -> None:
    known = Dump("sysctl.txt", b"net.ipv4.ip_forward = 1\n", "n1")
    done = redact(Snapshot((known, Dump("kubelet-acme.log", b"Bearer abc\n", "n1"))), KEY)
    assert [dump.origin for dump in done.snapshot.dumps] == ["sysctl.txt"]
    assert len(done.snapshot.missing) == len(done.left_out) == 1
    assert "acme" not in done.snapshot.missing[0].what


def test_what_could_not_be_taken_is_said_in_other_words() -> None:
    taken = Snapshot(
        (Dump("sysctl.txt", b"net.ipv4.ip_forward = 1\n", "web1"),),
        (Missing("agent of web1 at 10.9.8.7", "x", node="web1"),),
    )
    done = redact(taken, KEY)
    assert done.snapshot.missing[0].node == done.names["web1"]
    assert "web1" not in done.snapshot.missing[0].what
    assert "10.9.8.7" not in done.snapshot.missing[0].what


RULES = """*filter
:INPUT ACCEPT [0:0]
:ACME-IN - [0:0]
-A INPUT -i acmelan+ -m comment --comment "ask bob.smith@acme.test about shop/till:pay" -j ACME-IN
-A ACME-IN -m iprange --src-range 10.1.2.5-10.1.2.99 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A ACME-IN -s 10.1.2.0/23 -d 8.8.8.8/32 -p tcp -m tcp --dport 443 -m set --match-set acme-list src -j LOG --log-prefix "acme: "
-A ACME-IN -m mac --mac-source 00:0C:29:AB:CD:EF -j DROP
COMMIT
"""


def test_rules_keep_their_shape() -> None:
    text = texts_of(
        Dump("iptables-save.txt", RULES.encode(), "n"),
        Dump("ip-link.json", b'[{"ifindex":2,"ifname":"acmelan0"},{"ifindex":3,"ifname":"acmelan1.100"}]', "n"),
    )
    rules = text["iptables-save.txt"]
    for gone in ("acme", "ACME", "bob", "smith", "shop", "till", "10.1.2", "8.8.8.8", "AB:CD"):
        assert gone not in rules + text["ip-link.json"]
    assert "--ctstate RELATED,ESTABLISHED -j ACCEPT" in rules
    found = re.search(r"--src-range (\S+)-(\S+)", rules)
    assert found is not None
    first, last = map(ipaddress.ip_address, found.groups())
    assert int(last) - int(first) == 94
    subnet = re.search(r"-s (\S+)", rules)
    assert subnet is not None
    net = ipaddress.ip_network(subnet[1])
    assert net.prefixlen == 23
    assert first in net
    device = re.search(r"-i (\w+)\+", rules)
    assert device is not None
    names = re.findall(r'"ifname":"([^"]+)"', text["ip-link.json"])
    assert names == [f"{device[1]}0", f"{device[1]}1.100"]


@given(st.lists(st.ip_addresses(v=4), min_size=2, max_size=6), st.integers(8, 30), st.binary(min_size=8, max_size=16))
def test_addresses_keep_their_common_prefix(ips: list[Any], length: int, key: bytes) -> None:
    net = ipaddress.ip_network((int(ips[0]), length), strict=False)
    addresses = Addresses(key, [str(net)], [])
    new = [addresses.ip(ip) for ip in ips]
    for a, b in itertools.combinations(range(len(ips)), 2):
        assert (int(ips[a]) ^ int(ips[b])).bit_length() == (int(new[a]) ^ int(new[b])).bit_length()
    image = ipaddress.ip_network((int(addresses.ip(net.network_address)), length))
    assert addresses.ip(net.broadcast_address) == image.broadcast_address
    assert all(new[i] == ips[i] for i in range(len(ips)) if special(ips[i]))
    assert [ip.is_private for ip in map(ipaddress.ip_address, ips)] == [ip.is_private for ip in new]


@given(st.ip_addresses(v=6), st.integers(0, 127), st.binary(min_size=8, max_size=16))
def test_ipv6_keeps_prefixes_and_what_is_special(ip: Any, bits: int, key: bytes) -> None:
    other = ipaddress.IPv6Address(int(ip) ^ (1 << bits))
    addresses = Addresses(key, [], [])
    a, b = addresses.ip(ip), addresses.ip(other)
    assert (int(a) ^ int(b)).bit_length() == bits + 1
    assert a == ip if special(ip) else a.is_link_local == ip.is_link_local


def test_ipv4_within_ipv6_is_the_same_address() -> None:
    addresses = Addresses(KEY, [], [])
    inner = addresses.ip(ipaddress.ip_address("10.1.2.3"))
    assert addresses.ip(ipaddress.ip_address("::ffff:10.1.2.3")) == ipaddress.ip_address(f"::ffff:{inner}")


@pytest.mark.parametrize(
    "line",
    [
        "-A ufw-before-forward -j ACCEPT",
        "-A INPUT_direct -m geoip -j ACCEPT",
        "-A CNI-HOSTPORT-DNAT -p tcp -m tcp -m multiport --dports 80,8080:8090 -j ACCEPT",
        "-A INPUT -m addrtype --dst-type LOCAL,UNICAST -m hashlimit --hashlimit-upto 5/sec --hashlimit-mode srcip,dstip -j RETURN",
        "-A INPUT -p icmp -m icmp --icmp-type 3/4 -m statistic --mode random --probability 0.33333333349 -j ACCEPT",
        "-A INPUT -p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -j TCPMSS --clamp-mss-to-pmtu",
        "-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000",
        "-A KUBE-POSTROUTING -j MASQUERADE --random-fully",
        "-A INPUT -p udp -m conntrack --ctstate RELATED,ESTABLISHED,UNTRACKED -j REJECT --reject-with icmp-port-unreachable",
    ],
)
def test_the_words_of_rules_stay(line: str) -> None:
    chain = line.split()[1]
    dump = f"*filter\n:INPUT ACCEPT [0:0]\n:{chain} - [0:0]\n{line}\nCOMMIT\n".replace(":INPUT - [0:0]\n", "")
    assert line in texts_of(Dump("iptables-save.txt", dump.encode(), "n"))["iptables-save.txt"]


def test_names_of_proxies_carry_the_hash_of_the_new_name() -> None:
    """Formulas of kube-proxy's two modes, so that a hash leads neither back nor astray."""
    chain = chain_hash("shop/till", "pay", "tcp")
    end = chain_hash("shop/till", "pay", "tcp", "10.9.8.7:80")
    rules = f"""*nat
:KUBE-SERVICES - [0:0]
:KUBE-SVC-{chain} - [0:0]
:KUBE-SEP-{end} - [0:0]
-A KUBE-SERVICES -d 10.96.1.1/32 -p tcp -m comment --comment "shop/till:pay cluster IP" -m tcp --dport 80 -j KUBE-SVC-{chain}
-A KUBE-SVC-{chain} -m comment --comment "shop/till:pay -> 10.9.8.7:80" -j KUBE-SEP-{end}
-A KUBE-SEP-{end} -p tcp -m comment --comment "shop/till:pay" -m tcp -j DNAT --to-destination 10.9.8.7:80
COMMIT
"""
    rest = "shop/till/tcp/pay__fd00.1..7/80"
    digest = base64.b32encode(hashlib.sha256(rest.encode()).digest()).decode()[:8]
    nft = f"table ip6 kube-proxy {{\n\tchain endpoint-{digest}-{rest} {{\n\t}}\n}}\n"
    done = redact(Snapshot((Dump("iptables-save.txt", rules.encode(), "n"), Dump("nft.txt", nft.encode(), "n"))), KEY)
    texts = [bytes(dump.data[:]).decode() for dump in done.snapshot.dumps]
    service, port = f"{done.names['shop']}/{done.names['till']}", done.names["pay"]
    assert f":KUBE-SVC-{chain_hash(service, port, 'tcp')} -" in texts[0]
    new = f"{done.addresses['10.9.8.7']}:80"
    assert f"-j DNAT --to-destination {new}" in texts[0]
    assert f":KUBE-SEP-{chain_hash(service, port, 'tcp', new)} -" in texts[0]
    ip = done.addresses["fd00:1::7"].replace(":", ".")
    found = re.search(r"chain endpoint-(\w+)-(\S+) ", texts[1])
    assert found is not None
    assert found[2] == f"{service}/tcp/{port}__{ip}/80"
    assert found[1] == base64.b32encode(hashlib.sha256(found[2].encode()).digest()).decode()[:8]


def test_devices_are_named_after_their_pods_still() -> None:
    dev = "cali" + hashlib.sha1(b"shop.till-1", usedforsecurity=False).hexdigest()[:11]
    link = Dump("ip-link.json", json.dumps([{"ifindex": 7, "ifname": dev}]).encode(), "n1")
    done = redact(Snapshot((link, Dump("pods.json", json.dumps(POD).encode()))), KEY)
    of = decode.decode(done.snapshot)
    (node,) = of.nodes.values()
    new = f"{done.names['shop']}/{done.names['till-1']}"
    assert pod_devices(node, of.cluster) == {node.links[0].name: new}
    assert node.links[0].name != dev


@pytest.mark.parametrize("text", ["02:00:00:00:00:01", "00:0c:29:ab:cd:ef", "00:0C:29:AB:CD:EF", "46:10:1:94:a:2a"])
def test_link_addresses_keep_their_spelling(text: str) -> None:
    new = Addresses(KEY, [], []).mac(text)
    assert new.lower() != text.lower()
    assert (new != new.lower()) == (text != text.lower())
    assert int(new.split(":")[0], 16) & 3 == int(text.split(":")[0], 16) & 3


@pytest.mark.parametrize("text", ["00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff", "ee:ee:ee:ee:ee:ee", "01:00:5e:00:00:01"])
def test_link_addresses_of_groups_stay(text: str) -> None:
    assert Addresses(KEY, [], []).mac(text) == text
