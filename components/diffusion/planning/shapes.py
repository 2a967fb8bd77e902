"""A base built from its configuration files: every network with its shapes, on the meta device, without weights."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from components.core.errors import InputError, first_line
from components.core.paths import read_json
from components.diffusion.models.families import Family
from components.diffusion.models.loading import FAMILIES, quiet
from components.diffusion.models.sources import check_folder, present_parts
from components.diffusion.planning.tracing import META


class Tokens:
    """A stand-in for a tokenizer that gets the shapes right: prompts of full length, and ids for new tokens after the vocabulary.

    ``folder`` holds ``tokenizer_config.json``; ``vocabulary`` is the number of rows of the text encoder's table.
    """

    padding_side = "right"

    def __init__(self, folder: Path, vocabulary: int) -> None:
        config = read_json(folder / "tokenizer_config.json") if (folder / "tokenizer_config.json").is_file() else {}
        self.model_max_length = int(min(config.get("model_max_length", 77), 10**6))
        self.eos_token_id, self.pad_token_id, self.bos_token_id = vocabulary - 1, 0, 0
        self._vocabulary = vocabulary
        self.added_tokens_encoder: dict[str, int] = {}

    def __call__(self, prompts: str | Sequence[str], **options: Any) -> Any:
        """Token ids: on the CPU, of shape (N, L), if tensors are requested; else one id per prompt."""
        if options.get("return_tensors") is None:
            return SimpleNamespace(input_ids=[0] if isinstance(prompts, str) else [[0]] * len(prompts))
        shape = (1 if isinstance(prompts, str) else len(prompts), options.get("max_length") or self.model_max_length)
        mask = torch.ones(shape, dtype=torch.long)
        return SimpleNamespace(input_ids=torch.zeros(shape, dtype=torch.long), attention_mask=mask)

    def apply_chat_template(self, messages: Sequence[dict[str, str]], **options: Any) -> str:
        """The content of the last message, with nothing around it."""
        return messages[-1]["content"]

    def get_vocab(self) -> dict[str, int]:
        """Only the added tokens, so that no other token counts as known."""
        return dict(self.added_tokens_encoder)

    def add_tokens(self, names: Sequence[str]) -> int:
        """Give new tokens the ids after the vocabulary. Returns how many there are."""
        for name in names:
            self.added_tokens_encoder[name] = self._vocabulary + len(self.added_tokens_encoder)
        return len(names)

    def convert_tokens_to_ids(self, names: Sequence[str]) -> list[int]:
        """The ids of added tokens."""
        return [self.added_tokens_encoder[name] for name in names]


def family_from_configuration(folder: Path) -> Family:
    """The family that a folder in diffusers layout describes, all parts in fp32, frozen and on the meta device.

    InputError if a part's configuration is missing or no network can be built from it.
    """
    layout = check_folder(folder, weights=False)
    present, parts = present_parts(folder), dict[str, Any]()
    try:
        with quiet():
            for name in (name for name in layout.networks if name in present):
                parts[name] = network_of(folder / name, *present[name]).requires_grad_(False).eval()
        schedule = read_json(folder / "scheduler" / "scheduler_config.json")
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        problem = f"no network can be built from its configuration ({first_line(error)})"
        raise InputError(str(folder), problem, expected=f"a complete {layout.title} folder") from error
    for name in present:
        if name.startswith("tokenizer"):
            encoder = parts[name.replace("tokenizer", "text_encoder")]
            parts[name] = Tokens(folder / name, encoder.get_input_embeddings().num_embeddings)
    return FAMILIES[layout.pipeline].open(parts, schedule, folder, str(folder))


def network_of(folder: Path, library: str, name: str) -> Any:
    """A network of the class ``name`` of diffusers or transformers, built from the folder's ``config.json`` on the meta device."""
    import diffusers
    import transformers

    config = read_json(folder / "config.json")
    with torch.device(META):
        if library == "diffusers":
            return getattr(diffusers, name).from_config(config)
        cls = getattr(transformers, name)
        return cls._from_config(cls.config_class.from_dict(config), dtype=torch.float32)
