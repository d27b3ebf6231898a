"""Random nodes: addresses, devices, routes, policy rules and settings, for source selection and routing."""

from __future__ import annotations

from ipaddress import ip_network
from random import Random

from .generate_rules import Device, Layout

FAR = ("8.8.8.8", "198.51.100.4", "203.0.113.9", "2001:4860::8", "2001:db8:51::4", "fd99::9")
FAR_NETS = {
    4: ("198.51.100.0/24", "203.0.113.0/24", "8.8.8.0/24"),
    6: ("2001:db8:51::/48", "fd99::/64", "2001:4860::/32"),
}
EVERY = {4: "default", 6: "::/0"}
TABLES = (100, 101, 102)
MARKS = ("0x1", "0x2", "0x4000/0xc000")
# One network of each label of RFC 6724's table that a host may have (net/ipv6/addrlabel.c).
NETS6 = (
    "fd00:{}:",
    "fd00:{}:",
    "2001:db8:{}:",
    "2001:db8:{}:",
    "2002:c000:{}:",
    "fec0:0:0:{}:",
    "2001:0:{}:",
    "3ffe:{}:",
)


def random_layout(seed: int) -> Layout:
    """A node of two to four devices: primary and secondary addresses, several subnets, overlapping ones, /32 and /128,
    peers, scope link, deprecated ones, a device without any, addresses on lo; routes with and without gateway, src,
    several next hops or a way at all; policy rules; rp_filter and its neighbours for all and for each device.
    """
    rng = Random(seed)  # noqa: S311
    names = rng.sample(("eth0", "eth1", "pod0", "vlan7", "a0"), rng.randint(2, 4))
    devices: list[Device] = []
    local: list[str] = []
    remote: list[str] = []
    gateways: list[tuple[str, str]] = []
    for i, name in enumerate(names):
        addresses = _addresses4(rng, i, local)
        if addresses:
            gateways.append((name, f"10.{i}.0.1"))
            remote += [f"10.{i}.0.{rng.randint(201, 250)}", f"10.{i + 10}.0.{rng.randint(201, 250)}"]
        for _ in range(rng.randint(1, 3) if rng.random() > 0.2 else 0):
            net = rng.choice(NETS6).format(i + 1)
            ip = f"{net}:{rng.randint(0x10, 0xFFF):x}"
            if ip not in local:
                local.append(ip)
                old = " preferred_lft 0" if rng.random() < 0.2 else ""
                addresses.append(f"{ip}/{rng.choice((64, 64, 128))}{old}")
        gateways += [(name, f"fd00:{i + 1}::1"), (name, f"2001:db8:{i + 1}::1")]
        remote += [f"fd00:{i + 1}::9999", f"2001:db8:{i + 1}::9999"]
        devices.append(Device(name, tuple(addresses)))
    if rng.random() < 0.3:
        devices.insert(0, Device("lo", ("198.18.0.1/32",)))
        local.append("198.18.0.1")
    routes = tuple(_routes(rng, names, gateways, local))
    rules = tuple(_rules(rng, names, local, remote)) if rng.random() < 0.6 else ()
    known = (*local, *dict.fromkeys(remote), *FAR)
    return Layout(
        tuple(devices),
        tuple(local),
        (*dict.fromkeys(remote), *FAR),
        ("0.0.0.0/0", "::/0"),
        tuple(_settings(rng, names)),
        rules,
        (*routes, *_tables(rng, names, gateways, known, local)) if rules else routes,
    )


def _addresses4(rng: Random, i: int, local: list[str]) -> list[str]:
    addresses: list[str] = []
    if rng.random() < 0.2:
        return addresses
    for _ in range(rng.randint(1, 4)):
        subnet, host = rng.choice((i, i, i + 10)), rng.randint(2, 200)
        prefix = rng.choice((24, 24, 24, 16, 32))
        ip = f"10.{subnet}.{rng.choice((0, 0, 1))}.{host}"
        if ip in local:
            continue
        local.append(ip)
        if rng.random() < 0.1:
            addresses.append(f"{ip} peer 10.{subnet}.2.{host}/32")
        else:
            addresses.append(f"{ip}/{prefix}")
    if rng.random() < 0.25:
        # In a subnet of its own: the kernel wants one scope for all addresses of a subnet.
        scope = rng.choice(("link", "link", "site", "host"))
        addresses.insert(rng.randint(0, len(addresses)), f"169.254.{i}.1/32 scope {scope}")
    return addresses


def _source(rng: Random, family: int, local: list[str]) -> str:
    mine = [ip for ip in local if (":" in ip) == (family == 6)]
    return f" src {rng.choice(mine)}" if mine and rng.random() < 0.25 else ""


def _way(rng: Random, family: int, names: list[str], gateways: list[tuple[str, str]]) -> str:
    ways = [(dev, gw) for dev, gw in gateways if (":" in gw) == (family == 6)]
    if ways and rng.random() < 0.65:
        dev, gateway = rng.choice(ways)
        return f"via {gateway} dev {dev} onlink"
    return f"dev {rng.choice(names)}"


