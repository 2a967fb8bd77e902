#!/usr/bin/env bash
# Print the configurations of styles, styles/NAME/config.yaml, as a JSON list on one line.
#   list-styles.sh             all styles
#   list-styles.sh BASE HEAD   those with a changed file in their folder
set -euo pipefail
if [ $# = 2 ]; then
  names=$(git -c core.quotePath=true diff --name-only "$1...$2" -- styles/ | cut -s -d/ -f2 | sort -u)
elif [ -d styles ]; then
  names=$(find styles -mindepth 1 -maxdepth 1 -type d | cut -d/ -f2 | sort)
else
  names=
fi
list=
while IFS= read -r name; do
  # A removed style has nothing to run, nor does a file directly in styles/.
  [ -f "styles/$name/config.yaml" ] || continue
  case $name in
    *[!A-Za-z0-9._-]*)
      echo "styles/$name: a style's folder is named with letters, digits, '.', '_' and '-' only" >&2
      exit 2
      ;;
  esac
  list+="${list:+,}\"styles/$name/config.yaml\""
done <<< "$names"
printf '[%s]\n' "$list"
