#!/usr/bin/env bash
# Install StyleForge from the checkout that contains this script, with the versions that it is tested with.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)
# Editable, so that its configurations and zenml.yaml stay where the command looks for them.
python3 -m pip install --quiet --disable-pip-version-check -c "$root/constraints.txt" -e "$root"
