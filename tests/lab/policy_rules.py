"""What kube-router's policy controller and calico's felix write for NetworkPolicies, for one node of a lab cluster.

Not copies of them: IPv4, the fields that the tests use. The layouts are those of public records and sources:

- kube-router 2.x as k3s has it: chains, marks, comments and their order as in k3s-io/k3s issue 3373 and in records of
  k3s nodes since; ipsets of pods, and of ipBlocks with ``nomatch`` for what is excepted, as in
  cloudnativelabs/kube-router pkg/controllers/netpol/policy.go.
- calico 3.2x: dispatch, endpoint, policy and profile chains as in projectcalico/calico issue 9290,
  projectcalico/kube-controllers issue 198 and felix/rules (endpoints.go, dispatch.go, policy.go, static.go, nat.go).
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .topology import NodeSpec, PodSpec, Topology

Manifest = Mapping[str, Any]
Ports = tuple[tuple[str, str], ...] | None
"""(protocol, "80" or "80:90") of a rule, None for every port."""


@dataclass(frozen=True, slots=True)
class Who:
    """The other end of a rule: pods' addresses, blocks with what is excepted, or anybody."""

    pods: tuple[str, ...] = ()
    blocks: tuple[tuple[str, tuple[str, ...]], ...] = ()
    anybody: bool = False


