"""Without agents: a pod on a node for as long as it takes to read it, removed on every way out.

It runs the agent of the same image, pinned to its node, with no service account: what it takes is one token, and its
command line has that token's digest only, so that whoever may read pods cannot ask it. Should nobody be left to remove
it, the kubelet ends it (``activeDeadlineSeconds``), and the next run takes away what is left of it.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from msgspec import Struct

from netk8s.errors import CollectError
from netk8s.live import agents
from netk8s.live.api import Api, Refused
from netk8s.model import Snapshot

NAME = "netk8s-agentless"
LABELS = {"app.kubernetes.io/name": NAME, "app.kubernetes.io/part-of": "netk8s"}
UNTIL = "netk8s.dev/until"
"""The label with the time (Unix) after which a pod is nobody's any more."""
LIFE = 300
"""Seconds after which the kubelet ends the pod by itself."""
READY = 120.0
"""Seconds that a pod may take to be ready: most of it is the image."""
PAUSE = 0.5
PORTS = range(20000, 30000)
"""Below the NodePorts and the ports that a kernel gives to connections of its own."""
REMOVAL = 10.0
_HOPELESS = frozenset(
    {"ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "CreateContainerConfigError", "CreateContainerError",
     "RunContainerError"}
)  # fmt: skip

Say = Callable[[str], None]


class Wish(Struct, frozen=True):
    """What the pods are like. ``net_raw``: with the capability that listing iptables-legacy's tables takes."""

    image: str
    net_raw: bool = False
    ready: float = READY


