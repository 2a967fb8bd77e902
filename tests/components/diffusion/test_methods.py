from __future__ import annotations

import pytest

from components.config import MethodSection, parse_config
from components.diffusion.methods import fill_prompt, method_for
from components.errors import ConfigError


def test_single_styleforge_binds_the_token_and_keeps_the_aux_prompt() -> None:
    method = method_for(MethodSection(identifier="ukj", prior_weight=0.5))
    assert method.tokens == ("ukj",)
    assert method.concepts[0].prompt == "a photo of ukj style"
    assert method.concepts[0].aux_prompt == "a photo of style"
    assert method.trains == {"unet", "text_encoder"}
    assert (method.preserves, method.prior_weight) == ("curated", 0.5)


def test_dreambooth_differs_in_what_preserves() -> None:
    method = method_for(MethodSection(name="dreambooth", train_text_encoder=False))
    assert method.preserves == "generated"
    assert method.trains == {"unet"}


def test_an_unknown_method_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"did you mean dreambooth\?"):
        method_for(MethodSection.model_construct(name="dreamboth"))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"method\.name") as caught:
        parse_config({"style": {"name": "a", "source": "b"}, "method": {"name": "dreamboth"}})
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("template", "caption", "expected"),
    [
        ("a photo of sks style", "a man", "a photo of sks style"),
        ("a photo of sks style, {caption}", " a man ", "a photo of sks style, a man"),
        ("a photo of sks style, {caption}", None, "a photo of sks style"),
        ("{caption}, sks style", "", "sks style"),
        ("a {caption} in sks style", None, "a in sks style"),
    ],
)
def test_captions_go_in_and_leave_no_trace_where_missing(template: str, caption: str | None, expected: str) -> None:
    assert fill_prompt(template, caption) == expected
