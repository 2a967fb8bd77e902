"""What the probe's pod looks at, run here: as text under ``python -c``, and its parts against servers on loopback."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from components.cluster import in_cluster
from tests.components.cluster.kube import FakeApi, serve
from tests.servers import free_port


@pytest.fixture
def web() -> Iterator[FakeApi]:
    with serve(FakeApi({("GET", "/health"): (200, {}), ("HEAD", "/bucket"): (403, "")})) as web:
        yield web


def _run(request: dict[str, object], folder: Path, **environment: str) -> dict[str, object]:
    """As the pod does, away from this repository, so that only the standard library is there."""
    command = [sys.executable, "-I", "-c", Path(in_cluster.__file__).read_text(encoding="utf-8")]
    known = {"PATH": os.environ["PATH"], in_cluster.REQUEST: json.dumps(request), "STYLEFORGE_HOME": str(folder / "home"), **environment}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=known)
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    return dict(json.loads(line.removeprefix(in_cluster.MARK)))


def test_the_whole_answer(web: FakeApi, tmp_path: Path) -> None:
    lost = f"http://127.0.0.1:{free_port()}"
    request = {"versions": {"pip": "0", "no-such-package": "1"}, "zenml": web.url, "mlflow": lost, "artifacts": "/nowhere"}
    answer = _run(request, tmp_path)
    assert answer["missing"] == ["no-such-package"]
    assert set(answer["other"]) == {"pip"}  # type: ignore[call-overload]
    assert answer["zenml"] == {"ok": True, "said": web.url}
    assert answer["mlflow"]["ok"] is False  # type: ignore[index]
    assert answer["mlflow_named"] is False
    assert answer["artifacts"] == {"ok": False, "said": "/nowhere: no such folder in the pod"}
    assert answer["folders"]["home"] == {"ok": True, "said": str(tmp_path / "home")}  # type: ignore[index]


def test_the_pods_own_environment_comes_first(web: FakeApi, tmp_path: Path) -> None:
    lost = f"http://127.0.0.1:{free_port()}"
    answer = _run({"versions": {}, "zenml": lost, "mlflow": lost}, tmp_path, MLFLOW_TRACKING_URI=web.url, ZENML_STORE_URL=web.url)
    assert (answer["mlflow"], answer["mlflow_named"]) == ({"ok": True, "said": web.url}, True)
    assert answer["zenml"] == {"ok": True, "said": web.url}


def test_our_own_code_starts_here() -> None:
    assert in_cluster.code() == {"ok": True, "said": "starts"}


@pytest.mark.parametrize(("status", "ok"), [(200, True), (401, True), (404, True), (500, True), (502, False), (503, False)])
def test_any_answer_will_do_but_a_gateways(web: FakeApi, status: int, ok: bool) -> None:
    web.answers["GET", "/health"] = (status, {})
    seen = in_cluster.server(web.url, "/health")
    assert seen is not None and seen["ok"] is ok


def test_addresses(web: FakeApi) -> None:
    # No password is said or sent.
    assert in_cluster.server(web.url.replace("//", "//user:secret@"), "/health") == {"ok": True, "said": web.url}
    assert in_cluster.server(None, "/health") is None
    assert in_cluster.server("sqlite:////a/b.db", "/health") == {"ok": None, "said": "sqlite"}
    seen = in_cluster.server("http://no-such-host.invalid:5000", "/health")
    assert seen is not None and seen["ok"] is False


def test_buckets(web: FakeApi) -> None:
    assert in_cluster.artifacts("s3://bucket/prefix", web.url) == {"ok": True, "said": "s3://bucket/prefix"}
    assert in_cluster.artifacts("s3://gone", web.url) == {"ok": False, "said": "s3://gone: no such bucket"}
    assert in_cluster.artifacts("abfs://container", None) == {"ok": None, "said": "abfs: not checked"}
    assert in_cluster.artifacts(None, None) is None


def test_folders(tmp_path: Path) -> None:
    assert in_cluster.artifacts(str(tmp_path), None) == {"ok": True, "said": str(tmp_path)}
    (tmp_path / "file").write_text("")
    seen = in_cluster.writable(str(tmp_path / "file" / "below"))
    assert seen["ok"] is False and "file/below" in seen["said"]


def test_waiting_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_cluster, "SECONDS", 0.1)
    answers = in_cluster.together({"slow": lambda: time.sleep(5), "quick": lambda: {"ok": True}})
    assert answers["quick"] == {"ok": True}
    assert answers["slow"]["ok"] is False
