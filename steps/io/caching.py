"""What a step's cached result depends on besides its inputs: the code of ours that it can reach, and the libraries that compute."""

import importlib.metadata
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from components.core.content import digest_file, digest_value
from components.core.dependencies import reach
from components.core.paths import REPOSITORY

VARIABLE = "STYLEFORGE_CODE"
LIBRARIES = ("torch", "diffusers", "transformers", "accelerate", "peft")
"""Libraries whose versions change what a step computes."""
# Progress display, what makes keys, and what keeps unfinished work: no result depends on them.
WITHOUT_EFFECT = frozenset(
    {
        "components/core/logs.py",
        "components/core/dependencies.py",
        "steps/io/caching.py",
        "steps/io/checkpoint_store.py",
        "steps/io/workspace.py",
    }
)

ASKED_FOR = frozenset({"steps/training/patience.py"})
"""What a step runs only where a parameter asks for it. The digest of its code is in that parameter, so that nobody else's key has it."""


def code_of(step_file: str, ships: Iterable[str] = ()) -> dict[str, str]:
    """The environment of the step in ``step_file`` (pass ``__file__``): a digest of the code that its result depends on.

    ZenML's own key sees the step's source but not the helpers that it calls, so that an edit there would be a stale hit. Here
    every module of ours that the step imports, directly or through others, inside functions or not, is a dependency, and so
    are the data files beside those modules and the versions of ``LIBRARIES`` among what they import. A step's environment is
    part of ZenML's key, and it is set where the pipeline is defined. (ZenML's own ``file_dependencies`` are read where the key
    is made; on Kubernetes that is a pod which does not have our code.) ``ships`` are files, relative to the repository, that are
    part of the result with all that they reach.
    """
    return {VARIABLE: digest_value(dependencies(Path(step_file), *(REPOSITORY / name for name in ships)))}


def dependencies(*modules: Path, root: Path = REPOSITORY) -> dict[str, str]:
    """Digests of all files that ``modules`` depend on, themselves included, by path, and versions of libraries by name."""
    found = reach(*modules, root=root, apart=ASKED_FOR)
    files = {name: digest_file(root / name) for name in {*found.code, *found.data} - WITHOUT_EFFECT}
    return files | {name: version(name) for name in LIBRARIES if name in found.libraries}


@cache
def version(name: str) -> str:
    """The installed version without its build (CPU or CUDA), since a laptop may define what a cluster's image runs."""
    try:
        return importlib.metadata.version(name).partition("+")[0]
    except importlib.metadata.PackageNotFoundError:
        return "missing"
