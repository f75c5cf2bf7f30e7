#!/usr/bin/env bash
if [ -z "${BASH_VERSION:-}" ] || shopt -qo posix; then exec bash "$0" "$@"; fi # `sh test.sh`: sh may be dash
# Set up and run every check:  sh test.sh        `sh test.sh all` runs the slow tests too.
# More words go to pytest:     sh test.sh tests/test_driver.py -k dash
set -euo pipefail

main() {
    local root marks="not slow"
    root=$(CDPATH="" cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
    cd "$root"
    bash extras/make_env.sh .venv requirements.txt
    bash extras/make_env.sh .venv requirements-dev.txt
    export PATH=$root/.venv/bin:$PATH
    if [[ ${1:-} == all ]]; then
        marks="slow or not slow"
        bash extras/make_env.sh .envs/parity extras/parity.txt
        bash extras/make_env.sh .envs/ast extras/ast.txt
        bash extras/make_env.sh .envs/datasets extras/datasets.txt
        bash extras/make_env.sh .envs/trackers extras/trackers.txt
        shift
    fi
    ruff check .
    ruff format --check .
    find . -name '*.sh' -not -path './.*' -print0 | xargs -0 shellcheck .ci/run
    python -m pytest -m "$marks" "$@"
}

main "$@"
exit
