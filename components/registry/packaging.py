"""A finished model folder becomes an MLflow pyfunc from code: signature, example, pinned packages, and the code that draws."""

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

# By name, since siblings do not import each other: a test sees to it that MLflow finds it.
LOADER = "components.diffusion.sampling.serving"
PACKAGES = (
    "accelerate", "diffusers", "filelock", "huggingface_hub", "mlflow", "numpy", "pandas", "peft", "pillow", "pydantic", "pyyaml",
    "rich", "safetensors", "tokenizers", "torch", "transformers",
)  # fmt: skip
FILES = ("requirements.txt", "conda.yaml", "python_env.yaml", "input_example.json", "serving_input_example.json", "MLmodel")
EXAMPLE = "a house by a river"
# MLflow writes the time and a random id, and the folder is to be the same bytes whenever it is made.
NO_TIME = "1970-01-01 00:00:00.000000"


def package(folder: Path) -> None:
    """Make a finished model folder one that ``mlflow models serve`` serves, and leave what it holds as it is.

    Adds ``MLmodel``, ``requirements.txt``, ``conda.yaml``, ``python_env.yaml``, an input example, and ``code/`` with the
    Python files that draw; nothing is pickled. The bytes are a function of the folder, our code and the installed packages.
    Called again it replaces what it wrote.
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
        # MLflow has measured what is there so far, which are not the weights.
        model.model_size_bytes = None
        model.save(str(made / "MLmodel"))
        with atomic_folder(folder / "code") as code:
            shutil.copytree(made / "code", code, dirs_exist_ok=True)
        # MLmodel comes last: where it is, the rest is too.
        for file in FILES:
            with atomic_file(folder / file) as temporary:
                shutil.copyfile(made / file, temporary)


def _signature(card: dict[str, Any]) -> tuple[ModelSignature, dict[str, Any]]:
    """What goes in and comes out, and the parameters' defaults: the model's own settings."""
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
    """The installed version, without the part after ``+`` that names a build which no index has."""
    return re.sub(r"\+.*", "", importlib.metadata.version(name))


def shipped_files() -> tuple[str, ...]:
    """The files that the loader runs, relative to the repository: what :func:`package` puts beside a model."""
    found = reach(REPOSITORY / f"{LOADER.replace('.', '/')}.py")
    return (*found.code, *found.data)


def _copy_code(target: Path) -> None:
    for name in shipped_files():
        copy = target / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(REPOSITORY / name, copy)


@contextmanager
def _quiet() -> Iterator[None]:
    """MLflow tells its own users what it is doing here; ours need none of it."""
    logger = logging.getLogger("mlflow")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
