"""Extractors, which turn images into features; ``factory.make_extractor`` makes them by name."""
