"""Precision and placement of a base's weights during training, and how the result is applied to the base as its files hold it."""

from collections.abc import Mapping

import torch

from components.core.config import RunConfig
from components.diffusion.models.bundle import Bundle, load_weights
from components.diffusion.models.families import Family
from components.diffusion.models.interpolation import interpolate, weights_of
from components.diffusion.models.precision import lower, settle
from components.diffusion.training.recipe import Recipe
from components.diffusion.training.trainables import Trainables


class Held:
    """Casts a family's weights to the configured precisions, and records what that changes.

    With ``turns`` each part is on the device only while it is called, see ``Family.turn``; otherwise all are moved there at once.
    ``precisions`` maps the names of frozen parts that are not in fp32 to their precisions, on which the trained weights depend.
    ``altered`` says whether any weight is held differently from the base's files, in which case nothing can be folded into the parts.
    """

    def __init__(self, family: Family, trained: Trainables, config: RunConfig, device: torch.device, *, turns: bool) -> None:
        wanted, offload = settle(config.base.precision, device), config.base.offload
        family.lower(wanted, device, offload, but=trained.whole)
        for name in trained.whole:
            lower(family.parts[name], config.training.weights, device)
        self.precisions = {name: wanted.of(name) for name in family.parts if name not in trained.whole and wanted.of(name) != "fp32"}
        self.altered = bool(self.precisions or offload) or config.training.weights != "fp32"
        family.to(torch.device("cpu") if turns else device)
        family.device, family.take_turns = device, turns


def finished(bundle: Bundle, recipe: Recipe, trained: Mapping[str, torch.Tensor], *, anew: bool) -> dict[str, torch.Tensor]:
    """Leave the result of training in the bundle, at the recipe's strength. Returns the tensors of a delta: ``trained``, in fp32.

    With ``anew`` the base is loaded again in fp32, for when nothing could be folded into the parts in memory; the result is the same as
    that of loading the delta, bit for bit.
    """
    tensors = {name: value.detach().float() for name, value in trained.items()}
    if anew:
        family = load_weights(bundle.model, bundle.revision).family
        result = Trainables(family, recipe, seed=None)
        result.load(tensors, bundle.model)
        result.fold()
        bundle.family = family
    if recipe.strength == 1.0:
        return tensors
    # The tensors of whole networks are the parts' own, which the interpolation changes.
    tensors = {name: value.clone() for name, value in tensors.items()}
    interpolate(bundle.family, weights_of(load_weights(bundle.model, bundle.revision).family), recipe.strength)
    return tensors
