from __future__ import annotations

import json

import yaml

from netk8s.checkup import Checkup
from netk8s.render import check


def test_the_same_document_in_yaml(hostile: Checkup) -> None:
    assert yaml.safe_load(check.render(hostile, "yaml")) == json.loads(check.render(hostile, "json"))
