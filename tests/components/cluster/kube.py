"""A small Kubernetes API on loopback with canned answers, and manifests as short as tests want them."""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from components.cluster.target import PodPlan
from tests.http_server import Call, http_server

Json = dict[str, Any]
Answer = tuple[int, Any] | Callable[["FakeApi", Json], tuple[int, Any]]
VERSION = {"gitVersion": "v1.20.2"}
NOTHING: Json = {"items": []}
PODS = "/api/v1/namespaces/ns/pods"


@dataclass
class FakeApi:
    """``answers`` by method and path; a function gets the API itself and the request's body. All else is 404."""

    answers: dict[tuple[str, str], Answer] = field(default_factory=dict)
    seen: list[tuple[str, str, Json]] = field(default_factory=list)
    url: str = ""
    delay: float = 0.0
    date: str | None = None

    def methods(self, method: str) -> list[str]:
        return [path for verb, path, _ in self.seen if verb == method]


def status(code: int, message: str) -> tuple[int, Json]:
    return code, {"kind": "Status", "status": "Failure", "code": code, "message": message}


def admission(**refusals: tuple[int, str]) -> Answer:
    """What the API server says to pods in a dry run: it refuses those of a priority class with the status and the words given for it."""

    def answer(api: FakeApi, body: Json) -> tuple[int, Json]:
        assert body["kind"] == "Pod" and body["metadata"]["generateName"] and body["spec"]["containers"][0]["image"]
        refused = refusals.get(body["spec"].get("priorityClassName", ""))
        return status(*refused) if refused else (201, body)

    return answer


@contextlib.contextmanager
def serve(api: FakeApi) -> Iterator[FakeApi]:
    def answered(call: Call) -> tuple[int, Any]:
        body = call.json()
        api.seen.append((call.method, call.path, body))
        assert call.method != "POST" or not call.path.endswith("/pods") or call.query == {"dryRun": ["All"]}, "a pod was made"
        time.sleep(api.delay)
        answer = api.answers.get((call.method, call.path), status(404, f"{call.path} not found"))
        return answer(api, body) if callable(answer) else answer

    with http_server(answered, lambda: api.date) as api.url:
        yield api


def write_kubeconfig(path: Path, url: str, *, context: str = "test", token: str = "a-token") -> Path:
    data = {
        "apiVersion": "v1", "kind": "Config", "current-context": context,
        "clusters": [{"name": context, "cluster": {"server": url}}], "users": [{"name": context, "user": {"token": token}}],
        "contexts": [{"name": context, "context": {"cluster": context, "user": context}}],
    }  # fmt: skip
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    return path


def node(
    name: str = "n", *, labels: Json | None = None, taints: list[Json] | None = None, unschedulable: bool = False, **allocatable: str
) -> Json:
    size = {"cpu": "4", "memory": "16Gi", **{key.replace("gpu", "nvidia.com/gpu"): value for key, value in allocatable.items()}}
    return {
        "metadata": {"name": name, "labels": labels or {}},
        "spec": {"taints": taints or [], "unschedulable": unschedulable},
        "status": {"allocatable": size, "conditions": [{"type": "Ready", "status": "True"}]},
    }


def pod(*, requests: Json | None = None, limits: Json | None = None, image: str = "image:1", **spec: Any) -> Json:
    container = {"name": "main", "image": image, "resources": {"requests": requests or {}, "limits": limits or {}}}
    return {"containers": [container], **spec}


def plan(*steps: str, **options: Any) -> PodPlan:
    return PodPlan(steps or ("scan",), {"metadata": {}, "spec": pod(**options)})
