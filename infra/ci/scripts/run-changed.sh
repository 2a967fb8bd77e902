#!/usr/bin/env bash
# Run run-style.sh for each style that a merge request changes, for CI systems that cannot create a job matrix dynamically.
# Environment: BASE, the commit to compare with; OUT, a folder with a subfolder for each style; ALIAS, STYLEFORGE_GATE: see run-style.sh.
# Exits with the first non-zero code.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=$OUT
first=0
configs=$(bash "$here/list-styles.sh" "$BASE" HEAD | tr -d '[]"' | tr ',' '\n')
for config in $configs; do
  code=0
  OUT=$out/$(basename "$(dirname "$config")") CONFIG=$config bash "$here/run-style.sh" || code=$?
  [ "$first" != 0 ] || first=$code
done
exit "$first"
