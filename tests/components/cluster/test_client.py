import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from components.cluster import client
from components.cluster.client import Access, ClusterError, ClusterUnreachable, Forbidden, NotFound, connect
from components.core.errors import InputError, StyleForgeError
from tests.components.cluster.kube import VERSION, FakeApi, serve, status, write_kubeconfig
from tests.servers import free_port


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeApi]:
    with serve(FakeApi({("GET", "/version"): (200, VERSION)})) as api:
        monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path / "kubeconfig", api.url)))
        yield api


def test_objects_come_as_plain_json(api: FakeApi) -> None:
    cluster = connect(Access())
    assert cluster.get("/version") == VERSION
    assert (cluster.server, cluster.context) == (api.url, "test")
    assert abs(cluster.skew) < 5
    api.answers["GET", "/log"] = (200, '{"a": 1}')
    assert cluster.call("GET", "/log") == '{"a": 1}'
    api.date = "Tue, 01 Jan 2030 00:00:00 GMT"
    cluster.get("/version")
    assert abs(time.time() + cluster.skew - datetime(2030, 1, 1, tzinfo=UTC).timestamp()) < 5


def test_lists_are_read_to_their_end(api: FakeApi) -> None:
    def page(api: FakeApi, body: dict[str, object]) -> tuple[int, dict[str, object]]:
        asked = len(api.methods("GET"))
        return 200, {"items": [{"n": asked}], "metadata": {"continue": "more"} if asked < 3 else {}}

    api.answers["GET", "/api/v1/nodes"] = page
    assert connect(Access()).items("/api/v1/nodes") == [{"n": 1}, {"n": 2}, {"n": 3}]


def test_deleting_what_is_gone_is_no_error(api: FakeApi) -> None:
    connect(Access()).delete("/gone")
    (seen,) = [body for method, _, body in api.seen if method == "DELETE"]
    assert seen["propagationPolicy"] == "Background"


@pytest.mark.parametrize(
    ("code", "kind", "exit_code"),
    [(401, ClusterError, 1), (403, Forbidden, 1), (404, NotFound, 1), (422, ClusterError, 1), (503, ClusterUnreachable, 4)],
)
def test_refusals_have_a_type_and_the_servers_words(api: FakeApi, code: int, kind: type[StyleForgeError], exit_code: int) -> None:
    api.answers["GET", "/x"] = status(code, "the server's words")
    with pytest.raises(StyleForgeError) as caught:
        connect(Access()).get("/x")
    assert type(caught.value) is kind
    assert caught.value.exit_code == exit_code
    assert "a-token" not in str(caught.value)
    assert code == 401 or "the server's words" in str(caught.value)


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("fault", "words"), [("nobody", "refused"), ("plain", "no answer"), ("silent", "no answer")])
def test_a_server_that_cannot_be_spoken_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, api: FakeApi, fault: str, words: str) -> None:
    monkeypatch.setattr(client, "ANSWER_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = {"nobody": free_port(), "silent": silent.getsockname()[1]}.get(fault)
        # The last one speaks no TLS.
        url = f"http://127.0.0.1:{port}" if port else api.url.replace("http:", "https:")
        monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path / "k", url)))
        with pytest.raises(ClusterUnreachable, match=words):
            connect(Access()).get("/version")


def test_stalled_server_costs_seconds_only(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "ANSWER_SECONDS", 0.3)
    api.delay = 2.0
    with pytest.raises(ClusterUnreachable):
        connect(Access()).get("/version")
    # One try, not the three of urllib3's default.
    assert len(api.seen) == 1


def test_one_of_several_files_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, api: FakeApi) -> None:
    there = write_kubeconfig(tmp_path / "there", api.url)
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path / 'nowhere'}:{there}")
    assert connect(Access()).get("/version") == VERSION
    with pytest.raises(InputError, match="no context other; expected one of test"):
        connect(Access(context="other"))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match=r"nowhere: no such file.*KUBECONFIG"):
        connect(Access())


@pytest.mark.parametrize("text", ["", "[", "just words", "{apiVersion: v1}", "{contexts: [], current-context: a}"])
def test_broken_kubeconfig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    (tmp_path / "k").write_text(text)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "k"))
    with pytest.raises(InputError, match="cannot be used"):
        connect(Access())


def test_outside_of_a_pod_the_context_counts(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    assert connect(Access(context="test", incluster=True)).context == "test"
    with pytest.raises(InputError, match="not a pod"):
        connect(Access(incluster=True))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    with pytest.raises(InputError, match="not a pod"):
        connect(Access(context="test", incluster=True))


def test_ready_made_client_tries_once(api: FakeApi) -> None:
    from kubernetes.client import ApiClient, Configuration

    ready = ApiClient(Configuration(host=api.url))
    cluster = connect(Access(factory=lambda: ready))
    assert cluster.get("/version") == VERSION
    assert ready.rest_client.pool_manager.connection_pool_kw["retries"] is False
