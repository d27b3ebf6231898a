"""``netk8s trace``: exit statuses, formats, colour, and real dumps from one end to the other."""

from __future__ import annotations

import io
import json
import re
import shutil
from collections.abc import Callable
from fractions import Fraction
from ipaddress import ip_address
from pathlib import Path

import jsonschema
import pytest
from msgspec.structs import replace

from netk8s.cli import Streams, run, trace
from netk8s.model import Ask, Finding, Flow, Outcome, Packet, Reached, Reply, Report, Trace
from netk8s.render import formats
from netk8s.render._page import cells
from netk8s.render.document import json_schema

HEADLINE = "headline-nodeport-30000"
QUESTION = ("trace", "svc/nginx", "--port", "30000", "--via", "k8s-node1")


def report(*verdicts: str, severity: str = "info") -> Report:
    packet = Packet(6, ip_address("192.0.2.1"), ip_address("192.0.2.2"), None, 80)
    reached = Reached(ip_address("10.0.0.1"), 80)
    outcomes = tuple(
        Outcome(v, Fraction(1, len(verdicts)), reached if v == "delivered" else None, None, None, "why", ())
        for v in verdicts
    )
    flow = Flow("192.0.2.2:80", "client", "outside", "n1", packet)
    finding = Finding("NK101", severity, "something → else", (), "")
    return Report(Trace(flow, (), outcomes, (), Reply(None, ""), (), ()), (finding,))


@pytest.mark.parametrize(
    ("verdicts", "severity", "status"),
    [
        (["delivered"], "info", 0),
        (["delivered", "delivered"], "warning", 0),
        (["delivered"], "error", 1),
        (["delivered", "refused"], "info", 1),
        (["dropped"], "info", 1),
        (["unreachable"], "info", 1),
        (["unknown"], "info", 6),
        (["delivered", "dropped", "unknown"], "error", 6),
        ([], "info", 6),
    ],
)
def test_exit_status(
    netk8s: Callable, monkeypatch: pytest.MonkeyPatch, verdicts: list[str], severity: str, status: int
) -> None:
    monkeypatch.setattr(trace, "answer", lambda *_, **__: report(*verdicts, severity=severity))
    ran = netk8s("trace", "192.0.2.2:80", "--dump", "x", "-o", "json")
    assert (ran.status, ran.err) == (status, "")
    jsonschema.validate(json.loads(ran.out), json_schema(), cls=jsonschema.Draft202012Validator)


def test_the_words_arrive(netk8s: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Ask, tuple[str, ...], bool]] = []

    def answer(ask: Ask, dumps: tuple[str, ...], streams: Streams, *, unwrap: bool) -> Report:
        asked.append((ask, dumps, unwrap))
        return report("delivered")

    monkeypatch.setattr(trace, "answer", answer)
    netk8s(
        "trace", "svc/x", "--port", "http", "--protocol", "UDP", "--from", "node/a", "--via", "b", "--dump", "c",
        "--dump", "-", "--node", "d", "-n", "e", "--unwrap", "-o", "wide",
    )  # fmt: skip
    assert asked == [(Ask("svc/x", "http", "udp", "node/a", "b", "d", "e"), ("c", "-"), True)]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("terminal", "words", "environment", "colored"),
    [
        (True, [], {}, True),
        (True, [], {"NO_COLOR": "1"}, False),
        (True, [], {"NO_COLOR": ""}, True),
        (True, [], {"TERM": "dumb"}, False),
        (True, ["--color", "never"], {}, False),
        (False, [], {}, False),
        (False, ["--color", "always"], {"NO_COLOR": "1"}, True),
        (True, ["-o", "json", "--color", "always"], {}, False),
    ],
)
def test_colour(
    monkeypatch: pytest.MonkeyPatch, terminal: bool, words: list[str], environment: dict[str, str], colored: bool
) -> None:
    monkeypatch.setattr(trace, "answer", lambda *_, **__: report("delivered"))
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    out = Terminal() if terminal else io.StringIO()
    assert run(["trace", "x", "--dump", "y", *words], out, io.StringIO()) == 0
    assert ("\x1b[" in out.getvalue()) is colored


def test_a_terminal_without_unicode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "answer", lambda *_, **__: report("delivered"))
    raw = io.BytesIO()
    with io.TextIOWrapper(raw, encoding="latin-1", write_through=True) as out:
        assert run(["trace", "x", "--dump", "y"], out, io.StringIO()) == 0
        assert b"something -> else" in raw.getvalue()


# ---------------------------------------------------------------- from one end to the other


@pytest.mark.parametrize("name", formats())
def test_every_format_on_a_real_dump(netk8s: Callable, corpus: Path, name: str) -> None:
    ran = netk8s(*QUESTION, "--dump", str(corpus / HEADLINE), "-o", name)
    assert (ran.status, ran.err) == (0, "")
    assert "10.244.1.5" in ran.out


def test_the_headline_question(netk8s: Callable, corpus: Path) -> None:
    ran = netk8s(*QUESTION, "--from", "192.168.52.50", "--dump", str(corpus / HEADLINE), "-o", "json")
    doc = json.loads(ran.out)
    jsonschema.validate(doc, json_schema(), cls=jsonschema.Draft202012Validator)
    seen = {o["endpoint"]["ip"]: (o["odds_exact"], o["source_seen"]["ip"]) for o in doc["outcomes"]}
    assert seen == {
        "10.244.1.5": ("1/3", "10.244.1.1"),
        "10.244.1.6": ("1/3", "10.244.1.1"),
        "10.244.2.5": ("1/3", "192.168.52.201"),
    }
    assert all(path < len(doc["paths"]) for o in doc["outcomes"] for path in o["paths"])


