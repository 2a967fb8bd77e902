"""Captions for many pictures, batch by batch; a model's answers are cached."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from components.captioning.model import Captioner, VisionLanguageModel, request_of
from components.captioning.sources import captioner_id
from components.captioning.wording import caption_of
from components.core.config import CaptionsSection
from components.core.content import digest_value
from components.core.errors import InputError
from components.core.logs import progress
from components.core.paths import state, storage_errors

if TYPE_CHECKING:
    from PIL.Image import Image


_ENOUGH_TO_JUDGE = 3
"""If none of this many pictures or more gets a usable caption, the model is at fault and not the pictures."""


@dataclass(frozen=True)
class Picture:
    """A picture that needs a caption: its name, the sha256 of its file, and how it is opened."""

    path: str
    sha256: str
    load: Callable[[], Image]


def describe(
    pictures: Sequence[Picture], settings: CaptionsSection, load: Callable[[CaptionsSection], Captioner] = VisionLanguageModel
) -> Iterator[dict[str, str]]:
    """Yield captions by path, one batch at a time; a caption is empty if nothing of the answer is left.

    Answers are cached in the home by model, request and picture, so the model is loaded only for pictures that it has not seen.

    Raises:
        InputError: the model cannot be used, or gives no usable caption for any of three pictures or more.
        ServiceUnreachable: the hub does not answer.
    """
    memory = _Memory(settings)
    waiting = [picture for picture in pictures if picture.sha256 not in memory.answers]
    known = [picture for picture in pictures if picture.sha256 in memory.answers]
    batches = [known] if known else []
    batches += [waiting[start : start + settings.batch_size] for start in range(0, len(waiting), settings.batch_size)]
    captioner = load(settings) if waiting else None
    usable = 0
    with progress("captions", len(pictures), shown=bool(waiting)) as advance:
        for batch in batches:
            if captioner is not None and batch is not known:
                answers = captioner.describe([picture.load() for picture in batch])
                memory.keep({picture.sha256: answer for picture, answer in zip(batch, answers, strict=True)})
            captions = {picture.path: memory.caption(picture.sha256) for picture in batch}
            usable += sum(bool(caption) for caption in captions.values())
            advance(len(batch))
            yield captions
    if len(pictures) >= _ENOUGH_TO_JUDGE and not usable:
        raise InputError(
            f"captions.model={settings.model}", f"gave no usable caption for any of {len(pictures)} images, such as "
            f"{memory.answers[pictures[0].sha256]!r} for {pictures[0].path}", expected="a description of what the image shows",
            remedy="choose another model or captions.prompt, or shorten captions.omit",
        )  # fmt: skip


class _Memory:
    """Cached answers by the picture's digest, in one file per model and request. An unfinished line is ignored."""

    def __init__(self, settings: CaptionsSection) -> None:
        self._settings = settings
        # Both possible requests, since which one applies is known only once the model is loaded.
        asked = [request_of(settings, chats=chats) for chats in (True, False)]
        key = [captioner_id(str(settings.model), settings.revision), asked, settings.max_tokens, settings.precision]
        self._file: Path = state("cache", "captions") / f"{digest_value(key)[:32]}.jsonl"
        self.answers: dict[str, str] = {}
        for line in self._file.read_text(encoding="utf-8").split("\n") if self._file.is_file() else ():
            with contextlib.suppress(ValueError, KeyError, TypeError):
                row = json.loads(line)
                self.answers[str(row["sha256"])] = str(row["answer"])

    def keep(self, answers: dict[str, str]) -> None:
        self.answers |= answers
        with storage_errors(self._file), self._file.open("a", encoding="utf-8") as file:
            file.write("".join(json.dumps({"sha256": key, "answer": text}) + "\n" for key, text in answers.items()))

    def caption(self, sha256: str) -> str:
        # A model that continues a text may repeat it in its answer; one that is asked a question does not repeat the question.
        return caption_of(self.answers[sha256], self._settings.omit, self._settings.prompt or "")
