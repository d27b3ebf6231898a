"""The cluster's objects: paged, trimmed, and no incomplete list that passes for a complete one."""

from __future__ import annotations

import io
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import pytest

from netk8s import decode, snapshot
from netk8s.live import api, objects
from netk8s.model import Ask, Snapshot

PODS = "/api/v1/pods"


def pod(name: str, namespace: str = "default") -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": namespace, "annotations": {"a": "secret-a"}},
        "spec": {"nodeName": "n1", "containers": [{"name": "c", "env": [{"name": "P", "value": "secret-b"}]}]},
        "status": {"phase": "Running", "podIP": "10.0.0.7"},
    }


def service(name: str) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"clusterIP": "10.96.0.1", "ports": [{"port": 80}]},
    }


@pytest.fixture
def cluster(server: Any, kubeconfig: Callable[..., str]) -> Any:
    """A server with a page each of everything, and the connection to it."""
    node = {"metadata": {"name": "n1"}, "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]}}
    server.answers |= {
        "/api/v1/services": (200, {"items": [service("nginx")]}),
        "/apis/discovery.k8s.io/v1/endpointslices": (200, {"items": None}),
        PODS: (200, {"items": [pod("a")]}),
        "/api/v1/nodes": (200, {"items": [node]}),
    }
    return server, api.connect(api.Access(kubeconfig=kubeconfig(server.url)))


def test_lists_are_what_kubectl_prints(cluster: Any) -> None:
    server, reached = cluster
    found = objects.for_question(reached, Ask("svc/nginx", "80"))
    world = decode.decode(found)
    assert world.cluster.covered == {"services", "endpoints", "pods", "nodes"}
    assert [s.service for s in world.cluster.services] == ["nginx"]
    assert [str(p.ips[0]) for p in world.cluster.pods] == ["10.0.0.7"]
    assert found.missing == ()
    assert sorted(server.paths()) == sorted(server.answers), (
        "one page each, and nothing that the question does not need"
    )


def test_what_may_be_secret_is_left_out(cluster: Any) -> None:
    found = objects.for_question(cluster[1], Ask("svc/nginx", "80"))
    assert not [dump.origin for dump in found.dumps if b"secret" in dump.data]


def test_pages_are_joined(cluster: Any) -> None:
    server, reached = cluster

    def page(query: dict[str, str], _: object) -> tuple[int, Any]:
        if query.get("continue") == "more":
            return 200, {"items": [pod("b")], "metadata": {}}
        return 200, {"items": [pod("a")], "metadata": {"continue": "more", "remainingItemCount": 1}}

    server.answers[PODS] = page
    world = decode.decode(objects.for_question(reached, Ask("svc/nginx", "80")))
    assert [p.name for p in world.cluster.pods] == ["a", "b"]


def test_a_list_whose_revision_is_gone_is_taken_again(cluster: Any) -> None:
    server, reached = cluster
    expired: list[int] = []

    def page(query: dict[str, str], _: object) -> tuple[int, Any]:
        if "continue" not in query:
            return 200, {"items": [pod("a")], "metadata": {"continue": "more"} if not expired else {}}
        expired.append(1)
        return 410, {"message": "expired"}

    server.answers[PODS] = page
    world = decode.decode(objects.for_question(reached, Ask("svc/nginx", "80")))
    assert [p.name for p in world.cluster.pods] == ["a"]
    assert expired == [1]


def test_too_many_pods_are_those_of_the_question_and_no_complete_list(cluster: Any) -> None:
    server, reached = cluster
    server.answers[PODS] = (200, {"items": [pod("a")], "metadata": {"continue": "x", "remainingItemCount": 10**6}})
    server.answers["/api/v1/namespaces/default/pods"] = (200, {"items": [pod("a")]})
    server.answers["/api/v1/namespaces/shop/pods"] = (200, {"items": [pod("b", "shop")]})
    found = objects.for_question(reached, Ask("svc/nginx", "80", source="pod/shop/b"))
    world = decode.decode(found)
    assert [(p.namespace, p.name) for p in world.cluster.pods] == [("default", "a"), ("shop", "b")]
    assert "pods" not in world.cluster.covered
    assert [gap.what for gap in found.missing] == ["pods outside of default, shop (more than 5000 in the cluster)"]


def test_who_may_only_read_a_namespace_reads_that(cluster: Any) -> None:
    server, reached = cluster
    for path in list(server.answers):
        server.answers[path] = (403, {"message": "cannot list at the cluster scope"})
    server.answers["/api/v1/namespaces/default/services"] = (200, {"items": [service("nginx")]})
    server.answers["/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"] = (200, {"items": []})
    server.answers["/api/v1/namespaces/default/pods"] = (403, {"message": "no pods"})
    found = objects.for_question(reached, Ask("svc/nginx", "80"))
    world = decode.decode(found)
    assert world.cluster.covered == {"services", "endpoints"}
    assert len(found.missing) == 4
    assert any("not allowed: cannot list" in gap.what for gap in found.missing)


def test_without_any_right_there_is_no_answer(cluster: Any) -> None:
    server, reached = cluster
    server.answers.clear()
    server.answers["/api/v1/services"] = server.answers["/api/v1/namespaces/default/services"] = (
        403,
        {"message": "no"},
    )
    with pytest.raises(api.Refused, match="not allowed: no"):
        objects.for_question(reached, Ask("svc/nginx", "80"))


def test_expired_credentials_are_not_taken_for_a_missing_right(cluster: Any) -> None:
    cluster[0].answers["/api/v1/nodes"] = (401, {})
    with pytest.raises(api.Refused, match="expired"):
        objects.for_question(cluster[1], Ask("svc/nginx", "80"))


def test_an_answer_that_is_no_list(cluster: Any) -> None:
    cluster[0].answers["/api/v1/services"] = (200, b"<html>")
    with pytest.raises(objects.CollectError, match="is this an API server"):
        objects.for_question(cluster[1], Ask("svc/nginx", "80"))


def test_everything_says_what_is_not_there(cluster: Any) -> None:
    found = objects.everything(cluster[1])
    assert isinstance(found, Snapshot)
    assert {dump.origin for dump in found.dumps} == {
        f"cluster/{k}.json" for k in ("services", "endpointslices", "pods", "nodes")
    }
    assert {gap.what.split(" ")[0] for gap in found.missing} == {
        "cluster/networkpolicies.json", "cluster/namespaces.json", "cluster/ingresses.json",
            "cluster/ingressclasses.json", "cluster/gateways.json", "cluster/gatewayclasses.json",
            "cluster/httproutes.json", "cluster/referencegrants.json",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("ask", "spaces"),
    [
        (Ask("svc/nginx"), ("here",)),
        (Ask("svc/shop/nginx", source="pod/dev/x"), ("here", "shop", "dev")),
        (Ask("node/n1", source="node/n2"), ("here",)),
        (Ask("10.0.0.1:80", namespace="own"), ("own",)),
    ],
)
def test_namespaces_of_a_question(ask: Ask, spaces: tuple[str, ...]) -> None:
    assert objects.namespaces_of(ask, "here") == spaces


def test_each_node_gets_what_all_need_and_its_own_pods(cluster: Any) -> None:
    server, reached = cluster
    elsewhere = pod("b")
    elsewhere["spec"]["nodeName"] = "n2"
    end = {
        "addresses": ["10.0.0.8"],
        "nodeName": "n2",
        "targetRef": {"kind": "Pod", "name": "b", "namespace": "default", "uid": "u-1"},
    }
    slice_ = {"metadata": {"name": "s", "namespace": "default", "labels": {"kubernetes.io/service-name": "nginx"}}, "addressType": "IPv4",
              "ports": [{"port": 80}], "endpoints": [end]}  # fmt: skip
    server.answers[PODS] = (200, {"items": [pod("a"), elsewhere]})
    server.answers["/apis/discovery.k8s.io/v1/endpointslices"] = (200, {"items": [slice_]})
    more = b'{"schema":"netk8s.dev/elsewhere/v1","addresses":["10.0.0.9"]}'
    packed = objects.for_nodes(objects.everything(reached, objects.FOR_CHECK), [more], policies=False)
    for node, pods in (("n1", ["a"]), ("n2", ["b"]), ("n3", [])):
        found = snapshot.read(["-"], stdin=io.BytesIO(packed.bundle(node)))
        world = decode.decode(found)
        assert [p.name for p in world.cluster.pods] == pods
        assert [s.service for s in world.cluster.services] == ["nginx"]
        assert [(e.pod, e.node) for e in world.cluster.endpoints] == [("default/b", "n2")]
        assert "pods" not in world.cluster.covered, "what is not in the list may be there"
        assert [sorted(map(str, one.addresses)) for one in world.cluster.elsewhere] == [["10.0.0.9"]]
        assert not any(b"u-1" in dump.data for dump in found.dumps)


def test_how_many_there_are(cluster: Any) -> None:
    server, reached = cluster
    assert objects.count(reached, objects.NODES) == 1
    assert server.asked[-1][1] == {"limit": "1"}
    server.answers["/api/v1/nodes"] = (200, {"items": [{}], "metadata": {"remainingItemCount": 4999}})
    assert objects.count(reached, objects.NODES) == 5000


def test_answers_are_asked_for_packed(cluster: Any) -> None:
    server, reached = cluster
    objects.count(reached, objects.NODES)
    assert server.asked[-1][2]["Accept-Encoding"] == ["gzip"]


def test_what_is_the_same_is_the_same_bytes(cluster: Any) -> None:
    _, reached = cluster
    sent = [objects.for_nodes(objects.everything(reached, objects.FOR_CHECK), [], policies=False) for _ in range(2)]
    assert sent[0].shared == sent[1].shared
    assert sent[0].own("n1") == sent[1].own("n1")


def test_of_a_large_list_what_changed_is_one_piece(cluster: Any) -> None:
    server, reached = cluster
    items = [
        {"metadata": {"name": f"s{number}", "namespace": "default"}, "spec": {"clusterIP": "10.0.0.1", "x": "y" * 900}}
        for number in range(5000)
    ]

    def sent() -> objects.Sent:
        server.answers["/api/v1/services"] = (200, {"items": items})
        return objects.for_nodes(objects.everything(reached, [objects.SERVICES]), [], policies=False)

    before = sent()
    assert len(before.shared) == 16
    assert all(sha256(data).hexdigest() == digest for digest, data in before.shared.items())
    world = decode.decode(snapshot.read(["-"], stdin=io.BytesIO(before.bundle("n1"))))
    assert world.cluster.covered == {"services"}
    items[7]["spec"]["clusterIP"] = "10.0.0.2"
    assert len(set(sent().shared) - set(before.shared)) == 1
