"""One process trains a model at a time: claims among real processes."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from components.core.config import RunConfig, parse_config
from components.core.paths import REPOSITORY, write_jsonl
from components.registry.claims import CLAIM, claim, source_digest
from components.registry.lock import SUFFIX
from tests.components.registry.made_versions import Shelf

BEAT, PATIENCE = 0.2, 4.0

# Claims a model, says so, and keeps it until its input ends.
HOLDER = f"""
import sys
from components.registry.claims import claim
from components.registry.tracking import open_tracking
with claim(open_tracking(sys.argv[1]), "m", beat={BEAT}, patience={PATIENCE}) as mine:
    print(mine, flush=True)
    sys.stdin.read()
"""


def hold(shelf: Shelf) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HOLDER, shelf.tracking.uri]
    process = subprocess.Popen(command, cwd=REPOSITORY, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == "True\n"
    return process


def end(process: subprocess.Popen[str]) -> None:
    process.communicate(timeout=60)
    assert process.returncode == 0


def tags(shelf: Shelf) -> list[str]:
    return [key for key in shelf.tracking.client.get_registered_model("m" + SUFFIX).tags if key.startswith(CLAIM)]


def test_a_claim_of_a_living_process_is_left_to_it(shelf: Shelf) -> None:
    holder = hold(shelf)
    started = time.monotonic()
    with claim(shelf.tracking, "m", beat=BEAT, patience=PATIENCE) as mine:
        assert not mine
    # It saw a sign of life, and did not wait for patience to end.
    assert time.monotonic() - started < PATIENCE
    with claim(shelf.tracking, "other", beat=BEAT, patience=PATIENCE) as mine:
        assert mine
    end(holder)
    with claim(shelf.tracking, "m", beat=BEAT, patience=PATIENCE) as mine:
        assert mine and len(tags(shelf)) >= 1
    assert tags(shelf) == []


def test_a_claim_of_a_killed_process_is_taken_over(shelf: Shelf, caplog: pytest.LogCaptureFixture) -> None:
    holder = hold(shelf)
    holder.kill()
    holder.communicate(timeout=60)
    started = time.monotonic()
    with claim(shelf.tracking, "m", beat=BEAT, patience=PATIENCE) as mine:
        assert mine and time.monotonic() - started >= PATIENCE
    assert "is gone" in caplog.text and tags(shelf) == []


def test_a_failure_gives_the_claim_back(shelf: Shelf) -> None:
    with pytest.raises(KeyboardInterrupt), claim(shelf.tracking, "m"):
        raise KeyboardInterrupt
    assert tags(shelf) == []


def config(**changes: object) -> RunConfig:
    return parse_config({"style": {"name": "a", "source": "pictures"}}, overrides=[f"{key}={value}" for key, value in changes.items()])


def test_the_digest_is_of_pictures_settings_and_base(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "manifest.jsonl", [{"path": "a.png", "sha256": "1"}])
    first = source_digest(tmp_path, config(), "base")
    # Where things are does not matter.
    for moved in ({"style.source": "s3://elsewhere"}, {"aux.pool": "pool"}, {"style.reference": "held"}, {"registry.alias": "x"}):
        assert source_digest(tmp_path, config(**moved), "base") == first
    others = {source_digest(tmp_path, config(**change), "base") for change in ({"seed": 1}, {"training.steps": 3}, {"aux.count": 4})}
    others.add(source_digest(tmp_path, config(), "another base"))
    write_jsonl(tmp_path / "manifest.jsonl", [{"path": "a.png", "sha256": "2"}])
    others.add(source_digest(tmp_path, config(), "base"))
    assert len(others) == 5 and first not in others
