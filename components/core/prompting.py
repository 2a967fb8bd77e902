"""Prompt templates: where identifier tokens, and then the prompt itself, go in. The same rule wherever something is drawn."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

TOKEN = "token"


def fill_tokens(template: str, tokens: Sequence[str], place: str = TOKEN) -> str:
    """Put identifier tokens in place of ``{token}``, or others in another place.

    With several, ``{token} style`` becomes a list (``sks style, ukj style``), and so does ``{token}`` without the word (``sks, ukj``).
    """
    # The token and the word "style" after it belong together, so several tokens repeat both.
    pattern = rf"\{{{place}\}}( style\b)?"
    return re.sub(pattern, lambda found: ", ".join(f"{token}{found[1] or ''}" for token in tokens), template)


def tokens_for(concepts: Sequence[Mapping[str, Any]], category: str) -> list[str]:
    """The tokens that a prompt of this category of its bank asks for; all of them where no concept claims the category.

    ``concepts`` are what ``styleforge.json`` lists: each ``token``, and the ``categories`` that ask for it (None: all).
    """
    claimed = [str(row["token"]) for row in concepts if row.get("categories") is None or category in row["categories"]]
    return claimed or [str(row["token"]) for row in concepts]


def fill_template(template: str, tokens: Sequence[str], prompt: str) -> str:
    """A whole prompt: tokens in place of ``{token}``, the prompt in place of ``{prompt}``."""
    # Prompts may hold braces, so str.format is out of the question, and the prompt goes in last.
    before, _, after = fill_tokens(template, tokens).partition("{prompt}")
    return before + prompt + after


def names_token(prompt: str, tokens: Sequence[str]) -> bool:
    """Whether a prompt names one of the tokens, and so chooses for itself."""
    return any(re.search(rf"(?<!\w){re.escape(token)}(?!\w)", prompt) for token in tokens if token)
