"""What a method trains, as named parameter sets: where they are inserted, how they are named, and how they are folded in.

The same sets serve the training loop (groups for the optimizer, tensors for checkpoints), the export (tensors for a delta)
and the loading of a delta (inserted, filled, folded).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from components.core.content import derive_seed
from components.core.errors import InputError
from components.diffusion.models.families import Family
from components.diffusion.models.layouts import TEXT_WAYS
from components.diffusion.models.precision import cast
from components.diffusion.models.tokens import OffsetEmbedding, RowEmbedding, add_tokens, row_names, word_vector
from components.diffusion.training.low_rank import LowRank
from components.diffusion.training.parameters import ParameterSet
from components.diffusion.training.recipe import NEGATIVE_ROWS, Recipe
from components.diffusion.training.spectral import SpectralShifts

_logger = logging.getLogger(__name__)
CROSS_ATTENTION = ("attn2.to_k.weight", "attn2.to_v.weight")
NEGATIVE_SPREAD = 1e-3


class OwnParameters(ParameterSet):
    """Weights of the part itself: all of them, or those whose names end in one of ``endings``."""

    def __init__(self, part: str, rate: str, module: torch.nn.Module, idle: set[int], endings: tuple[str, ...] = ()) -> None:
        self.part, self.rate, self.way = part, rate, f"{rate}.cross-attention" if endings else rate
        own = [(name, value) for name, value in module.named_parameters() if id(value) not in idle]
        self._found = {f"{part}.{name}": value for name, value in own if not endings or name.endswith(endings)}
        if not self._found:
            raise InputError(part, f"has no weights that end in {' or '.join(endings)}", expected="a network with cross-attention")
        for value in self._found.values():
            value.requires_grad_(True)

    def named(self) -> dict[str, torch.nn.Parameter]:
        """``unet.conv_in.weight`` …: the part's folder, and the parameter's name within the part."""
        return dict(self._found)

    def fold(self) -> None:
        """Nothing to do: the part's own weights were trained."""


class TokenRows(ParameterSet):
    """Embedding rows of new tokens in one text encoder; the tokens are added to its tokenizer too.

    The rows of negative tokens are a separate set, :attr:`negative`. They start from the same word plus Gaussian noise of standard
    deviation 1e-3 (DreamArtist, Dong et al., 2022), drawn by ``seed``.
    """

    def __init__(self, part: str, encoder: Any, tokenizer: Any, recipe: Recipe, seed: int | None) -> None:
        self.part, self.rate, self.way, self._encoder = part, "tokens", "tokens", encoder
        table = encoder.get_input_embeddings()
        # The words are looked up before the tokens are added, since a token may have the same name as its word.
        words = [recipe.initial_word or token.strip("<>") for token in recipe.tokens]
        vectors = [word_vector(tokenizer, table.weight, word) for word in words]
        initial = [vector.expand(recipe.vectors, -1) for vector in vectors for _ in range(recipe.stages)]
        for token, vector in zip(recipe.negatives, vectors, strict=False):
            generator = torch.Generator().manual_seed(derive_seed(seed or 0, "negative rows", part, token))
            noise = torch.randn((recipe.negative_vectors, len(vector)), generator=generator)
            initial.append(vector + NEGATIVE_SPREAD * noise.to(vector.device))
        names = [name for token, count in recipe.new_tokens.items() for name in row_names(token, count)]
        self._embedding = RowEmbedding(table, add_tokens(tokenizer, names, f"the base's {part}"), initial)
        rows = dict(zip(recipe.new_tokens, self._embedding.rows, strict=True))
        self._rows = {token: values for token, values in rows.items() if token not in recipe.negatives}
        self.negative = NegativeRows(part, {token: rows[token] for token in recipe.negatives})
        encoder.set_input_embeddings(self._embedding)
        # Older CLIP configurations take the greatest id as the end of a prompt, and a new token's id would be greater.
        encoder.config.eos_token_id = int(tokenizer.eos_token_id)
        for module in encoder.modules():
            if isinstance(getattr(module, "eos_token_id", None), int):
                module.eos_token_id = int(tokenizer.eos_token_id)

    def named(self) -> dict[str, torch.nn.Parameter]:
        """``text_encoder.tokens.<v>``, or one for each stage (``….<v-T0>`` …), shape (k, D)."""
        return {f"{self.part}.tokens.{token}": rows for token, rows in self._rows.items()}

    def fold(self) -> None:
        """Replace the wrapper with one table of old and new rows."""
        joined = self._embedding.plain()
        self._encoder.set_input_embeddings(joined)
        self._encoder.config.vocab_size = joined.num_embeddings


