from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest

from components.core import logs
from components.core.paths import FLOORS


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    before = {name: (logging.getLogger(name).handlers, logging.getLogger(name).propagate) for name in FLOORS}
    yield
    for name, (handlers, propagate) in before.items():
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(logging.NOTSET)
    logging.captureWarnings(False)


def test_people_read_the_message_alone(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up()
    logs.set_up()  # Nothing is said twice by that.
    logger = logging.getLogger("components.thing")
    logger.debug("unseen")
    logger.info("step %s", "scan")
    logger.warning("few pictures")
    assert capsys.readouterr().err == "step scan\nwarning: few pictures\n"


def test_machines_read_json(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up(verbose=True, log_format="json")
    logging.getLogger("steps.scan").debug("seen")
    row = json.loads(capsys.readouterr().err)
    assert (row["level"], row["logger"], row["message"]) == ("debug", "steps.scan", "seen")


def test_without_a_terminal_progress_is_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up()
    with logs.progress("training", 3, every_seconds=1000) as advance:
        advance()
        advance(2, "loss 0.5")
    assert capsys.readouterr().err == "training 3/3, loss 0.5\n"
    with logs.progress("training", 1, shown=False) as advance:
        advance(1, "loss 0.5")
    assert capsys.readouterr().err == ""
