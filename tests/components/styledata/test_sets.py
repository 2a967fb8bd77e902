from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import fsspec
import pytest

from components.core.errors import ConfigError, InputError
from components.styledata.sets import SETTINGS, Place, list_sets, read_settings

FILES = {
    "anime/a.png": "1",
    f"anime/{SETTINGS}": "training: {steps: 7}",
    "bad name/a.png": "3",
    "cubism/style_ref/b.png": "2",
    "readme.txt": "4",
    ".cache/c.png": "5",
}


@pytest.fixture(params=["folder", "file", "memory"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    filesystem = fsspec.filesystem("memory" if request.param == "memory" else "file")
    root = "/bucket/sets" if request.param == "memory" else str(tmp_path / "sets")
    for name, text in FILES.items():
        filesystem.makedirs(f"{root}/{name}".rpartition("/")[0], exist_ok=True)
        filesystem.pipe(f"{root}/{name}", text.encode())
    yield {"folder": root, "file": f"file://{root}", "memory": "memory://bucket/sets"}[request.param]
    filesystem.rm(root, recursive=True)


def test_each_sub_folder_is_a_set(source: str) -> None:
    for written in (source, source + "/"):
        assert list_sets(written) == [Place(name, f"{source}/{name}") for name in ("anime", "bad name", "cubism")]


def test_a_set_may_have_settings(source: str) -> None:
    anime, _, cubism = list_sets(source)
    assert read_settings(anime) == {"training": {"steps": 7}} and read_settings(cubism) == {}


def test_a_name_is_checked_by_itself(source: str) -> None:
    anime, bad, _ = list_sets(source)
    anime.check()
    with pytest.raises(ConfigError, match="bad name"):
        bad.check()


def test_over_http(tmp_path: Path) -> None:
    (tmp_path / "sets" / "anime").mkdir(parents=True)
    (tmp_path / "sets" / "anime" / SETTINGS).write_text("seed: 4")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(tmp_path)))
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        (place,) = list_sets(f"http://127.0.0.1:{server.server_port}/sets/")
        assert place.name == "anime" and read_settings(place) == {"seed": 4}
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("registry: {tracking_uri: http://elsewhere}", "cannot decide registry"),
        ("scoring: {inception_weights: x}\nstyle: {name: b}", "cannot decide scoring, style"),
        ("base: {model: other}", "cannot decide base"),
        ("- a", "holds a list"),
        ("a: [", "not YAML"),
    ],
)
def test_settings_that_a_set_may_not_have(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / SETTINGS).write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        read_settings(Place("anime", str(tmp_path)))
    assert f"anime/{SETTINGS}" in str(caught.value)


def test_empty_settings_are_none(tmp_path: Path) -> None:
    (tmp_path / SETTINGS).write_text("# nothing yet\n")
    assert read_settings(Place("anime", str(tmp_path))) == {}


def test_what_is_no_source(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for source, message in (
        (str(tmp_path), "no sub-folders"),
        (str(tmp_path / "gone"), "no such folder"),
        ("memory://gone", "does not exist"),
        (f"zip://*::{tmp_path}/a.zip", "archive"),
        ("nonsense://bucket", "not a URL"),
    ):
        with pytest.raises(InputError, match=message):
            list_sets(source)
