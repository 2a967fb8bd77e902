"""Training, in images per second: with the caches, against without any."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.measure import Prepare, Work
from benchmarks.world import World

if TYPE_CHECKING:
    import torch

    from components.diffusion.models.conditioning import Conditioning
    from components.diffusion.models.families import Family
    from components.diffusion.training.loop import Trainer

NOTE = (
    "no latent cache: each image is read and encoded in each step; each prompt is tokenized and encoded as often as it occurs; "
    "attention by torch's default kernel; never compiled"
)


class PlainPrompts:
    """Passes every prompt through tokenizer and text encoder as often as it occurs in the batch."""

    def __init__(self, family: Family, device: torch.device) -> None:
        self._family, self._device = family, device

    def encode(
        self, prompts: Sequence[str], encoders: Mapping[str, torch.nn.Module] | None = None, times: torch.Tensor | None = None
    ) -> Conditioning:
        """Return the conditioning of N prompts; no token here has rows for stages of noise, so ``times`` is ignored."""
        import torch

        tokens = {name: ids.to(self._device) for name, ids in self._family.tokenize(list(prompts)).items()}
        if encoders:
            return self._family.encode_tokens(tokens, encoders)
        with torch.no_grad():
            return self._family.encode_tokens(tokens)


def ours(world: World) -> Prepare:
    """Train as StyleForge does; the time includes filling the caches."""
    return lambda number: _work(new_trainer(world, plain=False))


def plain(world: World) -> Prepare:
    """Train for the same steps without any cache."""
    return lambda number: _work(new_trainer(world, plain=True))


def _work(trainer: Trainer) -> Work:
    return lambda: trainer.run()[1].images


def new_trainer(world: World, *, plain: bool) -> Trainer:
    """Return a trainer at its first step, with its own base; it checkpoints and validates only once, at the end, with one picture."""
    from components.diffusion.models.bundle import load_bundle
    from components.diffusion.training.loop import Trainer
    from components.diffusion.training.methods import method_for
    from components.diffusion.training.samples import read_training_set

    steps = world.sizes.steps
    changes = {"steps": steps, "checkpoint_every": steps, "validate_every": steps}
    if plain:
        changes |= {"cache_latents": False, "cache_text": False, "compile": False}
    config = world.config.model_copy(update={"training": world.config.training.model_copy(update=changes)})
    method = method_for(config.method)
    data = read_training_set(world.style_set, world.split, world.aux, method, validation=1)
    bundle = load_bundle(config.base.model, config.base.revision)
    trainer = Trainer(config, method, data, bundle, Path(tempfile.mkdtemp(dir=world.folder)))
    if plain:
        trainer.denoising.attention = nullcontext
        trainer.denoising.prompts = PlainPrompts(trainer.family, trainer.device)  # type: ignore[assignment]
    return trainer
