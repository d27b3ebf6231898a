"""A probe in a lab: sent, seen on its way and at the other end, answered; and netk8s reads what it wrote."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from netk8s_probes import run
from netk8s_probes.plan import Place, Plan
from netk8s_probes.wire import Headers

from netk8s.decode import observation
from netk8s.model import Dump, Observation

SRC, DST, POD = map(ip_address, ("192.0.2.9", "192.0.2.1", "10.0.0.5"))
SYN = Plan("syn", SRC, DST, 41000, 80, 77)
SEQ = run.wire.sequence(SYN)
END = Place("eth0", None, "n1", True)


def caught(at: Place, moment: float, headers: Headers, outgoing: bool = False) -> run.Caught:
    return run.Caught(at, moment, outgoing, "eth0", headers)


def test_a_probe_is_known_behind_nat_and_its_answers_with_it() -> None:
    probe = Headers("tcp", SRC, DST, 41000, 80, "S", SEQ)
    there = Headers("tcp", DST, POD, 5, 8080, "S", SEQ)
    found = run.document(
        SYN,
        [
            caught(run.SENDER, 1, probe, True),
            caught(END, 2, there),
            caught(END, 3, Headers("tcp", POD, DST, 8080, 5, "SA", 9, SEQ + 1), True),
            caught(run.SENDER, 4, Headers("tcp", DST, SRC, 80, 41000, "SA", 9, SEQ + 1)),
            caught(END, 5, Headers("tcp", POD, DST, 8080, 6, "SA", 9, SEQ + 2)),  # somebody else's
            caught(END, 5, Headers("tcp", SRC, POD, 1, 8080, "S", 1)),
        ],
        0,
    )
    assert (found["result"], found["answer"]) == ("connected", "syn-ack")
    assert found["endpoint"] == {"ip": "10.0.0.5", "port": 8080}
    assert found["source_seen"] == "192.0.2.1"
    assert [one["place"] for one in found["seen"]] == ["sender eth0", "n1=eth0"]  # type: ignore[attr-defined]
    assert len(found["answers"]) == 2  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("headers", "result", "answer"),
    [
        (Headers("tcp", DST, SRC, 80, 41000, "RA", 0, SEQ + 1), "refused", "tcp-reset"),
        (Headers("icmp", DST, SRC, icmp=(3, 3), inner=Headers("tcp", SRC, DST, 41000, 80)), "refused", "icmp 3/3"),
        (
            Headers("icmp", DST, SRC, icmp=(3, 13), inner=Headers("tcp", SRC, DST, 41000, 80)),
            "unreachable",
            "icmp 3/13",
        ),
        (Headers("icmp", DST, SRC, icmp=(3, 3), inner=Headers("tcp", SRC, DST, 41001, 80)), "timeout", ""),
        (Headers("udp", DST, SRC, 80, 41000), "timeout", ""),
    ],
)
def test_what_came_back(headers: Headers, result: str, answer: str) -> None:
    found = run.document(SYN, [caught(run.SENDER, 1, headers)], 0)
    assert (found["result"], found["answer"]) == (result, answer)
    assert found["endpoint"] is None


def test_what_the_senders_own_kernel_says() -> None:
    connect = Plan("connect", SRC, DST, 41000, 80, 77)
    assert run.document(connect, [], 0, told="connected")["result"] == "connected"
    assert run.document(connect, [], 0, told="ECONNREFUSED")["result"] == "refused"
    assert run.document(connect, [], 0, told="ENETUNREACH")["result"] == "unreachable"
    assert run.document(connect, [], 0, told="EPERM")["result"] == "timeout"


# ---------------------------------------------------------------- in namespaces of its own

ANSWER = """
import socket, threading
def tcp(s):
    while True: s.accept()[0].close()
def udp(s):
    while True: s.sendto(b"yes", s.recvfrom(99)[1])
for family, ip in ((socket.AF_INET, "10.98.0.2"), (socket.AF_INET6, "fd98::2")):
    t = socket.socket(family); t.bind((ip, 8080)); t.listen(); threading.Thread(target=tcp, args=(t,), daemon=True).start()
    u = socket.socket(family, socket.SOCK_DGRAM); u.bind((ip, 8080)); threading.Thread(target=udp, args=(u,)).start()
