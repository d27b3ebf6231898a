"""Checkups for the formats: one of a recorded cluster, one of hostile words."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
from msgspec.structs import replace

from netk8s import decode, dialects, snapshot
from netk8s.checkup import Checkup, Problem, check
from netk8s.model import Finding

HOSTILE = "<script>alert(1)</script> & ]]> \x1b[31m \u202e 'quoted' \"so\" \\ \n# HELP x\udce9"


@functools.cache
def _checked(case: Path) -> Checkup:
    world = dialects.complete(decode.decode(snapshot.read([str(case)])))
    return check(world, lambda ports: [p.key for p in ports if p.service in ("default/nginx", "default/web-local")])


@pytest.fixture
def found(corpus: Path) -> Checkup:
    """Two Services of a cluster one node of which has stale rules."""
    return _checked(corpus / "broken-stale-node")


@pytest.fixture
def hostile(found: Checkup) -> Checkup:
    """The same with text that tries to be something else, wherever a dump's text may come."""
    finding = Finding("NK999", "error", HOSTILE, (f"{HOSTILE}:7", HOSTILE), HOSTILE, proven=False)
    port = replace(found.ports[0], service=HOSTILE, name=HOSTILE)
    asked = tuple(
        replace(each, question=replace(each.question, port=port), problems=(0,))
        if each.question.port.key == found.ports[0].key
        else replace(each, problems=())
        for each in found.asked
    )
    problems = (Problem(finding, (HOSTILE,), (HOSTILE,), 3, asked[0].question), Problem(finding))
    return replace(
        found, nodes=(HOSTILE,), ports=(port, *found.ports[1:]), asked=asked, problems=problems, notes=(HOSTILE,),
        stands_for=((HOSTILE, (HOSTILE,)),),
    )  # fmt: skip


@pytest.fixture
def nothing(found: Checkup) -> Checkup:
    """No Service, no finding."""
    return replace(found, nodes=(), ports=(), asked=(), problems=(), notes=(), stands_for=(), missing=())
