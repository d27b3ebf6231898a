"""What is run inside user-mode Linux for :mod:`.test_readers`: the kernel's state by the tools and by the netlink readers."""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

SCHEDULERS = ("rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "mh", "sed", "nq", "fo", "ovf")
TABLES, SETS = 8, 16


def run(*argv: str, stdin: str = "") -> str:
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(argv)}: {done.stderr.strip()[:400]}")
    return done.stdout


def _kept(folder: Path, name: str, tool: str, netlink: bytes) -> None:
    (folder / f"{name}.tool").write_text(tool)
    (folder / f"{name}.netlink").write_bytes(netlink)


# ---------------------------------------------------------------- IPVS


def ipvs(folder: Path, seed: int) -> dict[str, Any]:
    """Random tables of virtual servers."""
    from netk8s.collect import ipvs as reader

    dice = random.Random(seed)  # noqa: S311 (tests)
    run("ipvsadm", "-C")  # loads the module
    for number in range(TABLES):
        run("ipvsadm", "-R", stdin="".join(f"{line}\n" for line in _virtual_servers(dice, number)))
        _kept(folder, f"ipvs-{number}", run("ipvsadm", "-Sn"), reader.saved())
        _kept(folder, f"list-{number}", run("ipvsadm", "-Ln"), reader.listed())
        run("ipvsadm", "-C")
    _kept(folder, "list-empty", run("ipvsadm", "-Ln"), reader.listed())
    return {"tables": TABLES}


def _virtual_servers(dice: random.Random, number: int) -> Iterator[str]:
    for place in range(dice.randint(5, 9)):
        # Every scheduler has its turn, whatever the dice say.
        scheduler = SCHEDULERS[(number * 5 + place) % len(SCHEDULERS)]
        six = dice.random() < 0.4
        kind = dice.choice(("-t", "-t", "-u", "--sctp-service", "-f"))
        address = f"[fd00:96::{place + 1:x}]" if six else f"10.96.{number}.{place + 1}"
        name = f"-f {place + 1}{' -6' if six else ''}" if kind == "-f" else f"{kind} {address}:{dice.randint(1, 65535)}"
        words = [f"-A {name} -s {scheduler}"]
        if scheduler in ("sh", "mh"):
            flags = [f"{scheduler}-{word}" for word in ("fallback", "port") if dice.random() < 0.5]
        else:
            flags = [f"flag-{bit}" for bit in (1, 2, 3) if dice.random() < 0.2]
        words += [f"-b {','.join(flags)}"] if flags else []
        if dice.random() < 0.4:
            words.append(f"-p {dice.choice((1, 300, 10800))}")
            if dice.random() < 0.5:
                words.append(f"-M {dice.randint(1, 128) if six else dice.choice(('255.255.255.0', '255.0.0.0'))}")
        if kind == "-u" and dice.random() < 0.4:
            words.append("-o")
        yield " ".join(words)
        for real in range(dice.randint(0, 4)):
            host = f"[fd00:244::{place}:{real + 1:x}]" if six else f"10.244.{place}.{real + 1}"
            port = 0 if kind == "-f" else dice.randint(1, 65535)
            method = dice.choice(("-m", "-m", "-g", "-i"))
            yield f"-a {name} -r {host}:{port} {method} -w {dice.choice((0, 1, 5, 65535))}"


def ipvs_changes(folder: Path) -> list[tuple[str, list[str]]]:
    """What is noticed of changes of IPVS, one after the other."""
    from netk8s.collect import watch

    found = []
    # The module is there from the first call on.
    for argv in ("-C", "-A -t 10.96.0.1:80 -s rr", "-a -t 10.96.0.1:80 -r 10.244.1.1:8080 -m"):
        run("ipvsadm", *argv.split())
    run("ip", "link", "set", "lo", "up")
    with watch.Watch(leave_out=("connections",)) as watched:
        for change in IPVS_CHANGES:
            run("sh", "-c", change)
            found.append((change, sorted(watched.changed())))
    run("ipvsadm", "-C")
    return found


