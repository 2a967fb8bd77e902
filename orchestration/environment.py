"""The environment that third-party libraries find: their state under STYLEFORGE_HOME, no analytics, little noise."""

import os
import sys

from components.core.logs import is_verbose
from components.core.paths import REPOSITORY, home

# Whose variables count as not set where they are set to nothing, as a CI service sets those that it has no value for.
# ZenML takes an empty address of its server for an address, and boto an empty endpoint.
_EMPTY_IS_UNSET = ("ZENML_", "MLFLOW_", "HF_", "AWS_")


def prepare_environment() -> None:
    """Set the variables that ZenML, MLflow, Great Expectations, Hugging Face and matplotlib read when they are imported.

    What the user has set stays, since a ZenML server, a hub cache or a proxy may be behind it; what is set to nothing is removed.
    InputError: STYLEFORGE_HOME cannot be written.
    """
    state, verbose = home(), is_verbose()
    level = "INFO" if verbose else "CRITICAL"
    for name in [name for name, value in os.environ.items() if not value and name.startswith(_EMPTY_IS_UNSET)]:
        del os.environ[name]
    for name, value in {
        "ZENML_CONFIG_PATH": str(state / "zenml"),
        "ZENML_LOCAL_STORES_PATH": str(state / "zenml" / "stores"),
        "ZENML_ANALYTICS_OPT_IN": "false",
        # Errors reach the reader once, through us; ZenML would add a traceback of its own.
        "ZENML_LOGGING_VERBOSITY": level,
        "ZENML_LOGGING_COLORS_DISABLED": "false" if sys.stderr.isatty() else "true",
        "ZENML_ENABLE_RICH_TRACEBACK": "false",
        "ZENML_ENABLE_REPO_INIT_WARNINGS": "false",
        "ZENML_DISABLE_STEP_LOGS_STORAGE": "true",
        "ZENML_DISABLE_PIPELINE_LOGS_STORAGE": "true",
        # Dynamic pipelines would store each parameter as an artifact, and know no step again that a static one has run.
        "ZENML_PARAMETER_SIZE_THRESHOLD": "-1",
        # Of how many steps a dynamic pipeline knows the outputs (100); a step that takes more outputs than are left in there fails.
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
    """Tell ZenML where our code begins. It is part of each step's identity, and differs between the ways to start us."""
    from zenml.utils import source_utils

    source_utils.set_custom_source_root(str(REPOSITORY))
