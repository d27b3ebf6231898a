"""The document is what its schema says, for any text."""

from __future__ import annotations

import jsonschema
import msgspec
import pytest

from netk8s.checkup import Checkup
from netk8s.render.check.document import Checked, checked
from netk8s.render.document import json_schema


@pytest.mark.parametrize("which", ["found", "hostile", "nothing"])
def test_the_document_fits_its_schema(which: str, request: pytest.FixtureRequest) -> None:
    schema = json_schema(Checked)
    jsonschema.Draft202012Validator.check_schema(schema)
    document = msgspec.json.decode(msgspec.json.encode(checked(request.getfixturevalue(which))))
    jsonschema.validate(document, schema, cls=jsonschema.Draft202012Validator)


def test_counts_agree_with_the_lists(found: Checkup) -> None:
    document = checked(found)
    total = document.summary
    assert total.flows == len(document.flows) == total.arrive + total.fail + total.unknown
    assert total.errors + total.warnings + total.infos == len(document.findings)
    assert total.flows == sum(service.flows for service in document.services)
    for number, finding in enumerate(document.findings):
        assert finding.flows == sum(number in flow.findings for flow in document.flows)
    assert all(flow.ask[0] for flow in document.flows)