IPVS_CHANGES = (
    "true",
    "ipvsadm -A -u 10.96.0.2:53 -s rr",
    "ipvsadm -E -t 10.96.0.1:80 -s sh",
    "ipvsadm -E -t 10.96.0.1:80 -s sh -b sh-port",
    "ipvsadm -E -t 10.96.0.1:80 -s sh -b sh-port -p 300",
    "ipvsadm -a -t 10.96.0.1:80 -r 10.244.1.2:8080 -m -w 1",
    "ipvsadm -e -t 10.96.0.1:80 -r 10.244.1.2:8080 -m -w 0",
    "ipvsadm -e -t 10.96.0.1:80 -r 10.244.1.2:8080 -m -w 0 -x 9 -y 3",
    "ipvsadm -d -t 10.96.0.1:80 -r 10.244.1.2:8080",
    "ipvsadm -D -u 10.96.0.2:53",
    "ipvsadm -Z",
    "sysctl -qw net.ipv4.vs.conn_reuse_mode=0",
    "ip link add d0 type dummy",
)


# ---------------------------------------------------------------- ipsets


def ipsets(folder: Path, seed: int) -> dict[str, Any]:
    """Random sets of every type that this kernel has."""
    from netk8s.collect import ipsets as reader

    dice = random.Random(seed)  # noqa: S311 (tests)
    for number in range(SETS):
        run("ipset", "restore", "-exist", stdin="".join(f"{line}\n" for line in _sets(dice, number)))
        _kept(folder, f"ipset-{number}", run("ipset", "save"), reader.saved())
        # A set that is in a list:set is in use, and cannot be destroyed before it is taken out of it.
        run("ipset", "flush")
        run("ipset", "destroy")
    return {"sets": SETS}


def _sets(dice: random.Random, number: int) -> Iterator[str]:
    for place in range(4):
        kind = list(TYPES)[(number * 4 + place) % len(TYPES)]
        six = kind.startswith("hash:") and kind != "hash:mac" and dice.random() < 0.3
        name = f"s{place}"
        words = [f"create {name} {kind}"]
        words += [TYPES[kind][0]] if TYPES[kind][0] else []
        words += ["family inet6"] if six else []
        kept = {word: dice.random() < 0.3 for word in ("timeout", "counters", "comment", "skbinfo")}
        if kind == "list:set":
            kept["skbinfo"] = False
        # A time that runs out between two readings would be a difference that is none.
        words += [f"{word}{' 0' if word == 'timeout' else ''}" for word, on in kept.items() if on]
        yield " ".join(words)
        for entry in dict.fromkeys(TYPES[kind][1](dice, six) for _ in range(dice.randint(0, 12))):
            more = ""
            if kept["counters"] and dice.random() < 0.5:
                more += f" packets {dice.randint(0, 9)} bytes {dice.randint(0, 999)}"
            if kept["comment"] and dice.random() < 0.5:
                more += ' comment "a word, and another"'
            if kept["skbinfo"] and dice.random() < 0.5:
                more += f" skbmark 0x{dice.randint(1, 255):x}/0xff skbprio 1:{dice.randint(1, 9)} skbqueue {dice.randint(1, 9)}"
            if "net" in kind and dice.random() < 0.2:
                more += " nomatch"
            yield f"add {name} {entry}{more}"


def _ip(dice: random.Random, six: bool) -> str:
    return f"fd00::{dice.randint(1, 0xFFFF):x}" if six else f"10.0.{dice.randint(0, 3)}.{dice.randint(1, 254)}"


def _net(dice: random.Random, six: bool) -> str:
    if six:
        return f"fd00:{dice.randint(1, 9)}::/{dice.choice((32, 48, 64, 128))}"
    return f"10.{dice.randint(0, 255)}.0.0/{dice.choice((16, 17, 24, 31, 32))}"


def _port(dice: random.Random, six: bool) -> str:
    protocol = dice.choice(("tcp", "udp", "sctp", "udplite"))
    icmp = "ipv6-icmp:200/3" if six else "icmp:200/3"
    return icmp if dice.random() < 0.1 else f"{protocol}:{dice.randint(0, 65535)}"


