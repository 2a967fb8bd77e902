"""Several processes on this machine that do one piece of work together, as torch.distributed knows it."""

from __future__ import annotations

import logging
import logging.handlers
import multiprocessing
import os
import pickle
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from types import FrameType
from typing import Any, NoReturn

from components.core.devices import default_device
from components.core.errors import ConfigError, InputError, ProcessLost, StyleForgeError
from components.core.paths import FLOORS

GRACE = 5.0
"""Seconds that a process has to end by itself when it is told to."""
SETTLE = 1.0
"""Seconds in which the cause of an error may still show: a process that loses its partner fails too, and may say so first."""
INTERRUPTED = 130
LOOPBACK = "127.0.0.1"


def world_size() -> int:
    """How many processes this one works together with, itself included: started here, by torchrun or by accelerate; else 1."""
    if not all(os.environ.get(name) for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR")):
        return 1
    return int(os.environ["WORLD_SIZE"])


def is_member(processes: int) -> bool:
    """Whether this process is one of several that work together already.

    Raises:
        ConfigError: it is, but they are not ``processes``.
    """
    world = world_size()
    if world > 1 and world != processes:
        raise ConfigError(
            "training.processes", f"is {processes}, and {world} were started (WORLD_SIZE)", expected="the same number, as it is recorded",
            remedy=f"set training.processes={world}",
        )  # fmt: skip
    return world > 1


def refuse_members() -> None:
    """Refuse to begin a whole run in each of several processes.

    Raises:
        InputError: this is one of several.
    """
    if (world := world_size()) > 1:
        raise InputError(
            f"WORLD_SIZE={world}", "a launcher started several processes, and each would do the whole run", expected="one process",
            remedy="start styleforge by itself; it starts those that training.processes asks for",
        )  # fmt: skip


def check_devices(processes: int) -> None:
    """Refuse more processes than there are GPUs, where there are any.

    Raises:
        ConfigError: there are fewer.
    """
    import torch

    if default_device().type != "cpu" and (found := torch.accelerator.device_count()) < processes:
        raise ConfigError(
            f"training.processes={processes}", f"{found} GPU{'s are' if found != 1 else ' is'} visible", expected="a GPU for each process",
            remedy="lower it, and raise training.gradient_accumulation for batches of the same size",
        )  # fmt: skip


def pin_device() -> None:
    """Make the GPU of a member its current one, so that nothing of it lands on the others'."""
    import torch

    if default_device().type == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))


def together(work: Callable[..., object], arguments: Sequence[Any], processes: int) -> None:
    """Call ``work`` in each of so many new processes, and wait for all of them.

    Each finds RANK, WORLD_SIZE and the like in its environment, and has its share of this one's CPU threads. They meet on the
    loopback interface only. Their log lines come here. When one fails, or this one is interrupted, all of them are ended.

    Args:
        work: a function of a module, since each process imports it anew.
        arguments: what it is called with; they are pickled.
        processes: how many.

    Raises:
        ProcessLost: one of them died without an error, for example by SIGKILL.
        Exception: what one of them raised; where several did, one of ours, else the first.
    """
    store = _open_store()
    context = multiprocessing.get_context("spawn")
    members: list[_Member] = []
    try:
        for rank in range(processes):
            members.append(_Member(context, rank, _environment(rank, processes, store.port), work, arguments))
        _listen(members)
    finally:
        _end(members)


def _open_store() -> Any:
    """The store in which the processes find each other. It is here, so no port can be taken before one of them binds it."""
    from torch.distributed import TCPStore

    # Bound by hand: torch itself would listen on every interface.
    with socket.create_server((LOOPBACK, 0)) as listening:
        port = listening.getsockname()[1]
        return TCPStore(LOOPBACK, port, is_master=True, wait_for_workers=False, master_listen_fd=listening.detach())


