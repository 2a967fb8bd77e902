"""Sets the environment of third-party libraries: their state under STYLEFORGE_HOME, no analytics, little output."""

import os
import sys

from components.core.logs import is_verbose
from components.core.paths import REPOSITORY, home

# An empty variable with one of these prefixes counts as unset, because CI services set those that have no value to empty.
# Otherwise, ZenML would use an empty server address, and boto an empty endpoint.
_EMPTY_IS_UNSET = ("ZENML_", "MLFLOW_", "HF_", "AWS_")


def prepare_environment() -> None:
    """Set the variables that ZenML, MLflow, Great Expectations, Hugging Face and matplotlib read when they are imported.

    Variables that the user has set are kept, since they may name a ZenML server, a hub cache or a proxy; empty ones are removed.
    Raises InputError if STYLEFORGE_HOME is not writable.
    """
    state, verbose = home(), is_verbose()
    level = "INFO" if verbose else "CRITICAL"
    for name in [name for name, value in os.environ.items() if not value and name.startswith(_EMPTY_IS_UNSET)]:
        del os.environ[name]
    for name, value in {
        "ZENML_CONFIG_PATH": str(state / "zenml"),
        "ZENML_LOCAL_STORES_PATH": str(state / "zenml" / "stores"),
        "ZENML_ANALYTICS_OPT_IN": "false",
        # We report errors ourselves, once; ZenML would add its own traceback.
        "ZENML_LOGGING_VERBOSITY": level,
        "ZENML_LOGGING_COLORS_DISABLED": "false" if sys.stderr.isatty() else "true",
        "ZENML_ENABLE_RICH_TRACEBACK": "false",
        "ZENML_ENABLE_REPO_INIT_WARNINGS": "false",
        "ZENML_DISABLE_STEP_LOGS_STORAGE": "true",
        "ZENML_DISABLE_PIPELINE_LOGS_STORAGE": "true",
        # Otherwise dynamic pipelines would store each parameter as an artifact, and steps run by a static pipeline would be cache misses.
        "ZENML_PARAMETER_SIZE_THRESHOLD": "-1",
        # Number of steps whose outputs a dynamic pipeline remembers (default 100); a step that needs an output dropped from there fails.
        "ZENML_EXECUTION_CONTEXT_STEP_RUN_CACHE_SIZE": "1000000",
        "AUTO_OPEN_DASHBOARD": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "true" if verbose else "false",
        "GX_ANALYTICS_ENABLED": "false",
        "HF_HOME": str(state / "cache" / "huggingface"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "0" if verbose else "1",
        "TRANSFORMERS_VERBOSITY": "warning" if verbose else "error",
        "DIFFUSERS_VERBOSITY": "warning" if verbose else "error",
        "TOKENIZERS_PARALLELISM": "false",
        "MPLCONFIGDIR": str(state / "cache" / "matplotlib"),
        "TORCHINDUCTOR_CACHE_DIR": str(state / "cache" / "inductor"),
        "GIT_PYTHON_REFRESH": "quiet",
        "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
    }.items():
        os.environ.setdefault(name, value)


def set_source_root() -> None:
    """Set ZenML's source root, which is part of each step's identity and would otherwise depend on how the program was started."""
    from zenml.utils import source_utils

    source_utils.set_custom_source_root(str(REPOSITORY))
