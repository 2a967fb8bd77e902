"""Previews: the same prompts and seeds drawn during training, the base's pictures above those of the step."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from components.core.config import RunConfig
from components.core.paths import atomic_file
from components.core.prompting import fill_tokens
from components.diffusion.models.bundle import Bundle
from components.diffusion.sampling.jobs import PromptRequest
from components.diffusion.sampling.sampler import draw_pictures
from components.diffusion.training.methods import Method

FOLDER = "previews"
_logger = logging.getLogger(__name__)


def preview_requests(config: RunConfig, method: Method) -> list[PromptRequest]:
    """``training.validation_prompts`` as requests, with the identifiers filled in."""
    prompts = [fill_tokens(prompt, method.tokens) for prompt in config.training.validation_prompts]
    negatives = tuple((concept.token, concept.negative) for concept in method.concepts if concept.negative)
    return [
        PromptRequest(f"validation_{index:02d}", "validation", prompt, prompt, method.tokens, negatives)
        for index, prompt in enumerate(prompts)
    ]


class Previews:
    """The previews of one training, each a picture file in ``previews`` inside the folder of its checkpoints.

    ``step-00000000.png`` is the base's row, drawn before the first step; each other file has that row above its own.
    """

    def __init__(self, checkpoints: Path, config: RunConfig, method: Method) -> None:
        self.folder, self._config = Path(checkpoints) / FOLDER, config
        self._requests = preview_requests(config, method)
        self.every = config.training.preview_every if self._requests else None

    def due(self, step: int) -> bool:
        """Whether a step has a preview; step 0 is the base."""
        return self.every is not None and step % self.every == 0

    def draw(self, bundle: Bundle, step: int) -> Path:
        """Draw the prompts with a family that is in training, and write the preview. Returns its file."""
        drawn = draw_pictures(bundle, self._requests, self._config.sampling, self._config.seed, in_training=True)
        row = _row([picture for _, picture in drawn])
        base, file = self._file(0), self._file(step)
        if step and base.is_file():
            with Image.open(base) as above:
                row = _above(above.convert("RGB"), row)
        with atomic_file(file) as temporary:
            row.save(temporary)
        _logger.info("preview of step %d: %s", step, file.resolve().as_uri())
        return file

    def files(self) -> list[Path]:
        """The existing previews, in the order of steps."""
        return sorted(self.folder.glob("step-*.png"))

    def _file(self, step: int) -> Path:
        return self.folder / f"step-{step:08d}.png"


def _row(pictures: Sequence[Image.Image]) -> Image.Image:
    sheet = Image.new("RGB", (sum(picture.width for picture in pictures), max(picture.height for picture in pictures)))
    left = 0
    for picture in pictures:
        sheet.paste(picture, (left, 0))
        left += picture.width
    return sheet


def _above(first: Image.Image, second: Image.Image) -> Image.Image:
    sheet = Image.new("RGB", (max(first.width, second.width), first.height + second.height))
    sheet.paste(first, (0, 0))
    sheet.paste(second, (0, first.height))
    return sheet
