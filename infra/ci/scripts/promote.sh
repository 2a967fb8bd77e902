#!/usr/bin/env bash
# Promote one registered version if the gate lets it pass.
# Environment:
#   MODEL   name, name@alias or name/version
#   OUT     folder for promotion.json and summary.md
#   TO      alias that it is to get; default: champion
#   STYLEFORGE_GATE  rules of the gate (YAML), if not StyleForge's own
#   FORCE   "true" promotes whatever the gate says; needs REASON
#   REASON  why; goes on record
# Exits as styleforge promote does: 0 promoted, 3 refused or undecided, 4 a service is not reachable, 2 bad input.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

code=0
options=(--to "${TO:-champion}")
[ -z "${STYLEFORGE_GATE:-}" ] || options+=(--gate "$STYLEFORGE_GATE")
[ "${FORCE:-}" != true ] || options+=(--force)
[ -z "${REASON:-}" ] || options+=(--reason "$REASON")
# What comes after -- is no option, whatever somebody typed as a model's name.
answer "$OUT/promotion.json" styleforge promote "${options[@]}" --json -- "$MODEL" || code=$?
summarize --gate "$OUT/promotion.json" --title "$MODEL" --out "$OUT"
exit "$code"