class NegativeRows(ParameterSet):
    """The rows of the negative tokens of one text encoder, which lie in the table of its :class:`TokenRows`."""

    def __init__(self, part: str, rows: Mapping[str, torch.nn.Parameter]) -> None:
        self.part, self.rate, self.way, self._rows = part, "tokens", NEGATIVE_ROWS, rows

    def named(self) -> dict[str, torch.nn.Parameter]:
        """``text_encoder.tokens.<v-neg>``, shape (k, D)."""
        return {f"{self.part}.tokens.{token}": rows for token, rows in self._rows.items()}

    def fold(self) -> None:
        """Nothing to do: :class:`TokenRows` folds them in with its own."""


class IdentifierRows(ParameterSet):
    """Offsets to the embedding rows of identifiers that the base's vocabulary holds, in one text encoder."""

    def __init__(self, part: str, encoder: Any, tokenizer: Any, recipe: Recipe) -> None:
        self.part, self.rate, self.way, self._encoder = part, "tokens", "identifiers", encoder
        self._tokens = recipe.tokens
        ids = [tokenizer(token, add_special_tokens=False).input_ids for token in recipe.tokens]
        self._embedding = OffsetEmbedding(encoder.get_input_embeddings(), ids)
        encoder.set_input_embeddings(self._embedding)

    def named(self) -> dict[str, torch.nn.Parameter]:
        """``text_encoder.identifiers.sks``, shape (ids, D)."""
        return {f"{self.part}.identifiers.{token}": rows for token, rows in zip(self._tokens, self._embedding.offsets, strict=True)}

    def fold(self) -> None:
        """Add the offsets to the table and put it back."""
        self._encoder.set_input_embeddings(self._embedding.plain())


