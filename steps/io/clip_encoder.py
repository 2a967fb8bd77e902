"""The CLIP encoder that some steps lend to components which must not know where they come from."""

from collections.abc import Callable, Mapping
from typing import Any


def encoder_factory(extractor: Mapping[str, Any]) -> Callable[[], Any]:
    """A function that loads the encoder when first needed: most sets bring roles along, and loading costs seconds.

    Of ``extractor`` it takes ``model`` and ``revision``; ``digest`` only tells cache keys apart.
    """

    def build() -> Any:
        from components.evaluation.extractors.clip import ClipEncoder

        return ClipEncoder(str(extractor["model"]), revision=extractor.get("revision"))

    return build
