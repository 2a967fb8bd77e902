#!/usr/bin/env bash
# Run one style, check the new version against the gate without promoting it, and write what the pull request shows.
# Environment:
#   CONFIG  configuration of the run
#   ALIAS   alias for the new version
#   OUT     folder for result.json, gate.json, summary.md, grid.png and report.html
#   STYLEFORGE_GATE  rules of the gate (YAML); default: StyleForge's own
# Exits with the code of the run or, if it succeeded, of the gate: 0 it would be promoted, 3 it would not.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
keep_key_out_of_home

code=0
answered=("$OUT/result.json")
answer "$OUT/result.json" styleforge run "$CONFIG" --set "registry.alias=$ALIAS" --json || code=$?
if [ "$code" = 0 ]; then
  model=$(python3 -c 'import json, sys; model = json.load(open(sys.argv[1]))["model"]; print(model["name"] + "/" + model["version"])' "$OUT/result.json")
  answer "$OUT/gate.json" styleforge promote --dry-run ${STYLEFORGE_GATE:+--gate "$STYLEFORGE_GATE"} --json -- "$model" || code=$?
  answered+=(--gate "$OUT/gate.json")
fi
summarize "${answered[@]}" --title "$CONFIG" --out "$OUT"
exit "$code"
