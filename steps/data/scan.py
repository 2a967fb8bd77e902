"""Step: turn a folder or URL of images into a style set: the unchanged files and a manifest."""

from typing import Annotated

from zenml import step

from components.core.config import AuxSection, StyleSection
from steps.io.artifacts import Folder
from steps.io.caching import code_of
from steps.io.uploads import localize
from steps.io.workspace import scratch


@step(environment=code_of(__file__))
def scan(
    source: str,
    reference: str | None,
    curated: bool,
    pool: str | None,
    max_pixels: int,
    content: str,
    rights: bool = False,
    concepts: bool = False,
) -> Annotated[Folder, "style_set"]:
    """Read the style's pictures; ``content``, a digest of what is there now, makes a changed picture a changed parameter.

    ``rights`` and ``concepts`` say whether the manifest records those of each picture.
    """
    from components.styledata.manifest import scan_style

    out = scratch("scan")
    places = {
        name: place and localize(place, out.parent / name) for name, place in (("source", source), ("reference", reference), ("pool", pool))
    }
    # A fixed name: the pictures do not depend on the style's name, so a new name must not cause another scan.
    style = StyleSection(name="style", source=str(places["source"]), reference=places["reference"], max_pixels=max_pixels)
    scan_style(style, AuxSection(source="curated" if curated else "none", pool=places["pool"]), out, rights=rights, concepts=concepts)
    return Folder(out)
