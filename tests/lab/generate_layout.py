"""Random nodes: addresses, devices and routes, for the rules of source address selection and routing."""

from __future__ import annotations

from random import Random

from .generate_rules import Device, Layout

FAR = ("8.8.8.8", "198.51.100.4", "203.0.113.9", "2001:4860::8", "2001:db8:51::4", "fd99::9")


def random_layout(seed: int) -> Layout:
    """A node of two to four devices: primary and secondary addresses, several subnets, overlapping ones, /32 and /128,
    scope link, a device without any, addresses on lo, routes with and without gateway and src.
    """
    rng = Random(seed)  # noqa: S311
    names = rng.sample(("eth0", "eth1", "pod0", "vlan7", "a0"), rng.randint(2, 4))
    devices: list[Device] = []
    local: list[str] = []
    remote: list[str] = []
    gateways: list[tuple[str, str]] = []
    for i, name in enumerate(names):
        addresses: list[str] = []
        if rng.random() > 0.2:
            for _ in range(rng.randint(1, 4)):
                subnet, host = rng.choice((i, i, i + 10)), rng.randint(2, 200)
                prefix = rng.choice((24, 24, 24, 16, 32))
                ip = f"10.{subnet}.{rng.choice((0, 0, 1))}.{host}"
                if ip not in local:
                    local.append(ip)
                    addresses.append(f"{ip}/{prefix}")
            if rng.random() < 0.25:
                # In a subnet of its own: the kernel wants one scope for all addresses of a subnet.
                addresses.insert(rng.randint(0, len(addresses)), f"169.254.{i}.1/32 scope link")
            gateways.append((name, f"10.{i}.0.1"))
            remote += [f"10.{i}.0.{rng.randint(201, 250)}", f"10.{i + 10}.0.{rng.randint(201, 250)}"]
        if rng.random() > 0.2:
            for _ in range(rng.randint(1, 3)):
                net = rng.choice((f"fd00:{i + 1}:", f"2001:db8:{i + 1}:"))
                ip = f"{net}:{rng.randint(0x10, 0xFFF):x}"
                if ip not in local:
                    local.append(ip)
                    addresses.append(f"{ip}/{rng.choice((64, 64, 128))}")
            gateways += [(name, f"fd00:{i + 1}::1"), (name, f"2001:db8:{i + 1}::1")]
            remote += [f"fd00:{i + 1}::9999", f"2001:db8:{i + 1}::9999"]
        devices.append(Device(name, tuple(addresses)))
    if rng.random() < 0.3:
        devices.insert(0, Device("lo", ("198.18.0.1/32",)))
        local.append("198.18.0.1")
    return Layout(
        tuple(_routed(rng, devices, gateways)), tuple(local), (*dict.fromkeys(remote), *FAR), ("0.0.0.0/0", "::/0")
    )


def _routed(rng: Random, devices: list[Device], gateways: list[tuple[str, str]]) -> list[Device]:
    """The devices with routes to the far networks: by a gateway (onlink, whatever addresses there are) or straight."""
    routes: dict[str, list[str]] = {device.name: [] for device in devices}
    names = [device.name for device in devices if device.name != "lo"]
    for network in ("default", "198.51.100.0/24", "203.0.113.0/24", "default6", "2001:db8:51::/48", "fd99::/64"):
        six = network == "default6" or ":" in network
        ways = [(dev, gw) for dev, gw in gateways if (":" in gw) == six]
        target = "default" if network == "default6" else network
        if ways and rng.random() < 0.7:
            dev, gateway = rng.choice(ways)
            routes[dev].append(f"{target} via {gateway} dev {dev} onlink")
        elif rng.random() < 0.7:
            dev = rng.choice(names)
            routes[dev].append(f"{'::/0' if network == 'default6' else target} dev {dev}")
    return [Device(device.name, device.addresses, tuple(routes[device.name])) for device in devices]
