"""``netk8s uninstall``: each object that ``install`` may have made, once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import yaml

from netk8s.cli import _manifests


def names(text: str) -> Counter[Any]:
    return Counter((one["kind"], one["metadata"]["name"]) for one in yaml.safe_load_all(text))


def test_it_names_all_that_install_made(netk8s: Callable) -> None:
    gone = names(netk8s("uninstall").out)
    assert set(gone.values()) == {1}
    for overlay in _manifests.overlays():
        assert set(names(netk8s("install", "--overlay", overlay).out)) <= set(gone)
