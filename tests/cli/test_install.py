"""``netk8s install``: the manifests, and that they are those of daemonset/."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from netk8s.cli import _manifests


def objects(text: str) -> Iterator[dict[str, Any]]:
    yield from yaml.safe_load_all(text)


@pytest.mark.parametrize("overlay", _manifests.overlays())
def test_the_rendered_overlay_is_that_of_daemonset(overlay: str, root: Path) -> None:
    if not shutil.which("kubectl"):
        pytest.skip("kubectl, which renders them, is not installed")
    run = ["kubectl", "kustomize", str(root / "daemonset/overlays" / overlay)]
    made = subprocess.run(run, capture_output=True, text=True, check=True)
    assert _manifests.rendered(overlay) == made.stdout, "run `make manifests`"


def test_every_overlay_is_in_the_package(root: Path) -> None:
    assert _manifests.overlays() == sorted(p.name for p in (root / "daemonset/overlays").iterdir())


@pytest.mark.parametrize("overlay", _manifests.overlays())
def test_the_agent_has_the_least_rights(overlay: str, netk8s: Callable) -> None:
    found = list(objects(netk8s("install", "--overlay", overlay).out))
    agent = next(one for one in found if one["kind"] == "DaemonSet")
    spec = agent["spec"]["template"]["spec"]
    rights = spec["containers"][0]["securityContext"]
    assert (rights["privileged"], rights["allowPrivilegeEscalation"], rights["readOnlyRootFilesystem"]) == (
        False,
        False,
        True,
    )
    assert rights["capabilities"]["drop"] == ["ALL"]
    entering = overlay == "pod-namespaces"
    more = {"SYS_ADMIN", "SYS_PTRACE"} if entering else set()
    assert set(rights["capabilities"]["add"]) <= {"NET_ADMIN", "NET_RAW", *more}
    assert (spec.get("hostPID", False), "--pods" in spec["containers"][0]["args"]) == (entering, entering)
    assert not [v for v in spec["volumes"] if "hostPath" in v]
    assert spec["tolerations"] == [{"operator": "Exists"}]
    assert agent["spec"]["updateStrategy"]["rollingUpdate"] == {"maxUnavailable": 1}
    role = next(one for one in found if (one["kind"], one["metadata"]["name"]) == ("ClusterRole", "netk8s-agent"))
    granted = {(resource, verb) for rule in role["rules"] for resource in rule["resources"] for verb in rule["verbs"]}
    assert granted == {("tokenreviews", "create"), ("subjectaccessreviews", "create")}
    telling = overlay == "events"
    assert ("--events" in spec["containers"][0]["args"]) is telling
    own = [one for one in found if (one["kind"], one["metadata"]["name"]) == ("Role", "netk8s-agent-events")]
    assert [(one["metadata"]["namespace"], one["rules"]) for one in own] == [
        ("default", [{"apiGroups": [""], "resources": ["events"], "verbs": ["create", "patch"]}])
    ] * telling


def test_another_image(netk8s: Callable) -> None:
    image = "registry.example/net/agent@sha256:00"
    found = objects(netk8s("install", "--image", image).out)
    agent = next(one for one in found if one["kind"] == "DaemonSet")
    assert agent["spec"]["template"]["spec"]["containers"][0]["image"] == image


@pytest.mark.parametrize("words", [("--image", "a b"), ("--image", "x\nkind: Pod"), ("--overlay", "minmal")])
def test_what_is_no_name(words: tuple[str, str], netk8s: Callable) -> None:
    ran = netk8s("install", *words)
    assert (ran.status, ran.out) == (2, "")
