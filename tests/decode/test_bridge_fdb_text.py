"""``bridge fdb`` as it prints for people: the same entries as from JSON that was taken in the same moment."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from netk8s import decode
from netk8s.decode import bridge_fdb_text
from netk8s.errors import DecodeError
from netk8s.model import At, Dump, Fact, FdbEntry

RECORDED = Path(__file__).parent / "iproute2"


def facts(name: str) -> list[Fact]:
    dump = Dump(name, (RECORDED / name).read_bytes())
    decoder = decode.recognise(dump)
    assert decoder is not None
    assert (decoder.NAME == "bridge-fdb-text") is name.endswith(".txt")
    return [replace(fact, at=At("")) for fact in decoder.decode(dump)]


@pytest.mark.parametrize("text", ["fdb", "fdb-stats"])
def test_as_from_json(text: str) -> None:
    found = facts(f"{text}.txt")
    assert len(found) == 17
    assert found == facts("fdb.json")


def test_a_device_may_have_the_name_of_a_word() -> None:
    (_, found) = bridge_fdb_text.decode(Dump("x", b"02:00:00:00:00:01 dev static vlan 1 master permanent self\n"))
    assert isinstance(found, FdbEntry)
    assert (found.dev, found.master, found.flags) == ("static", "permanent", ("self",))


@pytest.mark.parametrize("line", ["02:00:00:00:00:01 master br0", "Error: x", "02:00:00:00:00:01 dev vx dst nowhere"])
def test_lines_that_are_no_entry(line: str) -> None:
    with pytest.raises(DecodeError) as error:
        list(bridge_fdb_text.decode(Dump("x", f"02:00:00:00:00:01 dev a self\n{line}\n".encode())))
    assert error.value.line == 2
