"""A small API server on loopback with the manners that schedules depend on: dry runs, conflicts, refusals, fields that it drops."""

import contextlib
import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.http_server import Call, http_server

NAMESPACE = "styleforge-runs"
CORE = f"/api/v1/namespaces/{NAMESPACE}"
# What the pod of the manifest needs.
NEEDED = (
    f"{CORE}/serviceaccounts/styleforge-runner", "/apis/scheduling.k8s.io/v1/priorityclasses/styleforge-cpu", f"{CORE}/configmaps/runs",
    f"{CORE}/secrets/styleforge-runs", f"{CORE}/persistentvolumeclaims/retrain-home", f"{CORE}/persistentvolumeclaims/hub-cache",
)  # fmt: skip


@dataclass
class ApiServer:
    """``objects`` by path. ``version`` is the newest API of CronJobs; ``zones`` whether they have time zones."""

    version: str = "v1"
    zones: bool = True
    objects: dict[str, dict[str, Any]] = field(default_factory=dict)
    refuse: dict[tuple[str, str], tuple[int, str]] = field(default_factory=dict)
    conflicts: int = 0  # of the writes that are to come
    writes: list[tuple[str, str]] = field(default_factory=list)
    accepts: dict[str, str] = field(default_factory=dict)
    count: int = 0
    url: str = ""

    def jobs(self) -> str:
        return f"/apis/batch/{self.version}/namespaces/{NAMESPACE}/cronjobs"

    def put(self, path: str, **content: Any) -> None:
        name = path.rpartition("/")[2]
        self.objects[path] = self.stored({"kind": "Object", "metadata": {"name": name, "namespace": NAMESPACE}, **content})

    def stored(self, item: dict[str, Any], old: dict[str, Any] | None = None) -> dict[str, Any]:
        item = copy.deepcopy(item)
        if item["kind"] == "CronJob":
            item["spec"].setdefault("suspend", False)
            if not self.zones:
                item["spec"].pop("timeZone", None)
            pod = item["spec"]["jobTemplate"]["spec"]["template"]["spec"]
            pod.setdefault("dnsPolicy", "ClusterFirst")
        if old is not None and (item.get("spec"), item.get("data"), item["metadata"].get("labels")) == (
            old.get("spec"), old.get("data"), old["metadata"].get("labels"),
        ):  # fmt: skip
            return old
        self.count += 1
        metadata = item["metadata"]
        item["metadata"] = {
            "uid": f"u{self.count}",
            **metadata,
            "resourceVersion": str(self.count),
            "managedFields": [{"time": self.count}],
        }
        return item

    def answer(self, call: Call) -> tuple[int, Any]:
        method, path, body, dry = call.method, call.path, call.json(), "dryRun" in call.query
        if method != "GET" and not dry:
            self.writes.append((method, path))
        if (method, path) in self.refuse:
            return self.refuse[method, path]
        if path == "/apis/batch/v1":
            return 200, {"resources": [{"name": "jobs"}, *([{"name": "cronjobs"}] if self.version == "v1" else [])]}
        folder = path.rpartition("/")[0] if method in ("PUT", "DELETE") else path
        if method == "POST":
            if f"/namespaces/{NAMESPACE}/" not in path:
                return 404, 'namespaces "nowhere" not found'
            place = f"{folder}/{body['metadata']['name']}"
            if place in self.objects:
                return 409, "already exists"
            made = self.stored(body)
            if not dry:
                self.objects[place] = made
            return 201, made
        if method == "GET" and path.endswith(("cronjobs",)):
            key, _, value = call.query["labelSelector"][0].partition("=")
            found = [item for place, item in self.objects.items() if place.startswith(f"{path}/")]
            return 200, {"items": [item for item in found if item["metadata"].get("labels", {}).get(key) == value]}
        if path not in self.objects:
            return 404, f"{path} not found"
        live = self.objects[path]
        if method == "PUT":
            self.conflicts -= not dry
            if (self.conflicts >= 0 and not dry) or body["metadata"]["resourceVersion"] != live["metadata"]["resourceVersion"]:
                return 409, "the object has been modified"
            assert body["kind"] == live["kind"] and "managedFields" not in body["metadata"]
            made = self.stored(body, live)
            if not dry:
                self.objects[path] = made
            return 200, made
        if method == "DELETE":
            assert body["preconditions"]["uid"] == live["metadata"]["uid"] and body["propagationPolicy"] == "Background"
            del self.objects[path]
        return 200, live


@contextlib.contextmanager
def api_server(version: str = "v1", zones: bool = True) -> Iterator[ApiServer]:
    state = ApiServer(version, zones)
    for path in NEEDED:
        state.put(path)

    def answered(call: Call) -> tuple[int, Any]:
        state.accepts[call.path] = call.headers["Accept"]
        code, content = state.answer(call)
        return code, content if code < 400 else {"kind": "Status", "message": content, "code": code}

    with http_server(answered) as state.url:
        yield state
