from pathlib import Path

import pytest

from components.core.errors import InputError
from components.registry.promotion import PromotionRequest, promote
from components.registry.retention import delete, find_unneeded
from components.registry.versions import resolve_model
from tests.components.registry.made_versions import BETTER, TOOLS, Shelf, write_model
from tests.components.registry.test_versions import _register


def numbers(shelf: Shelf, name: str = "m") -> list[str]:
    return [str(version.version) for version in shelf.tracking.versions(name)]


def test_versions_of_aliases_and_of_the_history_and_the_newest_stay(shelf: Shelf) -> None:
    for kid in (0.5, 0.9, 0.4, 0.9, 0.3, 0.9, 0.9):
        promote(shelf.tracking, PromotionRequest(shelf.add("m", kid), BETTER), TOOLS)
    shelf.tracking.client.set_registered_model_alias("m", "staging", "2")
    # 1, 3 and 5 were champions, 2 has an alias, 7 is the newest.
    assert [item.version for item in find_unneeded(shelf.tracking, "m", keep=1)] == ["6", "4"]
    assert [item.version for item in find_unneeded(shelf.tracking, "m", keep=2)] == ["4"]
    assert numbers(shelf) == ["7", "6", "5", "4", "3", "2", "1"]
    gone = delete(shelf.tracking, find_unneeded(shelf.tracking, keep=1))
    assert [item.version for item in gone] == ["6", "4"] and numbers(shelf) == ["7", "5", "3", "2", "1"]


def test_the_files_go_and_the_run_with_its_scores_stays(shelf: Shelf, tmp_path: Path) -> None:
    first = _register(shelf.tracking, write_model(tmp_path / "a", 0.2), name="m")
    folder = resolve_model("m/1", shelf.tracking.uri)
    second = _register(shelf.tracking, write_model(tmp_path / "b", 0.2), name="m")
    shelf.tracking.client.set_registered_model_alias("m", "challenger", second.version)
    (item,) = find_unneeded(shelf.tracking, "m", keep=0)
    assert item.bytes == sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    delete(shelf.tracking, [item])
    assert not folder.exists() and numbers(shelf) == ["2"]
    assert shelf.tracking.client.get_run(first.run_id).data.metrics["style/kid"] == 0.0123


def test_files_that_another_version_is_made_of_stay(shelf: Shelf) -> None:
    shelf.add("m", 0.2)
    shelf.add("m", 0.3)
    with pytest.raises(InputError, match="one of: m"):
        find_unneeded(shelf.tracking, "n")
    (item,) = find_unneeded(shelf.tracking, "m", keep=1)
    delete(shelf.tracking, [item])
    assert resolve_model("m/2", shelf.tracking.uri).is_dir()


def test_what_was_promoted_in_the_meantime_stays(shelf: Shelf) -> None:
    for kid in (0.5, 0.4):
        shelf.add("m", kid)
    found = find_unneeded(shelf.tracking, "m", keep=1)
    promote(shelf.tracking, PromotionRequest("m/1", BETTER), TOOLS)
    assert delete(shelf.tracking, found) == [] and numbers(shelf) == ["2", "1"]


def test_runs_at_work_and_other_tools_versions_are_left_alone(shelf: Shelf, tmp_path: Path) -> None:
    running = shelf.tracking.start("test", "at work", {})
    for run in (running, shelf.run_id):
        shelf.tracking.client.create_registered_model(f"of-{run}")
        tags = {"styleforge.kid": "1"} if run == running else {}
        shelf.tracking.client.create_model_version(f"of-{run}", shelf.place, run_id=run, tags=tags)
    assert find_unneeded(shelf.tracking, keep=0) == []


def test_a_copy_that_never_became_a_version_goes(shelf: Shelf) -> None:
    tags = {"styleforge.kind": "promotion"}
    run = shelf.tracking.start("styleforge-production", "m from m.dev/1", tags)
    assert find_unneeded(shelf.tracking) == []  # It may be on its way.
    shelf.tracking.end(run, "FAILED")
    (item,) = find_unneeded(shelf.tracking)
    assert item.version is None and item.run_id == run
    delete(shelf.tracking, [item])
    assert find_unneeded(shelf.tracking) == []
