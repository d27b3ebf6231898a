"""``ip neigh`` as it prints for people: the same entries as from JSON that was taken in the same moment."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from netk8s import decode
from netk8s.decode import ip_neigh_text
from netk8s.errors import DecodeError
from netk8s.model import At, Dump, Fact, Neighbour

RECORDED = Path(__file__).parent / "iproute2"


def facts(name: str) -> list[Fact]:
    dump = Dump(name, (RECORDED / name).read_bytes())
    decoder = decode.recognise(dump)
    assert decoder is not None
    assert (decoder.NAME == "ip-neigh-text") is name.endswith(".txt")
    return [replace(fact, at=At("")) for fact in decoder.decode(dump)]


@pytest.mark.parametrize(
    ("text", "json"), [("neigh", "neigh"), ("neigh-stats", "neigh"), ("neigh-proxy", "neigh-proxy")]
)
def test_as_from_json(text: str, json: str) -> None:
    found = facts(f"{text}.txt")
    assert len(found) > 1
    assert found == facts(f"{json}.json")


def test_an_entry_without_a_link_layer_address() -> None:
    dump = Dump("x", b"10.0.0.5 dev eth0  used 1/2/3probes 6 FAILED\n")
    assert decode.recognise(dump) is ip_neigh_text
    (_, found) = ip_neigh_text.decode(dump)
    assert isinstance(found, Neighbour)
    assert (found.mac, found.states) == (None, ("FAILED",))


@pytest.mark.parametrize("line", ["10.0.0.5 lladdr 02:00:00:00:00:01 STALE", "Cannot open netlink", "10.0.0.5 dev"])
def test_lines_that_are_no_entry(line: str) -> None:
    with pytest.raises(DecodeError, match="for all devices") as error:
        list(ip_neigh_text.decode(Dump("x", f"10.0.0.5 dev a FAILED\n{line}\n".encode())))
    assert error.value.line == 2
