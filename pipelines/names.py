"""Names of the pipelines' steps, for what must know them without importing ZenML. A test holds them to the pipelines."""

PERSONALIZE = (
    "scan", "validate", "caption", "split", "examine", "build_aux", "fine_tune", "select", "sample_bank", "sample_base", "score",
    "explain", "report", "register",
)  # fmt: skip
"""The steps of ``personalize`` in an order in which they can run."""
OPTIONAL = ("caption", "examine", "select")
"""Those that are left out where the configuration asks for none of their work."""
SHARDED = ("sample_shard", "join_pictures", "extract_shard", "score_joined")
"""The steps that take the place of ``sample_bank`` and ``score`` where a run is divided into shards."""
STEPS = (*PERSONALIZE, *SHARDED, "measure", "compare", "track", "judge", "promote")
"""All steps of all pipelines."""
