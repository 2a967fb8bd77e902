"""Fine-tune a base on a style's folders and write the style model: the training loop in one or several processes, setup and export."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path

import torch

from components.core.config import RunConfig
from components.core.content import derive_seed
from components.core.devices import default_device
from components.core.images import load_rgb
from components.diffusion.export.style_model import Made, Timing, write_model
from components.diffusion.models.bundle import load_weights
from components.diffusion.models.precision import settle
from components.diffusion.training import launch
from components.diffusion.training.caches import LoadImage
from components.diffusion.training.fit import check_machine
from components.diffusion.training.held import finished
from components.diffusion.training.loop import OnCheckpoint, Trainer
from components.diffusion.training.methods import Method, with_method
from components.diffusion.training.patience import Watch
from components.diffusion.training.rng_state import forked_rng
from components.diffusion.training.samples import TrainingSet, read_training_set


def fine_tune(
    config: RunConfig, style_set: Path, split: Path, aux: Path, out: Path, checkpoints: Path, *, load_image: LoadImage = load_rgb,
    on_checkpoint: OnCheckpoint | None = None, watch: Watch | None = None,
) -> Path:  # fmt: skip
    """Teach the base the style and write the style model into ``out``. Returns ``out``.

    If it is interrupted and called again with the same arguments, it resumes from the newest checkpoint and ends with the
    same weights as an uninterrupted run, bit for bit on the CPU.

    With ``training.processes`` > 1 it starts that many processes on this machine and waits for them. In processes that
    torchrun or accelerate started, on one or more machines, it starts none; all of them must then see the same folders.

    Args:
        style_set: folder written by the scan step (``manifest.jsonl``, ``images/``).
        split: folder written by the split step (``split.json``).
        aux: folder written by the Aux step (``metadata.jsonl``, ``images/``); without rows there are no Aux pictures.
        out: folder of the style model, in diffusers layout, with ``styleforge.json`` and ``training/``.
        checkpoints: a folder that the caller keys by what the run depends on and removes after success; it also holds candidates
            and previews.
        load_image: reads one picture file as RGB.
        on_checkpoint: called with the path of each checkpoint, candidate, candidate record and preview once it is written. With
            several processes only the first calls it, and it, ``load_image`` and ``watch`` must be picklable.
        watch: judges the candidates as they are made, and may end the training at one of them.

    Raises:
        InputError: the base or one of the folders cannot be used.
        ConfigError: the configuration asks for something that this machine does not have.
        TrainingDiverged: the loss or the gradient became NaN or infinite.
        StorageError: the disk is full or read-only; finished checkpoints are kept.
        ProcessLost: one of several processes died.
    """
    check_machine(config)
    config, method = with_method(config)
    if method.aligned:
        return _take_picture(config, method, style_set, split, aux, out)
    processes = config.training.processes
    if launch.is_worker(processes):
        launch.pin_device()
    elif processes > 1:
        launch.check_devices(processes)
        work = functools.partial(fine_tune, load_image=load_image, on_checkpoint=on_checkpoint, watch=watch)
        launch.launch(work, (config, style_set, split, aux, out, checkpoints), processes)
        return Path(out)
    data = read_training_set(style_set, split, aux, method, seed=config.seed)
    _train(config, method, data, style_set, out, checkpoints, load_image, on_checkpoint, watch)
    return Path(out)


def _train(
    config: RunConfig, method: Method, data: TrainingSet, style_set: Path, out: Path, checkpoints: Path, load_image: LoadImage,
    on_checkpoint: OnCheckpoint | None, watch: Watch | None,
) -> None:  # fmt: skip
    """Train in this process; the first process also writes the model."""
    device = default_device()
    precisions = settle(config.base.precision, device)
    # Loaded onto the CPU first: each process then moves it to its own device.
    whole = method.recipe.kinds(adapters=False)
    bundle = load_weights(config.base.model, config.base.revision, precisions, device, whole=whole)
    # Dropout, if the base has any, draws from the global random stream: it gets its own seed, and the caller's state is restored.
    with forked_rng():
        trainer = Trainer(config, method, data, bundle, checkpoints, load_image, on_checkpoint, watch)
        torch.manual_seed(derive_seed(config.seed, "dropout", trainer.rank))
        # What a delta holds, collected before the run folds it into the parts.
        trained, recipe = trainer.trained.tensors(), trainer.trained.recipe
        log, timing = trainer.run()
    if trainer.is_main:
        anew = trainer.held.altered and (method.save == "full" or bool(config.training.validation_prompts))
        tensors = finished(bundle, recipe, trained, anew=anew)
        write_model(config, replace(method, recipe=recipe), bundle, tensors, style_set, out, log, timing, trainer.made())
    trainer.wait()


def _take_picture(config: RunConfig, method: Method, style_set: Path, split: Path, aux: Path, out: Path) -> Path:
    """For a method that trains nothing: write a model with the StyleRef picture that its drawings are aligned with."""
    picture = read_training_set(style_set, split, aux, method, seed=config.seed).instances[0]
    device = default_device()
    bundle = load_weights(config.base.model, config.base.revision, settle(config.base.precision, device), device)
    write_model(config, method, bundle, {}, style_set, out, [], Timing(0.0, 0, 0), Made({}, []), picture)
    return Path(out)
