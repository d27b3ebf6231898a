"""A must-gather gives the cluster's objects, of the namespaces that it has."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from netk8s import snapshot
from netk8s.errors import DecodeError
from netk8s.layouts import must_gather
from tests.layouts.conftest import Files, as_yaml, ends, listed, of_namespace, told, world

TOP = "must-gather.local.42/quay-io-release-sha256-1f2e"
Lay = Callable[[Files], Path]


@pytest.fixture
def files(objects: dict[str, list[dict[str, Any]]]) -> dict[str, bytes]:
    found = {
        f"{TOP}/version": b"openshift/must-gather\n4.16.0\n",
        f"{TOP}/namespaces/default/core/secrets.yaml": as_yaml(listed("SecretList", [])),
        f"{TOP}/namespaces/default/core/events.yaml": as_yaml(listed("EventList", [])),
        f"{TOP}/namespaces/default/default.yaml": as_yaml(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}}
        ),
        f"{TOP}/namespaces/default/pods/nginx/nginx/nginx/logs/current.log": b"*nat\nCOMMIT\n",
        f"{TOP}/nodes/worker-0/iptables": b"no dump",
        f"{TOP}/cluster-scoped-resources/config.openshift.io/networks.yaml": b"---\nkind: Network\n",
    }
    for kind, group, name in (
        ("Service", "core", "services"),
        ("Pod", "core", "pods"),
        ("EndpointSlice", "discovery.k8s.io", "endpointslices"),
    ):
        for space, items in of_namespace(objects[name]).items():
            found[f"{TOP}/namespaces/{space}/{group}/{name}.yaml"] = as_yaml(listed(f"{kind}List", items))
    for node in objects["nodes"]:
        name = node["metadata"]["name"]
        found[f"{TOP}/cluster-scoped-resources/core/nodes/{name}.yaml"] = as_yaml(
            {"apiVersion": "v1", "kind": "Node", **node}
        )
    return found


def as_endpoints(piece: dict[str, Any]) -> dict[str, Any]:
    """The Endpoints object that says the same as an EndpointSlice."""
    metadata = {
        "name": piece["metadata"]["labels"]["kubernetes.io/service-name"],
        "namespace": piece["metadata"]["namespace"],
    }
    addresses = [
        {"ip": each["addresses"][0], **{key: each[key] for key in ("nodeName", "targetRef") if key in each}}
        for each in piece["endpoints"]
    ]
    subset = {"addresses": addresses, "ports": piece["ports"]}
    return {"apiVersion": "v1", "kind": "Endpoints", "metadata": metadata, "subsets": [subset]}


@pytest.mark.parametrize("inside", [TOP, "must-gather.local.42", "."])
def test_a_folder(files: dict[str, bytes], lay: Lay, inside: str) -> None:
    read = told(snapshot.read([str(lay(files) / inside)]))
    names = {origin.rpartition("namespaces/")[2].rpartition("cluster-scoped-resources/")[2] for origin, _, _ in read}
    assert names >= {"default/core/services.yaml", "default/default.yaml", "core/nodes/k8s-node1.yaml"}
    assert not [name for name in names if "secrets" in name or "logs" in name or "worker-0" in name]
    assert {(node, partial) for _, node, partial in read} == {(None, True)}


def test_what_it_lacks_may_be_there_all_the_same(
    files: dict[str, bytes], pack: Callable[..., Path], example: Path
) -> None:
    found = world(pack(files, "must-gather.tar.gz"), example / "nodes/k8s-node1")
    assert not found.cluster.covered & {"services", "pods", "endpoints"}
    assert {pod.name for pod in found.cluster.pods} >= {"nginx-7c5ddbdf54-4xk2p"}
    assert ends(found) == ends(world(example / "nodes/k8s-node1", example / "cluster"))


def test_endpoints_objects_count_where_there_are_no_slices(
    files: dict[str, bytes], lay: Lay, objects: dict[str, list[dict[str, Any]]]
) -> None:
    for space, items in of_namespace([as_endpoints(each) for each in objects["endpointslices"]]).items():
        files[f"{TOP}/namespaces/{space}/core/endpoints.yaml"] = as_yaml(listed("EndpointsList", items))
    both = world(lay(files))
    for name in [name for name in files if name.endswith("endpointslices.yaml")]:
        (lay({}) / name).unlink()
    old = world(lay({}))
    told_by, told_by_old = (
        {(e.namespace, e.service, str(e.ip), e.port, e.pod) for e in each.cluster.endpoints} for each in (both, old)
    )
    assert told_by == told_by_old != set()
    assert not [note for note in both.notes if "Endpoints objects" in note]
    assert [note for note in old.notes if "Endpoints objects" in note]


def test_two_images_at_once_are_refused(files: dict[str, bytes], lay: Lay) -> None:
    twice = {**files, **{name.replace("release", "other"): data for name, data in files.items()}}
    with pytest.raises(DecodeError, match=r"holds 2 of must-gather .*give one of them"):
        snapshot.read([str(lay(twice))])


def test_one_without_anything_to_read(lay: Lay) -> None:
    path = lay({f"{TOP}/cluster-scoped-resources/config.openshift.io/networks.yaml": b"kind: Network\n"})
    with pytest.raises(DecodeError, match="is of must-gather and holds nothing that netk8s reads"):
        snapshot.read([str(path)])


def test_a_namespaces_folder_of_something_else_is_none() -> None:
    assert must_gather.root(("namespaces", "default", "core", "services.yaml")) == ()
    assert must_gather.root(("namespaces", "default", "iptables-save.txt")) is None
    assert must_gather.root(("nodes", "namespaces", "iptables-save.txt")) is None
