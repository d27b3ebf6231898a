"""collect/kept.py: what has not changed is not read again, what has is, and pods' namespaces are entered by name."""

from __future__ import annotations

import gc
import json
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from netk8s.collect import kept, node
from netk8s.collect._text import Gap, Text
from netk8s.errors import CollectError


class Reader:
    """One that counts how often it is read."""

    NEEDED_FOR = "a test"

    def __init__(self, name: str) -> None:
        self.name = name
        self.state = b"1"
        self.read = 0
        self.while_read: Callable[[], None] = lambda: None

    def texts(self) -> Iterator[Text | Gap]:
        self.read += 1
        yield Text(f"{self.name}.txt", self.state, "test")
        yield Gap(f"{self.name}-gone.txt", "not there")
        self.while_read()

    def signature(self) -> bytes:
        return self.state


@pytest.fixture
def readers(monkeypatch: pytest.MonkeyPatch) -> dict[str, Reader]:
    found = {"a": Reader("a"), "b": Reader("b")}
    monkeypatch.setattr(node, "readers", lambda: found)
    return found


def texts(one: kept.Kept) -> dict[str, bytes]:
    return {dump.origin: dump.data for dump in one.snapshot().dumps}


def test_only_what_has_changed_is_read_again(readers: dict[str, Reader]) -> None:
    with kept.Kept("n1") as one:
        assert one.stale() == ("a", "b")
        first = one.snapshot()
        assert one.stale() == ()
        assert [(dump.data, dump.taken) for dump in one.snapshot().dumps] == [(d.data, d.taken) for d in first.dumps]
        readers["b"].state = b"2"
        assert one.stale() == ("b",)
        assert texts(one) == {"nodes/n1/a.txt": b"1", "nodes/n1/b.txt": b"2"}
        assert [gap.what for gap in one.snapshot().missing] == [
            "nodes/n1/a-gone.txt (not there)",
            "nodes/n1/b-gone.txt (not there)",
        ]
    assert (readers["a"].read, readers["b"].read) == (1, 2)


def test_a_state_has_a_number_and_is_not_told_twice(readers: dict[str, Reader]) -> None:
    with kept.Kept("n1") as one:
        number, found = one.since(0)
        assert found is not None
        assert one.since(number) == (number, None)
        assert one.since(number + 7)[1] is not None, "a number of nobody's"
        readers["b"].state = b"2"
        later, changed = one.since(number)
        assert later > number
        assert changed is not None
        assert [dump.data for dump in changed.dumps] == [b"1", b"2"]


def test_a_text_that_is_read_anew_and_says_the_same_is_no_other_state(readers: dict[str, Reader]) -> None:
    with kept.Kept("n1") as one:
        number, found = one.since(0)
        assert found is not None
        readers["a"].signature = lambda: b"an entry came and went"  # type: ignore[method-assign]
        assert one.since(number) == (number, None)
        assert [dump.taken for dump in one.snapshot().dumps] == [dump.taken for dump in found.dumps]
    assert readers["a"].read == 2


def test_what_is_held_is_a_fraction_of_the_texts(readers: dict[str, Reader]) -> None:
    readers["a"].state = b"-A KUBE-SERVICES -j KUBE-SVC\n" * 10_000
    tracemalloc.start()
    try:
        with kept.Kept("n1") as one:
            assert len(one.snapshot().dumps[0].data) == len(readers["a"].state) == 290_000
            gc.collect()
            assert tracemalloc.get_traced_memory()[0] < 60_000
    finally:
        tracemalloc.stop()


def test_what_changes_while_it_is_read_is_read_again(readers: dict[str, Reader]) -> None:
    def change() -> None:
        readers["a"].state = b"2"

    readers["a"].while_read = change
    with kept.Kept("n1") as one:
        assert texts(one)["nodes/n1/a.txt"] == b"2"
    assert readers["a"].read == 2


def test_what_never_rests_is_given_as_it_is_and_known_to_be_stale(readers: dict[str, Reader]) -> None:
    def change() -> None:
        readers["a"].state += b"1"

    readers["a"].while_read = change
    with kept.Kept("n1") as one:
        assert texts(one)["nodes/n1/a.txt"] == b"111"
        assert one.stale() == ("a",)


def test_a_namespace_that_is_not_there() -> None:
    with pytest.raises(CollectError, match="cannot be opened"):
        kept.Kept("n1", "/nowhere")


