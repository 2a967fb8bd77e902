from __future__ import annotations

import subprocess
import sys

from components.core.paths import REPOSITORY


def test_defining_the_pipeline_loads_no_torch() -> None:
    """A run from the cache takes seconds; importing what only a step's work needs would add to each."""
    code = "from orchestration.environment import set_source_root; set_source_root(); import sys, pipelines.personalize; "
    code += "print(sorted({'torch', 'diffusers', 'transformers'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
