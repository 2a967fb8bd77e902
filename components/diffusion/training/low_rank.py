"""Low-rank adapters, through peft: LoRA, DoRA and PiSSA, LoKr, LoHa, and OFT."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

import torch

from components.core.content import derive_seed
from components.core.errors import ConfigError, InputError
from components.core.suggest import did_you_mean
from components.diffusion.training.parameters import ParameterSet
from components.diffusion.training.recipe import Recipe
from components.diffusion.training.rng_state import forked_rng

ADAPTER = "default"
_OURS = re.compile(rf"\.(?:lora_\w+|lokr_\w+|hada_\w+|oft_R)(\.{ADAPTER})(?=\.|$)")
PISSA = ("pissa_A", "pissa_B")
# Power iterations, as in the PiSSA paper's fast form, and extra vectors beyond the rank (Halko et al., 2011, section 4.2).
_SVD_STEPS, _SVD_SPARE = 16, 8


def peft_options(recipe: Recipe) -> dict[str, Any]:
    """The options besides the targets that peft and diffusers' metadata need for the kind of adapter, under its own names."""
    lora = recipe.lora
    if lora.kind == "lora":
        return {"r": recipe.rank, "lora_alpha": recipe.alpha, "use_dora": lora.dora}
    # OFT's rank is its block size, so that a higher rank means more to train, as with the other kinds.
    return {"r": 0, "oft_block_size": recipe.rank} if lora.kind == "oft" else {"r": recipe.rank, "alpha": recipe.alpha}


def _peft_config(recipe: Recipe, layers: list[str]) -> Any:
    import peft

    options: dict[str, Any] = {**peft_options(recipe), "target_modules": "|".join(map(re.escape, layers))}
    if recipe.lora.kind == "lora":
        return peft.LoraConfig(**options, init_lora_weights="gaussian")
    if recipe.lora.kind == "oft":
        # The exact Cayley transform: its series, peft's default, is not a rotation far from the starting point.
        return peft.OFTConfig(**options, use_cayley_neumann=False)
    return {"lokr": peft.LoKrConfig, "loha": peft.LoHaConfig}[recipe.lora.kind](**options)


