"""Makes cached results depend on more than a step's inputs: on all our code that the step can reach, and on library versions."""

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
# Progress display, computing cache keys and keeping unfinished work: no result depends on these.
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
"""Code that runs only if a parameter asks for it. That parameter holds the code's digest, so other runs' cache keys leave it out."""


def code_of(step_file: str, ships: Iterable[str] = ()) -> dict[str, str]:
    """Return the environment of the step in ``step_file`` (pass ``__file__``): a digest of the code that its result depends on.

    ZenML's own cache key covers the step's source but not the helpers that it calls, so editing a helper would give a stale hit.
    Here, the dependencies are all of our modules that the step imports, directly or indirectly, inside functions or not; the data
    files beside those modules; and the versions of any ``LIBRARIES`` that they import. The digest goes into the step's environment
    because that is part of ZenML's key and is set where the pipeline is defined. (ZenML's own ``file_dependencies`` are read where
    the key is computed; on Kubernetes, that is a pod without our code.) ``ships`` are files, relative to the repository, that
    become part of the result, together with everything that they reach.
    """
    return {VARIABLE: digest_value(dependencies(Path(step_file), *(REPOSITORY / name for name in ships)))}


def dependencies(*modules: Path, root: Path = REPOSITORY) -> dict[str, str]:
    """Return the digests, by path, of ``modules`` and all files that they depend on, and the versions of libraries, by name."""
    found = reach(*modules, root=root, apart=ASKED_FOR)
    files = {name: digest_file(root / name) for name in {*found.code, *found.data} - WITHOUT_EFFECT}
    return files | {name: version(name) for name in LIBRARIES if name in found.libraries}


@cache
def version(name: str) -> str:
    """Return the installed version without its build (CPU or CUDA), since a laptop may define steps that a cluster's image runs."""
    try:
        return importlib.metadata.version(name).partition("+")[0]
    except importlib.metadata.PackageNotFoundError:
        return "missing"
