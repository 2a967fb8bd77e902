"""Step: give each StyleRef image a role, character or background, and choose the held-out reference."""

from typing import Annotated, Any

from zenml import step

from steps.io.artifacts import Folder
from steps.io.caching import code_of
from steps.io.clip_encoder import encoder_factory
from steps.io.workspace import scratch


@step(environment=code_of(__file__))
def split(style_set: Folder, extractor: dict[str, Any]) -> Annotated[Folder, "split"]:
    """Divide the style set; the CLIP ``extractor`` decides where neither metadata nor folders do."""
    from components.styledata.split import split_style_set

    out = scratch("split")
    split_style_set(style_set.path, out, encoder_factory(extractor))
    return Folder(out)
