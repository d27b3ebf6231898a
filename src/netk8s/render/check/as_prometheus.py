"""Metrics in Prometheus' text format 0.0.4, for node_exporter's textfile collector or a push.

Few series whatever the cluster's size: a Service port has as many as there are fates and severities.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from netk8s.checkup import Checkup, lines
from netk8s.render._page import printable
from netk8s.render.document import protocol_name

_FATES = ("arrives", "fails", "unknown")

Labels = tuple[tuple[str, str], ...]


def render(found: Checkup, *, width: int = 100, ascii: bool = False) -> str:
    """Gauges: flows of each Service port by what becomes of them, findings by code."""
    flows: dict[Labels, int] = {}
    for line in lines(found):
        port, fails = line.port, line.asked - line.arrive - line.unknown
        for fate, number in zip(_FATES, (line.arrive, fails, line.unknown), strict=True):
            flows[_port(port.service, port.name, port.protocol, fate)] = number
    codes: Counter[Labels] = Counter()
    shown: Counter[Labels] = Counter()
    for problem in found.problems:
        labels = (("code", problem.finding.code), ("severity", problem.finding.severity))
        codes[labels] += 1
        shown[labels] += problem.flows
    severities = [problem.finding.severity for problem in found.problems]
    parts = [
        _gauge("netk8s_check_nodes", "Nodes whose dumps were checked.", [((), len(found.nodes))]),
        _gauge("netk8s_check_service_flows", "Flows of a Service port by what becomes of them.", flows.items()),
        _gauge("netk8s_check_findings", "Findings by their code.", codes.items()),
        _gauge("netk8s_check_finding_flows", "Flows that show a finding.", shown.items()),
        _gauge(
            "netk8s_check_findings_by_severity", "Findings by their severity.",
            [((("severity", name),), severities.count(name)) for name in ("error", "warning", "info")],
        ),
    ]  # fmt: skip
    return "".join(parts)


def _port(service: str, name: str, protocol: int, fate: str) -> Labels:
    return (("service", service), ("port", name), ("protocol", protocol_name(protocol)), ("fate", fate))


def _gauge(name: str, text: str, values: Iterable[tuple[Labels, int]]) -> str:
    rows = [f"# HELP {name} {text}", f"# TYPE {name} gauge"]
    for labels, value in values:
        told = ",".join(f'{key}="{_escaped(word)}"' for key, word in labels)
        rows.append(f"{name}{{{told}}} {value}" if told else f"{name} {value}")
    return "\n".join(rows) + "\n"


def _escaped(word: str) -> str:
    return printable(word).replace("\\", "\\\\").replace('"', '\\"')
