#!/usr/bin/env bash
# Run promote.sh for each model that has a version with an alias, such as the alias set by a pull request's run.
# Environment: ALIAS; OUT, a folder with a subfolder for each model; TO and STYLEFORGE_GATE as in promote.sh.
# Exits with the first non-zero code. Finding no such version is not an error: the pull request ran no style.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=lib.sh
. "$here/lib.sh"

answer "$OUT/models.json" styleforge models --json
names=$(python3 -c '
import json, sys
for row in json.load(open(sys.argv[1]))["models"]:
    if sys.argv[2] in row["aliases"]:
        print(row["name"])
' "$OUT/models.json" "$ALIAS")
[ -n "$names" ] || echo "no registered version has the alias $ALIAS: nothing to promote"
out=$OUT
first=0
while IFS= read -r name; do
  [ -n "$name" ] || continue
  code=0
  MODEL=$name@$ALIAS OUT=$out/$name bash "$here/promote.sh" || code=$?
  [ "$first" != 0 ] || first=$code
done <<< "$names"
exit "$first"
