"""Client of a cluster's API server: plain JSON in and out, timeouts of seconds, and errors that say what to do."""

from __future__ import annotations

import email.utils
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from components.core.errors import InputError, ServiceUnreachable, StyleForgeError

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

CONNECT_SECONDS = 3.0
ANSWER_SECONDS = 8.0
PAGE = 500
JSON = "application/json"
Manifest: TypeAlias = dict[str, Any]


class ClusterError(StyleForgeError):
    """The API server answered, and refused or failed."""


class ClusterUnreachable(ServiceUnreachable):
    """The API server does not answer."""


class Forbidden(ClusterError):
    """The API server knows the user, who lacks the right to do this."""


class NotFound(ClusterError):
    """There is no such object."""


@dataclass(frozen=True)
class Access:
    """How to reach a cluster: a kubeconfig context (None for the current one), or a ``factory`` if credentials come from elsewhere.

    ``incluster`` uses the service account of the pod that this process runs in; outside a pod, the context is used if one is given.
    """

    context: str | None = None
    incluster: bool = False
    factory: Callable[[], ApiClient] | None = None


@dataclass
class Cluster:
    """A connection to a cluster. Paths are API paths such as ``/api/v1/nodes``; objects are JSON as the server sends it."""

    api: ApiClient
    server: str
    context: str
    skew: float = field(default=0.0, init=False)

    def get(self, path: str, **query: str | int) -> Manifest:
        """Get one object; NotFound, Forbidden or ClusterError as the server answers, ClusterUnreachable if it does not within seconds."""
        return dict(self.send("GET", path, query=query))

    def items(self, path: str, **query: str | int) -> list[Manifest]:
        """All objects of a list, page by page; raises as :meth:`get`."""
        found: list[Manifest] = []
        page: dict[str, str | int] = {"limit": PAGE}
        while True:
            answer = self.get(path, **query, **page)
            found += answer.get("items") or []
            following = (answer.get("metadata") or {}).get("continue")
            if not following:
                return found
            page["continue"] = following

    def create(self, path: str, body: Manifest, **query: str) -> Manifest:
        """Create an object (with ``dryRun="All"``, only try to) and return it as the server holds it; raises as :meth:`get`."""
        return dict(self.send("POST", path, query=query, body=body))

    def delete(self, path: str) -> None:
        """Delete an object and everything that it owns; an object that is already gone is no error."""
        with suppress(NotFound):
            self.call("DELETE", path, body={"propagationPolicy": "Background", "gracePeriodSeconds": 0})

    def send(self, method: str, path: str, **options: Any) -> Any:
        """The response of :meth:`call`, parsed as JSON."""
        return json.loads(self.call(method, path, **options))

    def call(
        self, method: str, path: str, *, query: Mapping[str, str | int] | None = None, body: Manifest | None = None, accept: str = JSON
    ) -> str:
        """Send a request and return the response as text, such as a pod's log; raises as :meth:`get`."""
        with api_errors(self.server, f"{method} {path}"):
            # Without response types the client leaves the response as it came: its models know only the newest API.
            _, _, headers = self.api.call_api(
                path, method, query_params=list((query or {}).items()), header_params={"Accept": accept}, body=body,
                auth_settings=["BearerToken"], response_types_map={}, _request_timeout=(CONNECT_SECONDS, ANSWER_SECONDS),
            )  # fmt: skip
            content = str(self.api.last_response.data)
        if date := headers.get("Date"):
            self.skew = email.utils.parsedate_to_datetime(date).timestamp() - time.time()
        return content


def connect(access: Access) -> Cluster:
    """Read the credentials; nothing is sent yet. InputError if they are missing or unusable, or the context is unknown."""
    if access.factory is not None:
        client = access.factory()
        # Trying each call three times would treble the time until an error.
        client.rest_client.pool_manager.connection_pool_kw["retries"] = False
        return Cluster(client, client.configuration.host, "service connector")
    if access.incluster and (access.context is None or in_pod()):
        return _from_pod()
    return _from_kubeconfig(access.context)


def in_pod() -> bool:
    """Whether this process runs in a pod, with the API server's address in its environment."""
    return bool(os.environ.get("KUBERNETES_SERVICE_HOST"))


