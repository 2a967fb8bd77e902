from __future__ import annotations

from tests.made_art import registry

__all__ = ["registry"]
