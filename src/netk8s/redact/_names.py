"""Names under a key: which words are everybody's and stay, and what stands in place of the others."""

from __future__ import annotations

import ast
import base64
import re
from functools import cache
from hashlib import blake2b, sha1
from importlib.resources import files
from importlib.resources.abc import Traversable

PIECE = re.compile(r"[\w-]+")

PUBLIC = frozenset(
    """
    default kube-system kube-public kube-node-lease kubernetes kube-dns coredns cluster local svc pod ip6 arpa
    in-addr http https grpc dns dns-tcp tcp udp sctp localhost
    """.split()  # noqa: SIM905 - read as words
)
"""Names that every cluster has, or that say no more than a port number."""

_ALSO = frozenset(
    """
    sec min hour day second minute week ms extern_learn offload sticky self master static vni src_vni via nhid NTF_EXT
    Generated Completed by on at v Mon Tue Wed Thu Fri Sat Sun Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec
    IP LB Mark accepted addresses allow and cluster destination destinations drop endpoints external
    externally-visible firewall for forwarding from has have health check hairpin in is loadbalancer loopback
    masquerade no nodeports not of or pod port ports portals portal requires rule rules service services source
    SNAT DNAT to traffic virtual with kubernetes kube-proxy redirect tcp udp sctp icmp icmpv6 LISTEN UNCONN
    ESTAB ESTABLISHED TIME_WAIT SYN_SENT SYN_RECV FIN_WAIT CLOSE CLOSE_WAIT LAST_ACK ASSURED UNREPLIED OFFLOAD
    DELAY REACHABLE STALE FAILED PERMANENT NOARP PROBE NONE NOTE this must be the last requiring localnet block
    incoming connections INCOMPLETE noqueue mq pfifo_fast fq_codel linux KUBE-PROXY-CANARY KUBE-KUBELET-CANARY
    KUBE-IPTABLES-HINT KUBE-MARK-DROP KUBE-XLB- KUBE-SEP- KUBE-SVC- KUBE-SVL- KUBE-EXT- KUBE-FW- LIBVIRT_INP
    LIBVIRT_OUT LIBVIRT_FWI LIBVIRT_FWO LIBVIRT_FWX LIBVIRT_PRT PREROUTING INPUT FORWARD OUTPUT POSTROUTING
    ACCEPT DROP RETURN QUEUE COMMIT NEW RELATED INVALID UNTRACKED new related established invalid untracked
    expected seen-reply assured confirmed snat dnat dying original reply unicast local broadcast anycast
    multicast blackhole unreachable prohibit throw host other fin syn rst psh ack urg ecn cwr request nop
    echo-request echo-reply destination-unreachable source-quench time-exceeded parameter-problem
    router-solicitation router-advertisement nd-neighbor-solicit nd-neighbor-advert nd-router-solicit
    nd-router-advert nd-redirect packet-too-big mld-listener-query mld-listener-report mld-listener-done
    mld2-listener-report ind-neighbor-solicit ind-neighbor-advert net-unreachable host-unreachable
    prot-unreachable port-unreachable net-prohibited host-prohibited admin-prohibited no-route addr-unreachable
    policy-fail reject-route monday tuesday wednesday thursday friday saturday sunday cs0 cs1 cs2 cs3 cs4 cs5
    cs6 cs7 af11 af12 af13 af21 af22 af23 af31 af32 af33 af41 af42 af43 ef emerg alert crit err warn notice info
    debug audit bypass fanout fully-random persistent random over until burst timeout expires interval constant
    dynamic auto-merge gc-interval size policy performance memory elements flags typeof type counter packets
    bytes quota used limit rate log level group prefix snaplen queue-threshold queue num meta mark set iif oif
    iifname oifname iiftype oiftype skuid skgid nfproto l4proto protocol priority nftrace rtclassid ibrname
    obrname pkttype cpu cgroup length ct state direction status expiration helper l3proto proto-src proto-dst
    zone label fib saddr daddr numgen inc mod offset jhash symhash seed vmap map maxseq optlen socket
    transparent wildcard osf ether vlan arp ip ip6 igmp udplite dccp ah esp comp rt frag hbh dst mh th hook
    prerouting input forward output postrouting ingress egress netdev inet bridge filter nat route raw mangle
    security dstnat srcnat accept reject return jump goto continue notrack dup fwd synproxy tproxy flow offload
    add update delete exists missing xor handle chain table element metainfo nftables version release_name
    json_schema_version never ago iptables-save ip6tables-save iptables-nft-save ip6tables-nft-save
    iptables-legacy-save ip6tables-legacy-save iptables-legacy ip6tables-legacy tables present use see them
    Warning Active IPs ips ClusterIPs LoadBalancerSourceRanges subject Reject Drop unallocated output-pre-dnat
    prerouting-pre-dnat ipv4_addr ipv6_addr inet_service inet_proto ether_addr ifname short-circuit qdisc qlen
    brd forever valid_lft preferred_lft mngtmpaddr tentative deprecated dadfailed allmulti promiscuity minmtu
    maxmtu addrgenmode numtxqueues numrxqueues gso_max_size gso_max_segs tso_max_size tso_max_segs gro_max_size
    gso_ipv4_max_size gro_ipv4_max_size bridge_slave bond_slave forward_delay vlan_protocol group_fwd_mask
    nf_call_arptables nf_call_iptables nf_call_ip6tables bcqueuelen usedbcqueuelen udpcsum noudpcsum
    udp6zerocsumtx udp6zerocsumrx noudp6zerocsumtx noudp6zerocsumrx inherit nopmtudisc pmtudisc ikey okey
    REORDER_HDR miimon NO-CARRIER LOWERLAYERDOWN DOWN M-DOWN BACKUP ACTIVE mii_status link_failure_count
    perm_hwaddr pi vnet_hdr multi_queue numqueues persist locked auto ageing ageing_time mcast_flood root_block
    errors mcast RX TX dropped overrun carrier collsns permanent reachable Address Peer Port Local PortProcess
    Process Netid State Recv-Q Send-Q pid fd ino sk mbytes kbytes CS0 CS1 CS2 CS3 CS4 CS5 CS6 CS7 EF AF11 AF12
    AF13 AF21 AF22 AF23 AF31 AF32 AF33 AF41 AF42 AF43 ip_tables ip6_tables ipt_do_table ip6t_do_table
    iptable_nat iptable_filter iptable_mangle iptable_raw nf_tables nf_defrag_ipv4 nf_defrag_ipv6
    ipv4_conntrack_defrag ipv6_defrag ipv4_conntrack_in ipv4_conntrack_local ipv6_conntrack_in
    ipv6_conntrack_local nf_conntrack nf_confirm nf_nat nf_nat_ipv4_pre_routing nf_nat_ipv4_out
    nf_nat_ipv4_local_fn nf_nat_ipv4_local_in nf_nat_ipv6_in nf_nat_ipv6_out ipv4_pre_routing ipv4_confirm
    ipv6_confirm ip_vs br_netfilter flowtable nf_flow_table selinux_ip_forward apparmor_ip_postroute ufw- ufw6-
    istio-inpod-probes-v4 istio-inpod-probes-v6 IP-MASQ-AGENT DROP-ON ON FROM TO ALLOW MARK CLEAR SET INGRESS
    EGRESS POLICY ufw-before- ufw-after- ufw-reject- ufw-track- ufw-user- ufw-skip- ufw6-before- ufw6-after-
    ufw6-reject- ufw6-track- ufw6-user- ufw6-skip- ts-input ts-forward ts-postrouting CNI-DN- CNI-SN- batadv vti
    vti6 can vcan vxcan hsr geneve bareudp amt rmnet macsec netkit ipoib netdevsim ip6gretap ip6erspan lowpan
    INPUT_direct INPUT_POLICIES_pre INPUT_POLICIES_post FORWARD_direct FORWARD_POLICIES_pre
    FORWARD_POLICIES_post PREROUTING_direct PREROUTING_POLICIES_pre PREROUTING_POLICIES_post POSTROUTING_direct
    POSTROUTING_POLICIES_pre POSTROUTING_POLICIES_post OUTPUT_direct OUTPUT_POLICIES_pre OUTPUT_POLICIES_post
    """.split()  # noqa: SIM905 - read as words
)
_COMMENT = frozenset(
    """
    cluster IP external loadbalancer LB has no local endpoints not accepted destinations traffic for masquerade
    route LOCAL pod health check node port firewall kubernetes service nodeports portals portal rules forwarding
    """.split()  # noqa: SIM905 - read as words
)
"""kube-proxy's own words in comments, which stay also where an object is called so."""

