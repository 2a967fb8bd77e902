import json
import random
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from components.core.paths import REPOSITORY
from components.registry import history
from components.registry.promotion import PromotionRequest, alias_holder, promote
from components.registry.tracking import Tracking, open_tracking
from tests.components.registry.made_versions import BETTER, TOOLS, Shelf
from tests.servers import mlflow_server, postgres

# What one of the processes does: promotes its part, and tells what became of each.
WORKER = """
import json, sys
from components.core.errors import StyleForgeError
from components.registry.promotion import PromotionRequest, promote
from components.registry.tracking import open_tracking
from tests.components.registry.made_versions import BETTER, TOOLS

tracking = open_tracking(sys.argv[1])
tracking.client.get_registered_model("m")
print("ready", flush=True)
sys.stdin.readline()
outcomes = []
for number in json.loads(sys.argv[2]):
    try:
        outcomes.append([number, "promoted" if promote(tracking, PromotionRequest(f"m/{number}", BETTER), TOOLS).promoted else "refused"])
    except Exception as error:
        outcomes.append([number, f"{type(error).__name__}: {error}"])
print(json.dumps(outcomes))
"""


@pytest.fixture(params=["sqlite", "postgresql", "server on postgresql"])
def registry(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
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


def fill(tracking: Tracking, folder: Path, versions: int) -> list[int]:
    """Register versions in a random order of quality; gives the ten-thousandth of each one's KID."""
    shelf = Shelf(tracking, folder)
    random.seed(7)
    kids = random.sample(range(1, 10_000), versions)
    for number, kid in enumerate(kids, 1):
        shelf.add("m", kid / 10_000, number=number)
    return kids


def check(tracking: Tracking, kids: list[int], outcomes: dict[int, str]) -> None:
    """The best one is champion, and the history tells of promotions of which each was better than the one before, which it names."""
    assert set(outcomes.values()) <= {"promoted", "refused"} and len(outcomes) == len(kids)
    assert alias_holder(tracking, "m", "champion") == str(kids.index(min(kids)) + 1)
    entries = history.read_history(tracking, "m")
    assert [entry.number for entry in entries] == list(range(1, len(entries) + 1)) and all(entry.state == "done" for entry in entries)
    assert {int(entry.version) for entry in entries} == {number for number, outcome in outcomes.items() if outcome == "promoted"}
    assert [entry.before for entry in entries] == [None, *(entry.version for entry in entries[:-1])]
    scores = [kids[int(entry.version) - 1] for entry in entries]
    assert scores == sorted(scores, reverse=True)


def test_threads_on_a_file(shelf: Shelf, tmp_path: Path) -> None:
    kids = fill(shelf.tracking, tmp_path / "more", 12)

    def act(number: int) -> tuple[int, str]:
        done = promote(shelf.tracking, PromotionRequest(f"m/{number}", BETTER), TOOLS)
        return number, "promoted" if done.promoted else "refused"

    with ThreadPoolExecutor(4) as pool:
        check(shelf.tracking, kids, dict(pool.map(act, range(1, len(kids) + 1))))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_processes(registry: str, tmp_path: Path) -> None:
    tracking, processes = open_tracking(registry), 8
    kids = fill(tracking, tmp_path / "models", 80)
    order = random.sample(range(1, len(kids) + 1), len(kids))
    command, pipe = [sys.executable, "-c", WORKER, registry], subprocess.PIPE
    workers = [
        subprocess.Popen([*command, json.dumps(order[index::processes])], cwd=REPOSITORY, text=True, stdin=pipe, stdout=pipe)
        for index in range(processes)
    ]
    for worker in workers:
        assert worker.stdout is not None and worker.stdout.readline() == "ready\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("\n")
        worker.stdin.flush()
    check(tracking, kids, dict(pair for worker in workers for pair in json.loads(worker.communicate(timeout=800)[0])))
