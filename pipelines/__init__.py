"""The ZenML pipelines and their wiring; nothing else."""
