"""From a style set to a style model to images."""
