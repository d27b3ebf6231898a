"""The cluster's objects, cut to what an answer needs, and each of their words replaced that is not the API's own."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from netk8s.decode import _endpoints, _json, _policies, _yaml, kubectl
from netk8s.dialects._parts import controllers
from netk8s.live import objects
from netk8s.model import Dump
from netk8s.redact._names import known
from netk8s.redact._texts import Texts

_NAMED = {"name": True, "namespace": True, "labels": True}
_KEPT: dict[str, Mapping[str, Any]] = {
    **{kind.name: kind.keep for kind in objects.ALL},
    **{name: {"metadata": _NAMED, "spec": True} for name in _policies.OTHERS},
    "ConfigMap": {"metadata": _NAMED, "data": True},
    "Endpoints": {"metadata": {**_NAMED, "annotations": {_endpoints.OVER: True}}, "subsets": True},
    "Node": {
        "metadata": _NAMED,
        "spec": {"podCIDR": True, "podCIDRs": True},
        "status": {"addresses": True, "nodeInfo": {"kubeProxyVersion": True}},
    },
}
_WORDS = frozenset(
    """
    apiVersion kind type protocol addressType sessionAffinity externalTrafficPolicy internalTrafficPolicy
    ipFamilies ipFamilyPolicy phase dnsPolicy ipMode restartPolicy pathType operator policyTypes effect from
    action group mode trafficDistribution appProtocol status reason method apiGroup kubeProxyVersion scope
    """.split()  # noqa: SIM905 - read as words
)
"""Members whose values are words of the API."""
_MAPS = frozenset({"labels", "matchLabels", "selector", "annotations", "deprecatedTopology", "topology"})
_CLASSES = frozenset({"ingressClassName", "gatewayClassName", "kubernetes.io/ingress.class"})
_CONTROLLERS = frozenset({"controller", "controllerName"})
_KNOWN_CONTROLLERS = frozenset(name for each in controllers.KNOWN for name in each.names)
_KNOWN_CLASSES = frozenset(name for each in controllers.KNOWN for name in each.old)
_KNOWN_LABELS = frozenset(label for each in controllers.KNOWN for labels in each.labels for label in labels)
_TRUNCATED = (_endpoints.OVER, "truncated")
_SETTINGS = frozenset(name for each in controllers.KNOWN for name in (each.trusts, each.proxy) if name)
_MEMBER = re.compile(r"[a-z][A-Za-z0-9]*")
_PUBLIC_KEY = re.compile(
    r"(?:[a-z0-9-]+\.)*(?:kubernetes\.io|k8s\.io)/[\w.-]+|app|k8s-app|name|component|run|tier|role"
)
_DOMAIN = re.compile(r"^\s*kubernetes\s+([A-Za-z0-9][-A-Za-z0-9.]*)", re.M)


class Objects:
    """The objects of one redaction."""

    def __init__(self, texts: Texts) -> None:
        self._texts = texts
        self.left_out: set[str] = set()

    def text(self, dump: Dump) -> str:
        """A dump of objects, as a list with an object a line, or objects by themselves. Raises DecodeError."""
        return "".join(self._value(value) for value in read(dump) if isinstance(value, dict))

    def _value(self, value: dict[str, Any]) -> str:
        name = value.get("kind")
        name = name if isinstance(name, str) else ""
        if "items" not in value and not name.endswith("List"):
            kept = self._object(value, name)
            return "" if kept is None else json.dumps(kept) + "\n"
        listed = name.removesuffix("List")
        items = [i for i in value.get("items") or () if isinstance(i, dict)]
        kept_items = [self._object(item, str(item.get("kind") or listed)) for item in items]
        lines = ",\n".join(json.dumps(item) for item in kept_items if item is not None)
        kind = name if not listed or listed in _KEPT else "List"
        version = value.get("apiVersion") if listed in _KEPT else "v1"
        return f'{{"apiVersion":{json.dumps(version or "v1")},"kind":{json.dumps(kind or "List")},"items":[\n{lines}\n]}}\n'

    def _object(self, item: dict[str, Any], kind: str) -> dict[str, Any] | None:
        if kind not in _KEPT:
            if kind:
                self.left_out.add(kind)
            return None
        kept = objects.kept(item, _KEPT[kind])
        if kind == "ConfigMap":
            kept["data"] = self._settings(kept.get("data"))
        group = item.get("apiVersion")
        out = {"apiVersion": group, "kind": kind, **kept}
        changed = self._changed(out, "")
        if kind in ("IngressClass", "GatewayClass") and isinstance(kept.get("metadata"), dict):
            changed["metadata"]["name"] = self._class(str(kept["metadata"].get("name")))
        return changed if isinstance(changed, dict) else None

    def _settings(self, data: object) -> dict[str, str]:
        """Of a ConfigMap the few settings that decide an answer: it may hold anything else."""
        out = {}
        for key, text in data.items() if isinstance(data, dict) else ():
            if key in _SETTINGS and str(text).lower() in ("true", "false"):
                out[key] = text
            elif key == "Corefile" and isinstance(text, str) and (found := _DOMAIN.search(text)):
                out[key] = f"kubernetes {self._texts.name(found[1])}\n"
        return out

    def _changed(self, value: Any, key: str) -> Any:
        if isinstance(value, dict):
            if key in _MAPS:
                return {self._label(k): self._labelled(k, v) for k, v in value.items()}
            if key == "data":
                return value
            return {
                k if _MEMBER.fullmatch(k) else self._label(k): self._changed(v, k)
                for k, v in value.items()
            }  # fmt: skip
        if isinstance(value, list):
            return [self._changed(each, key) for each in value]
        return self._text(value, key) if isinstance(value, str) else value

    def _text(self, text: str, key: str) -> str:
        if key in _WORDS and all(word in known() or word[0].isupper() or not word.isalpha() for word in _words(text)):
            return text
        if key in _CLASSES:
            return self._class(text)
        if key in _CONTROLLERS and text in _KNOWN_CONTROLLERS:
            return text
        if text in ("None", "*", ""):
            return text
        return self._label(text) if key == "key" else self._texts.name(text)

    def _class(self, text: str) -> str:
        return text if text in _KNOWN_CLASSES else self._texts.name(text)

    def _label(self, key: str) -> str:
        return key if _PUBLIC_KEY.fullmatch(key) or key in _public_labels() else self._texts.name(key)

    def _labelled(self, key: str, value: Any) -> Any:
        if (key, value) in (*_KNOWN_LABELS, _TRUNCATED) or not isinstance(value, str) or value in ("true", "false"):
            return value if not isinstance(value, dict | list) else self._changed(value, key)
        return self._text(value, key)


def _words(text: str) -> list[str]:
    return re.findall(r"[\w-]+", text)


def _public_labels() -> frozenset[str]:
    return frozenset({key for key, _ in _KNOWN_LABELS} | set(controllers.OF_GATEWAY) | set(objects.ROUTING))


def read(dump: Dump) -> Iterator[Any]:
    """The values of a dump of objects. Raises DecodeError."""
    start = bytes(dump.data[:4096]).lstrip()[:1]
    found = _json.values(dump, kubectl.COMMAND) if start == b"{" else _yaml.documents(dump)
    for _, value in found:
        yield value


def services(value: Any) -> Iterator[tuple[str, str]]:
    """("namespace/name", the port's name) of the Services of a value."""
    for item in _items(value, "Service"):
        metadata, spec = item.get("metadata") or {}, item.get("spec") or {}
        for port in spec.get("ports") or ():
            if isinstance(port, dict):
                yield f"{metadata.get('namespace') or 'default'}/{metadata.get('name')}", str(port.get("name") or "")


def named(value: Any, kind: str) -> Iterator[tuple[str, str]]:
    """(namespace, name) of the objects of a kind in a value."""
    for item in _items(value, kind):
        metadata = item.get("metadata") or {}
        yield str(metadata.get("namespace") or "default"), str(metadata.get("name"))


def _items(value: Any, kind: str) -> Iterator[dict[str, Any]]:
    if not isinstance(value, dict):
        return
    listed = str(value.get("kind") or "").removesuffix("List")
    for item in value.get("items") or () if "items" in value else (value,):
        if isinstance(item, dict) and (item.get("kind") or listed) == kind and isinstance(item.get("metadata"), dict):
            yield item
