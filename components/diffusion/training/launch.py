"""Launch several processes on this machine for one piece of work, set up for torch.distributed.

torch's elastic launcher could do this too, but it returns errors as text, without their class, place and remedy, and its store
listens on every interface.
"""

from __future__ import annotations

import contextlib
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
from multiprocessing.process import BaseProcess
from types import FrameType, SimpleNamespace
from typing import Any, NoReturn

from components.core.devices import default_device
from components.core.errors import ConfigError, InputError, ProcessLost, StyleForgeError
from components.core.paths import FLOORS

GRACE = 5.0
"""Seconds that a process is given to end by itself after it is asked to."""
SETTLE = 1.0
"""Seconds to wait for the error of another process, which may be the actual cause."""
INTERRUPTED = 130
LOOPBACK = "127.0.0.1"


def world_size() -> int:
    """Number of processes that share this work, including this one: started here, by torchrun or by accelerate; otherwise 1."""
    if not all(os.environ.get(name) for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR")):
        return 1
    return int(os.environ["WORLD_SIZE"])


def is_worker(processes: int) -> bool:
    """Whether this process is one of several started for this work. ConfigError if their number is not ``processes``."""
    world = world_size()
    if world > 1 and world != processes:
        raise ConfigError(
            "training.processes", f"is {processes}, but {world} were started (WORLD_SIZE)", expected="the same number, as it is recorded",
            remedy=f"set training.processes={world}",
        )  # fmt: skip
    return world > 1


def refuse_external_launcher() -> None:
    """Refuse (InputError) to start a whole run in each of several processes."""
    if (world := world_size()) > 1:
        raise InputError(
            f"WORLD_SIZE={world}", "a launcher started several processes, and each would do the whole run", expected="one process",
            remedy="start styleforge without a launcher; it starts training.processes itself",
        )  # fmt: skip


def check_devices(processes: int) -> None:
    """Refuse (ConfigError) more processes than there are GPUs, on a machine that has GPUs."""
    import torch

    if default_device().type != "cpu" and (found := torch.accelerator.device_count()) < processes:
        raise ConfigError(
            f"training.processes={processes}", f"{found} GPU{'s are' if found != 1 else ' is'} visible", expected="a GPU for each process",
            remedy="lower it, and raise training.gradient_accumulation for batches of the same size",
        )  # fmt: skip


def pin_device() -> None:
    """Make a worker's own GPU its current one, so that it allocates nothing on the others'."""
    import torch

    if default_device().type == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))


def launch(work: Callable[..., object], arguments: Sequence[Any], processes: int) -> None:
    """Call ``work``, a picklable callable, with pickled ``arguments`` in each of ``processes`` new processes, and wait for all of them.

    Each finds RANK, WORLD_SIZE and the like in its environment and gets its share of this process's CPU threads. They communicate
    over the loopback interface only, and their log records are forwarded to this process. When one fails, or this process is
    interrupted, all of them are ended.

    Raises:
        ProcessLost: one of them died without an error, for example by SIGKILL.
        Exception: what one of them raised; of several errors, a StyleForgeError if there is one, else that of the first to fail.
    """
    store = _open_store()
    context = multiprocessing.get_context("spawn")
    level = logging.getLogger("components").getEffectiveLevel()
    workers: list[BaseProcess] = []
    readers: list[threading.Thread] = []
    errors: dict[int, BaseException] = {}
    try:
        for rank in range(processes):
            receiver, sender = context.Pipe(duplex=False)
            readers.append(threading.Thread(target=_forward, args=(receiver, rank, errors), daemon=True))
            given = (sender, _environment(rank, processes, store.port), level, work, arguments)
            workers.append(context.Process(target=_run, args=given, name=f"styleforge-{rank}", daemon=True))
            workers[-1].start()
            # The worker then has the only writing end, so the pipe closes when it ends.
            sender.close()
            readers[-1].start()
        failed = _first_to_fail(workers)
    finally:
        codes = _end(workers)
        for reader in readers:
            reader.join()
    if failed is not None:
        ours = [error for error in errors.values() if isinstance(error, StyleForgeError)]
        how = signal.Signals(-codes[failed]).name if codes[failed] < 0 else f"exit code {codes[failed]}"
        lost = ProcessLost(
            f"process {failed} of the training", f"it died ({how})",
            remedy="if memory ran out, lower training.batch_size or training.processes; the same command resumes from the last checkpoint",
        )  # fmt: skip
        raise ours[0] if ours else errors.get(failed) or lost


