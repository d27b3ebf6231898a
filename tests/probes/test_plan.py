"""What is to be sent is decided, limited and said before anything is."""

from __future__ import annotations

import os
from ipaddress import ip_address

import pytest
from netk8s_probes import plan
from netk8s_probes.__main__ import main
from netk8s_probes.namespaces import NoNamespace
from netk8s_probes.plan import Place, Plan, Refused

V4 = Plan("syn", ip_address("192.0.2.9"), ip_address("192.0.2.1"), 41000, 80, 77)


def test_targets() -> None:
    assert plan.target("192.0.2.1:80", "connect") == (ip_address("192.0.2.1"), 80)
    assert plan.target("[fd00::1]:80", "syn") == (ip_address("fd00::1"), 80)
    assert plan.target("192.0.2.1", "echo") == (ip_address("192.0.2.1"), None)
    assert plan.target("fd00::1", "echo") == (ip_address("fd00::1"), None)


@pytest.mark.parametrize(
    ("text", "kind"),
    [("192.0.2.1", "syn"), ("192.0.2.1:0", "syn"), ("192.0.2.1:65536", "syn"), ("example.org:80", "syn"),
     ("192.0.2.0/24:80", "syn"), ("fd00::1", "syn"), ("192.0.2.1:80", "echo"), ("[fd00::1", "udp")],
)  # fmt: skip
def test_what_is_no_target(text: str, kind: str) -> None:
    with pytest.raises(Refused):
        plan.target(text, kind)


@pytest.mark.parametrize("text", ["224.0.0.1", "ff02::1", "255.255.255.255", "0.0.0.0", "::", "127.255.255.255"])  # noqa: S104
def test_nothing_is_sent_to_many(text: str) -> None:
    with pytest.raises(Refused, match="nothing is sent there"):
        plan.made("udp", ip_address(text), 80, None, ())


def test_limits() -> None:
    plan.limits(1, 1)
    plan.limits(plan.MOST, plan.SLOWEST)
    for count, interval in ((0, 1.0), (plan.MOST + 1, 1.0), (2, 0.1)):
        with pytest.raises(Refused):
            plan.limits(count, interval)


def test_places() -> None:
    assert plan.place("cni0") == Place("cni0")
    assert plan.place("n1=cni0") == Place("cni0", None, "n1")
    own = f"/proc/{os.getpid()}/ns/net"
    assert plan.place(f"pod={os.getpid()}@eth0", end=True) == Place("eth0", own, "pod", True)
    assert str(plan.place(f"pod={own}@eth0")) == f"pod={own}@eth0"
    for text in ("", "n1=", "=cni0", f"{own}@"):
        with pytest.raises(Refused):
            plan.place(text)
    with pytest.raises(NoNamespace):
        plan.place("/nowhere@eth0")


def test_what_is_said() -> None:
    assert V4.sentence() == (
        "sends one TCP SYN, and a RST when it is answered, 192.0.2.9:41000 to 192.0.2.1:80; marked by identification 77"
    )
    assert V4.sentence(3, 0.5).startswith("sends 3 times, 0.5 s apart, one TCP SYN")
    echo = Plan("echo", ip_address("fd00::9"), ip_address("fd00::1"), 0, None, 5, "/run/netns/x", (Place("eth0"),))
    assert echo.protocol == "icmpv6"
    assert "fd00::9 to fd00::1, from the network namespace /run/netns/x; marked" in echo.sentence()
    assert echo.sentence().endswith("listens at eth0")


def test_a_dry_run_sends_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["127.0.0.1:9", "--kind", "udp", "--dry-run"]) == 0
    said = capsys.readouterr()
    assert said.out == ""
    assert "sends one UDP datagram of 19 bytes, 127.0.0.1:" in said.err
    assert "nothing was sent" in said.err


@pytest.mark.parametrize(
    "words",
    [["192.0.2.1:80", "--count", "11"], ["127.0.0.1:80", "--count", "2", "--interval", "0.01"], ["127.0.0.1:80", "--timeout", "0"],
     ["127.0.0.1:80", "--count", "2", "--sport", "41000"], ["127.0.0.1:80", "--sport", "70000"], ["224.0.0.1:80"]],
)  # fmt: skip
def test_usage(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "--dry-run"]) == 2
    assert "nothing was sent" not in capsys.readouterr().err
