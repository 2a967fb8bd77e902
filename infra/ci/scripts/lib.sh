# shellcheck shell=bash
# Shared by the scripts in this folder; to be sourced, not run.

# CI passes an unset secret or variable to a job as an empty variable, which the libraries would take for a value.
for name in MLFLOW_TRACKING_URI MLFLOW_TRACKING_USERNAME MLFLOW_TRACKING_PASSWORD MLFLOW_TRACKING_TOKEN \
  ZENML_STORE_URL ZENML_STORE_API_KEY ZENML_ACTIVE_STACK_ID STYLEFORGE_HOME; do
  [ -n "${!name:-}" ] || unset "$name"
done

# answer FILE COMMAND...: run a command with --json, show its output for people, and save its last line, the JSON, in FILE.
# Returns the command's exit code.
answer() {
  local file=$1 code=0
  shift
  mkdir -p "$(dirname "$file")"
  "$@" > "$file.log" || code=$?
  sed '$d' "$file.log"
  tail -n 1 "$file.log" > "$file"
  rm -f "$file.log"
  return "$code"
}

# ZenML writes the API key into its configuration folder. Give it one that is deleted after the job, so that neither a cache nor an
# artifact can contain the key. Only config.yaml is kept: it has no secret, and lets ZenML recognize this machine's cache again.
keep_key_out_of_home() {
  [ -n "${ZENML_STORE_API_KEY:-}" ] || return 0
  kept_config=${STYLEFORGE_HOME:-.styleforge}/zenml/config.yaml
  ZENML_CONFIG_PATH=$(mktemp -d)
  export ZENML_CONFIG_PATH
  trap end_private_config EXIT
  if [ -f "$kept_config" ]; then cp "$kept_config" "$ZENML_CONFIG_PATH/config.yaml"; fi
}

end_private_config() {
  if [ -f "$ZENML_CONFIG_PATH/config.yaml" ]; then
    mkdir -p "$(dirname "$kept_config")"
    cp "$ZENML_CONFIG_PATH/config.yaml" "$kept_config"
  fi
  rm -rf "$ZENML_CONFIG_PATH"
}

# Prints the address of this job; empty outside CI.
job_url() {
  if [ -n "${GITHUB_RUN_ID:-}" ]; then
    printf '%s/%s/actions/runs/%s' "$GITHUB_SERVER_URL" "$GITHUB_REPOSITORY" "$GITHUB_RUN_ID"
  else
    printf '%s' "${CI_JOB_URL:-}"
  fi
}

# summarize ARGUMENT...: styleforge summary, with a link to this job.
summarize() {
  local url link=()
  url=$(job_url)
  [ -z "$url" ] || link=(--link "report, pictures and log=$url")
  styleforge summary "$@" "${link[@]}"
}
