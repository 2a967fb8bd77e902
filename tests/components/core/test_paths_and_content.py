import errno
import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.core import paths
from components.core.content import derive_seed, digest_folder, digest_value
from components.core.errors import ConfigError, GateRefused, InputError, ServiceUnreachable, StorageError, StyleForgeError


def test_home_is_made_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STYLEFORGE_HOME", str(tmp_path / "deep" / "home"))
    assert paths.home() == tmp_path / "deep" / "home"
    assert paths.state("cache", "b").is_dir()
    monkeypatch.delenv("STYLEFORGE_HOME")
    monkeypatch.chdir(tmp_path)
    assert paths.home() == tmp_path / ".styleforge"


def test_unwritable_home_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("STYLEFORGE_HOME", str(tmp_path / "file" / "home"))
    with pytest.raises(InputError, match=r"STYLEFORGE_HOME=.*cannot be written.*Set STYLEFORGE_HOME to one") as caught:
        paths.home()
    assert caught.value.exit_code == 2


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    paths.write_json(path, {"old": 1})
    with pytest.raises(RuntimeError), paths.atomic_file(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    with pytest.raises(ValueError, match="not JSON compliant"):
        paths.write_json(path, float("nan"))
    assert paths.read_json(path) == {"old": 1}
    assert [item.name for item in tmp_path.iterdir()] == ["a.json"]


def test_a_failed_folder_leaves_the_old_one_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    with paths.atomic_folder(target) as temporary:
        (temporary / "one").write_text("1")
    with pytest.raises(RuntimeError), paths.atomic_folder(target) as temporary:
        (temporary / "two").write_text("2")
        raise RuntimeError
    assert [item.name for item in target.iterdir()] == ["one"]
    with paths.atomic_folder(target) as temporary:
        (temporary / "three").write_text("3")
    assert [item.name for item in target.iterdir()] == ["three"]
    assert [item.name for item in tmp_path.iterdir()] == ["folder"]


def test_a_full_disk_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"No space left on device.*Free some space"), paths.atomic_file(tmp_path / "x") as temporary:
        temporary.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert list(tmp_path.iterdir()) == []


@given(st.lists(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5) | st.none()), max_size=4))
def test_json_lines_come_back(rows: list) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        paths.write_jsonl(Path(folder) / "rows.jsonl", rows)
        # U+2028 and the like are line ends to str.splitlines, but not to JSON lines.
        assert paths.read_jsonl(Path(folder) / "rows.jsonl") == rows


def test_folder_digest_sees_names_and_contents_only(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name / "sub").mkdir(parents=True)
        (tmp_path / name / "sub" / "a").write_text("content")
    assert digest_folder(tmp_path / "one") == digest_folder(tmp_path / "two")
    (tmp_path / "two" / "sub" / "a").rename(tmp_path / "two" / "sub" / "b")
    assert digest_folder(tmp_path / "one") != digest_folder(tmp_path / "two")


def test_value_digest_does_not_see_the_order_of_keys() -> None:
    assert digest_value({"a": 1, "b": 2}) == digest_value({"b": 2, "a": 1})
    # sha256 of '{"a":1}', by another program (sha256sum).
    assert digest_value({"a": 1}) == "015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862"


@given(st.integers(0, 2**40), st.text(max_size=8), st.text(max_size=8))
def test_seeds_are_63_bits_and_their_parts_do_not_run_together(seed: int, purpose: str, name: str) -> None:
    value = derive_seed(seed, purpose, name)
    assert 0 <= value < 2**63
    assert value == derive_seed(seed, purpose, name)
    assert derive_seed(seed, purpose + "x", name) != derive_seed(seed, purpose, "x" + name)


def test_errors_say_where_what_and_how_and_cross_processes() -> None:
    error = ConfigError("run.yaml", "unknown key a", expected="b", remedy="rename it")
    assert str(error) == "run.yaml: unknown key a; expected b. Rename it"
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is ConfigError and str(again) == str(error)
    assert [kind("x", "y").exit_code for kind in (InputError, GateRefused, ServiceUnreachable, StyleForgeError)] == [2, 3, 4, 1]
    assert GateRefused("x", "y").status == "refused"


@pytest.mark.parametrize("way", [paths.atomic_file, paths.atomic_folder])
@pytest.mark.parametrize("below", ["out", "deeper/out"])
def test_a_file_in_the_way_is_named(way, below: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    with pytest.raises(InputError, match=f"file/{below}: a file is in the way"), way(tmp_path / "file" / below):
        pass
    assert (tmp_path / "file").read_text() == "kept"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_temporary_names_do_not_collide_where_process_ids_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In pods every process is number 1, and they may share a volume."""
    monkeypatch.setattr("os.getpid", lambda: 1)
    with paths.atomic_file(tmp_path / "a.png") as one, paths.atomic_file(tmp_path / "a.png") as other:
        assert one != other and one.suffix == other.suffix == ".png"
        one.write_text("1")
        other.write_text("2")


def test_home_is_tried_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths.home()
    monkeypatch.setattr("tempfile.TemporaryFile", lambda **_: pytest.fail("tried again"))
    assert paths.state("work").is_dir()
