"""Two readers of legacy tables and the kernel itself: python-iptables, iptables-legacy-save, and how many rules there are."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from netk8s import decode
from netk8s.collect import _python_iptables
from netk8s.errors import CollectError
from netk8s.model import Dump, Table

pytest.importorskip("iptc")

# What is peculiar in the form: masks with holes, name prefixes, old ways to invert, quotes, gotos, what prints nothing.
PECULIAR = {
    4: r"""*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:A - [0:0]
:B - [0:0]
-A INPUT -s 10.0.0.0/8 ! -d 1.2.3.4/32 -i eth+ -p tcp -m tcp --dport 80 -m comment --comment "a \"b\" c" -j A
-A INPUT ! -i eth0 -p 47 -g B
-A INPUT -i + -p 132 -j ACCEPT
-A INPUT -f -j DROP
-A INPUT ! -f -p 200
-A INPUT -s 10.0.0.0/255.0.255.0
-A FORWARD ! -s 0.0.0.0/0 -o abcdefghijklmno -d 9.9.9.9 -p udp -m multiport --dports 1,2:5
-A FORWARD -m addrtype --dst-type LOCAL -m limit --limit 5/min -j LOG --log-prefix "x y"
-A A -m conntrack --ctstate NEW,RELATED -m statistic --mode random --probability 0.33333333349 -j RETURN
-A A -m mark ! --mark 0x4000/0x4000 -j MARK --set-xmark 0x4000/0x4000
-A A -m recent --rcheck --seconds 10800 --reap --name KUBE-SEP-X --mask 255.255.255.255 --rsource -j REJECT
-A B -p icmp -m icmp --icmp-type 8 -j ACCEPT
COMMIT
*nat
:POSTROUTING ACCEPT [0:0]
-A POSTROUTING -p tcp -j MASQUERADE --to-ports 1024-65535 --random-fully
COMMIT
""",
    6: r"""*filter
:INPUT DROP [0:0]
:C - [0:0]
-A INPUT ! -s fd00::/64 -d fe80::1 -i lo -p ipv6-icmp -m icmp6 --icmpv6-type 135 -j C
-A INPUT -s fd00::/ffff::ffff -p sctp -j ACCEPT
-A C -j REJECT --reject-with icmp6-adm-prohibited
COMMIT
*nat
:PREROUTING ACCEPT [0:0]
-A PREROUTING -p tcp -m tcp --dport 80 -j DNAT --to-destination [fd00::5]:8080
COMMIT
""",
}
CODE = """
import json, socket, subprocess
from netk8s.collect import _legacy, _python_iptables, iptables

def entries(family, table):
    kind, level = _legacy.LEVELS[family]
    info = bytearray(_legacy.INFO.pack(table.encode(), *(0,) * 13))
    with socket.socket(kind, socket.SOCK_RAW, socket.IPPROTO_RAW) as sock:
        _legacy._asked(sock, level, _legacy.GET_INFO, info)
    return _legacy.INFO.unpack(info)[-2]

found = []
with open(GIVEN) as file:
    given = json.load(file)
for family, text in given:
    name = "iptables" if family == 4 else "ip6tables"
    if subprocess.run([f"{name}-legacy-restore"], input=text, text=True, stderr=subprocess.DEVNULL).returncode:
        continue
    tables = iptables.legacy_tables(family)
    tool = subprocess.run([f"{name}-legacy-save"], capture_output=True, text=True, check=True).stdout
    before = [_legacy.signature(family, table) for table in tables]
    found.append([_python_iptables.saved(family, tables).decode(), tool, {t: entries(family, t) for t in tables}])
    assert [_legacy.signature(family, table) for table in tables] == before, "reading wrote something"
print(json.dumps(found))
"""


def rules(text: str) -> list[str]:
    return [line.rstrip() for line in text.splitlines() if line and not line.startswith("#")]


def tables(text: str) -> dict[str, Table]:
    dump = Dump("nodes/n1/iptables-legacy-save.txt", text.encode(), "n1")
    decoder = decode.recognise(dump)
    assert decoder is not None
    return {fact.name: fact for fact in decoder.decode(dump) if isinstance(fact, Table)}


def counted(table: Table) -> int:
    """The kernel's entries: a rule each, a policy for each base chain, a head and an end for each other one, and an end."""
    base = [chain for chain in table.chains.values() if chain.policy]
    return sum(len(c.rules) for c in table.chains.values()) + len(base) + 2 * (len(table.chains) - len(base)) + 1


