"""The Helm chart, rendered by helm itself: the same objects as kustomize's, and what its values change.

Needs helm alone (on the path, or built by ``python tests/e2e/build.py helm``), no cluster.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import build
import pytest
import yaml

import netk8s
from netk8s.cli import _manifests

Objects = dict[tuple[str, ...], dict[str, Any]]
SECRET = {"name": "pull"}
DIGEST = "sha256:" + "0a" * 32


@pytest.fixture(scope="session")
def helm() -> str:
    found = str(build.path("helm")) if build.path("helm").is_file() else shutil.which("helm")
    if not found:
        why = "helm is not installed and not built (python tests/e2e/build.py helm)"
        if os.environ.get("NETK8S_E2E") == "1":
            pytest.fail(why)
        pytest.skip(why)
    return found


@pytest.fixture(scope="session")
def chart(root: Path) -> Path:
    return root / "daemonset/helm"


def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(list(map(str, words)), capture_output=True, text=True, check=False, timeout=60)


def keyed(text: str) -> Objects:
    found: Objects = {}
    for one in filter(None, yaml.safe_load_all(text)):
        about = one["metadata"]
        key = (one["apiVersion"], one["kind"], about.get("namespace", ""), about["name"])
        assert key not in found, f"twice: {key}"
        found[key] = one
    return found


def render(helm: str, chart: Path, *words: str, namespace: str = "netk8s") -> Objects:
    ran = run(helm, "template", "any-name", chart, "--namespace", namespace, *words)
    assert ran.returncode == 0, ran.stderr
    return keyed(ran.stdout)


def pod_spec(objects: Objects) -> dict[str, Any]:
    return next(one for key, one in objects.items() if key[1] == "DaemonSet")["spec"]["template"]["spec"]


def test_the_chart_has_the_overlays_and_the_version(chart: Path) -> None:
    schema = json.loads((chart / "values.schema.json").read_text())
    assert sorted(schema["properties"]["overlay"]["enum"]) == _manifests.overlays()
    about = yaml.safe_load((chart / "Chart.yaml").read_text())
    assert about["appVersion"] == netk8s.__version__
    repository = yaml.safe_load((chart / "values.yaml").read_text())["image"]["repository"]
    assert f"{repository}:{about['appVersion']}" == _manifests.IMAGE


@pytest.mark.parametrize("overlay", _manifests.overlays())
def test_the_objects_are_those_of_kustomize(overlay: str, helm: str, chart: Path) -> None:
    made = render(helm, chart, "--set", f"overlay={overlay},createNamespace=true")
    assert made == keyed(_manifests.rendered(overlay))


def test_the_constraints_of_openshift_where_the_api_has_them(helm: str, chart: Path, root: Path) -> None:
    made = render(
        helm, chart, "--set", "overlay=openshift,createNamespace=true", "--api-versions", "security.openshift.io/v1"
    )
    constraints = keyed((root / "daemonset/overlays/openshift/scc.yaml").read_text())
    assert made == keyed(_manifests.rendered("openshift")) | constraints


@pytest.mark.parametrize("namespace", ["tools", "123"])
def test_another_namespace(namespace: str, helm: str, chart: Path) -> None:
    made = render(helm, chart, "--set", "overlay=openshift", namespace=namespace)
    usual = keyed(_manifests.rendered("openshift"))
    del usual["v1", "Namespace", "", "netk8s"]
    for key, one in usual.items():
        here = made.pop((*key[:2], namespace if key[2] else "", key[3]))
        if key[2]:
            one["metadata"]["namespace"] = namespace
        for subject in one.get("subjects", ()):
            subject["namespace"] = namespace
        assert here == one
    assert made == {}


@pytest.mark.parametrize(
    ("value", "image"),
    [
        ("tag=1.2", "netk8s-agent:1.2"),
        ("repository=registry.example:5000/net/agent", f"registry.example:5000/net/agent:{netk8s.__version__}"),
        (f"digest={DIGEST}", f"netk8s-agent@{DIGEST}"),
    ],
)
def test_another_image(value: str, image: str, helm: str, chart: Path) -> None:
    assert pod_spec(render(helm, chart, "--set-string", f"image.{value}"))["containers"][0]["image"] == image


def test_other_values(helm: str, chart: Path) -> None:
    values = {
        "image": {"pullPolicy": "Always"},
        "imagePullSecrets": [SECRET],
        "resources": {"limits": {"memory": "2Gi"}},
    }
    usual = render(helm, chart)
    made = render(helm, chart, *(f"--set-json={name}={json.dumps(value)}" for name, value in values.items()))
    spec = pod_spec(made)
    container = spec["containers"][0]
    assert spec.pop("imagePullSecrets") == [SECRET]
    assert container.pop("imagePullPolicy") == "Always"
    assert container.pop("resources") == {"limits": {"memory": "2Gi"}, "requests": {"cpu": "10m", "memory": "64Mi"}}
    before = pod_spec(usual)["containers"][0]
    del before["imagePullPolicy"], before["resources"]
    assert made == usual


@pytest.mark.parametrize(
    "value",
    ["overlay=minmal", "overlays=k3s", "image.tag=a b", "image.digest=sha256:00", "image.repository=x\n- a", "image.name=x"],
)  # fmt: skip
def test_what_is_no_value(value: str, helm: str, chart: Path) -> None:
    ran = run(helm, "template", "any-name", chart, "--set-string", value)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert "values don't meet the specifications of the schema" in ran.stderr


@pytest.mark.parametrize("overlay", _manifests.overlays())
def test_lint(overlay: str, helm: str, chart: Path) -> None:
    ran = run(helm, "lint", "--strict", chart, "--set", f"overlay={overlay},createNamespace=true")
    assert ran.returncode == 0, ran.stdout + ran.stderr