"""
NAT = """
table ip t { chain o { type nat hook output priority -100;
 ip daddr 10.97.0.1 tcp dport 80 dnat to 10.98.0.2:8080;
}
}
table inet f { chain o { type filter hook output priority 0;
 tcp dport 81 reject with tcp reset; udp dport 82 drop;
}
}
"""


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[str, str]]:
    """Two namespaces with a veth between them; the first translates, rejects and drops, the second answers."""
    with ExitStack() as running:
        keepers = [running.enter_context(background("unshare", "--net", "sleep", "300")) for _ in range(2)]
        paths = [f"/proc/{keeper.pid}/ns/net" for keeper in keepers]
        own = Path("/proc/self/ns/net").stat().st_ino
        while any(Path(path).stat().st_ino == own for path in paths):
            time.sleep(0.01)

        def run_in(number: int, *argv: str, text: str = "") -> None:
            words = ["nsenter", f"--net={paths[number]}", *argv]
            done = subprocess.run(words, input=text, text=True, capture_output=True, check=False)
            assert done.returncode == 0, done.stderr

        run_in(0, "ip", "link", "add", "v0", "type", "veth", "peer", "name", "v1", "netns", str(keepers[1].pid))
        for number in (0, 1):
            for words in (("link", "set", "lo", "up"), ("addr", "add", f"10.98.0.{number + 1}/24", "dev", f"v{number}"),
                          ("addr", "add", f"fd98::{number + 1}/64", "dev", f"v{number}", "nodad"),
                          ("link", "set", f"v{number}", "up")):  # fmt: skip
                run_in(number, "ip", *words)
        run_in(0, "ip", "route", "add", "10.97.0.0/24", "dev", "v0")
        run_in(0, "nft", "-f", "-", text=NAT)
        running.enter_context(background("nsenter", f"--net={paths[1]}", sys.executable, "-c", ANSWER))
        time.sleep(0.5)
        yield paths[0], paths[1]


@contextmanager
def background(*argv: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(argv)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def probed(pair: tuple[str, str], *words: str, end: bool = True) -> dict[str, Any]:
    argv = [sys.executable, "-m", "netk8s_probes", *words, "--from-namespace", pair[0], "--source", "a test"]
    argv += ["--end", f"there={pair[1]}@v1"] if end else []
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode in (0, 1), done.stderr
    # What is sent is said, and said once.
    assert done.stderr.startswith("netk8s-probes: sends one ")
    assert done.stderr.count("\n") == 1
    (read,) = observation.decode(Dump("probe", done.stdout.encode()))
    assert isinstance(read, Observation)
    found: dict[str, Any] = json.loads(done.stdout)
    assert str(read.sent.dst) == found["sent"]["dst"]
    return found


@pytest.mark.lab
@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["10.98.0.2:8080"], "syn-ack"),
        (["10.98.0.2:8080", "--kind", "syn"], "syn-ack"),
        (["[fd98::2]:8080", "--kind", "syn"], "syn-ack"),
        (["10.98.0.2:8080", "--kind", "udp"], "data"),
        (["[fd98::2]:8080", "--kind", "udp"], "data"),
        (["10.98.0.2", "--kind", "echo"], "echo-reply"),
        (["fd98::2", "--kind", "echo"], "echo-reply"),
    ],
)
def test_an_answer(pair: tuple[str, str], words: list[str], answer: str) -> None:
    found = probed(pair, *words)
    assert (found["result"], found["answer"]) == ("connected", answer)
    assert found["endpoint"]["ip"] in ("10.98.0.2", "fd98::2")
    assert found["source_seen"] in ("10.98.0.1", "fd98::1")
    assert {one["place"] for one in found["seen"]} == {"sender v0", f"there={pair[1]}@v1"}


@pytest.mark.lab
@pytest.mark.parametrize("kind", ["connect", "syn"])
def test_a_probe_that_the_senders_own_rules_translate(pair: tuple[str, str], kind: str) -> None:
    found = probed(pair, "10.97.0.1:80", "--kind", kind)
    assert found["result"] == "connected"
    assert found["endpoint"] == {"ip": "10.98.0.2", "port": 8080}


@pytest.mark.lab
def test_refused_and_silent(pair: tuple[str, str]) -> None:
    assert probed(pair, "10.98.0.2:9", "--kind", "syn")["answer"] == "tcp-reset"
    assert probed(pair, "10.98.0.2:9", "--kind", "udp")["answer"] == "icmp 3/3"
    assert probed(pair, "10.98.0.2:9")["result"] == "refused"
    assert probed(pair, "10.98.0.2:81", "--kind", "syn")["result"] == "refused"
    dropped = probed(pair, "10.98.0.2:82", "--kind", "udp", "--timeout", "0.3")
    assert (dropped["result"], dropped["seen"]) == ("timeout", [])


@pytest.mark.lab
def test_no_half_open_connection_stays(pair: tuple[str, str]) -> None:
    probed(pair, "10.98.0.2:8080", "--kind", "syn", end=False)
    states = subprocess.run(
        ["nsenter", f"--net={pair[1]}", "ss", "-Htan", "state", "syn-recv"], capture_output=True, text=True, check=True
    )
    assert states.stdout == ""


@pytest.mark.lab
def test_several_are_one_a_line(pair: tuple[str, str]) -> None:
    argv = [sys.executable, "-m", "netk8s_probes", "10.98.0.2", "--kind", "echo", "--count", "3", "--interval", "0.2"]
    done = subprocess.run([*argv, "--from-namespace", pair[0]], capture_output=True, text=True, check=True)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["result"] for one in found] == ["connected"] * 3
    assert "sends 3 times, 0.2 s apart, one ICMP echo request" in done.stderr