_DEVICE = re.compile(
    r"(?:lo|eth|ens|eno|enp\d+s|enP\d+p\d+s|wlan|wlp\d+s|bond|team|br|cni|docker|cbr|vxlan|flannel|tunl|gre|gretap|erspan|sit|"
    r"ip6tnl|ip6gre|ip_vti|ip6_vti|dummy|nodelocaldns|kube-ipvs|vlan|macvlan|ipvlan|tun|tap|wg|virbr|lxdbr|lxcbr|ipvl|"
    r"vrf|weave|datapath|mynet|kindnet|net|ib|ipvtap|macvtap|ifb|nlmon|teql)\d*(?:np\d+|f\d+|d\d+)*"
)
"""Devices that the kernel, udev or a CNI plugin names by number."""
_HASHED_DEVICE = re.compile(r"(veth|cali|lxc|eni|azv|gke|tap|vethwepl|veth-|vnet|lxc_|enx|nic)([0-9a-f]{5,13})")
_NUMBER = re.compile(
    r"-?\d+(?:-\d+)*|0x[0-9a-fA-F]+|\d+e-?\d+|v\d+(?:(?:alpha|beta)\d+)?|"
    r"\d+(?:ns|us|ms|s|m|h|d|min|sec|second|minute|hour|day|week|k|b|byte|bytes|kbit|mbit|gbit|h\d+m\d+s|m\d+s|d\d+h\d+m\d+s)"
)
_CALICO_SET = re.compile(r"cali[46][0t][a-z-]*")
_BASE32 = re.compile(r"[A-Z2-7]{16}")
_HEX = re.compile(r"[0-9a-f]{8,}")


