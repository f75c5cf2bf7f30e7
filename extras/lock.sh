#!/usr/bin/env bash
# Write requirements.lock and requirements-dev.lock: every version that the pinned packages bring along, with hashes.
#
#     bash extras/lock.sh              after a change of requirements.txt or requirements-dev.txt
#     bash extras/lock.sh --upgrade    also take the newest versions of what is not pinned there
#
# Needs uv and a network. The versions are for every system and Python from 3.11 on; no package index is written down.
set -euo pipefail

lock() { # NAME [OPTIONS...]
    uv pip compile "$1.txt" --output-file "$1.lock" --universal --python-version 3.11 --generate-hashes --quiet \
        --no-emit-index-url --no-emit-find-links --custom-compile-command "bash extras/lock.sh" "${@:2}"
}

main() {
    cd "$(dirname "${BASH_SOURCE[0]}")/.."
    command -v uv >/dev/null 2>&1 || {
        echo "lock.sh: uv is needed: python -m pip install uv, in an environment of its own" >&2
        exit 2
    }
    lock requirements "$@"
    lock requirements-dev --constraint requirements.lock "$@"
}

main "$@"; exit # on one line, for the file may change meanwhile
