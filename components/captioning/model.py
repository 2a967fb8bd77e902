"""Vision-language models from transformers behind one interface: pictures in, answers out, deterministically."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from components.captioning.sources import EXPECTED, locate_captioner
from components.core.config import CaptionsSection
from components.core.devices import default_device
from components.core.errors import InputError, first_line

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

REQUEST = (
    "Describe what this picture shows in one phrase of at most 30 words: who or what is in it, pose and action, clothing, and the place. "
    "Begin with the subject. Say nothing about how the picture is made: no medium, technique or style, and none of these words: {omit}."
)
"""What a model with a chat template is asked by default."""


class Captioner(Protocol):
    """Anything that describes pictures."""

    def describe(self, pictures: Sequence[Image]) -> list[str]:
        """Return one answer per picture, as the model gave it."""
        ...


def request_of(settings: CaptionsSection, *, chats: bool) -> str:
    """What a model is asked: the configured prompt, else :data:`REQUEST` if the model ``chats``, and nothing if it does not."""
    prompt = settings.prompt if settings.prompt is not None else REQUEST if chats else ""
    return prompt.replace("{omit}", ", ".join(settings.omit))


class VisionLanguageModel:
    """A captioner in transformers layout, as :class:`components.core.config.CaptionsSection` describes it.

    A model with a chat template is asked the request; any other captions without one, or continues the prompt. Decoding is greedy.

    Raises:
        InputError: the model does not exist, cannot be loaded, lacks weights or a package, or does not fit on the device.
        ServiceUnreachable: the hub does not answer.
    """

    def __init__(self, settings: CaptionsSection) -> None:
        self._where = f"captions.model={settings.model}"
        self._settings = settings
        folder = locate_captioner(str(settings.model), settings.revision)
        self.device = default_device()
        with _quiet(), self._errors("cannot be loaded"):
            self._processor, self._model = self._load(folder)
        self.chats = bool(getattr(self._processor, "chat_template", None))
        self.prompt = request_of(settings, chats=self.chats)
        # With padding on the left, all answers in a batch begin where the longest prompt ends.
        self._processor.tokenizer.padding_side = "left"

    def _load(self, folder: Path) -> tuple[Any, Any]:
        from transformers import AutoModelForImageTextToText, AutoProcessor

        processor = AutoProcessor.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        if not hasattr(processor, "image_processor") or getattr(processor, "tokenizer", None) is None:
            raise InputError(self._where, "has no processor for both images and text", expected=EXPECTED)
        model, report = AutoModelForImageTextToText.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, use_safetensors=True, output_loading_info=True,
            dtype=_type_of(self._settings.precision, self.device),
        )  # fmt: skip
        if missing := sorted(report["missing_keys"]):
            # Otherwise they would keep their random initial values.
            raise InputError(self._where, f"lacks {len(missing)} of its weights, such as {missing[0]}", expected="a complete model")
        return processor, model.eval().to(self.device)

    def describe(self, pictures: Sequence[Image]) -> list[str]:
        """Return one answer per picture. InputError if the processor refuses the prompt or the batch does not fit into device memory."""
        import torch

        with _quiet(), self._errors("cannot describe images"), torch.inference_mode():
            inputs = self._inputs(pictures).to(self.device)
            for name, value in inputs.items():
                if torch.is_tensor(value) and value.is_floating_point():
                    inputs[name] = value.to(self._model.dtype)
            greedy: dict[str, Any] = {"do_sample": False, "num_beams": 1, "temperature": None, "top_p": None, "top_k": None}
            output = self._model.generate(**inputs, max_new_tokens=self._settings.max_tokens, **greedy)
            answers = self._processor.batch_decode(_without_prompt(output, inputs), skip_special_tokens=True)
        return [str(answer).strip() for answer in answers]

    def _inputs(self, pictures: Sequence[Image]) -> Any:
        if self.chats:
            talks = [
                [{"role": "user", "content": [{"type": "image", "image": picture}, {"type": "text", "text": self.prompt}]}]
                for picture in pictures
            ]
            return self._processor.apply_chat_template(
                talks, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt", processor_kwargs={"padding": True}
            )
        text = {"text": [self.prompt] * len(pictures), "padding": True} if self.prompt else {}
        return self._processor(images=list(pictures), return_tensors="pt", **text)

    @contextlib.contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        """Raise the libraries' errors as InputError: whatever fails here is due to the model, its settings or the machine."""
        import torch

        try:
            yield
        except InputError:
            raise
        except torch.OutOfMemoryError as error:
            remedy = f"lower captions.batch_size ({self._settings.batch_size}), set captions.precision, or choose a smaller model"
            raise InputError(self._where, f"does not fit into the memory of {self.device}", remedy=remedy) from error
        except ImportError as error:
            missing, _, _ = first_line(error).partition(". ")
            raise InputError(
                self._where, f"needs a package that is not installed ({missing})",
                remedy="install it; torchvision from the same index as torch, in the matching version: see docs/how-to/captions.md",
            ) from error  # fmt: skip
        except Exception as error:
            remedy = "set captions.prompt to what the model's card asks for" if hasattr(self, "prompt") else ""
            raise InputError(self._where, f"{what} ({first_line(error)})", expected=EXPECTED, remedy=remedy) from error


def _without_prompt(output: torch.Tensor, inputs: Mapping[str, Any]) -> torch.Tensor:
    """Only the new tokens: models that continue a text return the prompt's tokens first, others return the answer alone."""
    import torch

    prompt = inputs.get("input_ids")
    if prompt is None or output.shape[1] < prompt.shape[1] or not torch.equal(output[:, : prompt.shape[1]], prompt):
        return output
    return output[:, prompt.shape[1] :]


def _type_of(precision: str | None, device: torch.device) -> torch.dtype:
    import torch

    if precision:
        return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hide transformers' progress bars and hints within the block, then restore its settings."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
