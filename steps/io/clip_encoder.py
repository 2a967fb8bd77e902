"""The CLIP encoder that some steps pass to components that may not import it themselves."""

from collections.abc import Callable, Mapping
from typing import Any


def encoder_factory(extractor: Mapping[str, Any]) -> Callable[[], Any]:
    """Return a function that loads the encoder on demand, since most sets come with roles and loading takes seconds.

    Only ``model`` and ``revision`` of ``extractor`` are used; its ``digest`` is there for the cache key.
    """

    def build() -> Any:
        from components.evaluation.extractors.clip import ClipEncoder

        return ClipEncoder(str(extractor["model"]), revision=extractor.get("revision"))

    return build
