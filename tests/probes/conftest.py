"""The probes are a part of their own: where it is not installed, ``test_installed.py`` says so for all of its tests."""

from __future__ import annotations

import sys
from importlib.util import find_spec

INSTALLED = find_spec("netk8s_probes") is not None and sys.platform == "linux"

collect_ignore = [] if INSTALLED else ["test_plan.py", "test_run.py", "test_wire.py"]
