"""New tokens with embedding rows of their own: how they are named, written in prompts, and looked up."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F

from components.core.errors import InputError


def row_names(token: str, vectors: int) -> list[str]:
    """The tokenizer's names of a token's rows, as diffusers numbers them: ``<v>``, ``<v>_1``, ``<v>_2`` …"""
    return [token, *(f"{token}_{index}" for index in range(1, vectors))]


def stage_names(token: str, stages: int) -> list[str]:
    """The tokens that replace a token at each stage of noise, least noise first: ``<v-T0>``, ``<v-T1>`` …; with one stage, the token."""
    return [token] if stages == 1 else [f"{token.removesuffix('>')}-T{stage}>" for stage in range(stages)]


def stages_of(tokenizer: Any) -> dict[str, int]:
    """The number of stages of each token in a tokenizer that has rows for every stage of noise."""
    added, found = tokenizer.added_tokens_encoder, dict[str, int]()
    for token in [f"{name.removesuffix('-T0>')}>" for name in added if name.endswith("-T0>")]:
        while f"{token.removesuffix('>')}-T{found.get(token, 0)}>" in added:
            found[token] = found.get(token, 0) + 1
    return found


def at_stage(prompt: str, token: str, stages: int, stage: int) -> str:
    """Replace a token that has ``stages`` stages by its name at one ``stage``, throughout a prompt."""
    return re.sub(re.escape(token), stage_names(token, stages)[stage], prompt, flags=re.IGNORECASE)


def expand(prompts: Sequence[str], tokenizer: Any) -> list[str]:
    """Write out every token that has several rows as all of them, so that the tokenizer finds each row.

    A token with rows for each stage of noise is written as that of the least noise, unless the prompt already names a stage.
    """
    for token, count in stages_of(tokenizer).items():
        prompts = [at_stage(prompt, token, count, 0) for prompt in prompts]
    added = tokenizer.added_tokens_encoder
    several = {token: [token] for token in added if f"{token}_1" in added}
    for token, names in several.items():
        while f"{token}_{len(names)}" in added:
            names.append(f"{token}_{len(names)}")
    expanded = list(prompts)
    for token, names in several.items():
        pattern = re.compile(re.escape(token) + r"(?!_\d)", re.IGNORECASE)
        expanded = [pattern.sub(" ".join(names), prompt) for prompt in expanded]
    return expanded


class RowEmbedding(torch.nn.Module):
    """A frozen embedding table followed by K new rows, which are separate parameters.

    Neither gradients nor weight decay can reach the table, so all its rows stay identical bit for bit (the public script trains
    the whole table and restores the old rows, which weight decay and rounding defeat). ``rows`` holds the initial values of each
    token's rows, shape (k, D); their ids run from ``first`` to ``first + K - 1``.
    """

    def __init__(self, table: torch.nn.Embedding, first: int, rows: Sequence[torch.Tensor]) -> None:
        super().__init__()
        self.table, self.first = table, first
        self.rows = torch.nn.ParameterList([torch.nn.Parameter(row.clone()) for row in rows])

    @property
    def weight(self) -> torch.Tensor:
        """The base's table, shape (V, D)."""
        return self.table.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Embeddings of ids, shape (..., D). Rows get a gradient (zero, if need be) whether or not their ids occur."""
        new = torch.cat(list(self.rows))
        known: torch.Tensor = self.table(ids.clamp(max=self.table.num_embeddings - 1))
        is_new = (ids >= self.first) & (ids < self.first + len(new))
        return torch.where(is_new.unsqueeze(-1), F.embedding((ids - self.first).clamp(0, len(new) - 1), new), known)

    def plain(self) -> torch.nn.Embedding:
        """A single table of all rows, old and new."""
        new = torch.cat(list(self.rows)).detach()
        old = self.table.weight.detach()
        joined = old.new_zeros((max(len(old), self.first + len(new)), old.shape[1]))
        joined[: len(old)] = old
        joined[self.first : self.first + len(new)] = new
        return torch.nn.Embedding.from_pretrained(joined, freeze=True)


class OffsetEmbedding(torch.nn.Module):
    """An embedding table with trainable offsets on the rows of some known words; ``ids`` are the token ids of each word.

    The table may train too. Optimizers such as Adam move every row that occurs by about the same distance per step, so a learning
    rate high enough to teach a rare word would disturb all common ones; the offsets have a learning rate of their own.
    """

    def __init__(self, table: torch.nn.Embedding, ids: Sequence[Sequence[int]]) -> None:
        super().__init__()
        self.table, self.ids = table, [list(word) for word in ids]
        zeros = [torch.zeros(len(word), table.embedding_dim, device=table.weight.device) for word in ids]
        self.offsets = torch.nn.ParameterList([torch.nn.Parameter(zero) for zero in zeros])

    @property
    def weight(self) -> torch.Tensor:
        """The table, shape (V, D), without the offsets."""
        return self.table.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Embeddings of ids, shape (..., D). Offsets get a gradient (zero, if need be) whether or not their ids occur."""
        embedded: torch.Tensor = self.table(ids)
        for word, offset in zip(self.ids, self.offsets, strict=True):
            for index, row in zip(word, offset, strict=True):
                embedded = embedded + (ids == index).unsqueeze(-1) * row
        return embedded

    @torch.no_grad()
    def plain(self) -> torch.nn.Embedding:
        """A copy of the table with the offsets added; the table itself does not change, since it is saved separately."""
        joined = self.table.weight.detach().clone()
        for word, offset in zip(self.ids, self.offsets, strict=True):
            for index, row in zip(word, offset, strict=True):
                joined[index] += row
        return torch.nn.Embedding.from_pretrained(joined, freeze=True)


def add_tokens(tokenizer: Any, names: Sequence[str], where: str) -> int:
    """Add tokens to a tokenizer; return the id of the first, which the others follow. Raises InputError if the base has one already."""
    known = tokenizer.get_vocab()
    taken = [name for name in names if name in known]
    if taken:
        raise InputError(where, f"already has a token {taken[0]!r}", expected="a new token", remedy="choose another method.identifier")
    tokenizer.add_tokens(list(names))
    ids = tokenizer.convert_tokens_to_ids(list(names))
    if ids != list(range(ids[0], ids[0] + len(names))):
        raise InputError(where, f"its tokenizer gives new tokens the ids {ids}", expected="consecutive ids")
    return int(ids[0])


def word_vector(tokenizer: Any, table: torch.Tensor, word: str) -> torch.Tensor:
    """The embedding of a word, shape (D,); the mean over its tokens if it has several."""
    ids = tokenizer(word, add_special_tokens=False).input_ids
    if not ids:
        raise InputError("method.initial_word", f"{word!r} has no token", expected="a word")
    return table[ids].detach().float().mean(0)
