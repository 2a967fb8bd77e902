"""GPU memory of the step ``caption``: the weights of its vision-language model are counted, the rest is estimated."""

from pathlib import Path
from typing import Any

from components.core.errors import InputError, first_line
from components.diffusion.models.loading import quiet
from components.diffusion.models.precision import PLAIN_DTYPES
from components.diffusion.planning.records import StepMemory
from components.diffusion.planning.tracing import META

PLACES = 2048
"""Tokens of a picture and its prompt. Most models need fewer at 1,024 px; those that tile a picture may need more."""


def caption(folder: Path, precision: str, pictures: int, answer: int) -> StepMemory:
    """Memory for captioning ``pictures`` at once, in at most ``answer`` tokens each, with the model in ``folder`` (transformers layout).

    Models turn pictures into tokens in different ways, so activations are estimated, not traced: keys and values of all layers for
    :data:`PLACES` tokens per picture plus the answer's, and one layer's intermediate results.

    Raises InputError if no network can be made of the folder's ``config.json``.
    """
    from transformers import AutoConfig, AutoModelForImageTextToText

    dtype = PLAIN_DTYPES[precision]
    try:
        with quiet():
            config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            with META:
                model = AutoModelForImageTextToText.from_config(config, dtype=dtype, trust_remote_code=False)
            numbers = _numbers_a_token(config.get_text_config(decoder=True))
    except Exception as error:
        # transformers has errors of many kinds for it, one of them a child of Exception alone.
        raise InputError(
            f"captions.model={folder}", f"no network can be built from its configuration ({first_line(error)})",
            expected="a folder or hub id of a vision-language model in transformers layout",
        ) from error  # fmt: skip
    weights = sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))
    return StepMemory("caption", weights, activations=numbers * pictures * (PLACES + answer) * dtype.itemsize, estimated=True)


def _numbers_a_token(text: Any) -> int:
    """Numbers per token that the language model keeps (keys and values) and computes in one layer, from its configuration."""

    def read(name: str, otherwise: int) -> int:
        try:
            return int(getattr(text, name, None) or otherwise)
        except RuntimeError:
            # transformers' answer where each layer has a number of its own.
            return otherwise

    width = int(text.hidden_size)
    heads = read("num_attention_heads", 1)
    kept = 2 * int(text.num_hidden_layers) * read("num_key_value_heads", heads) * read("head_dim", width // heads)
    return kept + 4 * width + 3 * read("intermediate_size", 4 * width)
