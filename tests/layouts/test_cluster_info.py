"""What `kubectl cluster-info dump` prints into one file; its folder is in tests/test_cluster_info_dump.py."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from netk8s import snapshot
from netk8s.layouts import cluster_info
from netk8s.model import Dump
from tests.layouts.conftest import Files, ends, listed, of_namespace, told, world

LOG = (
    "==== START logs for container c of pod default/{0} ====\n"
    '{{"apiVersion": "v1", "kind": "Service"}}\n'
    "==== END logs for container c of pod default/{0} ====\n"
    '{{"kind": "Pod"\n'
    "==== END logs for container c of pod default/{0} ====\n"
)


def printed(objects: dict[str, list[dict[str, Any]]]) -> bytes:
    texts = [json.dumps(listed("NodeList", objects["nodes"]), indent=4)]
    pods, services = of_namespace(objects["pods"]), of_namespace(objects["services"])
    for space in sorted({*pods, *services}):
        texts.append(json.dumps(listed("ServiceList", services.get(space, [])), indent=4))
        texts.append(json.dumps(listed("PodList", pods.get(space, [])), indent=4))
        texts += [LOG.format(f"{space}-{i}").rstrip("\n") for i in range(2)]
    return ("\n".join(texts) + "\n").encode()


def test_logs_are_no_objects(
    objects: dict[str, list[dict[str, Any]]], lay: Callable[[Files], Path], example: Path
) -> None:
    path = lay({"dump.json": printed(objects)}) / "dump.json"
    found = world(path, example / "nodes/k8s-node1")
    assert len(found.cluster.pods) == len(objects["pods"])
    assert not found.cluster.covered
    assert ends(found) == ends(world(example / "nodes/k8s-node1", example / "cluster"))


def test_lines_stay_where_they_are() -> None:
    text = '{"apiVersion": "v1"}\n' + LOG.format("a") + '{"apiVersion": "v2"}\n'
    found = cluster_info.printed(Dump("x", text.encode()))
    assert found.partial
    assert found.data == b'{"apiVersion": "v1"}\n' + b"\n" * 5 + b'{"apiVersion": "v2"}\n'
    cut = cluster_info.printed(Dump("x", text[:80].encode()))
    assert cut.data.strip() == b'{"apiVersion": "v1"}'
    for other in (b"", b"*nat\n==== START logs for container c of pod a/b ====\n", b'{"a": 1}'):
        assert cluster_info.printed(kept := Dump("x", other)) is kept


def test_all_namespaces_are_told_by_those_that_every_cluster_has(lay: Callable[[Files], Path]) -> None:
    spaces = ("default", "kube-node-lease", "kube-public", "kube-system")
    empty = json.dumps(listed("ServiceList", [])).encode()
    files = {f"{space}/{kind}.json": empty for space in spaces for kind in ("services", "replication-controllers")}
    files |= {"nodes.json": empty, "default/web/logs.txt": b"", "default/events.json": empty}
    assert {partial for _, _, partial in told(snapshot.read([str(lay(files))]))} == {False}
    files = {name: data for name, data in files.items() if "lease" not in name}
    some = told(snapshot.read([str(lay({f"some/{name}": data for name, data in files.items()}) / "some")]))
    assert some == [
        ("default/services.json", None, True),
        ("kube-public/services.json", None, True),
        ("kube-system/services.json", None, True),
        ("nodes.json", None, False),
    ]


def test_partial_lists_stay_so_in_a_bundle(lay: Callable[[Files], Path], tmp_path: Path) -> None:
    files = {"a/services.json": b'{"apiVersion": "v1"}', "a/replication-controllers.json": b"{}", "nodes.json": b"{}"}
    snapshot.save(snapshot.read([str(lay(files))]), str(tmp_path / "again.tgz"))
    again = told(snapshot.read([str(tmp_path / "again.tgz")]))
    assert again == [("cluster/nodes.json", None, False), ("cluster/services.json", None, True)]
