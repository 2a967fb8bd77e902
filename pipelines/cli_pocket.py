"""``styleforge pocket``: the small world that everything can be tried in."""

from __future__ import annotations


import typer

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