def _mac(dice: random.Random) -> str:
    return f"02:00:00:00:00:{dice.randint(1, 254):02X}"


Made = Callable[[random.Random, bool], str]
TYPES: dict[str, tuple[str, Made]] = {
    "hash:ip": ("", _ip),
    "hash:net": ("", _net),
    "hash:ip,port": ("", lambda d, six: f"{_ip(d, six)},{_port(d, six)}"),
    "hash:ip,port,ip": ("", lambda d, six: f"{_ip(d, six)},{_port(d, six)},{_ip(d, six)}"),
    "hash:ip,port,net": ("", lambda d, six: f"{_ip(d, six)},{_port(d, six)},{_net(d, six)}"),
    "hash:net,port": ("", lambda d, six: f"{_net(d, six)},{_port(d, six)}"),
    "hash:net,iface": ("", lambda d, six: f"{_net(d, six)},{d.choice(('', 'physdev:'))}eth{d.randint(0, 3)}"),
    "hash:net,net": ("", lambda d, six: f"{_net(d, six)},{_net(d, six)}"),
    "hash:net,port,net": ("", lambda d, six: f"{_net(d, six)},{_port(d, six)},{_net(d, six)}"),
    "hash:ip,mark": ("", lambda d, six: f"{_ip(d, six)},0x{d.randint(1, 99):08x}"),
    "hash:mac": ("", lambda d, six: _mac(d)),
    "hash:ip,mac": ("", lambda d, six: f"{_ip(d, six)},{_mac(d)}"),
    "bitmap:port": ("range 0-65535", lambda d, six: str(d.randint(0, 65535))),
    "bitmap:ip": ("range 10.0.0.0/16", _ip),
    "bitmap:ip,mac": (
        "range 10.0.0.0/16",
        lambda d, six: f"{_ip(d, six)},{_mac(d)}" if d.random() < 0.7 else _ip(d, six),
    ),
    "list:set": ("size 8", lambda d, six: "s0"),
}


# ---------------------------------------------------------------- devices


def devices(folder: Path, lenient: bool = False) -> dict[str, Any]:
    """Devices of the kinds that pods and overlays have, with addresses, routes, neighbours.

    ``lenient``: without those that the kernel has no module for, and eth0 is a veth device.
    """
    made = DEVICES.replace("eth0 type dummy", "eth0 type veth peer name wire\nlink set wire up") if lenient else DEVICES
    from netk8s.collect import _rtnetlink as rt
    from netk8s.collect import addresses, links, neighbours, routes

    for argv, lines in ((("ip",), made), (("ip", "-6"), IPV6), (("bridge",), PORTS)):
        if not lenient:
            run(*argv, "-batch", "-", stdin=lines)
            continue
        for line in lines.splitlines():
            with suppress(OSError):
                run(*argv, *line.split())
    # Duplicate address detection comes to its end between two readings.
    while " tentative " in run("ip", "-6", "addr"):
        time.sleep(0.1)
    pairs = {
        "links": (("ip", "-j", "-d", "link"), rt.source(links.listed)),
        "addresses": (("ip", "-j", "addr"), rt.source(addresses.listed)),
        "neighbours": (("ip", "-j", "neigh"), rt.source(neighbours.neighbours)),
        "fdb": (("bridge", "-j", "fdb"), rt.source(neighbours.forwarding)),
        "routes4": (("ip", "-j", "route", "show", "table", "all"), rt.source(lambda c: routes.listed(c, 2))),
        "routes6": (("ip", "-j", "-6", "route", "show", "table", "all"), rt.source(lambda c: routes.listed(c, 10))),
        "rules4": (("ip", "-j", "rule"), rt.source(lambda c: routes.rules(c, 2))),
        "rules6": (("ip", "-j", "-6", "rule"), rt.source(lambda c: routes.rules(c, 10))),
    }
    for name, (argv, source) in pairs.items():
        _kept(folder, name, run(*argv), source.read())
    return {"pairs": sorted(pairs)}


