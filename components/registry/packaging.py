"""Package a finished model folder as an MLflow pyfunc from code: signature, example, pinned packages, and the sampling code."""

from __future__ import annotations

import importlib.metadata
import logging
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.core.content import digest_folder, digest_value
from components.core.dependencies import reach
from components.core.model_card import read_card, sampling_settings
from components.core.paths import REPOSITORY, atomic_file, atomic_folder

if TYPE_CHECKING:
    from mlflow.models import ModelSignature

# By name, since sibling packages do not import each other; a test checks that MLflow finds it.
LOADER = "components.diffusion.sampling.serving"
PACKAGES = (
    "accelerate", "diffusers", "filelock", "huggingface_hub", "mlflow", "numpy", "pandas", "peft", "pillow", "pydantic", "pyyaml",
    "rich", "safetensors", "tokenizers", "torch", "transformers",
)  # fmt: skip
FILES = ("requirements.txt", "conda.yaml", "python_env.yaml", "input_example.json", "serving_input_example.json", "MLmodel")
EXAMPLE = "a house by a river"
# MLflow would write the current time and a random id, but the folder must have the same bytes whenever it is made.
NO_TIME = "1970-01-01 00:00:00.000000"


def package(folder: Path) -> None:
    """Make a finished model folder servable by ``mlflow models serve``, leaving its existing files unchanged.

    Adds ``MLmodel``, ``requirements.txt``, ``conda.yaml``, ``python_env.yaml``, an input example, and ``code/`` with the
    Python files that sample; nothing is pickled. The bytes depend only on the folder, our code and the installed packages.
    Calling it again replaces what it wrote.
    """
    import pandas as pd
    from mlflow import pyfunc
    from mlflow.models import Model

    folder = Path(folder)
    card = read_card(folder)
    signature, params = _signature(card)
    requirements = [f"{name}=={_installed(name)}" for name in PACKAGES]
    with tempfile.TemporaryDirectory(prefix="styleforge-") as name:
        source, made = Path(name) / "source", Path(name) / "made"
        _copy_code(source)
        identity = digest_value([card, digest_folder(source), requirements])[:32]
        with _quiet():
            model = Model(utc_time_created=NO_TIME, model_uuid=identity)
            pyfunc.save_model(
                str(made), loader_module=LOADER, code_paths=[str(source / "components")], pip_requirements=requirements,
                signature=signature, input_example=(pd.DataFrame({"prompt": [EXAMPLE]}), params), mlflow_model=model,
            )  # fmt: skip
        # MLflow has measured a folder that does not hold the weights.
        model.model_size_bytes = None
        model.save(str(made / "MLmodel"))
        with atomic_folder(folder / "code") as code:
            shutil.copytree(made / "code", code, dirs_exist_ok=True)
        # MLmodel comes last: if it exists, so does the rest.
        for file in FILES:
            with atomic_file(folder / file) as temporary:
                shutil.copyfile(made / file, temporary)


def _signature(card: dict[str, Any]) -> tuple[ModelSignature, dict[str, Any]]:
    """The signature, and the parameters' defaults: steps and guidance are the model's own settings."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema

    own = sampling_settings(card)
    types = {"seed": "long", "steps": "long", "guidance": "double", "count": "long"}
    defaults = {"seed": 0, "steps": own.steps, "guidance": own.guidance, "count": 1}
    answer = {"prompt": "string", "full_prompt": "string", "seed": "long", "width": "long", "height": "long", "image": "string"}
    signature = ModelSignature(
        inputs=Schema([ColSpec("string", "prompt")]),
        outputs=Schema([ColSpec(kind, name) for name, kind in answer.items()]),
        params=ParamSchema([ParamSpec(name, kind, defaults[name]) for name, kind in types.items()]),
    )
    return signature, defaults


def _installed(name: str) -> str:
    """The installed version without the part after ``+``, which names a build that no package index has."""
    return re.sub(r"\+.*", "", importlib.metadata.version(name))


def shipped_files() -> tuple[str, ...]:
    """The files that the loader needs, relative to the repository; :func:`package` ships them with a model."""
    found = reach(REPOSITORY / f"{LOADER.replace('.', '/')}.py")
    return (*found.code, *found.data)


def _copy_code(target: Path) -> None:
    for name in shipped_files():
        copy = target / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(REPOSITORY / name, copy)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence MLflow's messages below errors, which are meant for its users and not for ours."""
    logger = logging.getLogger("mlflow")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