def test_real_text_fits_and_answers_first(netk8s: Callable, corpus: Path) -> None:
    ran = netk8s(*QUESTION, "--from", "192.168.52.50", "--dump", str(corpus / HEADLINE))
    lines = ran.out.splitlines()
    assert max(map(cells, lines)) <= 100
    words = " ".join(ran.out.split())
    assert (
        "1/3 (33.3%) delivered to 10.244.1.5:80 (pod default/nginx-7c5ddbdf54-4xk2p on k8s-node1); "
        "it sees 10.244.1.1, not the sender 192.168.52.50"
    ) in words
    assert lines.index("Answer") < lines.index("Way of the packet, hop by hop")


def test_a_single_file_from_standard_input(netk8s: Callable, corpus: Path) -> None:
    text = (corpus / HEADLINE / "nodes/k8s-node1/iptables-save.txt").read_bytes()
    ran = netk8s("trace", "svc/nginx", "--port", "30000", "--dump", "-", "-o", "json", stdin=text)
    assert ran.status in (0, 1, 6)
    assert {o["endpoint"]["ip"] for o in json.loads(ran.out)["outcomes"] if o["endpoint"]} == {
        "10.244.1.5", "10.244.1.6", "10.244.2.5",
    }  # fmt: skip


def test_what_is_not_there(netk8s: Callable, corpus: Path, tmp_path: Path) -> None:
    ran = netk8s("trace", "svc/nginks", "--port", "30000", "--dump", str(corpus / HEADLINE))
    assert (ran.status, ran.out) == (4, "")
    assert "nginx" in ran.err
    ran = netk8s("trace", "svc/nginx", "--dump", str(tmp_path / "absent"))
    assert (ran.status, ran.out) == (3, "")
    assert "absent" in ran.err
    broken = tmp_path / "broken"
    broken.write_text("*nat\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -j\n")
    ran = netk8s("trace", "10.0.0.1:80", "--dump", str(broken))
    assert (ran.status, ran.out) == (3, "")
    assert ran.err.startswith(f"netk8s: {broken}:")


def test_findings_decide_the_status_together(netk8s: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    base = report("delivered")
    errors = tuple(replace(base.findings[0], severity=severity) for severity in ("info", "error", "warning"))
    monkeypatch.setattr(trace, "answer", lambda *_, **__: replace(base, findings=errors))
    assert netk8s("trace", "x", "--dump", "y").status == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("svc/x", "--host", "h"), "go with ingress/NAME"),
        (("svc/x", "--name", "h"), "goes with the target dns"),
        (("ingress/x", "--path", "a"), "a path begins with /"),
        (("ingress/x", "--header", "a"), "--header is NAME:VALUE"),
    ],
)
def test_options_of_a_request_go_with_a_request(netk8s: Callable, words: tuple[str, ...], said: str) -> None:
    ran = netk8s("trace", *words, "--dump", "x")
    assert ran.status == 2
    assert said in ran.err


def test_a_pod_s_query_and_a_missing_ingress(netk8s: Callable, corpus: Path) -> None:
    dump = ("--dump", str(corpus / HEADLINE))
    ran = netk8s("trace", "ingress/shop", "--host", "h", "--path", "/", "--header", "a: b", *dump)
    assert ran.status == 4
    assert "kubectl get ingresses,ingressclasses" in ran.err
    ran = netk8s("trace", "dns", "--from", "client", *dump)
    assert ran.status == 2
    assert "--from pod/NAMESPACE/NAME" in ran.err


@pytest.mark.parametrize("others", [0, 1])
def test_a_file_that_nothing_knows_is_said_and_the_answer_goes_without_it(
    netk8s: Callable, tmp_path: Path, corpus: Path, others: int
) -> None:
    folder = shutil.copytree(corpus / HEADLINE, tmp_path / "cluster")
    (folder / "cluster/services.json").write_bytes(b"\x00\x01 no service")
    if others:
        (folder / "nodes/k8s-node2/ip-route.json").write_text("no route")
    ran = netk8s(*QUESTION, "--dump", str(folder))
    assert ran.status == 0
    (said,) = ran.err.splitlines()
    assert said.startswith("netk8s: cluster/services.json")
    assert "not a format netk8s knows" in said
    assert ("and 1 more" in said) == bool(others)
    assert said.endswith("is given without them" if others else "is given without it")


@pytest.mark.parametrize(
    "cut", ["cluster/services.json", "nodes/k8s-node1/ip-route.json", "nodes/k8s-node1/iptables-save.txt"]
)
def test_a_file_that_is_cut_off_is_no_answer(netk8s: Callable, tmp_path: Path, corpus: Path, cut: str) -> None:
    folder = shutil.copytree(corpus / HEADLINE, tmp_path / "cluster")
    text = (folder / cut).read_bytes()
    (folder / cut).write_bytes(text[: len(text) * 2 // 3])
    ran = netk8s(*QUESTION, "--dump", str(folder))
    assert ran.status == 3
    assert ran.out == ""
    assert re.match(rf"netk8s: {cut}:\d+: ", ran.err)
    assert "Traceback" not in ran.err
