import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch

from components.core.errors import ConfigError, InputError, ProcessLost, TrainingDiverged
from components.core.paths import REPOSITORY
from components.diffusion.training import launch as module
from components.diffusion.training.launch import check_devices, is_worker, launch, refuse_external_launcher
from tests.components.diffusion.training import workers


def children() -> list[psutil.Process]:
    # multiprocessing's own helper stays for as long as this process.
    return [child for child in psutil.Process().children(recursive=True) if "resource_tracker" not in " ".join(child.cmdline())]


@pytest.fixture(autouse=True)
def _nothing_left_behind() -> object:
    before = children()
    yield
    assert [child for child in children() if child not in before] == []


def test_each_process_knows_its_place_and_they_meet_on_loopback_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 6)
    launch(workers.report, (tmp_path,), 2)
    facts = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]
    assert [fact["sum"] for fact in facts] == [3.0, 3.0]
    assert [fact["threads"] for fact in facts] == ["3", "3"]
    assert [fact["local"] for fact in facts] == ["0", "1"]
    assert {place.removeprefix("::ffff:") for fact in facts for place in fact["places"]} == {"127.0.0.1"}


def test_the_store_listens_on_loopback_only() -> None:
    store = module._open_store()
    listening = [item.laddr for item in psutil.Process().net_connections("inet") if item.status == psutil.CONN_LISTEN]
    assert [place.ip for place in listening if place.port == store.port] == ["127.0.0.1"]


DIVERGED = "^training step 4: the loss is nan; expected finite numbers. Lower it$"


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("how", "processes", "wanted", "message", "cleared"),
    [
        ("diverge", 2, TrainingDiverged, DIVERGED, True),
        # The first notices that its partner is gone before that one has said why.
        ("lose", 2, TrainingDiverged, DIVERGED, False),
        ("fail", 2, ZeroDivisionError, "mine", None),
        ("stubborn", 1, RuntimeError, "Stubborn: at home", False),
        ("leave", 2, ProcessLost, r"it died \(exit code 7\)", None),
        ("die", 2, ProcessLost, r"process 1 of the training: it died \(SIGKILL\).*last checkpoint", True),
        # One that does not listen is killed.
        ("ignore", 2, TrainingDiverged, DIVERGED, False),
    ],
)
def test_the_cause_is_raised_and_the_others_end(
    how: str, processes: int, wanted: type[Exception], message: str, cleared: bool | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GRACE", 0.3 if how == "ignore" else module.GRACE)
    with pytest.raises(wanted, match=message) as caught:
        launch(workers.end, (tmp_path, how), processes)
    if how == "fail":
        assert caught.value.__notes__[0].startswith("in process 1:\n") and "workers.py" in caught.value.__notes__[0]
    assert cleared in (None, (tmp_path / "cleared0").exists())


def test_an_interrupt_ends_all_cleanly(tmp_path: Path) -> None:
    # Where the tests run in the background, SIGINT is ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            launch(workers.interrupt, (tmp_path,), 2)
    finally:
        signal.signal(signal.SIGINT, before)
    assert (tmp_path / "cleared0").exists()
    assert (tmp_path / "cleared1").exists()


def test_they_end_with_the_one_that_started_them(tmp_path: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-m", workers.__name__, str(tmp_path)], cwd=REPOSITORY)
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob("here?"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    started = [int(file.read_text()) for file in tmp_path.glob("here?")]
    assert len(started) == 2
    parent.kill()
    parent.wait()
    while any(map(psutil.pid_exists, started)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(psutil.pid_exists, started))


def test_the_first_speaks_for_all_through_our_own_log(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    logger = logging.getLogger("components")
    monkeypatch.setattr(logger, "handlers", [Listener()])
    monkeypatch.setattr(logger, "level", logging.INFO)
    launch(workers.speak, (), 2)
    assert said == ["step 1 of process 0", "a warning of process 0"]


def test_who_was_started_by_others_starts_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR"):
        monkeypatch.delenv(name, raising=False)
    assert not is_worker(2)
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert not is_worker(2)
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    assert is_worker(2)
    with pytest.raises(InputError, match="WORLD_SIZE=2: a launcher started several processes"):
        refuse_external_launcher()
    with pytest.raises(ConfigError, match=r"training\.processes: is 1, but 2 were started.*Set training\.processes=2"):
        is_worker(1)
    # Clusters say so of a single process too.
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert not is_worker(4)
    refuse_external_launcher()


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 1)
    check_devices(1)
    with pytest.raises(ConfigError, match=r"training\.processes=2: 1 GPU is visible") as caught:
        check_devices(2)
    assert caught.value.exit_code == 2
    # On the CPU there is room for any number, whatever GPUs the machine has.
    monkeypatch.setenv("STYLEFORGE_DEVICE", "cpu")
    check_devices(2)
    monkeypatch.delenv("STYLEFORGE_DEVICE")
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    check_devices(os.cpu_count() or 1)
