"""The API server as kubectl reaches it: kubeconfig, context, impersonation, proxies; and what went wrong, in words."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from msgspec import Struct

from netk8s.errors import CollectError, UsageError

TIMEOUT = 30.0
"""Seconds for one request, where nobody says otherwise."""
MOST_BYTES = 512 * 1024**2
"""Bytes that one answer may have."""
SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"


class Access(Struct, frozen=True):
    """Which cluster, and as whom: kubectl's words. None: as the kubeconfig says."""

    kubeconfig: str | None = None
    context: str | None = None
    user: str | None = None
    groups: tuple[str, ...] = ()
    timeout: float = TIMEOUT


class Refused(CollectError):
    """An answer of the API server, or of what it leads to, that is an error. ``status`` is HTTP's."""

    def __init__(self, status: int, why: str) -> None:
        self.status = status
        super().__init__(why)


@dataclass(frozen=True, slots=True)
class Api:
    """An API server. ``namespace`` is the context's; ``pool`` a urllib3 PoolManager; threads may share one."""

    host: str
    namespace: str
    pool: Any = field(repr=False)
    configuration: Any = field(repr=False)
    access: Access = field(default_factory=Access)

    def get(self, path: str, query: Mapping[str, str | int] | None = None, **more: Any) -> bytes:
        """The body of an answer. Raises Refused and CollectError."""
        return self.request("GET", path, query, **more)

    def request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str | int] | Sequence[tuple[str, str]] | None = None,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> bytes:
        """One request, without repetition. Raises Refused for an error that was answered, CollectError for no answer."""
        import urllib3

        url = f"{self.host}{path}{'?' + urlencode(query) if query else ''}"
        seconds = timeout or self.access.timeout
        waits = urllib3.Timeout(connect=min(seconds, 10.0), read=seconds)
        try:
            answer = self.pool.request(
                method, url, body=body, headers=self._headers(headers, body), timeout=waits, retries=False,
                redirect=False, preload_content=False,
            )  # fmt: skip
            try:
                data = _all_of(answer)
            finally:
                answer.release_conn()
        except urllib3.exceptions.HTTPError as error:
            raise CollectError(self._why(error, seconds)) from None
        except (OSError, ValueError) as error:
            raise CollectError(f"{self.host}: {' '.join(str(error).split())[:200]}") from None
        if answer.status >= 300:
            raise Refused(answer.status, _said(answer.status, data, self.host))
        return data

    def _headers(self, more: Mapping[str, str] | None, body: bytes | None) -> list[tuple[str, str]] | Any:
        import urllib3

        from netk8s import __version__

        # The API server packs what is longer than 128 KiB when it is asked to, and lists shrink to a tenth.
        found = urllib3.HTTPHeaderDict(
            {"Accept": "application/json", "Accept-Encoding": "gzip", "User-Agent": f"netk8s/{__version__}"}
        )
        if body is not None:
            found["Content-Type"] = "application/json"
        for setting in self.configuration.auth_settings().values():
            if setting["in"] == "header" and setting["value"]:
                found[setting["key"]] = setting["value"]
        if self.access.user is not None:
            found["Impersonate-User"] = self.access.user
        for group in self.access.groups:
            found.add("Impersonate-Group", group)
        for name, value in (more or {}).items():
            found[name] = value
        return found

    def _why(self, error: Exception, seconds: float) -> str:
        """Why there was no answer, and what to do."""
        import ssl

        import urllib3.exceptions as wrong

        text = " ".join(str(error).split())
        if isinstance(error, wrong.SSLError | wrong.ProxyError) and isinstance(error.args[-1], ssl.SSLError):
            text = " ".join(str(error.args[-1]).split())
        if isinstance(error, wrong.ProxyError):
            return f"the proxy towards {self.host} does not let us through: {text[-160:]}"
        if isinstance(error, wrong.SSLError):
            return f"{self.host}: TLS: {_tls(text)}"
        if isinstance(error, wrong.ReadTimeoutError):
            return f"{self.host} gave no answer within {seconds:g} s; allow it more with --request-timeout"
        if isinstance(error, wrong.NameResolutionError):
            return f"the name of {self.host} cannot be resolved"
        if isinstance(error, wrong.NewConnectionError):
            return f"{self.host} cannot be reached: {text.rpartition(': ')[2]}"
        if isinstance(error, wrong.ConnectTimeoutError):
            return f"{self.host} does not answer (no connection within {min(seconds, 10.0):g} s): is it the right one?"
        return f"{self.host}: {text[-200:]}"


