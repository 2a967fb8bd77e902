"""Names of the pipelines' steps, for code that must not import ZenML. A test checks them against the pipelines."""

PERSONALIZE = (
    "scan", "validate", "caption", "split", "examine", "build_aux", "fine_tune", "select", "sample_bank", "sample_base", "score",
    "explain", "report", "register",
)  # fmt: skip
"""The steps of ``personalize``, in an order in which they can run."""
OPTIONAL = ("caption", "examine", "select")
"""Steps that are left out if the configuration does not need them."""
SHARDED = ("sample_shard", "join_pictures", "extract_shard", "score_joined")
"""The steps that replace ``sample_bank`` and ``score`` if a run is divided into shards."""
STEPS = (*PERSONALIZE, *SHARDED, "measure", "compare", "track", "judge", "promote")
"""All steps of all pipelines."""
