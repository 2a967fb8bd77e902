"""Many promotions at once, from several processes, on each kind of registry."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from components.core.paths import REPOSITORY
from components.registry import history
from components.registry.promotion import alias_holder
from components.registry.tracking import open_tracking
from tests.components.registry.made_versions import Shelf
from tests.servers import mlflow_server, postgres

PROCESSES, VERSIONS = 8, 200

# What one of the processes does: promotes its share, and tells what became of each.
WORKER = """
import json, sys
from components.core.errors import StyleForgeError
from components.registry.promotion import Wish, promote
from components.registry.tracking import open_tracking
from tests.components.registry.made_versions import BETTER, TOOLS

tracking = open_tracking(sys.argv[1])
tracking.client.get_registered_model("m")
print("ready", flush=True)
sys.stdin.readline()
outcomes = []
for number in json.loads(sys.argv[2]):
    try:
        outcomes.append([number, "promoted" if promote(tracking, Wish(f"m/{number}", BETTER), TOOLS).promoted else "refused"])
    except Exception as error:
        outcomes.append([number, f"{type(error).__name__}: {error}"])
print(json.dumps(outcomes))
"""


@pytest.fixture(params=["sqlite", "postgresql", "server on postgresql"])
def registry(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("STYLEFORGE_HOME", str(tmp_path / "home"))
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/mlflow.db"
        return
    with postgres() as database:
        if request.param == "postgresql":
            # Its artifacts are where a run of this machine's would be.
            monkeypatch.chdir(tmp_path)
            yield database
            return
        with mlflow_server(tmp_path / "server", database) as uri:
            yield uri


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_best_one_is_champion_at_the_end(registry: str, tmp_path: Path) -> None:
    tracking = open_tracking(registry)
    shelf = Shelf(tracking, tmp_path / "models")
    random.seed(7)
    kids = random.sample(range(1, 10_000), VERSIONS)
    for number, kid in enumerate(kids, 1):
        shelf.add("m", kid / 10_000, number=number)
    order = random.sample(range(1, VERSIONS + 1), VERSIONS)
    shares = [order[index::PROCESSES] for index in range(PROCESSES)]
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", WORKER, registry]
    processes = [subprocess.Popen([*command, json.dumps(share)], cwd=REPOSITORY, text=True, stdin=pipe, stdout=pipe) for share in shares]
    for process in processes:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    outcomes = dict(pair for process in processes for pair in json.loads(process.communicate(timeout=800)[0]))
    assert set(outcomes.values()) <= {"promoted", "refused"} and len(outcomes) == VERSIONS
    best = kids.index(min(kids)) + 1
    assert alias_holder(tracking, "m", "champion") == str(best)
    entries = history.read_history(tracking, "m")
    assert [entry.number for entry in entries] == list(range(1, len(entries) + 1)) and all(entry.state == "done" for entry in entries)
    assert {int(entry.version) for entry in entries} == {number for number, outcome in outcomes.items() if outcome == "promoted"}
    # Each was better than the one before, which it names.
    assert [entry.before for entry in entries] == [None, *(entry.version for entry in entries[:-1])]
    scores = [kids[int(entry.version) - 1] for entry in entries]
    assert scores == sorted(scores, reverse=True)
