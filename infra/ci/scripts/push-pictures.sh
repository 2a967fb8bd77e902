#!/usr/bin/env bash
# Put the picture grids of a run on a separate branch, from which a comment can show them.
# Environment:
#   RESULTS  folder with one folder for each style, which contains its grid.png
#   BRANCH   the branch, which holds only pictures; created without history if missing
#   PLACE    folder on the branch to replace, such as pr-12
#   SERIAL   folder in PLACE, with a new name for each run, since forges cache pictures by address
#   REMOTE   URL of the repository
#   GITHUB_TOKEN  token that may write the repository's contents; not needed if git can push without it
set -euo pipefail
from=$(cd "${RESULTS:?}" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# try FOLDER: in a new repository there, add the pictures to the current branch and push. Fails if someone else pushed first.
try() {
  git init --quiet "$1"
  cd "$1"
  git config user.name "${GITHUB_ACTOR:-styleforge}"
  git config user.email "${GITHUB_ACTOR:-styleforge}@users.noreply.github.com"
  if [ -n "${GITHUB_TOKEN:-}" ]; then
    # The helper reads the token from the environment, so that it appears in no file and no process list.
    # shellcheck disable=SC2016
    git config credential.helper '!f() { echo username=x-access-token; echo "password=$GITHUB_TOKEN"; }; f'
  fi
  if git fetch --quiet --depth 1 "$REMOTE" "refs/heads/$BRANCH" 2> /dev/null; then
    git checkout --quiet --detach FETCH_HEAD
  fi
  rm -rf "${PLACE:?}"
  for grid in "$from"/*/grid.png; do
    [ -f "$grid" ] || continue
    target=$PLACE/$SERIAL/$(basename "$(dirname "$grid")")
    mkdir -p "$target"
    cp "$grid" "$target/grid.png"
  done
  git add --all .
  [ -n "$(git status --porcelain)" ] || return 0
  git commit --quiet -m "Pictures of $PLACE"
  git push --quiet "$REMOTE" "HEAD:refs/heads/$BRANCH"
}

for attempt in 1 2 3 4 5; do
  # In a subshell in the background, because `set -e` does not apply inside a function whose exit code is tested.
  code=0
  (set -euo pipefail; trap - EXIT; try "$work/$attempt") & wait "$!" || code=$?
  [ "$code" != 0 ] || exit 0
  sleep "$attempt"
done
echo "the branch $BRANCH could not be pushed" >&2
exit 4
