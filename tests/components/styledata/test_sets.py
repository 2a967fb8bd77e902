import re
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, get_args

import fsspec
import pytest
import yaml
from pydantic import BaseModel

from components.core.config import Place as PlaceText
from components.core.config import PositiveInt, Probability, RunConfig
from components.core.errors import ConfigError, InputError
from components.core.nested import set_at
from components.styledata.sets import OPEN, SETTINGS, Place, list_sets, read_settings

FILES = {
    "anime/a.png": "1",
    f"anime/{SETTINGS}": "training: {steps: 7}",
    "bad name/a.png": "3",
    f"bad name/{SETTINGS}": "# nothing yet",
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


def test_each_sub_folder_is_a_set_that_may_have_settings(source: str) -> None:
    for written in (source, source + "/"):
        assert list_sets(written) == [Place(name, f"{source}/{name}") for name in ("anime", "bad name", "cubism")]
    anime, bad, cubism = list_sets(source)
    assert read_settings(anime) == {"training": {"steps": 7}} and read_settings(bad) == read_settings(cubism) == {}
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
        ("registry: {tracking_uri: http://elsewhere}", r"cannot decide registry\.tracking_uri"),
        ("scoring: {inception_weights: x}\nstyle: {name: b}", r"cannot decide scoring\.inception_weights, style\.name"),
        ("base: {model: other}", r"cannot decide base\.model"),
        ("aux: {pool: 'http://169.254.169.254/'}\nsampling: {bank: /etc/passwd}", r"cannot decide aux\.pool, sampling\.bank"),
        ("training: {processes: 64, steps: 10_000_000}", r"cannot decide training\.processes; training\.steps=10000000 is above"),
        ("training: {steps: '9999999'}", r"training\.steps=9999999 is above"),
        ("method: {concepts: [{identifier: a, roles: [thing], aux_count: 9999}]}", r"aux_count=9999 is above"),
        ("training: {stepz: 1, crops: 0}", r"cannot decide training\.stepz; training\.crops=0.*did you mean training\.steps\?"),
        ("attention: {words: &a [x, *a]}", "aliases"),
        ("[" * 5000, "not YAML"),
        ("#" * 20_000, "larger than"),
        ("- a", "holds a list"),
        ("a: [", "not YAML"),
    ],
)
def test_settings_that_a_set_may_not_have(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / SETTINGS).write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        read_settings(Place("anime", str(tmp_path)))
    assert f"anime/{SETTINGS}" in str(caught.value)


def fields(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str, list[Any]]]:
    """Every field of the configuration that holds no others, with its description and type; those of a list's items too."""
    for name, field in model.model_fields.items():
        parts = [part for kind in (field.annotation, *get_args(field.annotation)) for part in (kind, *get_args(kind))]
        below = next((kind for kind in parts if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
        if below is not None:
            yield from fields(below, f"{prefix}{name}.")
        else:
            yield prefix + name, field.description or "", parts


PLACES = re.compile(r"\b(folder|file|url|uri|hub|path|weights|local|registered|model's|mlflow)\b", re.I)
FIELDS = {name: (text, kinds) for name, text, kinds in fields(RunConfig)}


def test_no_field_that_names_a_place_is_open_to_a_set_and_each_number_is_bounded() -> None:
    """Whoever adds a field has to decide: its kind and its description say whether it names a place."""
    known_places = {"style.source", "style.reference", "aux.pool", "base.model", "sampling.bank", "scoring.extractor",
                    "scoring.inception_weights", "registry.model", "registry.tracking_uri"}  # fmt: skip
    text_like = {name for name, (text, kinds) in FIELDS.items() if str in kinds or PlaceText in kinds}
    found = {name for name in text_like if PLACES.search(FIELDS[name][0])}
    assert known_places <= found
    assert not found & set(OPEN)
    assert set(OPEN) <= set(FIELDS)
    for name in set(OPEN):
        _, kinds = FIELDS[name]
        assert bool({int, float, PositiveInt, Probability} & set(kinds)) == (OPEN[name] is not None), name
    assert not {name for name in OPEN if name.split(".")[0] in ("style", "base", "scoring", "registry")}
    assert not {"training.processes", "training.compile", "training.validate_every", "training.checkpoint_every"} & set(OPEN)


@pytest.mark.parametrize("name", sorted(set(FIELDS) - set(OPEN) - {name for name in FIELDS if ".concepts." in name}))
def test_every_other_field_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / SETTINGS).write_text(yaml.safe_dump(set_at({}, name.split("."), "x")))
    with pytest.raises(ConfigError, match=f"cannot decide {re.escape(name)}"):
        read_settings(Place("anime", str(tmp_path)))


def test_every_limit_of_a_set_holds(tmp_path: Path) -> None:
    for name, limit in OPEN.items():
        if limit is None or ".concepts." in name:
            continue
        (tmp_path / SETTINGS).write_text(yaml.safe_dump(set_at({}, name.split("."), int(limit) + 1)))
        with pytest.raises(ConfigError, match=re.escape(name)):
            read_settings(Place("anime", str(tmp_path)))


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