def _environment(rank: int, world: int, port: int) -> dict[str, str]:
    import psutil
    import torch

    names = {
        "RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world, "MASTER_ADDR": LOOPBACK, "MASTER_PORT": port,
        # torchrun's own way to say that the store runs already.
        "TORCHELASTIC_USE_AGENT_STORE": True, "OMP_NUM_THREADS": max(1, torch.get_num_threads() // world),
    }  # fmt: skip
    interfaces = [name for name, found in psutil.net_if_addrs().items() if any(item.address == LOOPBACK for item in found)]
    if interfaces:
        # Otherwise it takes the address that the machine's name leads to, which may be none of this machine.
        names["GLOO_SOCKET_IFNAME"] = interfaces[0]
    return {name: str(value) for name, value in names.items()}


class _Member:
    """One process, seen from the one that started it."""

    def __init__(self, context: Any, rank: int, environment: dict[str, str], work: Callable[..., object], arguments: Sequence[Any]) -> None:
        self.rank, self.error, self.exit_code = rank, None, 0
        level = logging.getLogger("components").getEffectiveLevel()
        self.receiver, sender = context.Pipe(duplex=False)
        self.process = context.Process(
            target=_run, args=(sender, environment, level, work, arguments), name=f"styleforge-{rank}", daemon=True
        )
        self.process.start()
        # The only writing end left is the process' own, so its end is the pipe's.
        sender.close()

    error: BaseException | None

    def read(self) -> bool:
        """Take one message; False when the process has ended."""
        try:
            message = self.receiver.recv()
        except (EOFError, OSError):
            self.process.join()
            self.exit_code = self.process.exitcode or 0
            return False
        if isinstance(message, logging.LogRecord):
            logging.getLogger(message.name).handle(message)
        else:
            self.error = message
        return True

    def cause(self) -> BaseException | None:
        """Why the work cannot go on, as far as that cannot be another process' fault."""
        if isinstance(self.error, StyleForgeError):
            return self.error
        if self.error is not None or not self.exit_code:
            return None
        how = signal.Signals(-self.exit_code).name if self.exit_code < 0 else f"exit code {self.exit_code}"
        return ProcessLost(
            f"process {self.rank} of the training", f"it died ({how})",
            remedy="if memory ran out, lower training.batch_size or training.processes; the same command goes on from the last checkpoint",
        )  # fmt: skip


def _listen(members: list[_Member]) -> None:
    """Return when all have ended well; raise as soon as it is clear why one has not."""
    running: dict[Any, _Member] = {member.receiver: member for member in members}
    first: BaseException | None = None
    until = 0.0
    while running:
        ready = wait(list(running), timeout=max(0.0, until - time.monotonic()) if first else None)
        if not ready:
            break
        for receiver in ready:
            if not running[receiver].read():
                del running[receiver]
        if causes := [cause for member in members if (cause := member.cause())]:
            raise causes[0]
        if first is None and (errors := [member.error for member in members if member.error]):
            first, until = errors[0], time.monotonic() + SETTLE
    if first is not None:
        raise first


def _end(members: list[_Member]) -> None:
    """Leave no process behind: ask all to end, and kill those that do not."""
    for member in members:
        if member.process.is_alive():
            member.process.terminate()
    until = time.monotonic() + GRACE
    for member in members:
        member.process.join(max(0.0, until - time.monotonic()))
        if member.process.is_alive():
            member.process.kill()
            member.process.join()
        member.process.close()
        member.receiver.close()


class _ToParent(logging.handlers.QueueHandler):
    """Sends log records through the pipe."""

    def enqueue(self, record: logging.LogRecord) -> None:
        self.queue.send(record)  # type: ignore[attr-defined]


def _run(sender: Connection, environment: dict[str, str], level: int, work: Callable[..., object], arguments: Sequence[Any]) -> None:
    """What a member does: the work, and a word about why it failed."""
    os.environ.update(environment)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(int(environment["OMP_NUM_THREADS"]))
    for name in FLOORS:
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [_ToParent(sender)], False  # type: ignore[arg-type]
        # All of them would say the same.
        logger.setLevel(level if environment["RANK"] == "0" else logging.ERROR)
    try:
        work(*arguments)
        _leave_group()
    except KeyboardInterrupt:
        _leave(INTERRUPTED)
    except BaseException as error:
        sender.send(_portable(error, int(environment["RANK"])))
        _leave(1)


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    """End once, and let what is half done be cleared away: Ctrl-C reaches every process, and then the parent's word does."""
    for each in (signal.SIGINT, signal.SIGTERM):
        # Not SIG_IGN: of a signal that is on its way already Python would complain.
        signal.signal(each, lambda number, frame: None)
    raise KeyboardInterrupt


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def _leave_group() -> None:
    if (distributed := sys.modules.get("torch.distributed")) is not None and distributed.is_initialized():
        distributed.destroy_process_group()


def _leave(code: int) -> NoReturn:
    """End at once: a group whose partners are gone may never come to an end by itself."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _portable(error: BaseException, rank: int) -> BaseException:
    """The error as it can be sent; one that is not ours brings its traceback along as a note."""
    told = "".join(traceback.format_exception(error))
    try:
        copy: BaseException = pickle.loads(pickle.dumps(error))
    except Exception:
        copy = RuntimeError(f"{type(error).__name__}: {error}")
    if not isinstance(copy, StyleForgeError):
        copy.add_note(f"in process {rank}:\n{told}")
    return copy
