"""What ``netk8s diff`` prints: the flows that come out differently, then what the snapshots say differently."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from netk8s.changes import KINDS, Change, Changes
from netk8s.comparison import Comparison
from netk8s.render._page import Page
from netk8s.render.compared import Compared, compared, explained, several, summed
from netk8s.render.document import utf8

SCHEMA: Literal["netk8s.dev/diff/v1"] = "netk8s.dev/diff/v1"

MOST_LINES = 20
"""Of one kind, in text."""


class Changed(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that differs. A null side: that snapshot does not have it."""

    kind: Literal[
        "node", "Service", "endpoint", "NetworkPolicy", "namespace", "pod", "programmed", "rule", "set", "route",
        "routing rule", "device", "address", "sysctl",
    ]  # fmt: skip
    name: str
    field: Annotated[str, Meta(description="What of it; empty: the whole, or its one value")]
    a: str | None
    b: str | None
    nodes: Annotated[list[str], Meta(description="Where; empty for an object of the API")]


class Diffed(msgspec.Struct, frozen=True, kw_only=True):
    """How two snapshots of one cluster differ by meaning."""

    schema: Literal["netk8s.dev/diff/v1"] = SCHEMA
    a: str
    b: str
    outcomes: Compared
    changes: list[Changed]
    uncompared: Annotated[list[str], Meta(description="What only one snapshot has a dump of")]


def diffed(outcomes: Comparison, found: Changes, a: str, b: str) -> Diffed:
    """The document of ``netk8s diff -o json``. ``a`` and ``b`` are the snapshots' names."""
    return Diffed(
        a=utf8(a), b=utf8(b), outcomes=compared(outcomes, a, b), changes=[_changed(each) for each in found.found],
        uncompared=[utf8(text) for text in found.uncompared],
    )  # fmt: skip


def as_json(outcomes: Comparison, found: Changes, a: str, b: str) -> str:
    """The document, indented."""
    return msgspec.json.format(msgspec.json.encode(diffed(outcomes, found, a, b)), indent=1).decode() + "\n"


def as_yaml(outcomes: Comparison, found: Changes, a: str, b: str) -> str:
    """The same document in YAML."""
    import yaml  # 40 ms that only this format has to pay

    document = msgspec.to_builtins(diffed(outcomes, found, a, b))
    return str(yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=100))


def _changed(change: Change) -> Changed:
    return Changed(
        kind=change.kind,  # type: ignore[arg-type]
        name=utf8(change.name), field=change.field, a=utf8(change.a) or None, b=utf8(change.b) or None,
        nodes=[utf8(name) for name in change.nodes],
    )  # fmt: skip


def as_text(outcomes: Comparison, found: Changes, a: str, b: str, *, width: int = 100, ascii: bool = False) -> str:
    """The flows that come out differently, a line for each thing that changed, then why the flows do."""
    page = Page(width, ascii=ascii)
    page.put(a, first="A  ")
    page.put(b, first="B  ")
    summed(page, outcomes)
    listed(page, found)
    explained(page, outcomes)
    return page.text().rstrip("\n") + "\n"


def listed(page: Page, found: Changes) -> None:
    """What the snapshots say differently: ``+`` only B has it, ``-`` only A, ``~`` both, with both values."""
    page.blank()
    if not found.found:
        page.put("Objects, programmed Services, other rules, routes, devices, addresses and sysctls: no difference")
    for kind in KINDS:
        lines = list(_folded(each for each in found.found if each.kind == kind))
        if not lines:
            continue
        page.title(_TITLES[kind])
        for mark, text in lines[:MOST_LINES]:
            page.put(text, first=f"  {mark} ", rest="      ")
        if len(lines) > MOST_LINES:
            page.put(f"and {len(lines) - MOST_LINES} more: -o json has all", first="    ")
    if found.uncompared:
        page.title("Not compared")
        page.bullets(found.uncompared)


_TITLES = {
    "node": "Nodes", "Service": "Services", "endpoint": "Endpoints", "NetworkPolicy": "NetworkPolicies",
    "namespace": "Namespaces", "pod": "Pods", "programmed": "Services as nodes' rules have them",
    "rule": "Other rules", "set": "Sets", "route": "Routes", "routing rule": "Routing rules", "device": "Devices",
    "address": "Addresses", "sysctl": "Sysctls",
}  # fmt: skip


def _folded(found: Iterable[Change]) -> Iterator[tuple[str, str]]:
    """(mark, line): things that differ alike are one line."""
    alike: dict[tuple[str, str, str, tuple[str, ...]], list[str]] = {}
    for each in found:
        alike.setdefault((each.field, each.a, each.b, each.nodes), []).append(each.name)
    for (field, a, b, nodes), names in alike.items():
        where = f" (on {several(nodes)})" if nodes else ""
        what = f" {field}" if field else ""
        name = f"{several(names)}{what}"
        if a and b:
            yield "~", f"{name}: {a} → {b}{where}"
        else:
            text = a or b
            yield "-" if a else "+", f"{name}{'' if text == 'present' else ': ' + text}{where}"


__all__ = ["Diffed", "as_json", "as_text", "as_yaml", "diffed", "listed"]
