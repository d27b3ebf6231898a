"""``--agentless`` against a real API server; the kubelet behind it is played."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kubelet import Kubelet
from test_live import QUESTION, outcomes, settled

SPACE = "agentless"
RULES = """
apiVersion: v1
kind: Namespace
metadata: {name: agentless, labels: {pod-security.kubernetes.io/enforce: privileged}}
---
apiVersion: v1
kind: Namespace
metadata: {name: strict, labels: {pod-security.kubernetes.io/enforce: baseline}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: agentless}
rules:
  - {apiGroups: [""], resources: [pods], verbs: [create, get, list, delete]}
  - {apiGroups: [""], resources: [pods/proxy], verbs: [get]}
"""


@pytest.fixture
def space(plane: Any) -> Iterator[Any]:
    """The user "nobody", who may look at the cluster, may make pods in two namespaces; no agent is asked."""
    plane.kubectl("apply", "-f", "-", stdin=RULES)
    for namespace in (SPACE, "strict"):
        made = plane.kubectl(
            "-n", namespace, "create", "rolebinding", "nobody", "--clusterrole=agentless", "--user=nobody",
            "--dry-run=client", "-o", "yaml",
        )  # fmt: skip
        plane.kubectl("apply", "-f", "-", stdin=made)
    yield plane
    left = json.loads(plane.kubectl("-n", SPACE, "get", "pods", "-o", "json"))["items"]
    assert [pod["metadata"]["name"] for pod in left] == []


def words(plane: Any, namespace: str = SPACE) -> tuple[str, ...]:
    raw = ("--agent-net-raw",) if plane.backend == "legacy" else ()
    return ("--agentless", "--agent-namespace", namespace, "--agent-image", "registry/agent:1", *raw)


@pytest.mark.e2e
def test_the_answer_is_that_of_the_agents(space: Any, tmp_path: Path) -> None:
    with Kubelet(space, SPACE) as kubelet:
        without = space.netk8s(*QUESTION, *words(space), "-o", "json", user="nobody")
        assert without.returncode == 0, without.stderr
        assert {pod["spec"]["nodeName"] for pod in kubelet.seen} == {"k8s-node1", "k8s-node2"}
        assert without.stderr.count(" is started on ") == without.stderr.count(" is removed from ") == 2
        with_agents = space.netk8s(*QUESTION, "-o", "json")
        assert settled(json.loads(without.stdout)) == settled(json.loads(with_agents.stdout))
        assert len(outcomes(without.stdout)) == 3
        bundle = str(tmp_path / "bundle.tgz")
        collected = space.netk8s("collect", "-o", bundle, *words(space), user="nobody")
        assert collected.returncode == 0, collected.stderr
        time.sleep(1)
        assert kubelet.pods() == []


@pytest.mark.e2e
def test_only_the_nodes_on_the_way_get_a_pod(space: Any) -> None:
    with Kubelet(space, SPACE) as kubelet:
        ran = space.netk8s("trace", "node/k8s-node1", "--port", "30999", *words(space), "-o", "json", user="nobody")
        assert ran.returncode in (0, 1), ran.stderr
        assert {pod["spec"]["nodeName"] for pod in kubelet.seen} == {"k8s-node1"}
        time.sleep(1)


@pytest.mark.e2e
def test_a_pod_that_cannot_start_is_told_and_removed(space: Any) -> None:
    with Kubelet(space, SPACE, starts=False):
        ran = space.netk8s(*QUESTION, *words(space), user="nobody")
        assert ran.returncode == 5
        assert "does not start: ImagePullBackOff: the registry has no such image" in ran.stderr
        time.sleep(1)


@pytest.mark.e2e
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_no_pod(space: Any, number: int) -> None:
    """While a pod that nobody starts is waited for."""
    asking = subprocess.Popen(
        space.inside("client", [*space.command(), *QUESTION, *words(space), "--kubeconfig", space.kubeconfig("nobody")]),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=space.environment(),
    )  # fmt: skip
    kubelet = Kubelet(space, SPACE, starts=False)
    space.wait_for(lambda: len(kubelet.pods()) == 1, 30)
    os.kill(asking.pid, number)
    # The pod is on its way out; only its kubelet takes it away in the end.
    space.wait_for(lambda: all(pod["metadata"].get("deletionTimestamp") for pod in kubelet.pods()), 30)
    out, said = asking.communicate(timeout=60)
    assert (asking.returncode, out) == (130, "")
    assert "is removed from k8s-node1" in said
    with kubelet:
        space.wait_for(lambda: kubelet.pods() == [], 30)


@pytest.mark.e2e
def test_who_may_not_is_told_what_it_takes(space: Any) -> None:
    ran = space.netk8s(*QUESTION, *words(space, "netk8s"), user="nobody")
    assert ran.returncode == 5
    assert "--agentless needs create, get and delete of pods, and get of pods/proxy, in namespace netk8s" in ran.stderr
    strict = space.netk8s(*QUESTION, *words(space, "strict"), user="nobody")
    assert strict.returncode == 5
    assert 'violates PodSecurity "baseline' in strict.stderr
    assert "--agent-namespace" in strict.stderr