def check(space: Any, folder: Path, given: list[tuple[int, str]]) -> int:
    """How many of the texts could be restored and were compared."""
    path = folder / "given.json"
    path.write_text(json.dumps(given))
    found = json.loads(space.python(f"GIVEN = {str(path)!r}\n{CODE}"))
    for library, tool, entries in found:
        assert rules(library) == rules(tool)
        ours, theirs = tables(library), tables(tool)
        assert set(ours) == set(theirs) == set(entries)
        assert {table.backend for table in ours.values()} == {"legacy"}
        assert {name: counted(table) for name, table in ours.items()} == entries
        for name, table in ours.items():
            pairs = [(table.chains[chain].rules, theirs[name].chains[chain].rules) for chain in theirs[name].chains]
            assert all(
                (a.matches, a.target) == (b.matches, b.target)
                for one, other in pairs
                for a, b in zip(one, other, strict=True)
            )
    return len(found)


@pytest.mark.lab
def test_peculiar_rules(spaces: Callable[[], Any], tmp_path: Path) -> None:
    assert check(spaces(), tmp_path, list(PECULIAR.items())) == 2


@pytest.mark.lab
def test_rules_of_kube_proxy(spaces: Callable[[], Any], root: Path, tmp_path: Path) -> None:
    nodes = sorted((root / "examples/nginx-nodeport/nodes").glob("*/ip*tables-save.txt"))
    given = [(6 if path.name.startswith("ip6") else 4, path.read_text()) for path in nodes]
    assert check(spaces(), tmp_path, given) == 6


@pytest.mark.lab
def test_rules_of_the_recorded_clusters(spaces: Callable[[], Any], corpus: Path, tmp_path: Path) -> None:
    """The largest text of each cluster. Some need an ipset or a module that is not here, and are not restored."""
    given = []
    for case in sorted(path for path in corpus.iterdir() if path.is_dir()):
        texts = [path.read_text() for path in case.glob("nodes/*/iptables*-save.txt") if path.stat().st_size < 1 << 20]
        given += [(4, text) for text in sorted(texts, key=len)[-1:]]
    assert check(spaces(), tmp_path, given) > 0.8 * len(given) > 20


@pytest.mark.lab
def test_it_stands_in_for_the_program(spaces: Callable[[], Any]) -> None:
    space = spaces()
    space.run("iptables-legacy", "-A", "INPUT", "-s", "10.0.0.9", "-j", "DROP")
    code = """
import shutil
from netk8s.collect import iptables
which = shutil.which
shutil.which = lambda name: None if "legacy" in name else which(name)
iptables.program = lambda name, backend: "" if backend == "legacy" else "nft"
iptables.command = lambda *argv: iptables.Source("iptables-legacy-save", lambda: iptables.output(("/nowhere/save",)))
(text,) = iptables.legacy_saved(4)
print(text.name, text.source, "-A INPUT -s 10.0.0.9/32 -j DROP" in text.data.decode())
"""
    assert space.python(code) == "iptables-legacy-save.txt python-iptables True\n"


@pytest.mark.lab
def test_a_table_that_is_not_there_is_a_reason(spaces: Callable[[], Any]) -> None:
    code = """
from netk8s.collect import _python_iptables
from netk8s.errors import CollectError
try:
    _python_iptables.saved(4, ("none",))
except CollectError as error:
    print(error)
"""
    assert "can't initialize none" in spaces().python(code)


def test_without_the_library_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "iptc").mkdir()
    (tmp_path / "iptc/__init__.py").write_text("raise ImportError('no libxtables')")
    source = Path(_python_iptables.__file__).parents[2]
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{source}")
    with pytest.raises(CollectError, match="python-iptables cannot be used: no libxtables"):
        _python_iptables.saved(4, ("filter",))
