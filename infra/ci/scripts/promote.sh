#!/usr/bin/env bash
# Promote one registered version if the gate lets it pass.
# Environment:
#   MODEL   name, name@alias or name/version
#   OUT     folder for promotion.json and summary.md
#   TO      alias to give it; default: champion
#   STYLEFORGE_GATE  rules of the gate (YAML); default: StyleForge's own
#   FORCE   "true" promotes regardless of the gate; needs REASON
#   REASON  why; is recorded
# Exit codes are those of styleforge promote: 0 promoted, 3 refused or undecided, 4 a service is unreachable, 2 bad input.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

code=0
options=(--to "${TO:-champion}")
[ -z "${STYLEFORGE_GATE:-}" ] || options+=(--gate "$STYLEFORGE_GATE")
[ "${FORCE:-}" != true ] || options+=(--force)
[ -z "${REASON:-}" ] || options+=(--reason "$REASON")
# Nothing after -- is read as an option, whatever was entered as the model's name.
answer "$OUT/promotion.json" styleforge promote "${options[@]}" --json -- "$MODEL" || code=$?
summarize --gate "$OUT/promotion.json" --title "$MODEL" --out "$OUT"
exit "$code"
