#!/usr/bin/env bash
# run-style.sh for each style that a merge request changes, for a CI without a matrix that is made on the way.
# Environment: BASE, the commit to compare with; OUT, a folder that gets one for each style; ALIAS and STYLEFORGE_GATE as in run-style.sh.
# Exits with the first code that is not 0.
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
