"""Fine-tuning from a style's folders to its model's folder: the loop, in one process or several, and what comes before and after it."""

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
    """Teach the base the style, and write the style model into ``out``; returns it.

    Interrupted and called again with the same arguments it goes on from the newest checkpoint, and ends with the same
    weights, bit for bit on the CPU, as if it had not been interrupted.

    With ``training.processes`` > 1 it starts so many processes on this machine, and waits for them. Called in each of
    several processes that torchrun or accelerate started, on one machine or more, it starts none; then all of them must see
    the same folders.

    Args:
        style_set: folder of the scan step (``manifest.jsonl``, ``images/``); ``split``: that of the split step (``split.json``).
        aux: folder of the Aux step (``metadata.jsonl``, ``images/``); one without rows means that nothing preserves.
        out: in diffusers layout, with ``styleforge.json`` and ``training/``.
        checkpoints: a folder that the caller keys by what the run depends on, and removes after success; for candidates too.
        load_image: reads one picture file as RGB.
        on_checkpoint: called with the folder of each checkpoint, and the file of each candidate, once it is written. With several
            processes it is the first that calls it, and this and ``load_image`` must be such that they can be pickled.
        watch: judges the candidates as they are made, and may end the training at one of them.

    Raises:
        InputError: the base or one of the folders cannot be used.
        ConfigError: the configuration asks for what this machine does not have.
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
    """What each process does."""
    device = default_device()
    precisions = settle(config.base.precision, device)
    # Onto the CPU first: each process then moves it to a device of its own.
    whole = method.recipe.kinds(adapters=False)
    bundle = load_weights(config.base.model, config.base.revision, precisions, device, whole=whole)
    # Dropout, where a base has some, draws from the global stream: it gets a seed of its own, and the caller's comes back.
    with forked_rng():
        trainer = Trainer(config, method, data, bundle, checkpoints, load_image, on_checkpoint, watch)
        torch.manual_seed(derive_seed(config.seed, "dropout", trainer.rank))
        # Named before they are folded into the parts: what a delta holds.
        trained, recipe = trainer.trained.tensors(), trainer.trained.recipe
        log, timing = trainer.run()
    if trainer.is_main:
        anew = trainer.held.altered and (method.save == "full" or bool(config.training.validation_prompts))
        tensors = finished(bundle, recipe, trained, anew=anew)
        write_model(config, replace(method, recipe=recipe), bundle, tensors, style_set, out, log, timing, trainer.made())
    trainer.wait()


def _take_picture(config: RunConfig, method: Method, style_set: Path, split: Path, aux: Path, out: Path) -> Path:
    """What a method that trains nothing has in the place of a training: the picture that its base is drawn in line with."""
    picture = read_training_set(style_set, split, aux, method, seed=config.seed).instances[0]
    device = default_device()
    bundle = load_weights(config.base.model, config.base.revision, settle(config.base.precision, device), device)
    write_model(config, method, bundle, {}, style_set, out, [], Timing(0.0, 0, 0), Made({}, []), picture)
    return Path(out)
