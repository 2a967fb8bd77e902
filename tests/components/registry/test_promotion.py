"""Promotions against SQLite; the concurrent ones against PostgreSQL and a server too, see test_promotion_at_once.py."""

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from components.core.config import validate_model
from components.core.content import digest_folder
from components.core.errors import GateRefused, InputError, ServiceUnreachable
from components.registry import history
from components.registry.gate import GateConfig
from components.registry.lock import lock
from components.registry.promotion import Promotion, PromotionRequest, Scored, alias_holder, promote, rollback
from components.registry.tracking import Tracking, open_tracking
from components.registry.versions import list_models, resolve_model
from tests.components.registry.made_versions import BETTER, TOOLS, Shelf, write_model


def champion(shelf: Shelf, name: str = "m") -> str | None:
    return alias_holder(shelf.tracking, name, "champion")


def act(shelf: Shelf, reference: str, **options: Any) -> Promotion:
    return promote(shelf.tracking, PromotionRequest(reference, options.pop("gate", BETTER), **options), TOOLS)


def test_the_better_one_becomes_champion_and_the_worse_one_does_not(shelf: Shelf) -> None:
    first, worse, better = (shelf.add("m", kid) for kid in (0.2, 0.3, 0.1))
    result = act(shelf, first)
    assert result.promoted and result.champion is None and champion(shelf) == "1"
    again = act(shelf, first)
    assert again.promoted and again.entry is None and len(history.read_history(shelf.tracking, "m")) == 1
    result = act(shelf, worse)
    assert not result.passed and result.gate.verdict == "refuse" and champion(shelf) == "1" and result.as_dict()["status"] == "refused"
    result = act(shelf, better)
    assert result.promoted and result.champion == "1" and champion(shelf) == "3"
    assert [(entry.version, entry.before) for entry in history.read_history(shelf.tracking, "m")] == [("1", None), ("3", "1")]