class LowRank(ParameterSet):
    """Low-rank updates of those layers of one part that targets and blocks name. All start out as the base, from a seed of their own.

    - LoRA (Hu et al., 2021, section 4.1): alpha / rank · B·A, A Gaussian, B zero; with DoRA the norms of the matrix's rows train apart.
      With PiSSA (Meng et al., 2024) A and B start as the matrix's first singular vectors, A₀ and B₀, and the matrix as the remainder.
    - LoKr: alpha / rank · C ⊗ (B·A), a Kronecker product (Yeh et al., 2024); LoHa: the elementwise product of two B·A.
    - OFT (Qiu et al., 2023): the layer's input is rotated, in blocks of ``rank`` numbers.

    ``field`` of the recipe's ``lora`` names the layers; if the configuration ``named`` them, each of them must exist. ``seed`` is None if
    all values will be loaded.
    """

    def __init__(
        self, part: str, rate: str, module: torch.nn.Module, field: str, idle: set[int], recipe: Recipe, seed: int | None, *, named: bool
    ) -> None:  # fmt: skip
        from peft import inject_adapter_in_model

        self.part, self.rate, self.way, self._module, self._recipe = part, rate, f"{rate}.low-rank", module, recipe
        layers = _layers_of(part, module, field, recipe, named=named and seed is not None)
        with forked_rng():
            torch.manual_seed(derive_seed(seed or 0, "low-rank", part))
            inject_adapter_in_model(_peft_config(recipe, list(layers)), module, ADAPTER)
            for layer in self._layers().values():
                if id(layer.get_base_layer().weight) in idle:
                    layer.requires_grad_(False)
            self._origin: dict[str, torch.Tensor] = {}
            if recipe.lora.init == "pissa":
                self._split(seed)

    def _layers(self) -> dict[str, Any]:
        from peft.tuners.tuners_utils import BaseTunerLayer

        return {name: layer for name, layer in self._module.named_modules() if isinstance(layer, BaseTunerLayer)}

    def named(self) -> dict[str, torch.nn.Parameter]:
        """``unet.….to_q.lora_A.weight``, ``….lora_B.weight`` and the like, as peft names them in files."""
        found = ((name, _OURS.search(name), value) for name, value in self._module.named_parameters() if value.requires_grad)
        return {f"{self.part}.{name[: ours.start(1)]}{name[ours.end(1) :]}": value for name, ours, value in found if ours}

    @torch.no_grad()
    def _split(self, seed: int | None) -> None:
        """Move the first ``rank`` singular vectors of each matrix into its adapter; without a seed, leave that to :meth:`begin_from`."""
        for name, layer in self._layers().items():
            weight, factors = layer.get_base_layer().weight, [factor[ADAPTER].weight for factor in (layer.lora_A, layer.lora_B)]
            if not factors[0].requires_grad:
                continue
            if seed is None or weight.is_meta:
                start = [torch.zeros_like(factor) for factor in factors]
            else:
                matrix, rank = weight.float().flatten(1), self._recipe.rank
                found = torch.svd_lowrank(matrix, q=min(rank + _SVD_SPARE, *matrix.shape), niter=_SVD_STEPS)
                left, values, right = (part[..., :rank] for part in found)
                root = (values / layer.scaling[ADAPTER]).sqrt()
                start = [part.reshape(factor.shape) for part, factor in zip(((right * root).T, left * root), factors, strict=True)]
            for kind, value in zip(PISSA, start, strict=True):
                self._origin[f"{self.part}.{name}.{kind}"] = torch.zeros_like(value)
            self._start(name, layer, *start)

    def _start(self, name: str, layer: Any, *start: torch.Tensor) -> None:
        """Start a layer from A₀ and B₀: their product is moved from the matrix into the adapter."""
        own = [self._origin[f"{self.part}.{name}.{kind}"] for kind in PISSA]
        weight = layer.get_base_layer().weight
        # Skipped if they are unchanged, as after an interruption: adding and subtracting the same product would not be exact.
        if all(torch.equal(old, new) for old, new in zip(own, start, strict=True)):
            return
        if weight.element_size() == 1:
            raise InputError(
                f"{self.part}.{name}", f"is held in {weight.dtype} and started from other singular vectors than this machine computes",
                expected="the machine that the training started on", remedy="resume it there, or train again",
            )  # fmt: skip
        for values, sign in ((own, 1), (start, -1)):
            for factor, value in zip((layer.lora_A, layer.lora_B), values, strict=True):
                factor[ADAPTER].weight.copy_(value)
            if any(value.any() for value in values if not value.is_meta):
                weight += sign * layer.get_delta_weight(ADAPTER).to(weight.dtype)
        for old, new in zip(own, start, strict=True):
            old.copy_(new)

    def origin(self) -> dict[str, torch.Tensor]:
        """With PiSSA ``unet.….to_q.pissa_A`` and ``….pissa_B``, of the adapter's shapes; otherwise nothing."""
        return dict(self._origin)

    @torch.no_grad()
    def begin_from(self, origin: Mapping[str, torch.Tensor]) -> None:
        """Start from saved A₀ and B₀, since another machine finds different ones."""
        for name, layer in self._layers().items():
            names = [f"{self.part}.{name}.{kind}" for kind in PISSA]
            if names[0] in origin:
                self._start(name, layer, *(origin[each].to(self._origin[each].device) for each in names))

    def fold(self) -> None:
        """Add the updates to the matrices (in their own precision) and put the plain layers back."""
        for name, layer in self._layers().items():
            layer.merge(safe_merge=True, adapter_names=[ADAPTER])
            self._module.set_submodule(name, layer.get_base_layer())
        # peft leaves its configuration on the module, and diffusers would look for the adapters that are gone.
        if hasattr(self._module, "peft_config"):
            del self._module.peft_config


