"""The rendered overlays, and what may be changed in them."""

from __future__ import annotations

import re
from importlib import resources

IMAGE = "netk8s-agent:0.1.0"
_WORD = re.compile(r"[a-z0-9][A-Za-z0-9._:/@-]*")


def overlays() -> list[str]:
    """The names of the overlays, in order."""
    found = resources.files("netk8s.manifests").iterdir()
    return sorted(entry.name.removesuffix(".yaml") for entry in found if entry.name.endswith(".yaml"))


def rendered(overlay: str, image: str = IMAGE) -> str:
    """An overlay's objects as YAML. Raises ValueError for what is no image's name."""
    if not _WORD.fullmatch(image):
        raise ValueError(image)
    text = resources.files("netk8s.manifests").joinpath(f"{overlay}.yaml").read_text(encoding="utf-8")
    return text.replace(f"image: {IMAGE}\n", f"image: {image}\n")