def _open_store() -> Any:
    """Open the store through which the processes find each other; in this process, so that its port cannot be taken before it is bound."""
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
        # torchrun's own way of saying that the store is already running.
        "TORCHELASTIC_USE_AGENT_STORE": True, "OMP_NUM_THREADS": max(1, torch.get_num_threads() // world),
    }  # fmt: skip
    interfaces = [name for name, found in psutil.net_if_addrs().items() if any(item.address == LOOPBACK for item in found)]
    if interfaces:
        # Otherwise gloo takes the address that the machine's name resolves to, which may not belong to this machine.
        names["GLOO_SOCKET_IFNAME"] = interfaces[0]
    return {name: str(value) for name, value in names.items()}


def _forward(receiver: Connection, rank: int, errors: dict[int, BaseException]) -> None:
    """Forward a worker's log records, and record its error, until it ends."""
    with receiver, contextlib.suppress(EOFError, OSError):
        while True:
            message = receiver.recv()
            if isinstance(message, logging.LogRecord):
                logging.getLogger(message.name).handle(message)
            else:
                errors[rank] = message


def _first_to_fail(workers: Sequence[BaseProcess]) -> int | None:
    """Wait until all workers have succeeded (returns None) or one has failed (returns its rank)."""
    running = {worker.sentinel: (rank, worker) for rank, worker in enumerate(workers)}
    while running:
        for sentinel in wait(list(running)):
            assert isinstance(sentinel, int)
            rank, worker = running.pop(sentinel)
            worker.join()
            if worker.exitcode:
                return rank
    return None


def _end(workers: Sequence[BaseProcess]) -> list[int]:
    """Ask all processes to end, and kill those that do not. Returns their exit codes."""
    for worker in workers:
        worker.terminate()
    until = time.monotonic() + GRACE
    codes = []
    for worker in workers:
        worker.join(max(0.0, until - time.monotonic()))
        worker.kill()
        worker.join()
        codes.append(worker.exitcode or 0)
        worker.close()
    return codes


def _run(sender: Connection, environment: dict[str, str], level: int, work: Callable[..., object], arguments: Sequence[Any]) -> None:
    """Do the work in a worker process, and send its error if it fails."""
    os.environ.update(environment)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(int(environment["OMP_NUM_THREADS"]))
    for name in FLOORS:
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [logging.handlers.QueueHandler(SimpleNamespace(put_nowait=sender.send))], False
        # Below errors, all of them would log the same.
        logger.setLevel(level if environment["RANK"] == "0" else logging.ERROR)
    code = 0
    try:
        work(*arguments)
        if (distributed := sys.modules.get("torch.distributed")) is not None and distributed.is_initialized():
            distributed.destroy_process_group()
        return
    except KeyboardInterrupt:
        code = INTERRUPTED
    except BaseException as error:
        code = 1
        sender.send(_portable(error, int(environment["RANK"])))
        if not isinstance(error, StyleForgeError):
            # A worker that loses its partner fails too, perhaps first: the partner's error is the cause, so it gets time to arrive.
            with contextlib.suppress(KeyboardInterrupt):
                time.sleep(SETTLE)
    sys.stdout.flush()
    sys.stderr.flush()
    # Exit at once: a process group whose partners are gone may never shut down by itself.
    os._exit(code)


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    """Raise KeyboardInterrupt only once, so that cleanup can finish: after Ctrl-C reaches every process, the parent's signal follows."""
    for each in (signal.SIGINT, signal.SIGTERM):
        # Not SIG_IGN: Python would complain about a signal that is already on its way.
        signal.signal(each, lambda number, frame: None)
    raise KeyboardInterrupt


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def _portable(error: BaseException, rank: int) -> BaseException:
    """A picklable copy of the error; one that is no StyleForgeError carries its traceback as a note."""
    told = "".join(traceback.format_exception(error))
    try:
        copy: BaseException = pickle.loads(pickle.dumps(error))
    except Exception:
        copy = RuntimeError(f"{type(error).__name__}: {error}")
    if not isinstance(copy, StyleForgeError):
        copy.add_note(f"in process {rank}:\n{told}")
    return copy
