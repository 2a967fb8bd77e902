"""The training loop, shared by every method and every family."""

from __future__ import annotations

import contextlib
import logging
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from components.core.config import RunConfig
from components.core.content import digest_value
from components.core.devices import default_device
from components.core.errors import StorageError
from components.core.images import load_rgb
from components.core.logs import progress
from components.diffusion.export.style_model import Made, Timing
from components.diffusion.models.bundle import Bundle, Origin
from components.diffusion.models.families import Denoiser
from components.diffusion.models.precision import PLAIN_DTYPES
from components.diffusion.training.buckets import Size, bucket_sizes
from components.diffusion.training.caches import LatentCache, LoadImage, PromptCache
from components.diffusion.training.candidates import Candidates
from components.diffusion.training.checkpoints import Checkpoint, Checkpoints, flatten_optimizer, unflatten_optimizer
from components.diffusion.training.denoising import Denoising
from components.diffusion.training.frozen_base import FrozenBase
from components.diffusion.training.held import Held
from components.diffusion.training.log import TrainingLog
from components.diffusion.training.methods import Method
from components.diffusion.training.optimization import MovingAverage, make_accelerator, precision_for, rate_factor
from components.diffusion.training.optimizers import learning_rate, make_optimizer, reference_rate
from components.diffusion.training.patience import Watch
from components.diffusion.training.previews import Previews
from components.diffusion.training.rng_state import all_states, forked_rng, restore_state
from components.diffusion.training.samples import Mixer, TrainingSet
from components.diffusion.training.trainables import Trainables
from components.diffusion.training.variety import Variant, Variety

_logger = logging.getLogger(__name__)
OnCheckpoint = Callable[[Path], None]


