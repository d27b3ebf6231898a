"""A plugin is a module: its file being in a package registers it, its agreed names are its interface."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from types import ModuleType


def modules(package_name: str) -> list[ModuleType]:
    """The plugin modules of a package such as ``netk8s.decode``, imported and sorted by name.

    Names that start with ``_`` are the package's own and no plugins. A package within the package counts
    as one module. Raises ImportError as the plugin itself does: a broken plugin is never left out silently.
    """
    return list(_modules(package_name))


@cache
def _modules(package_name: str) -> tuple[ModuleType, ...]:
    package = importlib.import_module(package_name)
    names = sorted(found.name for found in pkgutil.iter_modules(package.__path__) if not found.name.startswith("_"))
    return tuple(importlib.import_module(f"{package_name}.{name}") for name in names)
