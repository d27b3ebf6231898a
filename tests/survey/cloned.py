"""Clusters with many Services that are alike: a recorded case with copies of each of its Services, and broken at random.

What kube-proxy programmed for a Service is copied with other names, addresses, ports and chains into every dump, so the
rules stay kube-proxy's own, of whatever mode and family.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Container, Iterable, Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path

from netk8s import decode, dialects, snapshot
from netk8s.model import Addr, Dump, Snapshot, World
from netk8s.survey import Ground

_RULES = ("iptables-save.txt", "ip6tables-save.txt", "iptables-legacy-save.txt")
_LEFT_OUT = (
    "conntrack.txt", "iptables-save-counters.txt", "ipvsadm-Ln.txt", "ipvsadm-stats.txt", "nft-ruleset.json",
    "bridge-fdb.json",
)  # fmt: skip
_CHAIN = re.compile(r"KUBE-(?:SVC|SVL|EXT|XLB|FW|SEP)-([A-Z2-7]{16})")
_NAMED = re.compile(r"(?:service|local|external|firewall|endpoint|affinity)-([A-Z2-7]{8})-")
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"


def dumps(case: Path) -> dict[str, tuple[str, str | None]]:
    """The texts of a recorded case with the nodes they are of, counted and binary ones left out."""
    read = snapshot.read([str(case)])
    return {
        dump.origin: (bytes(dump.data).decode(), dump.node)
        for dump in read.dumps
        if not dump.origin.endswith(_LEFT_OUT)
    }


def world(texts: dict[str, tuple[str, str | None]]) -> World:
    """The world of some texts."""
    made = tuple(Dump(origin, text.encode(), node) for origin, (text, node) in texts.items())
    return dialects.complete(decode.decode(Snapshot(made)))


class _Copies:
    """The names of one Service in its copies."""

    def __init__(self, words: Iterable[tuple[str, list[str]]], hashes: dict[str, list[str]]) -> None:
        self._words = dict(words)
        self._hashes = hashes
        some = "|".join(
            re.escape(word) + (r"(?!:[0-9a-f])" if word.count(":") > 1 else "")
            for word in sorted(self._words, key=len, reverse=True)
        )
        hashed = "|".join(hashes) or "(?!)"
        before = r"(?:(?<![\w.:/])|(?<=__)|(?<=tcp:)|(?<=udp:)|(?<=\d:)|(?<=\]:))"
        self._pattern = re.compile(rf"{before}(?:{some})(?![\w-]|\.\w)|(?<=-)(?:{hashed})(?![A-Z2-7])")

    def found(self, text: str) -> bool:
        return self._pattern.search(text) is not None

    def text(self, text: str, copy: int) -> str:
        return self._pattern.sub(lambda m: (self._words.get(m[0]) or self._hashes[m[0]])[copy], text)


def copied(
    texts: dict[str, tuple[str, str | None]], copies: int, services: Container[str] | None = None
) -> dict[str, tuple[str, str | None]]:
    """The texts with some Services (None: all) copied some times, those that share a pod with another left out."""
    plain = world(texts)
    used: set[Addr] = {a.ip for node in plain.nodes.values() for a in node.addresses}
    used |= {ip for pod in plain.cluster.pods for ip in pod.ips}
    used |= {ip for s in plain.cluster.services for ip in (*s.cluster_ips, *s.lb_ips, *s.external_ips, *s.lb_ips_proxy)}
    numbers = iter(range(31200, 32700))
    nodes = {ip for item in plain.cluster.nodes for _, text in item.addresses for ip in _address(text)}
    sharing: dict[Addr, set[str]] = {}
    for e in plain.cluster.endpoints:
        sharing.setdefault(e.ip, set()).add(f"{e.namespace}/{e.service}")
    for service in sorted({f"{s.namespace}/{s.service}" for s in plain.cluster.services}):
        space, _, name = service.partition("/")
        mine = [s for s in plain.cluster.services if (s.namespace, s.service) == (space, name)]
        ends = [e for e in plain.cluster.endpoints if (e.namespace, e.service) == (space, name)]
        pods = [pod for pod in plain.cluster.pods if {e.ip for e in ends} & set(pod.ips)]
        if (
            any(len(sharing[e.ip]) > 1 or e.ip in nodes for e in ends)
            or name == "kubernetes"
            or (services is not None and service not in services)
        ):
            continue
        ips = (
            dict.fromkeys(ip for s in mine for ip in (*s.cluster_ips, *s.lb_ips, *s.external_ips, *s.lb_ips_proxy))
            | dict.fromkeys(ip for pod in pods for ip in pod.ips)
            | dict.fromkeys(e.ip for e in ends)
        )
        words: dict[str, list[str]] = {}
        for ip in ips:
            fresh = [_free(ip, used) for _ in range(copies)]
            words[str(ip)] = [str(each) for each in fresh]
            words[str(ip).replace(":", ".")] = [str(each).replace(":", ".") for each in fresh]
        for number in {s.node_port for s in mine} | {s.health_check_node_port for s in mine}:
            if number is not None:
                words[str(number)] = [str(next(numbers)) for _ in range(copies)]
        for word in (service, name, *(pod.name for pod in pods), *(f"{pod.namespace}/{pod.name}" for pod in pods)):
            words[word] = [f"{word}-c{i}" for i in range(copies)]
        rough = _Copies(words.items(), {})
        hashes: dict[str, list[str]] = {}
        for text, _ in texts.values():
            for line in text.splitlines():
                if ("KUBE-S" in line or "KUBE-E" in line or "KUBE-F" in line) and rough.found(line):
                    for found in _CHAIN.findall(line):
                        hashes[found] = [_turned(found, i + 1) for i in range(copies)]
            for found in re.findall(rf"-([A-Z2-7]{{8}})-{re.escape(service)}/", text):
                hashes[found] = [_turned(found, i + 1) for i in range(copies)]
        both = _Copies(words.items(), hashes)
        texts = {origin: (_in(origin, text, both, copies), node) for origin, (text, node) in texts.items()}
    return texts


def _address(text: str) -> Iterator[Addr]:
    try:
        yield ip_address(text)
    except ValueError:
        return


def _free(ip: Addr, used: set[Addr]) -> Addr:
    net = ip_network(f"{ip}/{24 if ip.version == 4 else 64}", strict=False)
    low = int(ip) & 0xFF if ip.version == 4 else 0
    for step in range(1, 240):
        number = (low + 37 * step) % 236 + 10
        other = net[number]
        if other not in used:
            used.add(other)
            return other
    raise AssertionError(f"no address is left in {net}")


def _turned(text: str, by: int) -> str:
    return "".join(_LETTERS[(_LETTERS.index(c) + 3 * by) % 32] for c in text)


def _in(origin: str, text: str, copies: _Copies, count: int) -> str:
    if not copies.found(text):
        return text
    if origin.endswith(".json"):
        made = json.loads(text)
        _in_json(made, copies, count)
        return json.dumps(made, indent=1)
    if "nft-ruleset" in origin:
        return _in_nft(text, copies, count)
    out = []
    for line in text.splitlines():
        out.append(line)
        if copies.found(line):
            out += [copies.text(line, i) for i in range(count)]
    return "\n".join([*out, ""])


def _in_json(value: object, copies: _Copies, count: int) -> bool:
    """Copies the innermost items of lists that names are in. Whether something was copied."""
    done = False
    if isinstance(value, dict):
        if value.get("kind") in ("Service", "Pod", "EndpointSlice", "Node"):
            return False
        for each in value.values():
            done = _in_json(each, copies, count) or done
    elif isinstance(value, list):
        for each in list(value):
            inner = _in_json(each, copies, count)
            done = done or inner
            if not inner and isinstance(each, dict) and each.get("kind") != "Node":
                text = json.dumps(each)
                if copies.found(text):
                    value += [json.loads(copies.text(text, i)) for i in range(count)]
                    done = True
    return done


def _in_nft(text: str, copies: _Copies, count: int) -> str:
    def elements(found: re.Match[str]) -> str:
        items = [item.strip() for item in found[1].split(",")]
        more = [copies.text(item, i) for item in items if copies.found(item) for i in range(count)]
        return "elements = { " + ",\n\t\t\t     ".join([*items, *more]) + " }"

    out = []
    for block in re.split(r"(?m)(?<=^\t\}\n)", re.sub(r"elements = \{ ([^{}]*) \}", elements, text)):
        out.append(block)
        head = re.search(r"(?m)^\t(?:chain|set|map) (\S+) \{", block)
        if head is not None and _NAMED.match(head[1]) and copies.found(head[1]):
            body = block[head.start() :]
            out += [copies.text(body, i) for i in range(count)]
    return "".join(out)


# ---------------------------------------------------------------- broken at random


def broken(
    texts: dict[str, tuple[str, str | None]], rng: random.Random, changes: int
) -> dict[str, tuple[str, str | None]]:
    """The texts with lines of the nodes' dumps lost, doubled, changed and put in at random."""
    ground = Ground.of(world(texts))
    ips = [str(d.ip) for port in ground.ports for d in port.dialled if d.ip is not None]
    ips += [str(place.ip) for port in ground.ports for place in port.endpoints]
    ports = [d.port for port in ground.ports for d in port.dialled if d.ip is None] or [30000]
    for _ in range(changes):
        origin = rng.choice(
            [name for name in texts if re.search(r"tables-save|nft-ruleset|ipset|ipvsadm|sysctl|listening", name)]
        )
        text, node = texts[origin]
        lines = text.splitlines()
        if "nft-ruleset" in origin:
            _break_nft(lines, rng, ips, ports)
        elif "tables-save" in origin:
            own = [ip for ip in ips if (":" in ip) == ("ip6" in origin)]
            if own:
                _break_iptables(lines, rng, own, ports, six="ip6" in origin)
        else:
            _break_lines(lines, rng)
        texts = {**texts, origin: ("\n".join([*lines, ""]), node)}
    return texts


