"""The agents on the nodes, reached through the API server's proxy to their pods (pods/proxy)."""

from __future__ import annotations

import io
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from msgspec.structs import replace

from netk8s import snapshot
from netk8s.errors import CollectError, DecodeError
from netk8s.live.api import Api, Refused
from netk8s.model import Addr, Snapshot

NAMESPACE = "netk8s"
SELECTOR = "app.kubernetes.io/name=netk8s-agent"
PORT = 9797
CLIENT = "netk8s-client"
"""The service account whose token is asked for: who may create one (serviceaccounts/token) may ask the agents."""
AUDIENCE = "netk8s.dev"
HEADER = "Netk8s-Token"
"""The API server's proxy takes Authorization away (apimachinery, proxy/upgradeaware.go), so ours has a name of its own."""
OBJECTS = "Netk8s-Objects"
"""Names the objects of a check by their digests, of which the agent may hold some."""
KNOWN = "Netk8s-Known"
"""The digest (sha256) of an answer that is not sent again if it is still the answer."""
TOKEN_SECONDS = 600
TIMEOUT = 60.0
CHECK_TIMEOUT = 300.0
"""Seconds for a node's check: its agent ends it a minute earlier."""
INSTALL = "install them with `netk8s install | kubectl apply -f -`, do without (--agentless)"


@dataclass(frozen=True, slots=True)
class Agents:
    """The agents of a cluster: ``pods`` by node, and the nodes where there is one that cannot be asked, with the reason."""

    api: Api
    namespace: str
    pods: dict[str, str]
    not_ready: dict[str, str]
    token: str = field(repr=False)

    def snapshot(self, node: str, pods: Mapping[str, Addr] | None = None) -> Snapshot:
        """What a node's kernel holds now, with the namespaces of these pods. Raises CollectError with the reason."""
        pod = self._pod(node)
        return ask(self.api, self.namespace, pod, PORT, self.token, node, pods)

    def part(
        self,
        node: str,
        shared: Mapping[str, bytes],
        own: bytes,
        question: Sequence[tuple[str, str]],
        known: bytes | None = None,
    ) -> bytes:
        """A node's part of a check by its agent (``netk8s check -o part``). Raises CollectError with the reason.

        ``shared``: a bundle of the API's objects in pieces, by their digests (sha256): the agent is sent those that it does
        not hold since an earlier check. ``own``: what is behind them. ``question``: options of check, as service, with
        their values. ``known``: the answer of an earlier time, which is the answer again where it would be the same.
        """
        pod = self._pod(node)
        path = _path(self.namespace, pod, PORT, "check")
        seconds = max(CHECK_TIMEOUT, self.api.access.timeout)
        sent: set[str] = set()
        # Other people's checks make an agent forget; what it lacks once it was sent is its own doing.
        for _ in range(3):
            named = ",".join(f"{digest}={len(data)}" if digest in sent else digest for digest, data in shared.items())
            headers = {HEADER: self.token, "Content-Type": "application/gzip", OBJECTS: named}
            if known is not None:
                headers[KNOWN] = sha256(known).hexdigest()
            body = b"".join((*(data for digest, data in shared.items() if digest in sent), own))
            try:
                answer = self.api.request("POST", path, question, body=body, headers=headers, timeout=seconds)
            except Refused as error:
                if known is not None and error.status == 304:
                    return known
                raise CollectError(_why(error, pod)) from None
            lacking = _lacking(answer)
            if not lacking:
                return answer
            sent.update(lacking)
        raise CollectError(f"the agent {pod} asks again for objects that it was sent")

    def _pod(self, node: str) -> str:
        pod = self.pods.get(node)
        if pod is None:
            raise CollectError(self.not_ready.get(node) or f"no agent runs on {node}")
        return pod


