"""The losses by name: which predictions of the trained denoiser and of the base they need, and how they combine them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from components.core.config import LossSection
from components.diffusion.objectives.losses import calibrated_target, dco_loss, guided, per_sample_loss
from components.diffusion.training.samples import Words


@dataclass(frozen=True)
class Noised:
    """N noisy latents of one size, shape (N, C, h, w), with times, SDXL's time ids and the family's target for each.

    The target is ε, v, or the velocity of a flow; all losses are made of mean squared differences of that quantity.
    """

    latents: torch.Tensor
    times: torch.Tensor
    time_ids: torch.Tensor
    target: torch.Tensor

    def rows(self, index: slice | torch.Tensor) -> Noised:
        """A selection of them."""
        return Noised(
            self.latents[index], self.times[index], self.time_ids[index.cpu() if torch.is_tensor(index) else index], self.target[index]
        )

    def twice(self) -> Noised:
        """All of them, twice in a row."""
        return Noised(*(torch.cat([each, each]) for each in (self.latents, self.times, self.time_ids, self.target)))


Predict = Callable[[Noised, Sequence[str]], torch.Tensor]
"""Predictions, shape (N, C, h, w), for N noisy latents and their prompts."""


@dataclass(frozen=True)
class Losses:
    """Per-sample losses, each of shape (N,). Gradients flow through ``trained``, not through ``base``, the frozen base.

    ``style`` is the loss of StyleRef samples, chosen by name. Here e is the trained prediction, e₀ the base's, p a sample's prompt, q its
    class prompt, n the prompt that the loss leads away from, y the target, and γ or w the loss's guidance scale:

    - ``denoising``: ‖e(p) − y‖² (Ho et al., 2020);
    - ``guided``: ‖e(n) + γ (e(p) − e(n)) − y‖², with gradients through both (DreamArtist, Dong et al., 2022, equation 5);
    - ``calibrated``: ‖e(p) − (e₀(q) + (y − e₀(q)) / w)‖², so that e₀(q) + w (e(p) − e₀(q)) is y;
    - ``dco``: −log σ(−β (‖e(p) − y‖² − ‖e₀(p) − y‖²)) (Lee et al., 2024).
    """

    section: LossSection
    trained: Predict
    base: Predict

    def style(self, noised: Noised, words: Sequence[Words]) -> torch.Tensor:
        """The loss of StyleRef samples."""
        prompts, name, scale = [each.prompt for each in words], self.section.name, self.section.guidance
        if name == "guided":
            # The negative prompts are the first half of one batch, the prompts the second.
            against, towards = self.trained(noised.twice(), [*(each.against for each in words), *prompts]).chunk(2)
            return per_sample_loss(guided(against, towards, scale), noised.target)
        if name == "calibrated":
            base = self.base(noised, [each.unstyled for each in words])
            return per_sample_loss(self.trained(noised, prompts), calibrated_target(base, noised.target, scale))
        if name == "dco":
            base = per_sample_loss(self.base(noised, prompts), noised.target)
            return dco_loss(self.denoising(noised, words), base, self.section.beta)
        return self.denoising(noised, words)

    def denoising(self, noised: Noised, words: Sequence[Words]) -> torch.Tensor:
        """‖e(p) − y‖²."""
        return per_sample_loss(self.trained(noised, [each.prompt for each in words]), noised.target)

    def distillation(self, noised: Noised, words: Sequence[Words]) -> torch.Tensor:
        """‖e(q) − e₀(q)‖², where q is the prompt to be preserved: for it, the prediction should stay the base's."""
        prompts = [each.preserved for each in words]
        base = self.base(noised, prompts)
        return per_sample_loss(self.trained(noised, prompts), base)