def _from_pod() -> Cluster:
    from kubernetes import client, config

    settings = client.Configuration()
    try:
        config.load_incluster_config(client_configuration=settings)
    except config.ConfigException as error:
        problem = f"incluster is set, but this is not a pod with a service account ({error})"
        remedy = "run the command in the cluster, or set kubernetes_context of the orchestrator"
        raise InputError("credentials", problem, remedy=remedy) from error
    return _open(settings, "in the cluster")


def _from_kubeconfig(context: str | None) -> Cluster:
    import yaml
    from kubernetes import client, config

    files = kubeconfig()
    settings = client.Configuration()
    try:
        contexts, current = config.list_kube_config_contexts(config_file=files)
        names = [item["name"] for item in contexts]
        if context is not None and context not in names:
            remedy = "get the cluster's credentials, or set kubernetes_context of the stack's orchestrator to one that exists"
            raise InputError(f"kubeconfig {files}", f"there is no context {context}", expected=f"one of {', '.join(names)}", remedy=remedy)
        config.load_kube_config(files, context=context, client_configuration=settings, persist_config=False)
    except (config.ConfigException, yaml.YAMLError, OSError, AttributeError, TypeError, KeyError) as error:
        raise InputError(
            f"kubeconfig {files}", f"it cannot be used ({' '.join(str(error).split())[:200]})",
            expected="a file with a cluster, a user and a context",
            remedy="get the cluster's credentials again; `kubectl config view` shows the current ones",
        ) from error  # fmt: skip
    return _open(settings, context or current["name"])


def kubeconfig() -> str:
    """The kubeconfig's path, or several joined by colons (``$KUBECONFIG``, else ``~/.kube/config``); InputError if none exists."""
    # Read on each call: the client reads the variable only once, when it is imported.
    files = os.environ.get("KUBECONFIG") or "~/.kube/config"
    if not any(Path(part).expanduser().is_file() for part in files.split(os.pathsep) if part):
        remedy = "set KUBECONFIG to the right file, or let your cloud's command line write one"
        raise InputError(f"kubeconfig {files}", "no such file", expected="the credentials of a cluster", remedy=remedy)
    return files


def _open(settings: Any, name: str) -> Cluster:
    from kubernetes.client import ApiClient

    settings.retries = False
    return Cluster(ApiClient(settings), settings.host, name)


@contextmanager
def api_errors(server: str, action: str) -> Iterator[None]:
    """Turn the client's errors into ours. Messages hold nothing of the server's headers and body except its own error message."""
    import urllib3
    from kubernetes.client.exceptions import ApiException

    try:
        yield
    except ApiException as error:
        raise _refusal(server, action, error) from error
    except AttributeError as error:
        # If TLS fails, the client trips over its own exception, which has no body.
        if not isinstance(error.__context__, ApiException):
            raise
        raise _refusal(server, action, error.__context__) from error
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise _unreachable(server, _reason(error)) from error


def _refusal(server: str, action: str, error: Any) -> StyleForgeError:
    said = _said(error)
    if error.status == 401:
        remedy = "get new ones: the token or certificate of the kubeconfig's user has expired or belongs to another cluster"
        return ClusterError(f"Kubernetes API at {server}", "it refuses the credentials", remedy=remedy)
    if error.status == 403:
        return Forbidden(action, said or "forbidden", remedy="ask the cluster's administrator for permission")
    if error.status == 404:
        return NotFound(action, said or "not found")
    if error.status in (0, 502, 503, 504):
        return _unreachable(server, said or error.reason or f"status {error.status}")
    return ClusterError(action, said or f"status {error.status}")


def http_status(error: BaseException) -> int | None:
    """The HTTP status behind an error of this module; None if the error does not come from a response."""
    return getattr(error.__cause__, "status", None)


def _said(error: Any) -> str:
    try:
        return str(json.loads(error.body)["message"])
    except (TypeError, ValueError, KeyError):
        return " ".join(str(error.reason or "").split())[:200]


def _reason(error: BaseException) -> str:
    reason = getattr(error, "reason", None) or error
    # urllib3 names the connection object before it says what is wrong.
    words = re.sub(r"<[^>]*>|HTTPS?Connection(Pool)?\([^)]*\)", "", " ".join(str(reason).split()))
    return words.strip(" :,()'")[:200] or type(error).__name__


def _unreachable(server: str, reason: str) -> ClusterUnreachable:
    remedy = "start the cluster, check the network and the VPN, or use another context"
    return ClusterUnreachable(f"Kubernetes API at {server}", f"no answer ({reason})", expected="a running API server", remedy=remedy)