def _break_lines(lines: list[str], rng: random.Random) -> None:
    place = rng.randrange(len(lines)) if lines else 0
    if lines and not lines[place].startswith(("create ", "-A ")):
        if " = " in lines[place]:
            lines[place] = re.sub(r"\d+$", lambda m: str(1 - min(int(m[0]), 1)), lines[place])
        else:
            del lines[place]


def _break_iptables(lines: list[str], rng: random.Random, ips: list[str], ports: list[int], *, six: bool) -> None:
    rules = [i for i, line in enumerate(lines) if line.startswith("-A ")]
    if not rules:
        return
    place = rng.choice(rules)
    chain = lines[place].split()[1]
    ip, port = rng.choice(ips), rng.choice(ports)
    host, some = ("128", "::/0") if six else ("32", "10.0.0.0/8")
    net = ip_network(f"{ip}/{rng.choice((112, 120, 124) if six else (24, 28, 31))}", strict=False)
    match = rng.choice((
        f"-d {ip}/{host}", f"-s {ip}/{host}", f"! -d {ip}/{host}", f"! -s {ip}/{host}", f"-d {net}", f"-s {net}",
        f"-p tcp -m tcp --dport {port}", f"-p tcp -m tcp ! --dport {port}", f"-p tcp -m multiport --dports {port},80",
        f"-p tcp -m tcp --dport {port - 3}:{port + 3}", f"-s {some}", "-m mark --mark 0x4000/0x4000",
        "-m statistic --mode random --probability 0.5", f"-d {ip}/{host} -p tcp -m tcp --dport 80",
        f"-m conntrack --ctorigdst {ip}",
    ))  # fmt: skip
    target = rng.choice(("DROP", "REJECT", "ACCEPT", "RETURN", "KUBE-MARK-MASQ", "MARK --set-xmark 0x4000/0x4000"))
    match rng.randrange(7):
        case 0:
            del lines[place]
        case 1:
            lines.insert(place, lines[place])
        case 2:
            other = rng.choice([i for i in rules if lines[i].split()[1] == chain])
            lines[place], lines[other] = lines[other], lines[place]
        case 3:
            lines[place] = lines[place].replace(f"/{host}", "/127" if six else "/31")
        case 4:
            lines[place] = (
                lines[place].replace(":8080", ":8081").replace("-p tcp", "-p udp").replace("-m tcp", "-m udp")
            )
        case _:
            if target == "KUBE-MARK-MASQ" and not any(line.startswith(":KUBE-MARK-MASQ") for line in lines):
                target = "DROP"
            lines.insert(place, f"-A {chain} {match} -j {target}")


