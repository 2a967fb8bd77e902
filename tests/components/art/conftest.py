from tests.made_art import registry

__all__ = ["registry"]
