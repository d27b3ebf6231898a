"""A snapshot without its names and addresses, which is traced as the one it was made of.

Everything is replaced alike in every text, under a key that is drawn anew each time and kept nowhere. What no decoder
knows is left out, for nobody can tell what it holds.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping

from msgspec import Struct
from msgspec.structs import replace

from netk8s import decode
from netk8s.decode import kubectl
from netk8s.model import Dump, Missing, Snapshot
from netk8s.redact import _objects
from netk8s.redact._addresses import Addresses, special
from netk8s.redact._names import Names, known
from netk8s.redact._texts import Texts, devices, ranges, subnets

_TRIES = 8
_PART = re.compile(r"[^\W_]+")
_FILES = frozenset(
    """
    iptables ip6tables ip iptables4 ip6 save legacy nft counters ruleset hooks link addr address route routes
    route6 rule rules neigh bridge fdb vlan sysctl listening ss conntrack ipset ipvsadm ln sn stats services
    endpointslices pods nodes networkpolicies namespaces ingresses ingressclasses gateways gatewayclasses
    httproutes referencegrants configmaps cluster observation snapshot txt json yaml yml gz zst stdin dump
    xtables nf tables mangle raw filter nat
    """.split()  # noqa: SIM905 - read as words
)


class Redacted(Struct, frozen=True):
    """``names`` and ``addresses``: what stood there, and what stands there now. ``left_out``: why, for each text."""

    snapshot: Snapshot
    names: Mapping[str, str]
    addresses: Mapping[str, str]
    left_out: tuple[str, ...]


def redact(snapshot: Snapshot, key: bytes | None = None) -> Redacted:
    """The snapshot with other names and addresses. ``key``: at most 64 random bytes, None to draw them.

    Raises DecodeError for a list of objects that cannot be read.
    """
    if key is not None:
        return Redaction(snapshot, key).redacted()
    for _ in range(_TRIES):
        found = Redaction(snapshot, secrets.token_bytes(32)).redacted()
        # Two names of which one stands for both would join what is apart.
        if len(set(found.names.values())) == len(found.names) and not known() & set(found.names.values()):
            break
    return found


class Redaction:
    """One key and one snapshot: the first look at all texts, then the words of each."""

    def __init__(self, snapshot: Snapshot, key: bytes) -> None:
        self._snapshot = snapshot
        self._api: dict[int, bool] = {}
        seen_subnets: set[str] = set()
        seen_ranges: set[tuple[str, str]] = set()
        seen_devices: set[str] = set()
        for i, dump in enumerate(snapshot.dumps):
            decoder = decode.recognise(dump)
            if decoder is None and bytes(dump.data[:256]).strip() not in (b"", b"[]"):
                continue
            self._api[i] = decoder is kubectl
            text = _text(dump)
            seen_subnets.update(subnets(text))
            seen_ranges.update(ranges(text))
            if not self._api[i]:
                seen_devices.update(devices(text))
        self.addresses = Addresses(key, seen_subnets, seen_ranges)
        self.names = Names(key, frozenset(seen_devices - known()))
        self.texts = Texts(self.addresses, self.names)
        for i, dump in enumerate(snapshot.dumps):
            if self._api.get(i):
                for value in _objects.read(dump):
                    for service, port in _objects.services(value):
                        self.texts.service(service, port)
                    for namespace, name in _objects.named(value, "Pod"):
                        self.names.pod(namespace, name)
                    for namespace, name in _objects.named(value, "NetworkPolicy"):
                        self.texts.policy(namespace, name)
            elif i in self._api:
                self.texts.hashes(_text(dump))

    def redacted(self) -> Redacted:
        """The snapshot in other words."""
        objects = _objects.Objects(self.texts)
        dumps: dict[int, Dump] = {}
        left_out = []
        # Objects first: what they are called is then known in everybody's comments.
        for i in sorted(self._api, key=lambda i: (not self._api[i], i)):
            dump = self._snapshot.dumps[i]
            text = objects.text(dump) if self._api[i] else self.texts.syntax(_text(dump))
            dumps[i] = replace(
                dump, origin=self._origin(dump), data=text.encode("utf-8", "surrogateescape"),
                node=self.texts.name(dump.node) if dump.node is not None else None,
                pod=self.texts.name(dump.pod) if dump.pod is not None else None, source=self.texts.message(dump.source),
            )  # fmt: skip
        missing = [
            replace(gap, what=self.texts.message(gap.what), needed_for=self.texts.message(gap.needed_for),
                    node=self.texts.name(gap.node))
            for gap in self._snapshot.missing
        ]  # fmt: skip
        for i, dump in enumerate(self._snapshot.dumps):
            if i not in self._api:
                left_out.append(f"{dump.origin}: not a format netk8s knows")
                missing.append(Missing(f"{self._origin(dump)} (left out: unknown format)", "what it may hold"))
        left_out += [f"{kind} objects: not needed for an answer" for kind in sorted(objects.left_out)]
        kept = Snapshot(tuple(dumps[i] for i in sorted(dumps)), tuple(missing))
        return Redacted(kept, self.names.changed, self.addresses.changed, tuple(left_out))

    def _origin(self, dump: Dump) -> str:
        """The name of the file alone. Its tools' words stay: which backend an iptables-save is of stands there."""
        name = dump.origin.rstrip("/").rpartition("/")[2]
        return _PART.sub(lambda part: part[0] if part[0].lower() in _FILES else self.texts.name(part[0]), name)


def _text(dump: Dump) -> str:
    return bytes(dump.data[:]).decode("utf-8", "surrogateescape")


__all__ = ["Redacted", "Redaction", "redact", "special"]
