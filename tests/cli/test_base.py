"""``styleforge base pin``: against a stand-in for the hub on loopback, in a process of its own, since huggingface_hub reads its
variables when it is imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from components.core.config import read_config
from components.core.paths import REPOSITORY
from tests.fixtures_models import tiny_sd_folder
from tests.hub_stand_in import HubStandIn, hub_stand_in

CONFIG = """\
# Ours.
base:
  model: pocket          # to begin with
training:
  learning_rate: 1e-4    # 'no' and 1e-4 stay what they are
  mixed_precision: no
"""


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubStandIn]:
    with hub_stand_in() as stand_in:
        stand_in.model = tiny_sd_folder(tmp_path / "base")
        yield stand_in


def pin(hub: HubStandIn, tmp_path: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    values = {"STYLEFORGE_HOME": str(tmp_path / "home"), "HF_ENDPOINT": hub.url, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-m", "cli.app", "base", "pin", *arguments, "--json"]
    done = subprocess.run(command, cwd=tmp_path, env={**kept, **values}, capture_output=True, text=True, check=False)
    return done.returncode, json.loads(done.stdout.splitlines()[-1])


def test_the_commit_of_today_is_written_beside_what_stands_there(hub: HubStandIn, tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(CONFIG, encoding="utf-8")
    code, result = pin(hub, tmp_path, "someone/base", "--config", str(file))
    assert code == 0 and result["revision"] == hub.commit
    before, after = CONFIG.splitlines(), file.read_text(encoding="utf-8").splitlines()
    assert after[:2] + after[4:] == before[:2] + before[3:]
    data = read_config(file)[1]
    assert data["base"] == {"model": "someone/base", "revision": hub.commit}
    assert data["training"] == {"learning_rate": 1e-4, "mixed_precision": "no"}
    assert not [name for name in hub.fetched if name.endswith(".safetensors")]


@pytest.mark.parametrize(
    ("status", "kind", "model", "config", "said"),
    [
        (200, "", "someone/base", "nowhere.yaml", "nowhere.yaml"),
        (200, "", "models/base.safetensors", None, "owner/name"),
        (403, "GatedRepo", "someone/base", None, "licence"),
        (404, "RepoNotFound", "someone/base", None, "someone/base"),
    ],
)
def test_what_cannot_be_pinned_is_said_in_one_message(
    hub: HubStandIn, tmp_path: Path, status: int, kind: str, model: str, config: str | None, said: str
) -> None:
    hub.status, hub.code = status, kind
    code, result = pin(hub, tmp_path, model, *(["--config", config] if config else []))
    assert code == 2 and said in result["error"]["message"]
