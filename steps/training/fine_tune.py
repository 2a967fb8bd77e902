"""Step: fine-tune the base on the style."""

from typing import Annotated, Any

from zenml import step

from components.core.config import MethodSection, RunConfig, SamplingSection, SelectionSection, StyleSection, TrainingSection
from components.core.paths import read_json, write_json
from components.core.usage import measured
from steps.io.artifacts import Folder
from steps.io.base_model import base_section
from steps.io.caching import code_of
from steps.io.checkpoint_store import checkpoint_store_for
from steps.io.workspace import resumable, scratch


@step(environment=code_of(__file__))
def fine_tune(
    style_set: Folder, split: Folder, aux: Folder, seed: int, base: dict[str, Any], method: dict[str, Any], training: dict[str, Any],
    candidates: int = 1, sampling: dict[str, Any] | None = None, watch: dict[str, Any] | None = None,
) -> Annotated[Folder, "model"]:  # fmt: skip
    """Fine-tune; a run that was killed goes on from its last checkpoint. ``base`` is its section and ``digest``.

    With more ``candidates`` than one the model's folder holds the earlier ones too, as deltas. ``sampling`` is for previews.
    ``watch`` is that of :func:`steps.training.patience.patience_for`, for a training that ends once its candidates grow no better.
    """
    from components.diffusion.training.fine_tuning import fine_tune as train

    config = RunConfig(
        seed=seed,
        # What the style is called and how its pictures are drawn later is no part of training: `register` writes it down.
        style=StyleSection(name="style", source="style_set"),
        base=base_section(base),
        method=MethodSection(**method),
        training=TrainingSection(**training),
        selection=SelectionSection(candidates=candidates),
        sampling=SamplingSection(**(sampling or {})),
    )
    key = [
        style_set.digest,
        split.digest,
        aux.digest,
        seed,
        base["digest"],
        base["precision"],
        method,
        config.training.global_batch_config(),
        *([watch] if watch else ()),
    ]
    checkpoints = resumable("fine_tune", "checkpoints", key=key)
    store = checkpoint_store_for(key)
    if store:
        store.fetch(checkpoints)
    out = scratch("fine_tune")
    ends = None
    if watch:
        from steps.training.patience import patience_for

        ends = patience_for(style_set, seed, base, **watch)
        # Before the base is loaded to be trained.
        ends.bank.draw_base()
    with measured() as usage:
        keep = store.keep if store else None
        train(config, style_set.path, split.path, aux.path, out, checkpoints, on_checkpoint=keep, watch=ends)
    if store:
        store.clear()
    timing = out / "training" / "timing.json"
    # What several processes used of their GPUs they have written down themselves.
    write_json(timing, {"device": usage.device, "peak_memory_bytes": usage.peak_memory_bytes, **read_json(timing)})
    return Folder(out)
