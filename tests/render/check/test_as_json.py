from __future__ import annotations

import json

from netk8s.checkup import Checkup
from netk8s.render import check


def test_one_json_document(found: Checkup, hostile: Checkup) -> None:
    document = json.loads(check.render(found, "json"))
    assert document["schema"] == "netk8s.dev/check/v1"
    assert {service["service"] for service in document["services"]} == {"default/nginx", "default/web-local"}
    assert json.loads(check.render(hostile, "json"))["findings"][0]["code"] == "NK999"
