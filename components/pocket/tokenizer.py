"""The pocket bases' tokenizer: CLIP's byte-level BPE, trained on the world's captions and a little English; rare tokens stay whole."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from components.core.paths import atomic_folder
from components.pocket.captions import RARE_TOKENS, caption
from components.pocket.media import random_medium
from components.pocket.scenes import random_scene

if TYPE_CHECKING:
    from transformers import CLIPTextConfig, CLIPTokenizer

MAX_LENGTH = 32
VOCABULARY = 1536
_ENGLISH = (
    "a painting of an old house near the sea with a small garden, portrait of a person reading a book in the evening light, "
    "close up of a face, wide landscape with hills and a river, digital art, concept art, drawing, picture, image, style, "
    "anime, romanticism, cubism, realism, pixel art, drawn by hand in bright colours, dark and moody, highly detailed, "
    "people walking in the street, children playing, animals, birds, flowers, trees, clouds, sun, moon, stars, rain, winter, summer"
)


def _corpus() -> Iterator[str]:
    rng = random.Random(7)
    for _ in range(4000):
        yield caption(random_scene(rng), random_medium(rng), rng)
    for _ in range(50):
        yield _ENGLISH
        # Often enough that each identifier is merged into one token.
        yield " ".join(RARE_TOKENS)


def build_tokenizer() -> CLIPTokenizer:
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
    trained.train_from_iterator(_corpus(), trainer)
    state = json.loads(trained.to_str())["model"]
    merges = [tuple(pair) if isinstance(pair, list) else tuple(pair.split(" ")) for pair in state["merges"]]
    words = [*base, *("".join(pair) for pair in merges), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: index for index, word in enumerate(dict.fromkeys(words))}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=MAX_LENGTH)


def stored_tokenizer(folder: Path) -> CLIPTokenizer:
    """The tokenizer in ``folder``, trained first if missing: a resumed training must find the tokens that it began with."""
    from transformers import CLIPTokenizer

    if not folder.is_dir():
        with atomic_folder(folder) as temporary:
            build_tokenizer().save_pretrained(temporary)
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