@cache
def known() -> frozenset[str]:
    """The words of the project's own decoders, kernel modules and dialects.

    What they know is public: options, targets, keywords, names of chains. What none of them knows means nothing to
    an answer, so it can be replaced. Docstrings are not among them.
    """
    words: set[str] = set(_ALSO) | PUBLIC
    for part in ("decode", "kernel", "dialects", "collect", "live"):
        for source in _sources(files("netk8s") / part):
            words |= _literals(source)
    return frozenset(word for word in words if not _NUMBER.fullmatch(word))


def _sources(folder: Traversable) -> list[str]:
    out = []
    for entry in folder.iterdir():
        if entry.is_dir():
            out += _sources(entry)
        elif entry.name.endswith(".py"):
            out.append(entry.read_text(encoding="utf-8"))
    return out


def _literals(source: str) -> set[str]:
    tree = ast.parse(source)
    said = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes) and id(node) not in said:
            text = node.value if isinstance(node.value, str) else node.value.decode("latin-1")
            found.update(PIECE.findall(text))
    return found


@cache
def _prefixes() -> frozenset[str]:
    """How names of chains and sets begin that have a part of somebody's behind it."""
    return frozenset(word for word in known() if word[-1] in "-_" and len(word) >= 4 and word[0].isalpha())


@cache
def _parts() -> frozenset[str]:
    """The words that chains of kube-proxy and CNI plugins are called by, which join them by hyphens."""
    return frozenset(part for word in known() if word == word.upper() for part in re.split("[-_]", word))


