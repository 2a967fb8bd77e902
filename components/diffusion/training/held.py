"""How a base is held while it trains, and how the result comes onto the base as its files hold it."""

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
    """Brings a family's frozen weights into their precisions, and says what that changes.

    With ``turns`` each part is on the device only while it is called, see ``Family.turn``; else all are moved there at once.
    ``precisions`` are those of the parts that are not in fp32, by name: what the trained weights depend on. ``altered`` is whether any
    weight is held otherwise than the base's files hold it, so that nothing can be folded into the parts.
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
    """Leave a bundle with the result of its training, at the recipe's strength. Returns what a delta holds: ``trained``, in fp32.

    ``anew`` loads the base again, in fp32, where nothing could be folded into the parts that are here: what loading a delta gives, bit for
    bit.
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
    # Whole networks' tensors are the parts' own, and move with them.
    tensors = {name: value.clone() for name, value in tensors.items()}
    interpolate(bundle.family, weights_of(load_weights(bundle.model, bundle.revision).family), recipe.strength)
    return tensors
