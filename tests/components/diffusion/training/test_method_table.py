import pytest
import torch

from components.core.config import GuidanceSection, MethodSection, parse_config
from components.diffusion.sampling.guidance import combination_at
from components.diffusion.training.methods import method_for, with_method

CONFIG = {"seed": 0, "style": {"name": "s", "source": "s"}, "method": {"name": "split-styleforge"}}


def _formula(**settings: str) -> GuidanceSection:
    found = method_for(MethodSection(name="split-styleforge", **settings)).guidance
    assert found is not None
    return found


def test_split_styleforge_scales_content_and_style_apart_in_much_noise_and_not_in_little() -> None:
    prompt, style, plain = (torch.tensor(value, dtype=torch.float64).view(1, 1, 1, 1) for value in (0.9, 0.5, 0.2))
    predictions = {"prompt": prompt, "style": style, "class": plain}
    noisy = combination_at(_formula(), 2.5, log_snr=0.0)
    # 0.9 + 1.5 · (0.9 − 0.5) + 0.75 · (0.5 − 0.2)
    assert float(noisy.of(predictions)) == pytest.approx(1.725, abs=1e-6)
    clear = combination_at(_formula(), 2.5, log_snr=1.5)
    assert (clear.branches, float(clear.of(predictions))) == (("prompt",), pytest.approx(0.9))


def test_its_branches_are_the_runs_own_prompts_without_what_is_shown() -> None:
    formula = _formula(instance_prompt="{caption}, drawn as {token} art", aux_prompt="{caption}, drawn as art")
    assert {name: branch.prompt for name, branch in formula.branches.items()} == {"style": "drawn as {token} art", "class": "drawn as art"}
    drawn, _ = with_method(parse_config(CONFIG))
    assert drawn.sampling.guidance_formula is not None
    assert drawn.sampling.guidance_formula.branches["style"].prompt == "a photo of {token} style"


def test_a_formula_of_the_configuration_goes_before_the_methods() -> None:
    drawn, _ = with_method(parse_config({**CONFIG, "sampling": {"guidance_formula": "plain"}}))
    assert drawn.sampling.guidance_formula is not None and not drawn.sampling.guidance_formula.branches


def test_the_base_itself_preserves_for_split_styleforge() -> None:
    method = method_for(MethodSection(name="split-styleforge"))
    assert (method.distills, method.asks_base, method.preserves) == (True, True, "curated")
    assert not method_for(MethodSection(name="split-styleforge", prior="aux")).distills
