import numpy as np
import pytest
from PIL import Image

from components.diffusion.models.bundle import Bundle
from components.diffusion.sampling.round_trip import round_trip


def test_each_picture_comes_back_at_the_size_that_training_cuts(bundle: Bundle) -> None:
    given = [Image.effect_noise(size, 60).convert("RGB") for size in ((40, 40), (90, 45))]
    made = list(round_trip(bundle, given))
    assert [view.size for view, _ in made] == [returned.size for _, returned in made]
    assert made[0][0].size == (32, 32) and made[1][0].width > made[1][0].height
    again = [np.asarray(returned) for _, returned in round_trip(bundle, given)]
    assert all((np.asarray(returned) == other).all() for (_, returned), other in zip(made, again, strict=True))


@pytest.mark.parametrize("side", [64])
def test_the_pocket_vae_returns_nearly_what_it_got(side: int) -> None:
    from components.diffusion.models.bundle import load_bundle
    from components.evaluation.set_verdict import psnr

    smooth = Image.linear_gradient("L").resize((side, side)).convert("RGB")
    ((view, returned),) = round_trip(load_bundle("pocket"), [smooth])
    assert psnr(np.asarray(view), np.asarray(returned)) > 30
