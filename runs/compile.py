"""Compiles a run for Kubeflow Pipelines, without ZenML as the orchestrator."""

from pathlib import Path

from components.core.config import RunConfig
from orchestration.environment import prepare_environment
from orchestration.kubeflow import check_reach, write_pipeline
from orchestration.settings import check_settings, default_settings_file
from runs.plan import plan_run


def compile_kubeflow(config: RunConfig, out: Path, *, image: str | None = None, settings_file: Path | None = None) -> list[str]:
    """Write ``personalize`` for one configuration as a pipeline specification; return its steps in an order in which they can run.

    ``image``, for all steps, defaults to the image that the settings give each step, ``settings_file`` to the project's ``zenml.yaml``.

    Raises:
        InputError: the configuration names a place that the pods cannot reach, or a pod needs something that the specification
            cannot express.
    """
    prepare_environment()
    path = settings_file or default_settings_file()
    settings = check_settings(path) if path else {}
    check_reach(config, settings)
    plan = plan_run(config)
    # As for a schedule, leave out whatever holds only today or only on this machine.
    plan["scan"]["content"] = "compiled"
    plan["register"]["tracking"] = config.registry.tracking_uri or "as MLFLOW_TRACKING_URI says"
    return write_pipeline(plan, out, name=config.style.name, settings=settings, image=image)