class Names:
    """The names of one redaction; ``devices`` are the names of devices that the texts mention."""

    def __init__(self, key: bytes, devices: frozenset[str]) -> None:
        self._key, self._devices = key, devices
        self.changed: dict[str, str] = {}
        self.hashes: dict[str, str] = {}
        """Hashes of names within names, and those of the new names."""
        self._pods: dict[str, str] = {}
        self._words: dict[str, str] = {}
        self._named: dict[str, str] = {}

    # ---------------------------------------------------------------- in place of a name

    def name(self, text: str) -> str:
        """A word where a name stands: of an object, a node, a label."""
        if text in PUBLIC or not any(c.isalpha() for c in text):
            return text
        if text in self._devices and _device(text):
            return text
        found = self._named.get(text)
        if found is None:
            found = self._named[text] = self._other(text)
        return found

    def word(self, text: str) -> str:
        """A word of a tool's output: its own words, numbers and options stay."""
        found = self._words.get(text)
        if found is None:
            found = self._words[text] = self._word(text)
        return found

    def said(self, text: str) -> str:
        """A word of a comment, which stays if it is everybody's and no object has it for a name."""
        if text[0] == "-" and text.strip("-"):
            bare = text.lstrip("-")
            return text[: -len(bare)] + self.said(bare)
        if text in _COMMENT or text not in self.changed:
            return self.word(text)
        return self.changed[text]

    def _word(self, text: str) -> str:
        if not any(c.isalpha() for c in text) or _NUMBER.fullmatch(text) or text in known() or text.startswith("--"):
            return text
        if _device(text) or _CALICO_SET.fullmatch(text):
            return text
        if all(p in _parts() or _NUMBER.fullmatch(p) for p in re.split("[-_]", text)):
            return text
        found = _HASHED_DEVICE.fullmatch(text)
        if found:
            return self._changed(text, found[1] + self._hex(found[2]))
        if text[0] == "-":
            # An option of one letter; anything else is a word that happens to stand behind a hyphen.
            return text if len(text) <= 2 else f"-{self.word(text[1:])}"
        if text in self.hashes:
            return self.hashes[text]
        if text in self._devices:
            return self._changed(text, self._alike(text))
        cut = max((n for n in range(4, len(text)) if text[:n] in _prefixes()), default=0)
        if cut:
            return text[:cut] + self.word(text[cut:])
        if _BASE32.fullmatch(text):
            return self._changed(text, base64.b32encode(self._digest(text, 10)).decode())
        if _HEX.fullmatch(text):
            return self._changed(text, self._hex(text))
        return self._other(text)

    def _other(self, text: str) -> str:
        if text in self._devices:
            return self._changed(text, self._alike(text))
        letters = base64.b32encode(self._digest(text if text != text.upper() else text.lower(), 5)).decode()
        return self._changed(text, f"X{letters}" if text == text.upper() else f"x{letters.lower()}")

    def _changed(self, text: str, new: str) -> str:
        self.changed[text] = new
        return new

    # ---------------------------------------------------------------- hashes and devices

    def pod(self, namespace: str, name: str) -> None:
        """A pod: devices may be named after it (dialects.pod_devices)."""
        for more in ("", ".1", ".2", ".3"):
            old = sha1(f"{namespace}.{name}{more}".encode(), usedforsecurity=False).hexdigest()
            new = f"{self.name(namespace)}.{self.name(name)}{more}"
            self._pods[old[:11]] = sha1(new.encode(), usedforsecurity=False).hexdigest()[:11]

    def _hex(self, text: str) -> str:
        return self._pods.get(text) or self._digest(text, (len(text) + 1) // 2).hex()[: len(text)]

    def _alike(self, text: str) -> str:
        """A device's name, letter by letter by what stands before it: ``+`` and ``*`` match what they matched."""
        out = []
        for i, char in enumerate(text):
            if char.isascii() and char.isalpha():
                base = ord("a") if char.islower() else ord("A")
                char = chr((ord(char) - base + self._digest(text[:i], 1, b"device")[0]) % 26 + base)
            out.append(char if char.isascii() else "u")
        return "".join(out)

    def _digest(self, text: str, size: int, what: bytes = b"name") -> bytes:
        data = text.encode("utf-8", "surrogatepass")
        # A long name (a label's value, a container's hash) has more bytes than one digest.
        return blake2b(data, key=self._key, digest_size=min(size, 64), person=what).digest().ljust(size, b"\0")


def _device(text: str) -> bool:
    return _DEVICE.fullmatch(text) is not None
