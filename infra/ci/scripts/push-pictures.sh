#!/usr/bin/env bash
# Put the picture grids of a run onto a branch of their own, where a comment can show them.
# Environment:
#   RESULTS  folder with a folder for each style, with its grid.png
#   BRANCH   the branch; made without history if missing. Only pictures are on it.
#   PLACE    folder on the branch that is replaced, such as pr-12
#   SERIAL   folder in PLACE: a new name at each run, since forges keep a picture's address in their caches
#   REMOTE   URL of the repository
#   GITHUB_TOKEN  may write the repository's contents; not needed where git can push by itself
set -euo pipefail
from=$(cd "${RESULTS:?}" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# try FOLDER: in a new repository there, put the pictures onto the branch as it is now, and push. Fails if somebody else was quicker.
try() {
  git init --quiet "$1"
  cd "$1"
  git config user.name "${GITHUB_ACTOR:-styleforge}"
  git config user.email "${GITHUB_ACTOR:-styleforge}@users.noreply.github.com"
  if [ -n "${GITHUB_TOKEN:-}" ]; then
    # The helper reads the token from the environment, so that it stands in no file and in no list of processes.
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
  # In a process of its own: a function that is asked for its exit code would not stop at a failure in it.
  code=0
  (set -euo pipefail; trap - EXIT; try "$work/$attempt") & wait "$!" || code=$?
  [ "$code" != 0 ] || exit 0
  sleep "$attempt"
done
echo "the branch $BRANCH could not be pushed" >&2
exit 4