def _all_of(answer: Any) -> bytes:
    parts, size = [], 0
    for part in answer.stream(1 << 20):
        size += len(part)
        if size > MOST_BYTES:
            raise ValueError(f"the answer is longer than {MOST_BYTES >> 20} MiB")
        parts.append(part)
    return b"".join(parts)


def _tls(text: str) -> str:
    if "certificate has expired" in text:
        return "the server's certificate has expired"
    if "verify failed" in text:
        why = text.partition("verify failed: ")[2].partition(" (_ssl")[0]
        return f"the server's certificate is not one that the kubeconfig trusts ({why or text[:160]})"
    if "alert" in text:
        return f"the server refused our certificate, which may have expired ({text[:160]})"
    return text[:200]


def _said(status: int, data: bytes, host: str) -> str:
    """An error in the API server's own words (metav1.Status), and what that means."""
    import msgspec

    text = ""
    try:
        found = msgspec.json.decode(data)
        text = str(found.get("message", "")) if isinstance(found, dict) else ""
    except (msgspec.DecodeError, UnicodeDecodeError):
        text = data[:200].decode("utf-8", "replace")
    text = " ".join(text.split())[:300]
    if status == 401:
        return f"{host} does not accept these credentials: they are wrong or have expired; log in again"
    if status == 403:
        return f"not allowed: {text}"
    if status == 429:
        return f"{host} is busy: {text or 'too many requests'}; ask again later"
    return f"{host} answered {status}: {text or 'no reason given'}"


def connect(access: Access) -> Api:
    """The API server that kubectl would ask. Nothing is sent yet.

    Raises UsageError for a context that is not there, CollectError where no kubeconfig can be used.
    """
    try:
        from kubernetes import config as untyped
        from kubernetes.client import Configuration
        from kubernetes.client.rest import RESTClientObject
    except ImportError:
        raise CollectError(
            "a live cluster needs the package kubernetes: pip install 'netk8s[live]'; or give a dump with --dump PATH"
        ) from None
    config: Any = untyped
    configuration = type.__call__(Configuration)
    files = access.kubeconfig or os.environ.get("KUBECONFIG") or os.path.expanduser("~/.kube/config")
    there = any(os.path.exists(path) for path in files.split(os.pathsep) if path)
    if (
        not there
        and access.kubeconfig is None
        and access.context is None
        and os.path.exists(f"{SERVICE_ACCOUNT}/token")
    ):
        return _from_inside(access, configuration, config, RESTClientObject)
    if not there:
        raise CollectError(f"no kubeconfig at {files}; name one with --kubeconfig, or give a dump with --dump PATH")
    try:
        named = access.context or _current(files)
        contexts, current = config.list_kube_config_contexts(config_file=files)
    except (config.ConfigException, OSError, ValueError, TypeError, AttributeError) as error:
        raise CollectError(f"kubeconfig {files}: {' '.join(str(error).split())}") from None
    except Exception as error:  # yaml's own tree of errors, which this part does not import
        raise CollectError(f"kubeconfig {files} is no YAML: {' '.join(str(error).split())[:200]}") from None
    names = [str(entry.get("name")) for entry in contexts or ()]
    if access.context is not None and access.context not in names:
        raise UsageError(f"kubeconfig {files} has no context {access.context}", names)
    chosen = next((c for c in contexts or () if c.get("name") == named), current)
    try:
        config.load_kube_config(
            config_file=files, context=named, client_configuration=configuration, persist_config=False
        )
        pool = RESTClientObject(configuration).pool_manager
    except (config.ConfigException, OSError, ValueError, KeyError, TypeError) as error:
        raise CollectError(f"kubeconfig {files}: {' '.join(str(error).split())[:300]}") from None
    namespace = ((chosen or {}).get("context") or {}).get("namespace") or "default"
    return Api(configuration.host.rstrip("/"), namespace, pool, configuration, access)


def _current(files: str) -> str | None:
    """The current context as kubectl has it: that of the first file that names one. The client's own takes the last."""
    from kubernetes.config import kube_config as untyped

    reader: Any = untyped
    for path in files.split(os.pathsep):
        found = reader.KubeConfigMerger(path).config if path and os.path.exists(path) else None
        name = found.value.get("current-context") if found is not None and isinstance(found.value, dict) else None
        if name:
            return str(name)
    return None


def _from_inside(access: Access, configuration: Any, config: Any, rest: Any) -> Api:
    try:
        config.load_incluster_config(client_configuration=configuration)
        namespace = Path(SERVICE_ACCOUNT, "namespace").read_text().strip()
    except (config.ConfigException, OSError) as error:
        raise CollectError(f"the pod's own service account cannot be used: {error}") from None
    return Api(configuration.host.rstrip("/"), namespace, rest(configuration).pool_manager, configuration, access)
