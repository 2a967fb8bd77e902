from pathlib import Path
from typing import Any

import pytest

from components.core.errors import ConfigError
from components.diffusion.models.layouts import LAYOUTS
from components.diffusion.training.fit import check_fit
from components.diffusion.training.methods import METHODS, method_for
from tests.components.diffusion.conftest import configure

SD, SD3 = "StableDiffusionPipeline", "StableDiffusion3Pipeline"


def check(pipeline: str, **settings: Any) -> None:
    config = configure(Path("base"), **settings)
    check_fit(config, method_for(config.method), LAYOUTS[pipeline])


@pytest.mark.parametrize(
    ("pipeline", "settings", "wanted"),
    [
        (
            SD3,
            {"method": {"name": "custom-diffusion"}},
            r"method\.name=custom-diffusion: trains denoiser\.cross-attention.*one of dreambooth",
        ),
        (SD3, {"sampling": {"scheduler": "dpm++"}}, r"sampling\.scheduler=dpm\+\+: does not go with .*one of euler"),
        (SD, {"training": {"times": {"shift": "dynamic"}}}, r"training\.times\.shift=dynamic"),
        (SD, {"training": {"aux_times": {"shift": "dynamic"}}}, r"training\.aux_times\.shift=dynamic"),
        (SD, {"training": {"loss_weighting": "cosmap"}}, r"training\.loss_weighting=cosmap"),
    ],
)
def test_what_a_family_does_not_have_is_refused(pipeline: str, settings: dict[str, Any], wanted: str) -> None:
    with pytest.raises(ConfigError, match=wanted) as caught:
        check(pipeline, **settings)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("method", [name for name in METHODS if name != "custom-diffusion"])
def test_the_other_methods_go_with_every_family(method: str) -> None:
    for pipeline in LAYOUTS:
        check(pipeline, method={"name": method})
