"""What the processes of ``test_training_processes.py`` do: several trainings one after the other, for starting them takes seconds."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.core.config import RunConfig, SelectionSection, parse_config
from components.core.errors import StorageError, TrainingDiverged
from components.core.images import load_rgb

if TYPE_CHECKING:
    from PIL.Image import Image

WHOLE = {"batch_size": 4, "aux_batch_size": 2}
HALF = {"processes": 2, "batch_size": 2, "aux_batch_size": 1}
COMMON = {"steps": 4, "learning_rate": 1e-3, "checkpoint_every": 2, "validate_every": 3}
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "single-styleforge": (
        {"identifier_rows": True},
        {
            "ema_decay": 0.9, "min_snr_gamma": 5.0, "noise_offset": 0.1, "warmup_steps": 2, "schedule": "cosine", "crops": 2,
            "caption_dropout": 0.2, "gradient_accumulation": 2, "cache_latents": False,
        },
    ),
    "lora": ({}, {"gradient_checkpointing": True}),
    "textual-inversion": ({"identifier": "<v>"}, {}),
}  # fmt: skip


@dataclass(frozen=True)
class Place:
    """Where the base is, the three folders that fine-tuning reads, and where models and checkpoints go."""

    base: Path
    inputs: tuple[Path, Path, Path]
    root: Path


def config(place: Place, name: str, split: dict[str, int], **training: Any) -> RunConfig:
    method, own = CASES[name]
    return parse_config(
        {
            "seed": 3,
            "style": {"name": "anime", "source": "unused"},
            "base": {"model": str(place.base)},
            "method": {"name": name, **method},
            "training": {**COMMON, **own, **split, **training},
        }
    )


def train(place: Place, run: RunConfig, name: str, checkpoints: str = "", **options: Any) -> Path:
    from components.diffusion.training.fine_tuning import fine_tune

    return fine_tune(run, *place.inputs, place.root / name, place.root / (checkpoints or f"ck-{name}"), **options)


def battery(place: Place) -> None:
    """Every case in two halves; then what was killed before, one that diverges, and one whose processes do not see the same checkpoints."""
    rank = os.environ["RANK"]
    for name in CASES:
        train(place, config(place, name, HALF), f"{name}-2")
    train(place, config(place, "single-styleforge", HALF), "killed")
    chosen = config(place, "textual-inversion", HALF).model_copy(update={"selection": SelectionSection(candidates=2)})
    train(place, chosen, "ended", watch=Enough(place.root / "looks"))
    try:
        train(place, config(place, "textual-inversion", HALF, learning_rate=1e38), "diverged")
    except TrainingDiverged as error:
        (place.root / f"diverged-{rank}.txt").write_text(str(error))
    try:
        train(place, config(place, "lora", HALF), "apart", "ck-lora-2" if rank == "0" else "ck-of-another-machine")
    except StorageError as error:
        (place.root / f"apart-{rank}.txt").write_text(str(error))


@dataclass(frozen=True)
class Enough:
    """Has seen enough with the first candidate, and notes who looked."""

    folder: Path

    def look(self, bundle: object, step: int, folder: Path) -> dict[str, Any]:
        Notes(self.folder)(Path(f"step-{step:08d}"))
        return {}

    def is_over(self, records: Sequence[Mapping[str, Any]]) -> bool:
        return True


@dataclass(frozen=True)
class Notes:
    folder: Path

    def __call__(self, checkpoint: Path) -> None:
        self.folder.mkdir(exist_ok=True)
        (self.folder / f"{os.environ['RANK']} {checkpoint.name}").touch()


class Deadly:
    """Reads pictures, and in the second process dies at one of them as if memory had run out. With a cache off, each step reads."""

    def __init__(self, at: int) -> None:
        self.at, self.count = at, 0

    def __call__(self, path: Path) -> Image:
        self.count += 1
        if self.count == self.at and os.environ.get("RANK") == "1":
            os.kill(os.getpid(), signal.SIGKILL)
        return load_rgb(path)
