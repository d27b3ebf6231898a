"""The kubelets of a plane, for pods that netk8s makes: a process for a container, in the node's network namespace."""

from __future__ import annotations

import json
import subprocess
import threading
from typing import Any, Self

from plane import Plane

SELECTOR = "app.kubernetes.io/name=netk8s-agentless"


class Kubelet:
    """Runs the pods of a namespace with the capabilities they ask for, and ends them when they are deleted.

    ``starts``: False for one whose image is never there.
    """

    def __init__(self, plane: Plane, namespace: str, starts: bool = True) -> None:
        self.plane, self.namespace, self.starts = plane, namespace, starts
        self.ran: dict[str, subprocess.Popen[bytes]] = {}
        self.seen: list[dict[str, Any]] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        for process in self.ran.values():
            self.plane.stop(process)

    def pods(self) -> list[dict[str, Any]]:
        found = self.plane.kubectl("-n", self.namespace, "get", "pods", "-l", SELECTOR, "-o", "json")
        pods: list[dict[str, Any]] = json.loads(found)["items"]
        return pods

    def _run(self) -> None:
        while not self._over.wait(0.2):
            for pod in self.pods():
                name = pod["metadata"]["name"]
                if pod["metadata"].get("deletionTimestamp"):
                    if name in self.ran:
                        self.plane.stop(self.ran.pop(name))
                    words = ("delete", "pod", name, "--grace-period=0", "--force", "--ignore-not-found")
                    self.plane.kubectl("-n", self.namespace, *words)
                elif name not in {known["metadata"]["name"] for known in self.seen}:
                    self.seen.append(pod)
                    if self.starts:
                        self._start(pod)
                    else:
                        waiting = {"reason": "ImagePullBackOff", "message": "the registry has no such image"}
                        self._tell(pod, "Pending", {"waiting": waiting}, ready=False)

    def _start(self, pod: dict[str, Any]) -> None:
        name, spec = pod["metadata"]["name"], pod["spec"]
        (container,) = spec["containers"]
        ip = self.plane.topology.node(spec["nodeName"]).ip(4)
        fields = {"spec.nodeName": spec["nodeName"], "status.hostIP": ip}
        values = {e["name"]: fields[e["valueFrom"]["fieldRef"]["fieldPath"]] for e in container["env"]}
        args = container["args"]
        for key, value in values.items():
            args = [arg.replace(f"$({key})", value) for arg in args]
        kept = ",".join(f"+{word.lower()}" for word in container["securityContext"]["capabilities"]["add"])
        bounded = ["setpriv", "--bounding-set", f"-all,{kept}", "--inh-caps", "-all", "--ambient-caps", "-all"]
        argv = [*bounded, *self.plane.command(), *args]
        self.ran[name] = self.plane.start(spec["nodeName"], name, argv, values)
        self.plane.wait_for(lambda: "one token" in self.plane.log(name), 30)
        self._tell(pod, "Running", {"running": {}}, ready=True)

    def _tell(self, pod: dict[str, Any], phase: str, state: dict[str, Any], ready: bool) -> None:
        ip = self.plane.topology.node(pod["spec"]["nodeName"]).ip(4)
        container = {"name": "agent", "image": "i", "imageID": "", "ready": ready, "restartCount": 0, "state": state}
        status = {
            "phase": phase, "hostIP": ip, "podIP": ip, "podIPs": [{"ip": ip}], "containerStatuses": [container],
            "conditions": [{"type": "Ready", "status": str(ready)}],
        }  # fmt: skip
        patch = json.dumps({"status": status})
        words = ("patch", "pod", pod["metadata"]["name"], "--subresource=status", "--type=merge", "-p", patch)
        self.plane.kubectl("-n", self.namespace, *words)