def _routes(rng: Random, names: list[str], gateways: list[tuple[str, str]], local: list[str]) -> list[str]:
    """Routes to the far networks: by a gateway (onlink, whatever addresses there are), straight, or refused."""
    lines = []
    for family in (4, 6):
        for network in (EVERY[family], *FAR_NETS[family]):
            dice = rng.random()
            metric = f" metric {rng.randint(1, 9)}" if rng.random() < 0.3 else ""
            if dice < 0.12 and network != EVERY[family]:
                lines.append(f"{rng.choice(('unreachable', 'blackhole', 'prohibit'))} {network}{metric}")
            elif dice < 0.22 and family == 4:
                hops = rng.sample(names, 2)
                lines.append(f"{network}{metric} nexthop dev {hops[0]} nexthop dev {hops[1]} weight 3")
            elif dice < 0.9:
                lines.append(f"{network} {_way(rng, family, names, gateways)}{_source(rng, family, local)}{metric}")
                if rng.random() < 0.15:
                    lines.append(f"{network} {_way(rng, family, names, gateways)} metric 4000")
    return lines


def _tables(
    rng: Random, names: list[str], gateways: list[tuple[str, str]], known: tuple[str, ...], local: list[str]
) -> list[str]:
    """Routes of the tables that policy rules name; one of them is left empty at times."""
    lines = []
    for table in TABLES:
        for family in (4, 6):
            for network in rng.sample((EVERY[family], *FAR_NETS[family]), rng.randint(0, 2)):
                if rng.random() < 0.15:
                    kind = rng.choice(("throw", "unreachable", "prohibit", "blackhole"))
                    lines.append(f"{kind} {network} table {table}")
                else:
                    way = _way(rng, family, names, gateways)
                    lines.append(f"{network} {way} table {table}{_source(rng, family, local)}")
            target = rng.choice([ip for ip in known if (":" in ip) == (family == 6)])
            if rng.random() < 0.3 and target not in local:
                lines.append(f"{target} {_way(rng, family, names, gateways)} table {table}")
    return lines


def _rules(rng: Random, names: list[str], local: list[str], remote: list[str]) -> list[str]:
    """Policy rules of either family, IPv6 ones with -6 in front."""
    lines = []
    for family in (4, 6):
        priorities = sorted(rng.sample(range(100, 900), rng.randint(0, 5)))
        for i, priority in enumerate(priorities):
            mine = [ip for ip in (*local, *remote, *FAR) if (":" in ip) == (family == 6)]
            words = [f"{'-6 ' if family == 6 else ''}rule add prio {priority}"]
            if rng.random() < 0.12:
                words.append("not")
            words.append(_selector(rng, family, names, mine))
            action = rng.choice(("lookup", "lookup", "lookup", "lookup", "suppress", "refuse", "goto"))
            if action == "refuse":
                words.append(rng.choice(("blackhole", "unreachable", "prohibit")))
            elif action == "suppress":
                words.append(f"lookup main suppress_prefixlength {rng.choice((0, 0, 16, 24))}")
            elif action == "goto":
                words.append(f"goto {rng.choice((*priorities[i + 1 :], 32766))}")
            else:
                words.append(f"lookup {rng.choice(TABLES)}")
            lines.append(" ".join(words))
    return lines


def _selector(rng: Random, family: int, names: list[str], addresses: list[str]) -> str:
    ip = rng.choice(addresses)
    # A whole subnet or the address alone; the kernel masks the host bits off, iproute2 does not.
    length = rng.choice((32, 32, 24) if family == 4 else (128, 128, 64))
    net = ip_network(f"{ip}/{length}", strict=False)
    device = rng.choice((*names, "lo"))
    return rng.choice(
        (
            f"from {net}",
            f"from {net}",
            f"to {net}",
            f"from all to {net}",
            f"fwmark {rng.choice(MARKS)}",
            f"fwmark {rng.choice(MARKS)}",
            f"iif {device}",
            f"iif {device} from {net}",
            f"oif {device}",
            "from all",
            # With a device packets come in by: a local sender's socket is raw here, so its route asks for no port.
            f"iif {rng.choice(names)} ipproto {rng.choice(('tcp', 'udp'))}",
            f"iif {rng.choice(names)} ipproto tcp dport {rng.choice(('80', '443', '8080-30000'))}",
            f"iif {rng.choice(names)} ipproto udp sport 40000-65000",
        )
    )


def _settings(rng: Random, names: list[str]) -> list[tuple[str, str]]:
    out = []
    for name in ("all", *names):
        if rng.random() < 0.35:
            out.append((f"net.ipv4.conf.{name}.rp_filter", rng.choice("012")))
        for setting in ("accept_local", "route_localnet", "src_valid_mark"):
            if rng.random() < 0.12:
                out.append((f"net.ipv4.conf.{name}.{setting}", "1"))
    return out
