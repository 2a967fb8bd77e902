"""The embedded bases' tokenizer: CLIP's byte-level BPE, trained on a world's captions and a little English; rare tokens stay whole."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from components.core.paths import atomic_folder

if TYPE_CHECKING:
    from transformers import CLIPTextConfig, CLIPTokenizer

MAX_LENGTH = 32
VOCABULARY = 1536


def build_tokenizer(texts: Iterable[str]) -> CLIPTokenizer:
    """Train the tokenizer. Equally frequent pairs may be merged in a different order each time: see :func:`stored_tokenizer`."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
    from transformers import CLIPTokenizer

    trained = Tokenizer(models.BPE(unk_token="<|endoftext|>", end_of_word_suffix="</w>", continuing_subword_prefix=""))
    trained.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()])
    split = Regex(r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")
    trained.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(split, behavior="removed", invert=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    # CLIP's alphabet: every byte, alone and at a word's end, so that any text can be encoded.
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    base = [*alphabet, *(letter + "</w>" for letter in alphabet)]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(base) - 2, initial_alphabet=alphabet, end_of_word_suffix="</w>", show_progress=False, min_frequency=2
    )
    trained.train_from_iterator(texts, trainer)
    state = json.loads(trained.to_str())["model"]
    merges = [tuple(pair) if isinstance(pair, list) else tuple(pair.split(" ")) for pair in state["merges"]]
    words = [*base, *("".join(pair) for pair in merges), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: index for index, word in enumerate(dict.fromkeys(words))}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=MAX_LENGTH)


def stored_tokenizer(folder: Path, corpus: Callable[[], Iterable[str]]) -> CLIPTokenizer:
    """The tokenizer in ``folder``, trained first on ``corpus`` if missing: a resumed training must find the tokens that it began with."""
    if not folder.is_dir():
        with atomic_folder(folder) as temporary:
            build_tokenizer(corpus()).save_pretrained(temporary)
    return read_tokenizer(folder)


def read_tokenizer(folder: Path) -> CLIPTokenizer:
    """The tokenizer in ``folder``."""
    from transformers import CLIPTokenizer

    found: CLIPTokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    return found


def text_config(tokenizer: CLIPTokenizer, width: int, layers: int) -> CLIPTextConfig:
    """The configuration of a small CLIP text encoder for this tokenizer."""
    from transformers import CLIPTextConfig

    return CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=width, intermediate_size=3 * width, num_hidden_layers=layers, num_attention_heads=4,
        max_position_embeddings=MAX_LENGTH, projection_dim=width,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
