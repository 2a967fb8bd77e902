"""What the processes of ``test_launch.py`` do. Run as a module, it starts some and waits: the parent to kill."""

import json
import logging
import os
import signal
import sys
import time
from pathlib import Path

from components.core.errors import TrainingDiverged

RANK = "RANK"


def rank() -> int:
    return int(os.environ[RANK])


def wait_for(path: Path) -> None:
    while not path.exists():
        time.sleep(0.01)


def stay(folder: Path, *, interrupts: bool = False) -> None:
    """Say that it is here, and stay until it is ended; say whether it could clear away."""
    try:
        (folder / f"here{rank()}").write_text(str(os.getpid()))
        if interrupts:
            wait_for(folder / "here0")
            os.kill(os.getppid(), signal.SIGINT)
        time.sleep(60)
    finally:
        (folder / f"cleared{rank()}").touch()


def report(folder: Path) -> None:
    import psutil
    import torch
    import torch.distributed

    torch.distributed.init_process_group("gloo")
    total = torch.tensor([float(rank() + 1)])
    torch.distributed.all_reduce(total)
    places = sorted({connection.laddr.ip for connection in psutil.Process().net_connections("inet") if connection.laddr})
    facts = {"sum": total.item(), "threads": os.environ["OMP_NUM_THREADS"], "local": os.environ["LOCAL_RANK"], "places": places}
    (folder / f"{rank()}.json").write_text(json.dumps(facts))


def end(folder: Path, how: str) -> None:
    """The last process ends in a way of its own; the first stays until it is ended, but where it loses its partner."""
    if rank() == int(os.environ["WORLD_SIZE"]) - 1:
        if how in ("diverge", "die", "ignore"):
            wait_for(folder / "here0")
        elif how == "lose":
            time.sleep(0.3)
        if how == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "leave":
            os._exit(7)
        if how == "fail":
            raise ZeroDivisionError("mine")
        if how == "stubborn":
            raise Stubborn("at home")
        raise TrainingDiverged("training step 4", "the loss is nan", expected="finite numbers", remedy="lower it")
    if how == "lose":
        raise RuntimeError("Connection closed by peer")
    if how == "ignore":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    stay(folder)


class Stubborn(Exception):
    def __reduce__(self) -> str:
        raise TypeError("cannot be pickled")


def interrupt(folder: Path) -> None:
    """As Ctrl-C does, to the parent alone: it has to tell the others."""
    stay(folder, interrupts=rank() == 1)


def speak() -> None:
    logger = logging.getLogger("components.diffusion.workers")
    logger.info("step %d of process %d", 1, rank())
    logger.warning("a warning of process %d", rank())
    logger.debug("not asked for")


if __name__ == "__main__":
    from components.diffusion.training.launch import launch

    launch(stay, (Path(sys.argv[1]),), 2)
