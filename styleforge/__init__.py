"""The installed name: importing it puts StyleForge's tree (cli, runs, ..., components) at the head of the path.

In the wheel the tree lies in this folder, in the repository beside it. Its packages keep the names that ZenML, whose source root the
tree is, records for steps; nothing of the tree lies in site-packages itself.
"""

from __future__ import annotations

import sys
from pathlib import Path

_HERE = Path(__file__).resolve().parent
ROOT = _HERE if (_HERE / "components").is_dir() else _HERE.parent
"""The folder that holds the tree."""

# At the head, whatever else is called `steps` here.
sys.path[:] = [str(ROOT), *(place for place in sys.path if place != str(ROOT))]
