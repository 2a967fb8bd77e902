from pathlib import Path

from components.core.paths import REPOSITORY
from tests.stand_in import start

CODE = """
import sys
from orchestration.environment import set_source_root
set_source_root()
import pipelines.personalize
print(sorted({"torch", "diffusers", "transformers"} & set(sys.modules)))
"""


def test_defining_the_pipeline_loads_no_torch(tmp_path: Path) -> None:
    """A run from the cache takes seconds; importing what only a step's work needs would add to each."""
    done = start(CODE, folder=tmp_path, environment={"STYLEFORGE_HOME": str(tmp_path)}, path=REPOSITORY).wait()
    assert done.stdout.splitlines()[-1] == "[]", done.stderr
