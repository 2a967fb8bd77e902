"""The ZenML pipelines and their wiring."""