def fits(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    return all(labels.get(k) == v for k, v in selector.get("matchLabels", {}).items())


def chosen(topology: Topology, policy: Manifest) -> list[PodSpec]:
    namespace = policy["metadata"]["namespace"]
    selector = policy["spec"]["podSelector"]
    return [p for p in topology.pods if p.namespace == namespace and fits(selector, p.labels) and not p.host_network]


def isolates(policy: Manifest, direction: str) -> bool:
    return direction.capitalize() in policy["spec"]["policyTypes"]


def rules(topology: Topology, policy: Manifest, direction: str) -> Iterator[tuple[Who, Ports]]:
    peers = "from" if direction == "ingress" else "to"
    for rule in policy["spec"].get(direction, ()):
        pods: list[str] = []
        blocks = []
        for peer in rule.get(peers, ()):
            if "ipBlock" in peer:
                blocks.append((peer["ipBlock"]["cidr"], tuple(peer["ipBlock"].get("except", ()))))
                continue
            for pod in topology.pods:
                space = {"kubernetes.io/metadata.name": pod.namespace}
                same = pod.namespace == policy["metadata"]["namespace"]
                there = fits(peer["namespaceSelector"], space) if "namespaceSelector" in peer else same
                if there and fits(peer.get("podSelector", {}), pod.labels) and not pod.host_network:
                    pods.append(pod.ips[0])
        ports: Ports = None
        if rule.get("ports"):
            ports = tuple((port.get("protocol", "TCP").lower(), _range(port)) for port in rule["ports"])
        yield Who(tuple(dict.fromkeys(pods)), tuple(dict.fromkeys(blocks)), not rule.get(peers)), ports


def _range(port: Mapping[str, Any]) -> str:
    first, last = port.get("port", ""), port.get("endPort", port.get("port", ""))
    return str(first) if first == last else f"{first}:{last}"


def _base32(text: str) -> str:
    return base64.b32encode(hashlib.sha256(text.encode()).digest())[:16].decode()


# ---------------------------------------------------------------- kube-router


def kube_router(topology: Topology, node: NodeSpec, policies: Sequence[Manifest]) -> tuple[str, str]:
    """(ipset restore text, iptables-restore text of filter without flushing) of a node."""
    sets: list[str] = []
    chains = ["KUBE-ROUTER-INPUT", "KUBE-ROUTER-FORWARD", "KUBE-ROUTER-OUTPUT", "KUBE-NWPLCY-DEFAULT"]
    body = ['-A KUBE-NWPLCY-DEFAULT -m comment --comment "rule to mark traffic matching a network policy" '
            "-j MARK --set-xmark 0x10000/0x10000"]  # fmt: skip

    def ipset(name: str, kind: str, entries: Sequence[str]) -> str:
        sets.append(f"create {name} {kind} family inet hashsize 1024 maxelem 65536 timeout 0")
        sets.extend(f"add {name} {entry}" for entry in entries)
        return name

    for policy in policies:
        key = "{namespace}{name}".format(**policy["metadata"])
        chain = "KUBE-NWPLCY-" + _base32(key)
        chains.append(chain)
        mine = [pod.ips[0] for pod in chosen(topology, policy)]
        for direction, own, other in (("ingress", "DST", "SRC"), ("egress", "SRC", "DST")):
            if not isolates(policy, direction):
                continue
            # Two sets of a policy have one hash, and the kind of set before it.
            selected = ipset(f"KUBE-{own}-{_base32(key)}", "hash:ip", [f"{ip} timeout 0" for ip in mine])
            for number, (who, ports) in enumerate(rules(topology, policy, direction)):
                peers = []
                if who.anybody:
                    peers.append("")
                if who.pods:
                    name = f"KUBE-{other}-{_base32(f'{key}{direction}rule{number}pod')}"
                    peers.append(ipset(name, "hash:ip", [f"{ip} timeout 0" for ip in who.pods]))
                if who.blocks:
                    entries = [f"{cidr} timeout 0" for cidr, _ in who.blocks]
                    entries += [f"{part} timeout 0 nomatch" for _, parts in who.blocks for part in parts]
                    name = f"KUBE-{other}-{_base32(f'{key}{direction}rule{number}ipblock')}"
                    peers.append(ipset(name, "hash:net", entries))
                for peer in peers:
                    src, dst = (peer, selected) if direction == "ingress" else (selected, peer)
                    for protocol, port in ports or (("", ""),):
                        words = f"-A {chain}"
                        words += f" -m set --match-set {src} src" if src else ""
                        words += f" -m set --match-set {dst} dst" if dst else ""
                        words += f" -p {protocol}" if protocol else ""
                        words += f" -m {protocol} --dport {port}" if port else ""
                        why = "rule to ACCEPT traffic from source pods to dest pods selected by policy name {name} " \
                              "namespace {namespace}".format(**policy["metadata"])  # fmt: skip
                        body.append(f'{words} -m comment --comment "{why}" -j MARK --set-xmark 0x10000/0x10000')
                        body.append(f'{words} -m comment --comment "{why}" -m mark --mark 0x10000/0x10000 -j RETURN')
    top: dict[str, list[str]] = {"INPUT": [], "FORWARD": [], "OUTPUT": []}
    for pod in topology.pods:
        if pod.node != node.name or pod.host_network:
            continue
        chain = f"KUBE-POD-FW-{_base32(pod.namespace + pod.name)}"
        chains.append(chain)
        body += _pod_chain(topology, pod, chain, policies)
        where = f"POD name:{pod.name} namespace: {pod.namespace} to chain {chain}"
        into = f'-d {pod.ips[0]}/32 -m comment --comment "rule to jump traffic destined to {where}"'
        out = f'-s {pod.ips[0]}/32 -m comment --comment "rule to jump traffic from {where}"'
        bridged = "-m physdev --physdev-is-bridged"
        top["FORWARD"] += [f"{words} {more} -j {chain}" for words in (into, out) for more in ("", bridged)]
        top["OUTPUT"] += [f"{into} -j {chain}", f"{out} -j {chain}"]
        top["INPUT"].append(f"{out} -j {chain}")
    hooks = {"INPUT": "4IA2OSFRMVNDXBVV", "FORWARD": "TEMCG2JMHZYE7H7T", "OUTPUT": "VEAAIY32XVBHCSCY"}
    tail = [
        f'-A {hook} -m comment --comment "KUBE-ROUTER rule to explicitly ACCEPT traffic that comply to network policies" '
        "-m mark --mark 0x20000/0x20000 -j ACCEPT"
        for hook in hooks
    ]
    lines = ["*filter", *(f":{chain} - [0:0]" for chain in chains)]
    lines += [
        f'-I {hook} 1 -m comment --comment "kube-router netpol - {uuid}" -j KUBE-ROUTER-{hook}'
        for hook, uuid in hooks.items()
    ]
    lines += [f"-A KUBE-ROUTER-{hook} {words}" for hook, found in top.items() for words in found]
    return "\n".join(sets) + "\n", "\n".join([*lines, *body, *tail, "COMMIT"]) + "\n"


def _pod_chain(topology: Topology, pod: PodSpec, chain: str, policies: Sequence[Manifest]) -> list[str]:
    ip, comment = pod.ips[0], "-m comment --comment"
    local = "rule to permit the traffic traffic to pods when source is the pod's local node"
    whose = f"POD name:{pod.name} namespace: {pod.namespace}"
    body = [
        f'-A {chain} {comment} "rule for stateful firewall for pod" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT',
        f'-A {chain} {comment} "rule to drop invalid state for pod" -m conntrack --ctstate INVALID -j DROP',
        f'-A {chain} -d {ip}/32 {comment} "{local}" -m addrtype --src-type LOCAL -j ACCEPT',
    ]
    for direction, end in (("egress", "s"), ("ingress", "d")):
        found = [p for p in policies if isolates(p, direction) and pod in chosen(topology, p)]
        for policy in found:
            to = "KUBE-NWPLCY-" + _base32("{namespace}{name}".format(**policy["metadata"]))
            body.append(
                f'-A {chain} -{end} {ip}/32 {comment} "run through nw policy {policy["metadata"]["name"]}" -j {to}'
            )
        if not found:
            body.append(
                f'-A {chain} -{end} {ip}/32 {comment} "run through default {direction} network policy chain" '
                "-j KUBE-NWPLCY-DEFAULT"
            )
    unmarked = "-m mark ! --mark 0x10000/0x10000"
    return [
        *body,
        f'-A {chain} {comment} "rule to log dropped traffic {whose}" {unmarked} -m limit --limit 10/min --limit-burst 10 '
        "-j NFLOG --nflog-group 100",
        f'-A {chain} {comment} "rule to REJECT traffic destined for {whose}" {unmarked} '
        "-j REJECT --reject-with icmp-port-unreachable",
        f"-A {chain} -j MARK --set-xmark 0x0/0x10000",
        f'-A {chain} {comment} "set mark to ACCEPT traffic that comply to network policies" '
        "-j MARK --set-xmark 0x20000/0x20000",
    ]


# ---------------------------------------------------------------- calico

ACCEPT, PASS = "0x10000/0x10000", "0x20000/0x20000"


def _limited(prefix: str, name: str) -> str:
    if len(prefix + name) <= 28:
        return prefix + name
    digest = base64.urlsafe_b64encode(hashlib.sha256(name.encode()).digest()).decode()
    return f"{prefix}_{digest}"[:28]


def _policy_chain(policy: Manifest, direction: str) -> str:
    return _limited(
        f"cali-p{direction[0].replace('e', 'o')}-", "{namespace}/knp.default.{name}".format(**policy["metadata"])
    )


def calico(topology: Topology, node: NodeSpec, policies: Sequence[Manifest]) -> tuple[str, str]:
    """(ipset restore text, iptables-restore text without flushing) of a node. ipBlocks without exceptions only."""
    pools = "\n".join(f"add {name} {cidr}" for name in ("cali40all-ipam-pools", "cali40masq-ipam-pools")
                      for cidr in topology.cluster_cidrs if "." in cidr)  # fmt: skip
    sets = [f"create {name} hash:net family inet" for name in ("cali40all-ipam-pools", "cali40masq-ipam-pools")]
    sets.append(pools)
    chains: list[str] = [
        f"cali-{name}" for name in (
            "INPUT", "FORWARD", "OUTPUT", "wl-to-host", "from-wl-dispatch", "to-wl-dispatch", "from-hep-forward",
            "to-hep-forward", "cidr-block", "from-host-endpoint", "to-host-endpoint",
        )
    ]  # fmt: skip
    body: list[str] = []

    def add(chain: str, words: str, *said: str) -> None:
        if chain not in chains:
            chains.append(chain)
        match, _, action = words.partition("-j " if "-j " in words else "-g ")
        verb = "-j" if "-j " in words else "-g"
        tag = base64.urlsafe_b64encode(hashlib.sha256(f"{chain}{words}{len(body)}".encode()).digest())[:16].decode()
        comments = "".join(f'-m comment --comment "{text}" ' for text in (f"cali:{tag}", *said))
        devices = "-i ", "-o ", "-s ", "-d ", "-p "
        # iptables-save has the options of the headers first and comments before other matches.
        own, rest = ("", match) if not match.startswith(devices) else _split(match)
        body.append(f"-A {chain} {own}{comments}{rest}{verb} {action}".replace("  ", " "))

    add("cali-FORWARD", "-j MARK --set-xmark 0x0/0xe0000")
    add("cali-FORWARD", "-m mark --mark 0x0/0x10000 -j cali-from-hep-forward")
    add("cali-FORWARD", "-i cali+ -j cali-from-wl-dispatch")
    add("cali-FORWARD", "-o cali+ -j cali-to-wl-dispatch")
    add("cali-FORWARD", "-j cali-to-hep-forward")
    add("cali-FORWARD", "-j cali-cidr-block")
    add("cali-INPUT", "-i cali+ -g cali-wl-to-host")
    add("cali-INPUT", f"-m mark --mark {ACCEPT} -j ACCEPT")
    add("cali-INPUT", "-j MARK --set-xmark 0x0/0xf0000")
    add("cali-INPUT", "-j cali-from-host-endpoint")
    add("cali-INPUT", f"-m mark --mark {ACCEPT} -j ACCEPT", "Host endpoint policy accepted packet.")
    add("cali-OUTPUT", f"-m mark --mark {ACCEPT} -j ACCEPT")
    add("cali-OUTPUT", "-o cali+ -j RETURN")
    add("cali-OUTPUT", "-j MARK --set-xmark 0x0/0xf0000")
    add("cali-OUTPUT", "-m conntrack ! --ctstate DNAT -j cali-to-host-endpoint")
    add("cali-OUTPUT", f"-m mark --mark {ACCEPT} -j ACCEPT", "Host endpoint policy accepted packet.")
    add("cali-wl-to-host", "-j cali-from-wl-dispatch")
    add("cali-wl-to-host", "-j ACCEPT", "Configured DefaultEndpointToHostAction")
    own = [pod for pod in topology.pods if pod.node == node.name and not pod.host_network]
    for way, end, prefix, flag in (("from", "fw", "o", "i"), ("to", "tw", "i", "o")):
        direction = "egress" if end == "fw" else "ingress"
        for pod in own:
            device = pod.calico_device
            add(f"cali-{way}-wl-dispatch", f"-{flag} {device} -g cali-{end}-{device}")
        add(f"cali-{way}-wl-dispatch", "-j DROP", "Unknown interface")
        for pod in own:
            chain = f"cali-{end}-{pod.calico_device}"
            add(chain, "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT")
            add(chain, "-m conntrack --ctstate INVALID -j DROP")
            add(chain, "-j MARK --set-xmark 0x0/0x10000")
            asked = [p for p in policies if isolates(p, direction) and pod in chosen(topology, p)]
            if asked:
                add(chain, "-j MARK --set-xmark 0x0/0x20000", "Start of policies")
                for policy in asked:
                    add(chain, f"-m mark --mark 0x0/0x20000 -j {_policy_chain(policy, direction)}")
                    add(chain, f"-m mark --mark {ACCEPT} -j RETURN", "Return if policy accepted")
                add(chain, "-m mark --mark 0x0/0x20000 -j DROP", "Drop if no policies passed packet")
            profile = f"cali-pr{prefix}-kns.{pod.namespace}"
            add(chain, f"-j {profile}")
            add(chain, f"-m mark --mark {ACCEPT} -j RETURN", "Return if profile accepted")
            add(chain, "-j DROP", "Drop if no profiles matched")
            if profile not in chains:
                add(profile, f"-j MARK --set-xmark {ACCEPT}", f"Profile kns.{pod.namespace} {direction}")
                add(profile, f"-m mark --mark {ACCEPT} -j RETURN")
        for policy in policies:
            if isolates(policy, direction):
                _calico_policy(topology, policy, direction, add, chains, sets)
    hooks = ("INPUT", "FORWARD", "OUTPUT")
    lines = ["*filter", *(f":{chain} - [0:0]" for chain in chains)]
    lines += [f'-I {hook} 1 -m comment --comment "cali:{_base32(hook)}" -j cali-{hook}' for hook in hooks]
    lines += body
    accepted = "Policy explicitly accepted packet."
    lines.append(f'-A FORWARD -m comment --comment "cali:S93hcgKJrXEqnTfs" -m comment --comment "{accepted}" '
                 f"-m mark --mark {ACCEPT} -j ACCEPT")  # fmt: skip
    lines.append(f'-A FORWARD -m comment --comment "cali:mp77cMpurHhyjLrM" -j MARK --set-xmark {ACCEPT}')
    lines += [
        "COMMIT", "*nat", ":cali-POSTROUTING - [0:0]", ":cali-nat-outgoing - [0:0]",
        '-I POSTROUTING 1 -m comment --comment "cali:O3lYWMrLQYEMJtB5" -j cali-POSTROUTING',
        '-A cali-POSTROUTING -m comment --comment "cali:nYKhEzDlr11Jccal" -j cali-nat-outgoing',
        '-A cali-nat-outgoing -m comment --comment "cali:flqWnvo8yq4ULQLa" -m set --match-set cali40masq-ipam-pools src '
        "-m set ! --match-set cali40all-ipam-pools dst -j MASQUERADE --random-fully", "COMMIT",
    ]  # fmt: skip
    return "\n".join(sets) + "\n", "\n".join(lines) + "\n"


def _split(match: str) -> tuple[str, str]:
    """The leading options of the headers, and the matches."""
    words = match.split(" ")
    n = 0
    while n < len(words) and words[n] in ("-i", "-o", "-s", "-d", "-p"):
        n += 2
    return " ".join(words[:n]) + " ", " ".join(words[n:])


def _calico_policy(
    topology: Topology, policy: Manifest, direction: str, add: Any, chains: list[str], sets: list[str]
) -> None:
    chain = _policy_chain(policy, direction)
    if chain not in chains:
        chains.append(chain)
    said = "Policy {namespace}/knp.default.{name} ".format(**policy["metadata"]) + direction
    side, flag = ("src", "s") if direction == "ingress" else ("dst", "d")
    for number, (who, ports) in enumerate(rules(topology, policy, direction)):
        peers = [f"-{flag} {cidr} " for cidr, _ in who.blocks] + ([""] if who.anybody else [])
        matches = ["" for _ in peers]
        if who.pods:
            name = "cali40s:" + _base32(f"{chain}{number}") + "aaaaaaa"
            sets.append(f"create {name} hash:net family inet")
            sets.extend(f"add {name} {ip}" for ip in who.pods)
            peers.append("")
            matches.append(f"-m set --match-set {name} {side} ")
        for peer, match in zip(peers, matches, strict=True):
            for protocol, port in ports or (("", ""),):
                words = f"{peer}{f'-p {protocol} ' if protocol else ''}{match}"
                words += f"-m multiport --dports {port} " if port else ""
                add(chain, f"{words}-j MARK --set-xmark {ACCEPT}", said)
                add(chain, f"-m mark --mark {ACCEPT} -j RETURN")