class Trainables:
    """All parameter sets of a recipe, inserted into a family's parts, whose other parameters are frozen.

    ``seed`` is for random initial values; None if all of them will be loaded.

    Trained parameters are cast to ``weights``, along with the rest of their part where more than adapters train.

    Raises:
        ConfigError: the base lacks layers that adapters are for, or the layers cannot take them.
        InputError: the base already has one of the new tokens.
    """

    def __init__(self, family: Family, recipe: Recipe, seed: int | None = 0, weights: torch.dtype = torch.float32) -> None:
        self._family, self._given = family, recipe.lora
        # Text-encoder training is left out if the family has no text encoder to train.
        trains = recipe.trains if family.trained_encoders else recipe.trains - TEXT_WAYS
        self.recipe = replace(recipe, trains=trains).with_targets(family.adapter_targets, family.text_encoder_targets)
        # No output depends on these, so they get no gradient, and several processes would wait for one.
        self._idle = {id(value) for value in family.idle_parameters}
        self.sets = [found for name, part in family.parts.items() for found in self._sets(name, part, seed)]
        for name, part in self.parts.items():
            part.train()
            if name in self.whole:
                cast(part, weights)
        for value in self.named().values():
            value.data = value.data.to(weights)
        self.initial: dict[str, torch.Tensor] = {}
        """What :meth:`remember` has kept, by name."""

    def remember(self) -> None:
        """Keep a copy of the initial parameters, so that the base can be evaluated while they train."""
        self.initial = {name: value.detach().clone() for name, value in self.named().items()}

    def _sets(self, name: str, part: torch.nn.Module, seed: int | None) -> list[ParameterSet]:
        recipe = self.recipe
        is_encoder = name in self._family.text_encoders
        if not is_encoder and name != self._family.layout.denoiser:
            return []
        kind = "text_encoder" if is_encoder else "denoiser"
        # A text encoder that is not itself trained may still learn new tokens.
        trains = {way for way in recipe.trains if not is_encoder or name in self._family.trained_encoders or way == "tokens"}
        found: list[ParameterSet] = []
        if kind in trains:
            found.append(OwnParameters(name, kind, part, self._idle))
        if f"{kind}.cross-attention" in trains:
            found.append(OwnParameters(name, kind, part, self._idle, CROSS_ATTENTION))
        if f"{kind}.low-rank" in trains:
            field = "text_encoder_targets" if is_encoder else "targets"
            # Not all of a family's default targets need to exist in each of its models.
            found.append(LowRank(name, kind, part, field, self._idle, recipe, seed, named=getattr(self._given, field) is not None))
        if f"{kind}.spectral" in trains:
            found += [SpectralShifts(name, kind, part, self._idle, norms=norms) for norms in (False, True)]
        # Only after the encoder's own parameters have been named, as these put a wrapper around its table.
        if is_encoder and "identifiers" in trains:
            found.append(IdentifierRows(name, part, self._family.tokenizers[name], recipe))
        if is_encoder and "tokens" in trains:
            rows = TokenRows(name, part, self._family.tokenizers[name], recipe, seed)
            found += [rows, rows.negative] if recipe.negatives else [rows]
        return found

    @property
    def parts(self) -> dict[str, torch.nn.Module]:
        """The parts that hold trained parameters, by name, in the family's order."""
        names = {found.part for found in self.sets}
        return {name: part for name, part in self._family.parts.items() if name in names}

    @property
    def whole(self) -> set[str]:
        """Names of the parts in which more than adapters trains."""
        return {found.part for found in self.sets if not isinstance(found, LowRank)}

    def groups(self, rates: Mapping[str, float]) -> list[dict[str, Any]]:
        """Parameter groups for an optimizer, one per set, with the ``rates`` of ``denoiser``, ``text_encoder`` and ``tokens``.

        The recipe's factors multiply these.
        """
        factors = dict(self.recipe.rates)
        return [{"params": list(found.named().values()), "lr": rates[found.rate] * factors.get(found.way, 1.0)} for found in self.sets]

    def named(self) -> dict[str, torch.nn.Parameter]:
        """All trained parameters by name, in a fixed order."""
        return {name: value for found in self.sets for name, value in found.named().items()}

    def tensors(self) -> dict[str, torch.Tensor]:
        """All that a checkpoint or a delta must hold: the trained parameters, and their :meth:`ParameterSet.origin` if any."""
        return {**self.named(), **{name: value for found in self.sets for name, value in found.origin().items()}}

    @torch.no_grad()
    def load(self, tensors: Mapping[str, torch.Tensor], where: str) -> None:
        """Copy saved :meth:`tensors` in. InputError names a tensor that is missing, unexpected, or of another shape."""
        wanted = self.tensors()
        if odd := sorted(set(wanted) ^ set(tensors)):
            raise InputError(where, f"{'lacks' if odd[0] in wanted else 'holds'} {odd[0]}", expected="exactly what its method trains")
        for name, value in wanted.items():
            if value.shape != tensors[name].shape:
                raise InputError(where, f"{name} has shape {list(tensors[name].shape)}", expected=f"{list(value.shape)}, as in the base")
        for found in self.sets:
            found.begin_from({name: tensors[name] for name in found.origin()})
        if self.initial and any(found.origin() for found in self.sets):
            # Another machine may have started from other factors of the same matrices.
            self.remember()
        for name, value in self.named().items():
            value.copy_(tensors[name])

    def fold(self) -> None:
        """Fold all sets in, which leaves a plain family with the result in its weights, all frozen."""
        for found in reversed(self.sets):
            found.fold()
        for part in self._family.parts.values():
            part.requires_grad_(False).eval()