DEVICES = """\
link add eth0 type dummy
link set eth0 up
addr add 192.168.10.5/24 dev eth0
addr add 192.168.10.6/24 dev eth0
addr add 172.20.0.5/16 dev eth0 scope link
addr add 10.9.9.9 peer 10.9.9.8/32 dev eth0
addr add 10.9.7.7/24 dev eth0 valid_lft 600 preferred_lft 0
addr add fd00:10::5/64 dev eth0 nodad
addr add fd00:10::6/64 dev eth0 nodad preferred_lft 0
link add br0 type bridge stp_state 1 nf_call_iptables 1 vlan_filtering 1
link set br0 up
addr add 10.244.1.1/24 dev br0
link add v0 type veth peer name v1
link set v0 master br0
link set v0 up
link set v1 up
link add v2 type veth peer name v3
link property add dev v2 altname other
link set v2 alias something
link add flannel.1 type vxlan id 1 local 192.168.10.5 dev eth0 dstport 8472 nolearning
link set flannel.1 up
link add vx6 type vxlan id 6 remote fd00:10::9 dstport 4789
link add vx7 type vxlan external dstport 4790
link add ge0 type geneve id 7 remote 192.168.10.9
link add tunl1 type ipip local 192.168.10.5 remote 192.168.10.9
link add gre1 type gre local 192.168.10.5 remote 192.168.10.9
link add gre2 type gre local 192.168.10.5 remote 192.168.10.9 key 77 ocsum oseq dev eth0
link add gre3 type gretap external
link add gre6 type ip6gre local fd00:10::5 remote fd00:10::9 key 1.2.3.4 encaplimit none
link add ip6 type ip6tnl local fd00:10::5 remote fd00:10::9 encaplimit none
link add sit1 type sit local 192.168.10.5 remote 192.168.10.9
link add vti1 type vti local 192.168.10.5 remote 192.168.10.9 key 7
link add ipv0 link eth0 type ipvlan mode l2
link add ipv1 link eth0 type ipvlan mode l2 private
link add mac0 link v3 type macvlan mode bridge
link add mac1 link v3 type macvlan mode private
link add eth0.7 link eth0 type vlan id 7
link add vrf9 type vrf table 9
link add bond0 type bond mode 802.3ad xmit_hash_policy layer3+4
route add 10.1.0.0/16 via 192.168.10.2
route add 10.2.0.0/16 nexthop via 192.168.10.2 weight 2 nexthop via 192.168.10.3 dev eth0 weight 5 onlink
route add blackhole 10.3.0.0/16
route add throw 10.6.0.0/16
route add 10.4.0.0/16 via inet6 fd00:10::9 dev eth0
route add default via 192.168.10.9 metric 50 table 77 src 192.168.10.5
route add 10.5.0.0/16 dev eth0 scope link tos 0x10 proto static
rule add from 10.0.0.0/8 lookup 77 pref 100
rule add not fwmark 0x4000/0xff00 iif eth0 lookup main suppress_prefixlength 0 pref 101
rule add fwmark 0x7 lookup main pref 99
rule add to 10.0.0.1 ipproto tcp dport 80-90 sport 7 blackhole pref 102
rule add oif eth0 goto 32766 pref 103
rule add uidrange 5-7 table 5000 pref 104 tos 0x10
rule add pref 201 nop
neigh add 192.168.10.7 lladdr 02:00:00:00:00:01 dev eth0
neigh add fd00:10::7 lladdr 02:00:00:00:00:01 dev eth0 nud reachable
neigh add proxy 192.168.10.8 dev eth0
"""
IPV6 = """\
route add fd01::/64 via fd00:10::2
route add fd02::/64 nexthop via fd00:10::2 nexthop via fd00:10::3
route add default dev eth0 metric 9
route add unreachable fd09::/64
rule add from fd00::/8 lookup 77
"""
PORTS = """\
link set dev v0 hairpin on isolated on
fdb add 02:00:00:00:00:05 dev flannel.1 dst 192.168.10.77
fdb add 02:00:00:00:00:06 dev v0 master static
"""
