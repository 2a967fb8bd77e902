"""Prompt templates: how identifier tokens, and then the prompt itself, are filled in. The same rule wherever something is drawn."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

TOKEN = "token"


def fill_tokens(template: str, tokens: Sequence[str], place: str = TOKEN) -> str:
    """Replace ``{token}``, or the placeholder named ``place``, with identifier tokens.

    Several tokens become a list: ``sks style, ukj style`` for ``{token} style``, and ``sks, ukj`` for ``{token}`` without the word.
    """
    # The token and the word "style" after it belong together, so several tokens repeat both.
    pattern = rf"\{{{place}\}}( style\b)?"
    return re.sub(pattern, lambda found: ", ".join(f"{token}{found[1] or ''}" for token in tokens), template)


def tokens_for(concepts: Sequence[Mapping[str, Any]], category: str) -> list[str]:
    """The tokens for a prompt of this category of its bank; all of them if no concept claims the category.

    ``concepts`` are those that ``styleforge.json`` lists, each with its ``token`` and the ``categories`` that ask for it (None: all).
    """
    claimed = [str(row["token"]) for row in concepts if row.get("categories") is None or category in row["categories"]]
    return claimed or [str(row["token"]) for row in concepts]


def fill_template(template: str, tokens: Sequence[str], prompt: str) -> str:
    """A whole prompt: tokens in place of ``{token}``, the prompt in place of ``{prompt}``."""
    # Prompts may hold braces, so str.format cannot be used, and the prompt is filled in last.
    before, _, after = fill_tokens(template, tokens).partition("{prompt}")
    return before + prompt + after


def names_token(prompt: str, tokens: Sequence[str]) -> bool:
    """Whether a prompt already names one of the tokens, so that none needs to be chosen for it."""
    return any(re.search(rf"(?<!\w){re.escape(token)}(?!\w)", prompt) for token in tokens if token)
