from components.diffusion.sampling.jobs import PromptRequest
from components.diffusion.sampling.requests import request_for
from steps.sampling.requests import bank_requests, spread


def _requests(**categories: int) -> list[PromptRequest]:
    return [PromptRequest(f"{name}{index}", name, "", "") for name, count in categories.items() for index in range(count)]


def test_requests_are_spread_over_categories_and_evenly_in_each() -> None:
    requests = _requests(people=8, places=8, things=8)
    assert [item.id for item in spread(requests, 3)] == ["people0", "places0", "things0"]
    assert [item.id for item in spread(requests, 5)] == ["people0", "people4", "places0", "places4", "things0"]
    assert [item.id for item in spread(requests, 2)] == ["people0", "places0"]
    assert spread(requests, 0) == [] and spread([], 4) == []
    assert [item.id for item in spread(_requests(people=1, things=9), 6)] == ["people0", "things0", "things3", "things6"]


def test_bank_prompts_of_all_categories_get_heat_maps() -> None:
    chosen = spread(bank_requests("pocket", None, "a {token} of {prompt}", [{"token": "sks"}]), 4)
    assert all(request.full_prompt == f"a sks of {request.prompt}" for request in chosen)
    assert [item.category for item in chosen] == ["people", "people in places", "backgrounds", "things"]


def test_a_request_knows_the_tokens_that_its_prompt_asks_for() -> None:
    concepts = [
        {"token": "<sks>", "negative": "<sks-neg>", "categories": ["people"]}, {"token": "<ukj>", "negative": None, "categories": None}
    ]  # fmt: skip
    template = "a photo of {token} style, {prompt}"
    asked = request_for("a", "people", "a man", template, concepts)
    assert (asked.tokens, asked.negatives) == (("<sks>", "<ukj>"), (("<sks>", "<sks-neg>"),))
    assert request_for("a", "things", "a cup", template, concepts).negatives == ()
    named = request_for("a", "people", "<ukj> style, a man", template, concepts)
    assert (named.full_prompt, named.tokens) == ("<ukj> style, a man", ("<ukj>",))
    assert request_for("a", "people", "a man", "{token}{prompt}", [{"token": ""}]).tokens == ()
