"""Step: fine-tune the base on the style."""

from pathlib import Path
from typing import Annotated, Any

from zenml import step

from components.core.config import MethodSection, RunConfig, SamplingSection, SelectionSection, StyleSection, TrainingSection
from components.core.model_card import seed_folder
from components.core.paths import read_json, write_json
from components.core.usage import Usage, measured
from steps.io.artifacts import Folder
from steps.io.base_model import base_section
from steps.io.caching import code_of
from steps.io.checkpoint_store import checkpoint_store_for
from steps.io.workspace import resumable, scratch


@step(environment=code_of(__file__))
def fine_tune(
    style_set: Folder, split: Folder, aux: Folder, seed: int, base: dict[str, Any], method: dict[str, Any], training: dict[str, Any],
    candidates: int = 1, seeds: list[int] | None = None, sampling: dict[str, Any] | None = None, watch: dict[str, Any] | None = None,
) -> Annotated[Folder, "model"]:  # fmt: skip
    """Fine-tune; a run that was killed goes on from its last checkpoint. ``base`` is its section and ``digest``.

    With more than one of ``candidates``, the model's folder also holds the earlier ones, as deltas; with further ``seeds``, it holds
    the models trained with those. ``sampling`` is for previews. ``watch`` holds the arguments of
    :func:`steps.training.patience.patience_for`, for training that stops once its candidates no longer improve.
    """
    from components.diffusion.training.fine_tuning import fine_tune as train

    watches = None
    if watch:
        from steps.training.patience import patience_for

        watches = patience_for(style_set, seed, base, **watch)
        # Done before the base is loaded for training.
        watches.bank.draw_base()
    out = scratch("fine_tune")
    places = {seed: out, **{number: seed_folder(out, number) for number in seeds or ()}}
    stores = []
    for number, place in places.items():
        config = RunConfig(
            seed=number,
            # Training does not depend on the style's name or on how pictures are drawn later; `register` records those.
            style=StyleSection(name="style", source="style_set"),
            base=base_section(base),
            method=MethodSection(**method),
            training=TrainingSection(**training),
            selection=SelectionSection(candidates=candidates),
            sampling=SamplingSection(**(sampling or {})),
        )
        inputs = [style_set.digest, split.digest, aux.digest, number, base["digest"], base["precision"], method]
        key = [*inputs, config.training.global_batch_config(), *([watch] if watch else ())]
        checkpoints = resumable("fine_tune", "checkpoints", key=key)
        if store := checkpoint_store_for(key):
            store.fetch(checkpoints)
            stores.append(store)
        with measured() as usage:
            keep = store.keep if store else None
            train(config, style_set.path, split.path, aux.path, place, checkpoints, on_checkpoint=keep, watch=watches)
        _write_cost(place, usage)
    for store in stores:
        store.clear()
    return Folder(out)


def _write_cost(model: Path, usage: Usage) -> None:
    timing = model / "training" / "timing.json"
    # If training ran in several processes, they have already recorded their own GPU usage, which takes precedence.
    write_json(timing, {"device": usage.device, "peak_memory_bytes": usage.peak_memory_bytes, **read_json(timing)})
