"""Network namespaces: entered and left again, and those of pods found by what the kernel says and not by address alone."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from netk8s.collect import namespaces
from netk8s.errors import CollectError, UsageError


def test_names_of_namespaces() -> None:
    assert namespaces.path_of(str(os.getpid())) == f"/proc/{os.getpid()}/ns/net"
    assert namespaces.path_of("/proc/self/ns/net") == "/proc/self/ns/net"
    with pytest.raises(UsageError, match="no network namespace at /run/netns/none-of-this-name"):
        namespaces.path_of("/run/netns/none-of-this-name")


def test_nowhere_is_here() -> None:
    before = namespaces.identity()
    with namespaces.entered(None):
        assert namespaces.identity() == before


def test_what_is_no_namespace_is_told() -> None:
    with pytest.raises(CollectError, match="cannot be opened"), namespaces.entered("/nowhere"):
        pass
    with (
        pytest.raises(CollectError, match="cannot enter the network namespace /dev/null"),
        namespaces.entered("/dev/null"),
    ):
        pass


@pytest.mark.lab
def test_in_and_back(spaces: Callable[[], Any]) -> None:
    there = spaces()
    before = namespaces.identity()
    with namespaces.entered(there.path):
        assert namespaces.identity() == namespaces.identity(there.path) != before
    assert namespaces.identity() == before
    with pytest.raises(ValueError, match="inside"), namespaces.entered(there.path):
        raise ValueError("inside")
    assert namespaces.identity() == before


@pytest.mark.lab
def test_a_pod_is_found_by_its_address_behind_a_veth(spaces: Callable[[], Any]) -> None:
    node, pod, stranger = spaces(), spaces(), spaces()
    node.run("ip", "link", "add", "veth1", "type", "veth", "peer", "name", "eth0", "netns", str(pod.keeper.pid))
    pod.run("ip", "addr", "add", "10.99.0.5/24", "dev", "eth0")
    pod.run("ip", "link", "set", "eth0", "up")
    pod.run("ip", "addr", "add", "fd99::5/64", "dev", "eth0", "nodad")
    # The same address in somebody else's namespace, which is not connected to the node.
    stranger.run("ip", "addr", "add", "10.99.0.5/24", "dev", "lo")
    found = node.python(
        "from ipaddress import ip_address as ip\n"
        "from netk8s.collect.namespaces import hangs_on, of_pod\n"
        "print(of_pod(ip('10.99.0.5'), [0]) == of_pod(ip('fd99::5'), [0]))\n"
        "print(of_pod(ip('10.99.0.5'), [0]))\n"
        f"print(hangs_on('{pod.path}', [0]), hangs_on('{pod.path}', [1]), hangs_on('{stranger.path}', [0, -1]))\n"
    ).splitlines()
    assert found[0] == "True"
    assert os.stat(found[1]).st_ino == os.stat(pod.path).st_ino
    assert found[2] == "True False False"
    told = node.python(
        "from ipaddress import ip_address as ip\n"
        "from netk8s.collect.namespaces import of_pod\n"
        "from netk8s.errors import UsageError\n"
        "try: of_pod(ip('10.99.0.6'), [0])\n"
        "except UsageError as error: print(error)\n"
    )
    assert "no network namespace behind this node's veth devices has the address 10.99.0.6" in told
