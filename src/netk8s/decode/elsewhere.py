"""What a check of one node is told of the other nodes' pods: netk8s.dev/elsewhere/v1, written by netk8s.elsewhere."""

from __future__ import annotations

from collections.abc import Iterator

from netk8s.decode._json import JsonObject, address, documents, head, outer_keys
from netk8s.model import PROTOCOL_NAMES, Dump, Elsewhere, Fact, Pod

NAME = "elsewhere"
COMMAND = "netk8s check --beside"
SCHEMA = "netk8s.dev/elsewhere/v1"


def sniff(dump: Dump) -> bool:
    """A JSON object with the schema's name, of whatever version."""
    return b"netk8s.dev/elsewhere/" in head(dump) and "schema" in outer_keys(dump, "{")


def decode(dump: Dump) -> Iterator[Fact]:
    """One Elsewhere per document. Raises DecodeError."""
    for document in documents(dump, COMMAND, SCHEMA, "sends"):
        kinds = list(document.children("pods"))
        yield Elsewhere(
            frozenset(document.addrs("addresses")),
            tuple(pod for each in kinds for pod in _pods(each, "endpoints", 0)),
            tuple(pod for each in kinds for pod in _pods(each, "clients", 2)),
            document.texts("idle"),
            document.at,
        )


def _pods(of: JsonObject, key: str, names: int) -> Iterator[Pod]:
    """Pods by a text each: as many names (its own, its node's), then addresses."""
    namespace = of.need("namespace")
    labels = of.child("labels")
    found = tuple(sorted((name, labels.text(name) or "") for name in labels.members)) if labels else ()
    ports = tuple(_port(port) for port in of.children("ports"))
    for words in (text.split() for text in of.texts(key)):
        if len(words) <= names:
            raise of.wrong(key, "names and addresses of pods")
        try:
            ips = tuple(map(address, words[names:]))
        except ValueError:
            raise of.wrong(key, "names and addresses of pods") from None
        name, node = words[:2] if names else ("", None)
        yield Pod(namespace, name, node, ips, ports=ports, labels=found)


def _port(port: JsonObject) -> tuple[str, int, int, int | None, str]:
    number, protocol = port.number("port", 1, 65535), port.number("protocol", 1, 255)
    if number is None or protocol is None or protocol not in PROTOCOL_NAMES:
        raise port.wrong("port", "the number of a port and of its protocol")
    return port.need("name"), number, protocol, None, ""
