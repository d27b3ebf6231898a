"""The nouns: frozen, and the few that compute something."""

from __future__ import annotations

import inspect
from ipaddress import ip_address, ip_network

import pytest
from msgspec import Struct

from netk8s import model
from netk8s.model import At, Packet, ServicePort, service_ranges

VALUES = [
    value
    for _, value in inspect.getmembers(model, inspect.isclass)
    if issubclass(value, Struct) and value.__module__ == "netk8s.model"
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: value.__name__)
def test_every_noun_is_frozen_and_says_what_it_is(value: type[Struct]) -> None:
    assert value.__struct_config__.frozen
    assert value.__doc__
    assert not value.__doc__.startswith(f"{value.__name__}(")


def test_a_place_is_written_as_editors_understand_it() -> None:
    assert str(At("nodes/n1/iptables-save.txt", 98)) == "nodes/n1/iptables-save.txt:98"
    assert str(At("cluster/services.json")) == "cluster/services.json"


def test_a_packet_is_changed_by_replacement_only() -> None:
    packet = Packet(6, ip_address("fd00::1"), ip_address("fd00::2"), None, 80)
    moved = packet.replace(dport=8080)
    assert (packet.dport, moved.dport, moved.src, moved.family) == (80, 8080, packet.src, 6)
    with pytest.raises(AttributeError):
        packet.dport = 1  # type: ignore[misc]


def services(*ips: str) -> tuple[ServicePort, ...]:
    return tuple(
        ServicePort("default", f"s{i}", "", 6, 80, "80", None, "ClusterIP", (ip_address(ip),))
        for i, ip in enumerate(ips)
    )


def test_the_service_range_holds_every_cluster_ip_and_is_not_smaller_than_clusters_use() -> None:
    assert service_ranges(services("10.96.0.1", "10.96.120.30")) == (ip_network("10.96.0.0/16"),)
    assert service_ranges(services("10.96.0.1", "10.107.3.4")) == (ip_network("10.96.0.0/12"),)
    assert service_ranges(services("10.96.0.1", "fd00:10:96::1", "fd00:10:96::9999")) == (
        ip_network("10.96.0.0/16"),
        ip_network("fd00:10:96::/112"),
    )
    assert service_ranges(()) == ()
