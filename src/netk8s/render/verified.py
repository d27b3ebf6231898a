"""What ``netk8s verify`` prints: the prediction beside what was observed, claim by claim and rule by rule."""

from __future__ import annotations

import json
from typing import Literal

from netk8s.render._page import Page, cells
from netk8s.render._words import address, protocol
from netk8s.verification import Row, Verification

SCHEMA: Literal["netk8s.dev/verification/v1"] = "netk8s.dev/verification/v1"

_AGREES = {True: "agrees", False: "DIFFERS", None: "not compared"}
_STYLE = {True: "green", False: "bold red", None: "yellow"}


def as_text(found: Verification, *, width: int = 100, color: bool = False, ascii: bool = False) -> str:
    """For a person at a terminal."""
    page = Page(width, color=color, ascii=ascii)
    sent = found.observation.sent
    page.put(
        f"{found.flow.target}: {protocol(sent)} {address(sent.src, sent.sport)} → {address(sent.dst, sent.dport)}",
        style="bold",
    )
    page.put(f"from {found.flow.source}, sent {found.observation.time or 'at a time nobody wrote down'}", first="  ")
    page.blank()
    text, agrees = summary(found)
    page.put(text, first="  ", style=_STYLE[agrees])
    for difference in found.differences:
        page.put(difference.text, first="  - ", style="red")
        if difference.evidence:
            page.put(", ".join(difference.evidence), first="    seen at: ")
    if found.claims:
        page.title("Predicted and observed")
        _claims(page, found)
    if found.rows:
        page.title("Rule by rule: predicted from the dumps, observed in the kernel's own trace")
        _rows(page, found)
    elif not found.observation.traced:
        page.title("Rule by rule")
        page.put("not compared: no kernel was asked to trace this packet", first="  ")
    if found.answers:
        page.title("What the prediction could not know, and the observation fits")
        page.bullets(found.answers)
    if found.assumptions:
        page.title("Taken for granted, because no dump says it")
        page.bullets(found.assumptions)
    return page.text()


def summary(found: Verification) -> tuple[str, bool | None]:
    """The answer in one sentence, and whether it is agreement (None: nothing could be compared)."""
    if found.way is None:
        return "not compared: no way was predicted", None
    which = f" ({found.possible} ways were possible, and it was one of them)" if found.possible > 1 else ""
    if found.differences:
        nearest = f"; compared with the nearest of {found.possible} predicted ways" if found.possible > 1 else ""
        return f"not as predicted{nearest}:", False
    if not found.compared:
        return "not compared: the observation and the prediction speak of different things", None
    rules = sum(row.predicted is not None for row in found.rows)
    matched = f", {rules} rules matched in the same order" if found.rows else ""
    return f"as predicted{which}{matched}", True


def _claims(page: Page, found: Verification) -> None:
    rows = [("", "predicted", "observed", "")]
    rows += [
        (c.subject, c.predicted + (" [assumed]" if c.basis == "assumed" else ""), c.observed, _AGREES[c.agrees])
        for c in found.claims
    ]
    cleaned = [tuple(page.clean(cell) for cell in row) for row in rows]
    widths = [max(cells(row[column]) for row in cleaned) for column in range(3)]
    fits = sum(widths) + 20 <= page.width
    for number, row in enumerate(cleaned):
        style = "" if number == 0 else _STYLE[found.claims[number - 1].agrees]
        if fits:
            padded = [cell + " " * (wide - cells(cell)) for cell, wide in zip(row, widths, strict=False)]
            page.raw(f"  {'  '.join(padded)}  {page.paint(row[3], style)}")
        elif number:
            page.put(f"{row[0]}: predicted {row[1]}, observed {row[2]}: {row[3]}", first="  ", rest="    ")


def _rows(page: Page, found: Verification) -> None:
    node = ""
    for row in found.rows:
        if row.node != node:
            node = row.node
            page.put(f"on {node}", first="  ", style="bold")
        words, style = _side(row)
        rule = row.predicted or row.observed or ""
        text = rule.removeprefix(f"-A {row.chain} ")
        page.put(f"{row.table} {row.chain}: {text}", first=f"  {words:<10}", rest=" " * 14, style=style)


def _side(row: Row) -> tuple[str, str]:
    if row.predicted is not None and row.observed is not None:
        return ("assumed=" if row.basis == "assumed" else "both"), ""
    if row.predicted is not None:
        return row.basis, "red"
    return ("observed", "dim") if row.idle else ("observed", "red")


def as_json(found: Verification) -> str:
    """For a program."""
    document = {
        "schema": SCHEMA,
        "target": found.flow.target,
        "source": found.flow.source,
        "agrees": summary(found)[1],
        "summary": summary(found)[0],
        "way": found.way,
        "possible_ways": found.possible,
        "claims": [
            {"subject": c.subject, "predicted": c.predicted, "observed": c.observed, "agrees": c.agrees,
             "basis": c.basis}
            for c in found.claims
        ],
        "rules": [
            {"node": r.node, "table": r.table, "chain": r.chain, "predicted": r.predicted, "observed": r.observed,
             "basis": r.basis, "at": r.at or None, "agrees": r.agrees}
            for r in found.rows
        ],
        "differences": [{"about": d.about, "text": d.text, "evidence": list(d.evidence)} for d in found.differences],
        "answers": list(found.answers),
        "assumptions": list(found.assumptions),
    }  # fmt: skip
    return json.dumps(document, ensure_ascii=False, indent=1) + "\n"