def _break_nft(lines: list[str], rng: random.Random, ips: list[str], ports: list[int]) -> None:
    inside, chains, sets = "", [], []
    table = ""
    for i, line in enumerate(lines):
        words = line.split()
        if words[:1] == ["table"]:
            table = words[1]
        if words[:1] in (["chain"], ["set"], ["map"]) and words[-1:] == ["{"]:
            inside = words[0]
        elif words == ["}"]:
            inside = ""
        elif inside == "chain" and not line.strip().startswith(("type ", "comment ")):
            chains.append((i, table))
        elif inside in ("set", "map") and re.search(r"^\s+[0-9a-f]\S+ .*,$|^\s+(tcp|udp) .*,$", line):
            sets.append(i)
    if not chains:
        return
    place, table = rng.choice(chains)
    ips = [each for each in ips if (":" in each) == (table == "ip6")]
    if not ips:
        return
    ip = rng.choice(ips)
    port = rng.choice(ports)
    net = ip_network(f"{ip}/{120 if table == 'ip6' else 28}", strict=False)
    match = rng.choice((
        f"{table} daddr {ip}", f"{table} saddr {ip}", f"{table} daddr != {ip}", f"{table} daddr {net}",
        f"{table} saddr != {net}", f"tcp dport {port}", f"tcp dport != {port}", f"tcp dport {port - 3}-{port + 3}",
        f"{table} daddr {{ {ip}, {rng.choice(ips)} }}",
        f"{table} daddr {ip} tcp dport 80", "meta mark & 0x00004000 == 0x00004000", "ct state new",
    ))  # fmt: skip
    verdict = rng.choice(("drop", "reject", "accept", "return", "meta mark set meta mark | 0x00004000"))
    match rng.randrange(6):
        case 0:
            del lines[place]
        case 1:
            lines.insert(place, lines[place])
        case 2 if sets:
            del lines[rng.choice(sets)]
        case 3:
            lines[place] = lines[place].replace(" 8080", " 8081").replace(":8080", ":8081")
        case _:
            lines.insert(place, f"\t\t{match} {verdict}")


