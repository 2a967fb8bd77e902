import json
import logging

import pytest

from components.core import logs


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