class Agentless:
    """Nodes that are read by a pod each. :meth:`close` is to be called whatever happens; it may be called twice."""

    def __init__(self, api: Api, namespace: str, wish: Wish, say: Say) -> None:
        self._api, self._namespace, self._wish, self._say = api, namespace, wish, say
        self._path = f"/api/v1/namespaces/{namespace}/pods"
        self._stop = threading.Event()
        self._begun = threading.Lock()
        self._may = False
        self._quiet = threading.Condition()
        self._pods: dict[str, str] = {}
        """The nodes of the pods that may be there, by the pods' names."""

    def snapshot(self, node: str) -> Snapshot:
        """What a node's kernel holds now. Raises CollectError with the reason."""
        with self._begun:
            if not self._may:
                self._prepare()
                self._may = True
        name, token, port = f"{NAME}-{secrets.token_hex(4)}", secrets.token_urlsafe(32), secrets.choice(PORTS)
        with self._quiet:
            if self._stop.is_set():
                raise CollectError("given up")
            # Before it is made: an answer that never comes may still have made it.
            self._pods[name] = node
        try:
            self._make(name, pod(name, node, port, token, self._wish))
            self._wait(name, node)
            return agents.ask(self._api, self._namespace, name, port, token, node)
        finally:
            self._done(name, self._removed(name))

    def stop(self) -> None:
        """No pod is made and none is waited for from now on."""
        self._stop.set()

    def close(self) -> None:
        """Removes what is left. Says what it could not remove, and how to."""
        self.stop()
        with self._quiet:
            left = list(self._pods)
        if not left:
            return
        with ThreadPoolExecutor(len(left), thread_name_prefix="remove") as side_by_side:
            reasons = dict(zip(left, side_by_side.map(self._removed, left), strict=True))
        with self._quiet:
            # Who made a pod removes it too: one that was still being made was not there when it was to go.
            self._quiet.wait_for(lambda: not self._pods, 2 * REMOVAL)
        for name, why in reasons.items():
            self._done(name, "it was still being made" if why is None else why)

    # ------------------------------------------------------------ steps

    def _prepare(self) -> None:
        """Nothing is made that may not be removed, and what an earlier run left goes first. Raises CollectError."""
        import msgspec

        wanted = {"namespace": self._namespace, "verb": "delete", "resource": "pods"}
        kind = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview"}
        body = msgspec.json.encode({**kind, "spec": {"resourceAttributes": wanted}})
        answer = self._api.request("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body=body)
        if not (msgspec.json.decode(answer).get("status") or {}).get("allowed"):
            raise CollectError(f"not allowed: pods may not be deleted here, so none is made; {self._rights()}")
        with suppress(CollectError):
            query: dict[str, str | int] = {"labelSelector": f"app.kubernetes.io/name={NAME}", "limit": 500}
            for item in msgspec.json.decode(self._api.get(self._path, query)).get("items") or ():
                name, until = item["metadata"]["name"], item["metadata"].get("labels", {}).get(UNTIL, "")
                if until.isdecimal() and int(until) < time.time():
                    self._say(f"removing pod {self._namespace}/{name}, which an earlier run left")
                    self._api.request("DELETE", f"{self._path}/{name}", timeout=REMOVAL)

    def _rights(self) -> str:
        return (
            f"--agentless needs create, get and delete of pods, and get of pods/proxy, in namespace {self._namespace} "
            "(another one: --agent-namespace)"
        )

    def _make(self, name: str, body: Mapping[str, Any]) -> None:
        import msgspec

        self._say(f"pod {self._namespace}/{name} is started on {body['spec']['nodeName']}")
        try:
            self._api.request("POST", self._path, body=msgspec.json.encode(body))
        except Refused as error:
            if "PodSecurity" in str(error):
                raise CollectError(
                    f"{error}; the pod is on the host's network: name a namespace that lets it be, with --agent-namespace"
                ) from None
            if error.status == 403:
                raise CollectError(f"{error}; {self._rights()}") from None
            raise

    def _wait(self, name: str, node: str) -> None:
        """Until the pod is ready. Raises CollectError when it will not be."""
        import msgspec

        end = time.monotonic() + self._wish.ready
        while True:
            status = msgspec.json.decode(self._api.get(f"{self._path}/{name}")).get("status") or {}
            if any(c.get("type") == "Ready" and c.get("status") == "True" for c in status.get("conditions") or ()):
                return
            state, hopeless = _state(status)
            if hopeless:
                raise CollectError(f"the pod {name} on {node} does not start: {state}")
            if time.monotonic() > end:
                state = state or f"the kubelet of {node} has not taken it"
                raise CollectError(f"the pod {name} on {node} was not ready within {self._wish.ready:g} s: {state}")
            if self._stop.wait(PAUSE):
                raise CollectError("given up")

    def _removed(self, name: str) -> str | None:
        """Why a pod could not be removed: "" when it was, None when it was not there."""
        why = ""
        for _ in range(2):
            try:
                self._api.request("DELETE", f"{self._path}/{name}", timeout=REMOVAL)
                return ""
            except CollectError as error:
                if isinstance(error, Refused) and error.status == 404:
                    return None
                why = str(error)
        return why

    def _done(self, name: str, why: str | None) -> None:
        """Says once what became of a pod."""
        with self._quiet:
            node = self._pods.pop(name, None)
            self._quiet.notify_all()
        if node is None:
            return
        if why:
            self._say(
                f"pod {self._namespace}/{name} on {node} could not be removed ({why}); it ends by itself within "
                f"{LIFE // 60} minutes; remove it with `kubectl -n {self._namespace} delete pod {name}`"
            )
        else:
            self._say(f"pod {self._namespace}/{name} is removed from {node}")


def _state(status: Mapping[str, Any]) -> tuple[str, bool]:
    """What a pod that is not ready waits for, "" when nobody has begun with it; and whether it waits in vain."""
    for container in status.get("containerStatuses") or ():
        state = container.get("state") or {}
        waiting, ended = state.get("waiting") or {}, state.get("terminated") or {}
        if ended:
            return _words(ended, f"ended with status {ended.get('exitCode')}"), True
        if waiting:
            return _words(waiting), waiting.get("reason") in _HOPELESS
    if status.get("phase") in ("Failed", "Succeeded"):
        return _words(status, "it has ended"), True
    return ("the agent in it is not ready" if status.get("phase") == "Running" else _words(status)), False


def _words(said: Mapping[str, Any], default: str = "") -> str:
    words = ": ".join(str(said[key]) for key in ("reason", "message") if said.get(key))
    return " ".join((words or default).split())[:300]


def pod(name: str, node: str, port: int, token: str, wish: Wish) -> dict[str, Any]:
    """The pod as it is asked for: daemonset/base's, without an account."""
    fields = {"NODE_NAME": "spec.nodeName", "NODE_IP": "status.hostIP"}
    digest = hashlib.sha256(token.encode()).hexdigest()
    container = {
        "name": "agent", "image": wish.image, "imagePullPolicy": "IfNotPresent",
        "args": ["agent", "--listen", f"$(NODE_IP):{port}", "--accept", digest],
        "env": [{"name": key, "valueFrom": {"fieldRef": {"fieldPath": path}}} for key, path in fields.items()],
        "readinessProbe": {
            "httpGet": {"path": "/readyz", "port": port, "scheme": "HTTPS"}, "periodSeconds": 1, "timeoutSeconds": 10,
        },
        "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "1Gi"}},
        "securityContext": {
            "privileged": False, "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "runAsUser": 0,
            "capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN", *(["NET_RAW"] if wish.net_raw else [])]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108 (the pod's own, in memory)
    }  # fmt: skip
    return {
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": {**LABELS, UNTIL: str(int(time.time()) + LIFE + int(READY))}},
        "spec": {
            # Not by the scheduler: a node that takes no pods is read as well.
            "nodeName": node, "tolerations": [{"operator": "Exists"}],
            "hostNetwork": True, "dnsPolicy": "Default", "enableServiceLinks": False,
            "automountServiceAccountToken": False, "restartPolicy": "Never",
            "activeDeadlineSeconds": LIFE, "terminationGracePeriodSeconds": 2,
            "containers": [container],
            "volumes": [{"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": "16Mi"}}],
        },
    }  # fmt: skip