class Trainer:
    """One fine-tuning run, from its first step or its newest checkpoint to its end.

    The state consists of the trainable weights, the optimizer, the fp16 gradient scaler, the moving average, torch's global random
    stream, the step and the log. All else (order of samples, noise, times, learning rate) is a function of the seed and the step.
    """

    def __init__(
        self, config: RunConfig, method: Method, data: TrainingSet, bundle: Bundle, checkpoints: Path, load_image: LoadImage = load_rgb,
        on_checkpoint: OnCheckpoint | None = None, watch: Watch | None = None,
    ) -> None:  # fmt: skip
        self.config, self.method, self.data, self.family = config, method, data, bundle.family
        self.training = training = config.training
        device = default_device()
        self.accelerator = make_accelerator(precision_for(training.mixed_precision, device), training.gradient_accumulation, device)
        self.device = self.accelerator.device
        self.rank, self.world = self.accelerator.process_index, self.accelerator.num_processes
        self.is_main = self.accelerator.is_main_process
        self.trained = Trainables(self.family, method.recipe, config.seed, PLAIN_DTYPES[training.weights])
        self.held = Held(self.family, self.trained, config, self.device, turns=self.world == 1)
        self.parameters = list(self.trained.named().values())
        if training.gradient_checkpointing:
            self._checkpoint_gradients(on=True)
        denoiser, encoders = self._prepare()
        self.mixer = Mixer(
            data.instances, data.aux, batch_size=training.batch_size, aux_batch_size=training.aux_batch_size or training.batch_size,
            variety=Variety.of(training, method), seed=config.seed, rank=self.rank, world=self.world,
        )  # fmt: skip
        latents = LatentCache(self.family, load_image, self.device, config.seed, self._buckets(), enabled=training.cache_latents)
        prompts = PromptCache(self.family, self.device, keep_states=training.cache_text and not encoders)
        self.denoising = Denoising(
            self.family, denoiser, encoders, latents, prompts, self.mixer, self.accelerator, training, method, config.seed
        )  # fmt: skip
        fingerprint = self._fingerprint(bundle)
        self.checkpoints = Checkpoints(checkpoints, training.keep_checkpoints, fingerprint)
        self.candidates = Candidates(checkpoints, training.steps, config.selection.candidates, fingerprint, watched=watch is not None)
        self.previews = Previews(checkpoints, config, method)
        self.bundle, self.on_checkpoint, self.watch = bundle, on_checkpoint, watch
        self.ended = training.steps
        bundle.tuned_from = Origin(config.base.model, config.base.revision)
        self.log = TrainingLog(self.accelerator, self.checkpoints)

    def _prepare(self) -> tuple[Denoiser, dict[str, torch.nn.Module]]:
        """Wrap the trained parts and the optimizer for the accelerator. Returns the denoiser and the text encoders that train."""
        base, tokens = learning_rate(self.training, self.method.learning_rate), self.method.token_rate
        rates = {
            "denoiser": base, "text_encoder": self.training.text_encoder_learning_rate or base,
            "tokens": self.training.token_learning_rate or (reference_rate(self.training, tokens) if tokens else base),
        }  # fmt: skip
        groups = self.trained.groups(rates)
        self.rates: list[float] = [group["lr"] for group in groups]
        parts = self.trained.parts
        optimizer = make_optimizer(groups, self.training, self.config.seed)
        # With several processes all parts are on the device from the start; a single process moves each part when its turn comes.
        moves = [self.world > 1] * len(parts)
        prepared = self.accelerator.prepare(*parts.values(), optimizer, device_placement=[*moves, True])
        self.models: list[torch.nn.Module] = list(prepared[:-1])
        self.optimizer = prepared[-1]
        wrapped = dict(zip(parts, self.models, strict=True))
        denoiser: Denoiser = wrapped.get(self.family.layout.denoiser, self.family.denoiser)
        encoders = {name: model for name, model in wrapped.items() if name in self.family.text_encoders}
        return torch.compile(denoiser) if self.training.compile else denoiser, encoders

    def _buckets(self) -> list[Size]:
        side = self.training.resolution or self.family.resolution
        self.family.latent_shape(side, side)
        sizes = bucket_sizes(side, self.family.size_step) if self.training.buckets else [(side, side)]
        return [size for size in sizes if self.family.takes(size)]

    def _fingerprint(self, bundle: Bundle) -> str:
        without_effect = ("keep_checkpoints", "checkpoint_every", "validation_prompts", "preview_every")
        settings = {name: value for name, value in self.training.global_batch_config().items() if name not in without_effect}
        later = self.method.later_json()
        recipe, data = replace(self.method.recipe, strength=1.0), self.data.as_json(self.method, self.mixer.variety)
        parts = [bundle.digest, self.method.name, recipe.as_json(), data, settings, self.config.seed, self.held.precisions]
        return digest_value([*parts, later] if later else parts)

    def run(self) -> tuple[list[dict[str, Any]], Timing]:
        """Train to the end and leave the final weights (the average, if any) in the bundle. Returns the log's rows and the timing."""
        self._encode_all()
        first = self._resume()
        start = time.perf_counter()
        pictures = self.mixer.total * self.training.gradient_accumulation
        with progress("fine-tuning", self.training.steps, shown=self.is_main) as advance:
            if first == 0 and self.previews.due(0):
                self._preview(0)
            if first:
                advance(first, f"resumed at step {first}")
            for step in range(first + 1, self.training.steps + 1):
                self._step(step)
                rate = pictures * (step - first) / max(time.perf_counter() - start, 1e-9)
                advance(1, f"{self.log.note()}{rate:.1f} images/s")
                if step == self.ended:
                    break
        self._settle()
        self._release()
        return self.log.rows, Timing(time.perf_counter() - start, (self.ended - first) * pictures, first, self._gpu())

    def made(self) -> Made:
        """Files written during training: candidates and previews."""
        return Made(self.candidates.files(self.ended), self.previews.files())

    def wait(self) -> None:
        """Wait until every process has reached this point."""
        self.accelerator.wait_for_everyone()

    def _encode_all(self) -> None:
        """Fill the caches, in the same order wherever training resumes, then put on the device what the steps call."""
        variety = self.mixer.variety
        latents, prompts, family = self.denoising.latents, self.denoising.prompts, self.family
        if self.training.cache_latents:
            family.turn("vae")
        latents.fill((*self.data.instances, *self.data.aux), variety.views())
        latents.fill(self.data.instances, variety.views(transformed=True))
        latents.fill(self.data.validation, [Variant()])
        if not self.denoising.encoders:
            family.turn(*family.text_encoders)
            prompts.encode(self.data.prompts(self.method, variety))
        self._turn_to_steps()
        # Made only now, so that their copies lie on the same device as the weights.
        if self.method.asks_base:
            self.denoising.base = FrozenBase(self.trained)
        self.average = MovingAverage(self.parameters, self.training.ema_decay)

    def _turn_to_steps(self) -> None:
        """Put on the device the parts that every step calls, and move off it those whose outputs are cached."""
        called = {
            self.family.layout.denoiser: True, "vae": not self.training.cache_latents,
            **dict.fromkeys(self.family.text_encoders, not self.training.cache_text or bool(self.denoising.encoders)),
        }  # fmt: skip
        self.family.turn(*(name for name, needed in called.items() if needed))

    def _step(self, step: int) -> None:
        """One optimizer step and what may follow it: log, candidate, validation, preview, checkpoint."""
        factor = rate_factor(step, self.training)
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor
        values = self._update(step)
        self.average.update()
        leaves, validates = step in self.candidates.steps, step % self.training.validate_every == 0
        saves = step % self.training.checkpoint_every == 0
        self.log.add(step, self.rates[0] * factor, values, read=leaves or validates or saves or step == self.ended)
        if leaves:
            self._leave_candidate(step)
        ends = step == self.ended
        if validates or ends:
            # Schedule-free optimizers train at other weights than those that they yield.
            for each in (self.optimizer, *self.models):
                each.eval()
            self.log.rows[-1]["validation_loss"] = self.denoising.validation(self.data.validation)
            for each in (self.optimizer, *self.models):
                each.train()
        if self.previews.due(step):
            self._preview(step)
        if saves and not ends:
            self._save(step)

    def _update(self, step: int) -> torch.Tensor:
        """Run the micro-batches forward and backward, clip, update. Returns (loss, StyleRef loss, prior loss, gradient norm)."""
        micro = self.training.gradient_accumulation
        totals = torch.zeros(3, device=self.device)
        norm = torch.zeros((), device=self.device)
        for number in range((step - 1) * micro, step * micro):
            with self.accelerator.accumulate(*self.models):
                loss, instance, aux = self.denoising.loss(number)
                self.accelerator.backward(loss)
                totals += torch.stack([loss.detach(), instance, aux]) / micro
                if self.accelerator.sync_gradients:
                    norm = self.accelerator.clip_grad_norm_(self.parameters, self.training.max_gradient_norm)
                self.optimizer.step()
                self.optimizer.zero_grad()
        return torch.cat([totals, norm.detach().reshape(1)])

    def _leave_candidate(self, step: int) -> None:
        """Write the weights as they would be if this step were the last; with a watch, it may become the last.

        This precedes the step's checkpoint, so that no checkpoint is ahead of its candidates.
        """
        with self._as_at_the_end():
            if self.is_main:
                self._tell(self.candidates.write(step, self.trained.tensors()))
        self.wait()
        if self.watch is None:
            return
        over = torch.zeros(1, device=self.device)
        with self._drawing(), tempfile.TemporaryDirectory() as folder:
            if self.is_main:
                self._tell(self.candidates.write_record(step, self.watch.look(self.bundle, step, Path(folder))))
                over += self.watch.is_over(self.candidates.records(step))
        if self.accelerator.reduce(over).item():
            self.ended = step
            _logger.info("the training ends at step %d of %d: later candidates are no better", step, self.training.steps)

    def _preview(self, step: int) -> None:
        with self._drawing():
            if self.is_main:
                self._tell(self.previews.draw(self.bundle, step))

    def _tell(self, path: Path) -> None:
        if self.on_checkpoint:
            self.on_checkpoint(path)

    @contextlib.contextmanager
    def _drawing(self) -> Iterator[None]:
        """Within the block, pictures can be drawn with the weights as they would end; weights and random streams are restored after it."""
        with self._as_at_the_end(), forked_rng():
            for model in self.models:
                model.eval()
            yield
            for model in self.models:
                model.train()
        self._turn_to_steps()
        self.wait()

    @contextlib.contextmanager
    def _as_at_the_end(self) -> Iterator[None]:
        """Within the block, the weights have the values that they would end with: the average's, or a schedule-free optimizer's."""
        moved = bool(self.training.ema_decay) or self.training.optimizer == "schedule-free"
        # Switching back by the optimizer's own arithmetic would round.
        before = [value.detach().clone() for value in self.parameters] if moved else []
        self._settle()
        try:
            yield
        finally:
            self.optimizer.train()
            for value, old in zip(self.parameters if moved else [], before, strict=True):
                value.data.copy_(old)

    def _settle(self) -> None:
        self.average.finish()
        self.optimizer.eval()

    def _save(self, step: int) -> None:
        """Write a checkpoint with the random state of every process. The first process writes; the others wait for it."""
        random = all_states(self.device, self.rank, self.world)
        if self.is_main:
            optimizer, plain = flatten_optimizer(self.optimizer.state_dict())
            scaler = self.accelerator.scaler.state_dict() if self.accelerator.scaler is not None else None
            tensors: dict[str, Mapping[str, torch.Tensor]] = {
                "weights": self.trained.tensors(), "optimizer": optimizer, "random": random, "average": self.average.tensors(),
            }  # fmt: skip
            self._tell(self.checkpoints.write(step, tensors, {"optimizer": plain, "log": self.log.rows, "scaler": scaler}))
        self.wait()

    def _resume(self) -> int:
        """Load the newest checkpoint, if there is one. Returns its step, or 0."""
        found: Checkpoint | None = self.checkpoints.newest()
        if found and (lost := self.candidates.missing(found.step)):
            _logger.warning(
                "%s: the candidate of step %d is lost; training resumes from before it, and makes it again", self.candidates.folder, lost[0]
            )
            found = self.checkpoints.newest(before=lost[0])
        steps = self.accelerator.gather(torch.tensor([found.step if found else 0], device=self.device)).tolist()
        if len(set(steps)) > 1:
            raise StorageError(
                str(self.checkpoints.folder), f"the processes find checkpoints of different steps ({', '.join(map(str, steps))})",
                expected="one folder for all of them", remedy="keep checkpoints on storage that all machines share",
            )  # fmt: skip
        if found is None:
            return 0
        self.trained.load(found.tensors["weights"], str(found.path))
        self.optimizer.load_state_dict(unflatten_optimizer(found.tensors["optimizer"], found.state["optimizer"]))
        self.average.load(found.tensors["average"])
        restore_state(found.tensors["random"], self.device, self.rank)
        if found.state["scaler"] and self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(found.state["scaler"])
        self.log.rows = list(found.state["log"])
        _logger.info("resuming fine-tuning at step %d", found.step)
        return found.step

    def _gpu(self) -> tuple[str, int] | None:
        if self.world == 1 or self.device.type != "cuda":
            return None
        most = self.accelerator.reduce(torch.tensor(torch.cuda.max_memory_allocated(self.device), device=self.device), "max")
        return torch.cuda.get_device_name(self.device), int(most)

    def _release(self) -> None:
        """Remove what training wrapped around the parts, so that they can be saved and sampled from."""
        for model in self.models:
            self.accelerator.unwrap_model(model, keep_fp32_wrapper=False)
        if self.training.gradient_checkpointing:
            self._checkpoint_gradients(on=False)
        self.optimizer.zero_grad()
        if not self.held.altered:
            self.trained.fold()
            self.family.to(self.device)

    def _checkpoint_gradients(self, *, on: bool) -> None:
        """Switch gradient checkpointing, which has different names in diffusers and transformers."""
        denoiser = self.family.denoiser
        (denoiser.enable_gradient_checkpointing if on else denoiser.disable_gradient_checkpointing)()
        for name, encoder in self.family.text_encoders.items():
            if name in self.trained.parts:
                (encoder.gradient_checkpointing_enable if on else encoder.gradient_checkpointing_disable)()
