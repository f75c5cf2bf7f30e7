#!/usr/bin/env bash
if [ -z "${BASH_VERSION:-}" ] || shopt -qo posix; then exec env -u POSIXLY_CORRECT -u SHELLOPTS bash "$0" "$@"; fi # `sh test.sh`: sh may be dash
# Set up and run every check:      sh test.sh        `sh test.sh all` makes every environment and runs the slow tests too.
# The tests of one environment:    sh test.sh clap   one of extras/environments, which is made first.
# Faults at random, 15 minutes:    sh test.sh faults [--scale 0.1] [--seed 7] [--part kills]; see tests/faults
# Whole runs in many ways:         sh test.sh slow; also what else takes minutes and needs no environment of its own
# The launcher of clusters:        sh test.sh slurm; wants SLURM installed, of which it starts some of two nodes
# Faults in core lines:            sh test.sh mutants; tests must notice each, see tests/mutants.py
# More words go to pytest:         sh test.sh tests/driver/test_run.py -k dash
# SYNTHIO_TEST_JOBS=1 sh test.sh   one process, for --pdb, say; without it, one for each core, at most 8.
set -euo pipefail

# Print the environments that have a list of packages.
environments() {
    local name
    while read -r name _; do
        if [[ $name != '#'* && -f extras/environments/$name.txt ]]; then echo "$name"; fi
    done <extras/environments/environments.txt
}

make_environments() {
    local name
    for name in "$@"; do
        if [[ $name == gama && -z ${SYNTHIO_GAMA_DIR:-} ]]; then
            echo "test.sh: without SYNTHIO_GAMA_DIR, a clone of GAMA, its tests are skipped" >&2
        else
            bash extras/environments/make_env.sh ".envs/$name" "extras/environments/$name.txt"
        fi
    done
}

# The files whose tests want an environment ask for its interpreter by name.
test_environment() { # NAME [PYTEST OPTIONS...]
    local name=$1 files
    shift
    mapfile -t files < <(grep -rl --include='test_*.py' "[[:space:]]own_python(\"$name\"" tests | sort)
    ((${#files[@]})) || {
        echo "test.sh: no file of tests/ asks for own_python(\"$name\")" >&2
        exit 2
    }
    make_environments "$name"
    python -m pytest -m "slow or not slow" "${files[@]}" "$@"
}

# Print how many processes test side by side.
test_jobs() {
    local cores
    cores=$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN)
    echo "${SYNTHIO_TEST_JOBS:-$((cores < 8 ? cores : 8))}"
}

# Run tests side by side.
run_tests() { # MARKS [PYTEST OPTIONS...]
    local jobs marks=$1
    shift
    jobs=$(test_jobs)
    # a file stays in one process: what its tests share is made once
    if ((jobs > 1)); then set -- -n "$jobs" --dist loadfile "$@"; fi
    python -m pytest -m "$marks" "$@"
}

main() {
    local root marks="not slow and not slurm" names
    root=$(CDPATH="" cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
    cd "$root"
    bash extras/environments/make_env.sh .venv requirements.txt
    bash extras/environments/make_env.sh .venv requirements-dev.txt
    export PATH=$root/.venv/bin:$PATH
    unset PYTHONDONTWRITEBYTECODE # hundreds of processes would compile the same modules
    mapfile -t names < <(environments)
    if [[ ${1:-} == faults || ${1:-} == mutants ]]; then
        python -m "tests.$1" "${@:2}"
        return
    fi
    if [[ ${1:-} == slurm ]]; then
        # they wait most of the time: all files at a time, whatever the number of cores
        python -m pytest -m "slurm and not slow" -n "${SYNTHIO_TEST_JOBS:-5}" --dist loadfile tests/driver/test_slurm*.py \
            "${@:2}"
        return
    fi
    if [[ ${1:-} == slow ]]; then
        run_tests "slow and not slurm" "${@:2}"
        return
    fi
    if [[ -n ${1:-} && " ${names[*]} " == *" $1 "* ]]; then
        test_environment "$@"
        return
    fi
    if [[ ${1:-} == all ]]; then
        marks="slow or not slow"
        make_environments "${names[@]}"
        shift
    fi
    ruff check .
    ruff format --check .
    mypy
    lint-imports --no-logo
    find . -name '*.sh' -not -path './.*' -print0 | xargs -0 shellcheck .ci/run
    run_tests "$marks" "$@"
}

main "$@"; exit # on one line, for the file may change meanwhile