def _layers_of(part: str, module: torch.nn.Module, field: str, recipe: Recipe, *, named: bool) -> dict[str, torch.nn.Module]:
    """The layers that get an adapter, by name. ConfigError for missing ones, and for those that cannot take this kind."""
    lora = recipe.lora
    targets: tuple[str, ...] = getattr(lora, field) or ()
    all_layers: dict[str, torch.nn.Module] = {
        name: layer for name, layer in module.named_modules() if isinstance(layer, torch.nn.Linear | torch.nn.Conv2d | torch.nn.Embedding)
    }
    found = {name: layer for name, layer in all_layers.items() if any(_ends(name, target) for target in targets)}
    lacking = [target for target in targets if not any(_ends(name, target) for name in found)]
    if not found or (named and lacking):
        endings = {ending for name in all_layers for ending in (name.rpartition(".")[2], ".".join(name.split(".")[-2:]))}
        raise ConfigError(
            f"method.lora.{field}",
            f"the {part} has no such layers ({', '.join(lacking)})" + did_you_mean(lacking[0], sorted(endings)),
            expected="endings of its layers' names",
        )
    if field == "targets" and lora.blocks is not None:
        for block in lora.blocks:
            if not any(_within(name, block) for name in found):
                raise ConfigError(
                    f"method.lora.blocks={block}", f"contains no layer of the {part} that gets an adapter"
                    + did_you_mean(block, sorted({prefix for name in found for prefix in _prefixes(name)})),
                    expected="the start of a layer's path, which may contain * and ?",
                )  # fmt: skip
        found = {name: layer for name, layer in found.items() if any(_within(name, block) for block in lora.blocks)}
    for name, layer in found.items():
        _check_layer(f"{part}.{name}", layer, recipe)
    return found


def _check_layer(name: str, layer: torch.nn.Module, recipe: Recipe) -> None:
    """Refuse (ConfigError) a layer that this kind of adapter cannot change, or not with this rank."""
    lora, weight = recipe.lora, layer.weight
    assert isinstance(weight, torch.Tensor)
    rows, columns = weight.shape[0], weight.shape[1:].numel()
    if isinstance(layer, torch.nn.Embedding) and (lora.kind != "lora" or lora.init == "pissa"):
        raise ConfigError(f"method.lora.kind={lora.kind}", f"{name} is an embedding", expected="linear layers and convolutions")
    if lora.kind == "oft" and weight.shape[2:].numel() > 1:
        # peft 0.21.2 rotates each window of the picture separately and adds them up, which no rotated weight does.
        raise ConfigError("method.lora.kind=oft", f"{name} is a convolution over several pixels", expected="linear layers, 1 × 1 at most")
    if lora.kind == "oft" and columns % recipe.rank:
        raise ConfigError(f"method.lora.rank={recipe.rank}", f"does not divide the {columns} inputs of {name}", expected=_divisors(columns))
    if lora.init == "pissa" and recipe.rank > min(rows, columns):
        raise ConfigError(
            f"method.lora.rank={recipe.rank}",
            f"{name} of {rows} × {columns} has fewer singular vectors",
            expected=f"at most {min(rows, columns)}",
        )


def _divisors(number: int) -> str:
    return "one of " + ", ".join(str(size) for size in range(2, min(number, 128) + 1) if number % size == 0)


def _ends(name: str, target: str) -> bool:
    return name == target or name.endswith(f".{target}")


def _within(name: str, block: str) -> bool:
    return fnmatchcase(name, block) or fnmatchcase(name, f"{block}.*")


def _prefixes(name: str) -> Iterator[str]:
    parts = name.split(".")
    return (".".join(parts[:count]) for count in range(1, len(parts)))