def _lacking(answer: bytes) -> Collection[str]:
    """The digests of what an agent wants to be sent, none where it gave an answer."""
    import msgspec

    if not answer.startswith(b'{"lacking":'):
        return ()
    try:
        return msgspec.json.decode(answer, type=dict[str, list[str]])["lacking"]
    except (msgspec.DecodeError, KeyError):
        return ()


def _path(namespace: str, pod: str, port: int, what: str) -> str:
    """What an agent is asked for, through the API server."""
    return f"/api/v1/namespaces/{namespace}/pods/https:{pod}:{port}/proxy/v1/{what}"


def ask(
    api: Api, namespace: str, pod: str, port: int, token: str, node: str, pods: Mapping[str, Addr] | None = None
) -> Snapshot:
    """The snapshot of a node by the agent in a pod. Raises CollectError with the reason."""
    path = _path(namespace, pod, port, "snapshot")
    headers = {HEADER: token, "Accept": "application/gzip"}
    query = {"pods": ",".join(f"{name}@{ip}" for name, ip in pods.items())} if pods else None
    try:
        data = api.get(path, query, headers=headers, timeout=max(TIMEOUT, api.access.timeout))
    except Refused as error:
        raise CollectError(_why(error, pod)) from None
    try:
        found = snapshot.read(["-"], stdin=io.BytesIO(data))
    except DecodeError as error:
        raise CollectError(f"the agent {pod} did not answer with a snapshot ({error.why})") from None
    # An agent speaks for its own node only: one that was taken over must not rewrite what others say.
    own = tuple(dump for dump in found.dumps if dump.node == node)
    if not own:
        raise CollectError(f"the agent {pod} answered for another node than {node}")
    return replace(found, dumps=own)


def find(api: Api, namespace: str = NAMESPACE) -> Agents:
    """The agents that run, and a token that they take.

    Raises CollectError when there are none, or when this user may not find or ask them.
    """
    import msgspec

    path = f"/api/v1/namespaces/{namespace}/pods"
    pods: dict[str, str] = {}
    not_ready: dict[str, str] = {}
    again = ""
    while True:
        query: dict[str, str | int] = {
            "labelSelector": SELECTOR,
            "limit": 500,
            **({"continue": again} if again else {}),
        }
        page = msgspec.json.decode(api.get(path, query))
        for item in page.get("items") or ():
            name, node = item["metadata"]["name"], (item.get("spec") or {}).get("nodeName")
            status = item.get("status") or {}
            ready = any(c.get("type") == "Ready" and c.get("status") == "True" for c in status.get("conditions") or ())
            if node and ready and not item["metadata"].get("deletionTimestamp"):
                pods[node] = name
            elif node:
                not_ready[node] = f"the agent {name} is not ready ({status.get('phase') or 'unknown'})"
        again = (page.get("metadata") or {}).get("continue") or ""
        if not again:
            break
    if not pods:
        found = "none of the agents is ready" if not_ready else "there are no agents"
        raise CollectError(f"{found} in namespace {namespace}; {INSTALL}, or give a dump with --dump PATH")
    return Agents(api, namespace, pods, not_ready, _token(api, namespace))


def _token(api: Api, namespace: str) -> str:
    """A token that is good for the agents, and for them alone, for some minutes."""
    import msgspec

    body = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"audiences": [AUDIENCE], "expirationSeconds": TOKEN_SECONDS},
    }
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{CLIENT}/token"
    try:
        answer = msgspec.json.decode(api.request("POST", path, body=msgspec.json.encode(body)))
        return str(answer["status"]["token"])
    except Refused as error:
        if error.status == 403:
            raise CollectError(
                f"{error}; who may ask the agents may create serviceaccounts/token of {namespace}/{CLIENT}: bind the "
                "Role netk8s-user"
            ) from None
        raise


def _why(error: Refused, pod: str) -> str:
    """What an agent, or the API server on the way to it, answered."""
    if error.status == 401:
        return f"the agent {pod} does not take our token"
    if error.status in (502, 503, 504):
        return f"the agent {pod} does not answer ({error})"
    return f"the agent {pod}: {error}"
