"""What `kubectl cluster-info dump --output-directory` writes is read as it is, beside a node's dumps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from netk8s import decode, dialects, journey, snapshot
from netk8s.model import Ask


def written(root: Path, to: Path) -> Path:
    """The example's objects as that command lays them out: lists without kinds of their items, by namespace; logs; events."""
    for name, kind in (("services", "ServiceList"), ("pods", "PodList")):
        items = json.loads((root / f"examples/nginx-nodeport/cluster/{name}.json").read_text())["items"]
        spaces: dict[str, list[Any]] = {}
        for item in items:
            bare = {key: value for key, value in item.items() if key not in ("kind", "apiVersion")}
            spaces.setdefault(item["metadata"]["namespace"], []).append(bare)
        for space, found in spaces.items():
            (to / space).mkdir(parents=True, exist_ok=True)
            (to / space / f"{name}.json").write_text(
                json.dumps({"kind": kind, "apiVersion": "v1", "items": found}, indent=4)
            )
    nodes = json.loads((root / "examples/nginx-nodeport/cluster/nodes.json").read_text())
    (to / "nodes.json").write_text(
        json.dumps({"kind": "NodeList", "apiVersion": "v1", "items": nodes["items"]}, indent=4)
    )
    (to / "default/events.json").write_text(
        '{"kind": "EventList", "apiVersion": "v1", "items": [{"metadata": {"name": "e"}}]}'
    )
    (to / "default/nginx-1").mkdir()
    (to / "default/nginx-1/logs.txt").write_text("==== START logs for container nginx of pod default/nginx-1 ====\n")
    for space in ("default", "kube-node-lease", "kube-public", "kube-system"):
        (to / space).mkdir(exist_ok=True)
        (to / space / "replication-controllers.json").write_text('{"kind": "ReplicationControllerList", "items": []}')
        for kind in ("ServiceList", "PodList"):
            name = to / space / f"{kind.removesuffix('List').lower()}s.json"
            if not name.exists():
                name.write_text(json.dumps({"kind": kind, "apiVersion": "v1", "items": []}))
    return to


def test_beside_a_nodes_dumps(root: Path, tmp_path: Path) -> None:
    node = str(root / "examples/nginx-nodeport/nodes/k8s-node1")
    found = snapshot.read([str(written(root, tmp_path / "dump")), node])
    world = dialects.complete(decode.decode(found))
    assert world.cluster.covered == {"services", "pods", "nodes"}
    assert not world.unread
    assert set(world.nodes) == {"k8s-node1"}
    report = journey.answer(world, Ask("svc/nginx", "30000", via="k8s-node1"))
    ends = {(o.verdict, o.reached.pod.rpartition("-")[0]) for o in report.trace.outcomes if o.reached and o.reached.pod}
    assert {verdict for verdict, _ in ends} == {"delivered"}
    assert {name for _, name in ends} == {"default/nginx-7c5ddbdf54"}