def test_who_when_why_and_against_what_go_on_record(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    ci = {"RUN_ID": "77", "SERVER_URL": "https://git.example", "REPOSITORY": "team/styles", "ACTOR": "ada"}
    for key, value in ci.items():
        monkeypatch.setenv(f"GITHUB_{key}", value)
    monkeypatch.delenv("GITHUB_TRIGGERING_ACTOR", raising=False)
    act(shelf, shelf.add("m", 0.2), reason="first style")
    act(shelf, shelf.add("m", 0.1))
    entry = history.read_history(shelf.tracking, "m")[-1]
    assert (entry.who, entry.ci, entry.before) == ("ada", "https://git.example/team/styles/actions/runs/77", "1")
    assert entry.state == "done" and entry.gate == "pass" and not entry.forced and entry.when.endswith("Z")
    tags = shelf.tracking.client.get_model_version("m", "1").tags
    assert tags["styleforge.promoted_by"] == "ada" and tags["styleforge.promoted_because"] == "first style"
    assert shelf.tracking.client.get_model_version("m", "2").tags["styleforge.promoted_over"] == "1"


def test_rights_are_those_that_the_models_own_card_names(shelf: Shelf) -> None:
    asked = validate_model(GateConfig, {**BETTER.model_dump(), "rights": {"licenses": ["CC0-1.0"]}}, "gate")
    named = {"rights": [{"path": "a.png", "license": "CC0-1.0"}]}
    assert act(shelf, shelf.add("m", 0.2), gate=asked).gate.verdict == "refuse"
    assert act(shelf, shelf.add("m", 0.2, card={"rights": [{"path": "a.png"}]}), gate=asked).gate.verdict == "refuse"
    assert act(shelf, shelf.add("m", 0.2, card=named), gate=asked).promoted and champion(shelf) == "3"


def test_a_dry_run_changes_nothing(shelf: Shelf) -> None:
    act(shelf, shelf.add("m", 0.2))
    before = dict(shelf.tracking.client.get_registered_model("m").tags)
    assert act(shelf, shelf.add("m", 0.1), dry_run=True).passed
    assert not act(shelf, shelf.add("m", 0.4), dry_run=True).passed
    assert champion(shelf) == "1" and dict(shelf.tracking.client.get_registered_model("m").tags) == before


def test_force_needs_a_reason_and_is_on_record(shelf: Shelf) -> None:
    act(shelf, shelf.add("m", 0.2))
    worse = shelf.add("m", 0.3)
    with pytest.raises(InputError, match="--reason"):
        act(shelf, worse, force=True, reason=" ")
    result = act(shelf, worse, force=True, reason="the studio wants it")
    assert result.promoted and result.forced and champion(shelf) == "2"
    entry = history.read_history(shelf.tracking, "m")[-1]
    assert entry.forced and entry.gate == "refuse" and entry.reason == "the studio wants it"


def test_other_aliases_have_champions_of_their_own(shelf: Shelf) -> None:
    act(shelf, shelf.add("m", 0.2))
    act(shelf, shelf.add("m", 0.3), alias="staging")
    assert champion(shelf) == "1" and alias_holder(shelf.tracking, "m", "staging") == "2"
    for alias in ("latest", "v3", "a b", ""):
        with pytest.raises(InputError, match="is not a valid alias"):
            act(shelf, "m/1", alias=alias)


DAMAGE: list[tuple[Callable[[Path], object], str]] = [
    (lambda folder: (folder / "weights.safetensors").write_bytes(b"others"), "were changed"),
    (lambda folder: (folder / "extra.txt").write_text("x"), "were changed"),
    (shutil.rmtree, "are gone"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGE)
def test_files_that_are_not_what_was_registered_are_refused(shelf: Shelf, damage: Callable[[Path], object], message: str) -> None:
    reference = shelf.add("m", 0.2)
    damage(resolve_model(reference, shelf.tracking.uri))
    with pytest.raises(GateRefused, match=message) as caught:
        act(shelf, reference, force=True, reason="even by force")
    assert caught.value.exit_code == 3 and champion(shelf) is None


def test_a_version_without_scores_of_another_tool_or_not_there_is_refused(shelf: Shelf) -> None:
    folder = write_model(Path(shelf.place.removeprefix("file://")) / "bare", 0.1)
    shutil.rmtree(folder / "evaluation")
    for name, tags in (("m", {"styleforge.artifact_digest": digest_folder(folder)}), ("theirs", {})):
        shelf.tracking.client.create_registered_model(name)
        shelf.tracking.client.create_model_version(name, f"{shelf.place}/bare", run_id=shelf.run_id, tags=tags)
    for reference, message in (("m/1", "has no scores"), ("theirs/1", "registered by another tool")):
        with pytest.raises(GateRefused, match=message):
            act(shelf, reference)
    with pytest.raises(InputError, match=r"m/9.*known: m"):
        act(shelf, "m/9")
    # As a champion it cannot be compared either, and the message says what to do.
    shelf.tracking.client.set_registered_model_alias("m", "champion", "1")
    with pytest.raises(GateRefused, match="the champion cannot be compared") as caught:
        act(shelf, shelf.add("m", 0.1))
    assert "rollback m --to VERSION" in str(caught.value)


def test_a_champion_that_was_scored_otherwise_is_scored_anew_and_never_compared_across(shelf: Shelf, tmp_path: Path) -> None:
    act(shelf, shelf.add("m", 0.5, same="old bank"))
    asked: list[tuple[str, str]] = []

    def rescore(mine: Scored, theirs: Scored) -> Path:
        asked.append((mine.reference, theirs.reference))
        return write_model(tmp_path / f"rescored-{len(asked)}", 0.1, same="new bank") / "evaluation"

    candidate = shelf.add("m", 0.2, same="new bank")
    result = promote(shelf.tracking, PromotionRequest(candidate, BETTER), replace(TOOLS, rescore=rescore))
    # By the old figures 0.2 would have won against 0.5; on the same bank the champion has 0.1.
    assert asked == [("m/2", "m/1")] and result.rescored and result.gate.verdict == "refuse" and champion(shelf) == "1"


def test_bytes_are_copied_into_production_once(shelf: Shelf) -> None:
    reference = shelf.add("m.dev", 0.2, weights=b"the weights")
    development = resolve_model(reference, shelf.tracking.uri)
    result = act(shelf, reference)
    assert (result.name, result.version, result.source) == ("m", "1", "m.dev/1") and champion(shelf) == "1"
    shutil.rmtree(development)  # What is done to the development run is nothing to production.
    production = resolve_model("m@champion", shelf.tracking.uri)
    assert (production / "weights.safetensors").read_bytes() == b"the weights"
    entry = history.read_history(shelf.tracking, "m")[-1]
    assert entry.source == "m.dev/1" and alias_holder(shelf.tracking, "m.dev", "champion") is None
    run = shelf.tracking.client.get_run(str(shelf.tracking.client.get_model_version("m", "1").run_id))
    assert run.info.status == "FINISHED" and run.data.tags["styleforge.source_version"] == "m.dev/1"


def test_a_second_promotion_or_a_refusal_of_a_development_version_copies_nothing(shelf: Shelf) -> None:
    first = shelf.add("m.dev", 0.2)
    act(shelf, first)
    again = act(shelf, first)
    assert again.promoted and again.entry is None
    act(shelf, shelf.add("m.dev", 0.1))
    assert not act(shelf, first).passed
    assert not act(shelf, shelf.add("m.dev", 0.3)).passed
    assert [row["version"] for row in list_models(shelf.tracking.uri) if row["name"] == "m"] == ["2", "1"]


def test_rollbacks_go_back_one_after_the_other(shelf: Shelf) -> None:
    for kid in (0.4, 0.3, 0.2):
        act(shelf, shelf.add("m", kid))
    assert rollback(shelf.tracking, "m", reason="complaints").version == "2" and champion(shelf) == "2"
    assert rollback(shelf.tracking, "m").version == "1" and champion(shelf) == "1"
    with pytest.raises(GateRefused, match="has no earlier version"):
        rollback(shelf.tracking, "m")
    assert rollback(shelf.tracking, "m", to="3").version == "3"
    with pytest.raises(GateRefused, match="already has it"):
        rollback(shelf.tracking, "m", to="3")
    entries = history.read_history(shelf.tracking, "m")
    assert [entry.number for entry in entries] == [1, 2, 3, 4, 5, 6]
    assert [entry.action for entry in entries[3:]] == ["rollback"] * 3 and entries[3].reason == "complaints"


def test_a_rollback_to_lost_files_is_refused(shelf: Shelf) -> None:
    act(shelf, shelf.add("m", 0.4))
    act(shelf, shelf.add("m", 0.3))
    shutil.rmtree(resolve_model("m/1", shelf.tracking.uri))
    with pytest.raises(GateRefused, match="are gone"):
        rollback(shelf.tracking, "m")
    assert champion(shelf) == "2"
    with pytest.raises(InputError):
        rollback(shelf.tracking, "nothing")


def test_a_lost_entry_does_not_let_the_next_one_overwrite_another(shelf: Shelf) -> None:
    for kid in (0.4, 0.3):
        act(shelf, shelf.add("m", kid))
    shelf.tracking.client.delete_registered_model_tag("m", "styleforge.history.000001")
    act(shelf, shelf.add("m", 0.2))
    assert [(entry.number, entry.version) for entry in history.read_history(shelf.tracking, "m")] == [(2, "2"), (3, "3")]


class _Dying:
    """A client whose process is killed before its ``after``-th call."""

    def __init__(self, client: Any, after: int) -> None:
        self._client, self._left, self.calls = client, after, []

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._client, name)
        if not callable(real):
            return real

        def call(*args: Any, **kwargs: Any) -> Any:
            if self._left == 0:
                os.kill(os.getpid(), 9)
            self._left -= 1
            self.calls.append(name)
            return real(*args, **kwargs)

        return call


@pytest.mark.slow
def test_killed_at_any_point_there_is_the_old_or_the_new_champion(shelf: Shelf, tmp_path: Path) -> None:
    act(shelf, shelf.add("m.dev", 0.4))
    candidate = shelf.add("m.dev", 0.3)
    third = shelf.add("m.dev", 0.2)
    file = Path(shelf.tracking.uri.removeprefix("sqlite:///"))
    counting = _Dying(open_tracking(f"sqlite:///{shutil.copyfile(file, tmp_path / 'count.db')}").client, -1)
    promote(Tracking(f"sqlite:///{tmp_path}/count.db", counting), PromotionRequest(candidate, BETTER), TOOLS)
    assert "set_registered_model_alias" in counting.calls and "log_artifacts" in counting.calls
    seen = set()
    for after in range(len(counting.calls)):
        uri = f"sqlite:///{shutil.copyfile(file, tmp_path / f'{after}.db')}"
        child = os.fork()
        if child == 0:
            tracking = open_tracking(uri)
            promote(Tracking(uri, _Dying(tracking.client, after)), PromotionRequest(candidate, BETTER), TOOLS)  # type: ignore[arg-type]
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -9
        tracking = open_tracking(uri)
        holder = alias_holder(tracking, "m", "champion")
        assert holder in ("1", "2")
        seen.add(holder)
        entries = history.read_history(tracking, "m")
        assert entries[-1].state in ("done", "interrupted")
        assert [entry.version for entry in entries if entry.state == "done"][-1] == holder
        # And the next promotion is not held up by what the dead one left.
        assert promote(tracking, PromotionRequest(third, BETTER), TOOLS).promoted
        numbers = [entry.number for entry in history.read_history(tracking, "m")]
        assert numbers == list(range(1, len(numbers) + 1))
    assert seen == {"1", "2"}


def test_a_ticket_from_elsewhere_is_passed_over_after_its_lease(shelf: Shelf) -> None:
    client = shelf.tracking.client
    client.create_registered_model("m.tickets", tags={"styleforge.kind": "tickets"})
    client.create_model_version(
        "m.tickets", "styleforge://tickets/promotion", tags={"styleforge.space": "elsewhere", "styleforge.pid": "1"}
    )
    started = time.monotonic()
    with lock(shelf.tracking, "m", lease=0.6):
        assert time.monotonic() - started >= 0.6
    assert list_models(shelf.tracking.uri) == []


def test_a_lock_that_others_hold_is_waited_for_no_longer_than_said(shelf: Shelf) -> None:
    with lock(shelf.tracking, "m"), pytest.raises(ServiceUnreachable, match="others have held it"), lock(shelf.tracking, "m", wait=0.3):
        pytest.fail("two held the lock")
    with lock(shelf.tracking, "m", wait=0.3):  # Neither left a ticket behind.
        pass


def test_a_holder_that_was_passed_over_knows_it(shelf: Shelf) -> None:
    with lock(shelf.tracking, "m") as ticket:
        ticket.check()
        shelf.tracking.client.delete_model_version("m.tickets", str(ticket.number))
        with pytest.raises(ServiceUnreachable, match="was lost"):
            ticket.check()