def policed(texts: dict[str, tuple[str, str | None]], rng: random.Random) -> dict[str, tuple[str, str | None]]:
    """The texts with some NetworkPolicies and namespaces put beside them."""
    plain = world(texts)
    apps = sorted({value for pod in plain.cluster.pods for key, value in pod.labels if key == "app"}) or ["web"]
    spaces = sorted({pod.namespace for pod in plain.cluster.pods}) or ["default"]

    def selector() -> dict[str, object]:
        return rng.choice((
            {}, {"matchLabels": {"app": rng.choice(apps)}},
            {"matchExpressions": [{"key": "app", "operator": rng.choice(("In", "NotIn")), "values": rng.sample(apps, 2)}]},
            {"matchExpressions": [{"key": rng.choice(("app", "tier")), "operator": rng.choice(("Exists", "DoesNotExist"))}]},
        ))  # fmt: skip

    def peer() -> dict[str, object]:
        ip = rng.choice([ip for pod in plain.cluster.pods for ip in pod.ips])
        block = ip_network(
            f"{ip}/{rng.choice((16, 24, 28)) if ip.version == 4 else rng.choice((56, 64, 124))}", strict=False
        )
        return rng.choice((
            {"podSelector": selector()}, {"ipBlock": {"cidr": str(block)}}, {"namespaceSelector": {}},
            {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": rng.choice(spaces)}}, "podSelector": selector()},
        ))  # fmt: skip

    items = [
        {
            "kind": "NetworkPolicy", "apiVersion": "networking.k8s.io/v1",
            "metadata": {"namespace": rng.choice(spaces), "name": f"policy-{i}"},
            "spec": {
                "podSelector": selector(), "policyTypes": ["Ingress"],
                "ingress": [{"from": [peer()], "ports": [{"protocol": "TCP", "port": rng.choice((80, 8080, "http"))}]}],
            },
        }
        for i in range(rng.randrange(1, 4))
    ]  # fmt: skip
    named = [
        {"kind": "Namespace", "metadata": {"name": s, "labels": {"kubernetes.io/metadata.name": s}}} for s in spaces
    ]
    return {
        **texts,
        "cluster/networkpolicies.json": (
            json.dumps({"kind": "List", "apiVersion": "v1", "items": items}, indent=1),
            None,
        ),
        "cluster/namespaces.json": (json.dumps({"kind": "List", "apiVersion": "v1", "items": named}, indent=1), None),
    }
