"""The table of what the shipped configurations take: ``python -m tests.components.diffusion.planning.shipped`` writes it anew."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

from components.core.config import load_config
from components.core.paths import write_text
from components.diffusion.planning.memory import Planner
from components.diffusion.planning.settings import settings_of
from orchestration.shipped import TABLE, Shipped
from tests.components.diffusion.planning.published import write_base

CHECKPOINTING = "training.gradient_checkpointing=true"
LORA = ("method.name=lora", "training.learning_rate=null", CHECKPOINTING)
INT8, NF4 = (("base.precision=int8",), ("base.precision=nf4",))
CHANGES: dict[str, tuple[tuple[str, ...], ...]] = {
    **dict.fromkeys(("sd15", "sd21", "sdxl"), ((), LORA)),
    **dict.fromkeys(("sd35-medium", "flux2-klein", "z-image"), ((), INT8)),
    "flux-dev": ((), NF4),
}


def planned(name: str) -> Iterator[Shipped]:
    """The rows of one configuration, planned now, for 20 StyleRef pictures and the built-in bank, on a GPU that just holds it."""
    with tempfile.TemporaryDirectory() as folder:
        planner = Planner(write_base(name, Path(folder)))
        for settings in CHANGES[name]:
            config = load_config(name, settings)
            yield Shipped(name, settings, planner.plan(settings_of(config, bank=1562, size=1)).peak.total)


if __name__ == "__main__":
    rows = [f"{row.configuration}\t{' '.join(row.settings)}\t{row.size}\n" for name in CHANGES for row in planned(name)]
    write_text(TABLE, "".join(["configuration\tsettings\tbytes\n", *rows]))
