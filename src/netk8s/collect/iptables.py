"""The rules of iptables' two backends, as their own save programs print them.

Nothing is changed: asking iptables-legacy-save for a table that is not there would register it, so the kernel's list of
registered tables is read first. What iptables-nft-save prints belongs to the ruleset of nftables and is taken with it
(:mod:`.nftables`). Which backend is Kubernetes' own is told by iptables-wrappers' rule: where kubelet left its hint or
canary chain.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from msgspec.structs import replace

from netk8s.collect import _legacy, _python_iptables
from netk8s.collect._text import Gap, Source, Text, command, first_of, output
from netk8s.errors import CollectError

NEEDED_FOR = "the rules the packet meets"
PROGRAMS = {4: "iptables", 6: "ip6tables"}
_KUBELET = re.compile(rb"^:KUBE-(?:IPTABLES-HINT|KUBELET-CANARY) ", re.MULTILINE)
_KUBE_PROXY = re.compile(rb"^-A KUBE-SERVICES ", re.MULTILINE)


def texts() -> Iterator[Text | Gap]:
    """The legacy tables of each family."""
    for family in PROGRAMS:
        yield from legacy_saved(family)


def saved(family: int) -> Iterator[Text | Gap]:
    """The texts of one family's backends, nft's first."""
    yield from nft_saved(family)
    yield from legacy_saved(family)


def nft_saved(family: int) -> Iterator[Text | Gap]:
    """The tables of iptables-nft, under the name that stands for the default backend; nothing without its program."""
    name = PROGRAMS[family]
    nft = program(name, "nft")
    if nft:
        yield _owned(first_of(f"{name}-save.txt", command(nft)))


def legacy_saved(family: int) -> Iterator[Text | Gap]:
    """The legacy tables, where some are registered; a gap where no program of either backend is there."""
    name = PROGRAMS[family]
    nft, legacy = program(name, "nft"), program(name, "legacy")
    try:
        registered = legacy_tables(family)
    except CollectError as error:
        yield Gap(f"{name}-legacy-save.txt", str(error))
        registered = ()
    if registered:
        legacy_name = f"{name}-{'legacy-' if nft else ''}save.txt"
        library = Source("python-iptables", lambda: _python_iptables.saved(family, registered))
        yield _owned(first_of(legacy_name, command(legacy or f"{name}-legacy-save"), library))
    elif not nft and not legacy:
        yield first_of(f"{name}-save.txt", command(f"{name}-save"))


def signature() -> bytes:
    """The legacy tables without their counters. Raises CollectError."""
    return b"".join(_legacy.signature(family, table) for family in PROGRAMS for table in legacy_tables(family))


def legacy_tables(family: int) -> tuple[str, ...]:
    """The tables of iptables-legacy that exist in this namespace. Raises CollectError where that may not be read."""
    path = f"/proc/thread-self/net/{'ip' if family == 4 else 'ip6'}_tables_names"
    try:
        return tuple(Path(path).read_text().split())
    except FileNotFoundError:
        # The list is there once the module is.
        return ()
    except OSError as error:
        raise CollectError(f"{path}: {error.strerror}; that needs root") from None


def program(name: str, backend: str) -> str:
    """The -save program of a backend, "" if there is none: by its own name, else by what the plain one says it is."""
    own = shutil.which(f"{name}-{backend}-save")
    if own:
        return own
    plain = shutil.which(f"{name}-save")
    if not plain:
        return ""
    try:
        version = output((plain, "-V")).decode("utf-8", "replace")
    except CollectError:
        return ""
    # Before 1.8 there was one backend, and the version did not name it.
    return plain if ("nf_tables" in version) == (backend == "nft") else ""


def _owned(found: Text | Gap) -> Text | Gap:
    return replace(found, source=found.source + _owner(found.data)) if isinstance(found, Text) else found


def _owner(text: bytes) -> str:
    """Whose chains a text has, for who reads the snapshot."""
    found = [name for name, mark in (("kubelet", _KUBELET), ("kube-proxy", _KUBE_PROXY)) if mark.search(text)]
    return f" (has {' and '.join(found)}'s chains)" if found else ""