def test_a_namespace_that_goes_away(readers: dict[str, Reader], monkeypatch: pytest.MonkeyPatch) -> None:
    with kept.Kept("n1") as one:
        one.snapshot()
        monkeypatch.setattr(one, "_path", "/nowhere")
        readers["a"].state = b"2"
        with pytest.raises(CollectError, match="cannot be opened"):
            one.snapshot()


@pytest.mark.lab
def test_a_real_node(spaces: Callable[[], Any]) -> None:
    code = """
import json, subprocess
from netk8s.collect.kept import Kept
subprocess.run(["iptables-legacy", "-A", "INPUT", "-j", "ACCEPT"], check=True)
with Kept("n1", leave_out=["connections"]) as kept:
    def told():
        return {dump.origin: (dump.data.decode(), dump.taken) for dump in kept.snapshot().dumps}
    first, second = told(), told()
    subprocess.run(["ip", "link", "add", "v0", "type", "veth", "peer", "name", "v1"], check=True)
    third = told()
print(json.dumps([first, second, third]))
"""
    first, second, third = json.loads(spaces().python(code))
    assert first == second
    assert "nodes/n1/iptables-legacy-save.txt" in first
    assert not [origin for origin in first if "conntrack" in origin]
    anew = {origin for origin in third if third[origin] != second[origin]}
    assert "nodes/n1/ip-link.json" in anew
    assert '"v0"' in third["nodes/n1/ip-link.json"][0]
    assert "nodes/n1/iptables-legacy-save.txt" not in anew


@pytest.mark.lab
def test_pods_of_a_node(spaces: Callable[[], Any]) -> None:
    here, pod, stranger = spaces(), spaces(), spaces()
    here.run("ip", "link", "add", "veth1", "type", "veth", "peer", "name", "eth0", "netns", str(pod.keeper.pid))
    pod.run("ip", "addr", "add", "10.99.0.5/24", "dev", "eth0")
    stranger.run("ip", "addr", "add", "10.99.0.6/24", "dev", "lo")
    code = """
import json
from ipaddress import ip_address as ip
from netk8s.collect import kept
found = kept.pods("n1", {"default/web-0": ip("10.99.0.5"), "default/web-1": ip("10.99.0.6")}, leave_out=["sysctls"])
print(json.dumps([[(d.origin, d.pod, d.node) for d in found.dumps], [(m.what, m.absent) for m in found.missing]]))
"""
    dumps, missing = json.loads(here.python(code))
    assert ["nodes/n1/pods/default_web-0/ip-addr.json", "default/web-0", "n1"] in dumps
    assert {pod for _, pod, _ in dumps} == {"default/web-0"}
    assert [
        "nodes/n1/pods/default_web-1 (no network namespace behind this node's veth devices has the address 10.99.0.6)",
        False,
    ] in missing
    assert not [origin for origin, *_ in dumps if "sysctl" in origin]


@pytest.mark.lab
@pytest.mark.parametrize("lacking", ["sys_admin", "sys_ptrace"])
def test_without_the_right_no_pod_is_entered_and_the_reason_is_said(spaces: Callable[[], Any], lacking: str) -> None:
    code = """
from ipaddress import ip_address as ip
from netk8s.collect import kept
found = kept.pods("n1", {"default/web-0": ip("10.99.0.5")})
print(len(found.dumps), *(gap.what for gap in found.missing), sep="|")
"""
    told = spaces().python(code, "setpriv", "--bounding-set", f"-{lacking}", "--inh-caps", "-all")
    assert told == (
        f"0|nodes/n1/pods/default_web-0 (entering pods' network namespaces takes CAP_{lacking.upper()}, "
        "which this process has not)\n"
    )


@pytest.mark.lab
def test_without_the_nodes_processes_no_pod_is_found_and_the_reason_is_said(spaces: Callable[[], Any]) -> None:
    code = """
from netk8s.collect import namespaces
print(namespaces.why_closed())
"""
    # What a pod without hostPID has: its own processes in /proc, and nothing of the node's /run.
    hidden = 'mount -t tmpfs none /run; mount -t tmpfs none /var/run 2>/dev/null; exec "$@"'
    argv = ("unshare", "--pid", "--fork", "--mount-proc", "--mount", "sh", "-c", hidden, "sh")
    assert "takes the node's process ids (hostPID)" in spaces().python(code, *argv)
    assert spaces().python(code) == "\n"
