#!/usr/bin/env bash
# Make a virtual environment, or leave it alone when it is complete.
#
#     bash extras/environments/make_env.sh .venv requirements.txt
#
# A stamp holds the hash of the requirements, so a second call takes no time. An install that was interrupted is made
# anew; of two calls at once, one waits. An environment that this did not make is installed into, and never removed.
# What is broken is renamed before it is removed, so that a kill leaves no half of it under its name. Uses uv when it is
# there, else venv and pip. Where a lock lies beside the requirements (requirements.lock), its versions are installed, and
# their hashes checked. Lines
# "# no-deps: NAME==VERSION" of the requirements are installed after the others, without what they require themselves.
set -euo pipefail

# Linux: what is started here dies with this script, however it ends.
guard=()
if setpriv --pdeathsig KILL true 2>/dev/null; then guard=(setpriv --pdeathsig KILL); fi

# Print the first interpreter that is Python 3.11 or newer.
find_python() {
    local name
    for name in python3.11 python3.12 python3.13 python3 python; do
        if "$name" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
            printf '%s\n' "$name"
            return
        fi
    done
    return 1
}

make_venv() {
    local folder=$1 python
    python=$(find_python) || python=""
    if command -v uv >/dev/null 2>&1; then
        "${guard[@]}" uv venv --quiet --allow-existing --python "${python:-3.11}" "$folder"
    elif [[ -n $python ]]; then
        "${guard[@]}" "$python" -m venv "$folder"
    else
        echo "error: Python 3.11 or newer (with venv) is needed and was not found; install it with" \
            "'apt-get install python3.11 python3.11-venv', 'brew install python@3.11' or 'conda install python=3.11'," \
            "or install uv, which brings it (https://docs.astral.sh/uv)" >&2
        return 2
    fi
}

# Print where torch comes from: uv (which chooses a build itself), own (a package index of the user's, which is left to
# him), cpu (Linux without a GPU: PyPI's torch carries gigabytes of CUDA libraries) or pypi.
torch_source() { # PYTHON
    if command -v uv >/dev/null 2>&1; then
        echo uv
    elif [[ -n ${PIP_INDEX_URL:-}${PIP_EXTRA_INDEX_URL:-}${PIP_FIND_LINKS:-}${PIP_NO_INDEX:-} ]] ||
        "$1" -m pip config list 2>/dev/null | grep -qE 'index|find-links'; then
        echo own
    elif [[ $(uname -s) == Linux ]] && ! command -v nvidia-smi >/dev/null 2>&1; then
        echo cpu
    else
        echo pypi
    fi
}

# torchaudio and torchvision must be of the same build: beside another torch they fail on import.
torch_pins() { # REQUIREMENTS
    grep -E '^torch(audio|vision)?==' "$1" || true
}

install_cpu_torch() { # PYTHON REQUIREMENTS
    local torch
    mapfile -t torch < <(torch_pins "$2")
    ((${#torch[@]})) && [[ $(torch_source "$1") == cpu ]] || return 0
    "${guard[@]}" "$1" -m pip install --quiet --retries 1 --timeout 15 --index-url https://download.pytorch.org/whl/cpu \
        "${torch[@]}" || echo "the CPU build of torch could not be had; taking the larger one" >&2
}

# Print a lock without torch and the CUDA libraries that its build on PyPI brings along.
without_torch() { # LOCK
    awk '/^[a-z]/ { is_torch = /^(torch|triton|cuda-|nvidia-)/ } !is_torch' "$1"
}

# The lock has the hashes of PyPI's torch. Another build is of the version in the requirements, and is not checked.
install_locked() { # PYTHON REQUIREMENTS LOCK INSTALL_COMMAND...
    local python=$1 requirements=$2 lock=$3 torch
    shift 3
    mapfile -t torch < <(torch_pins "$requirements")
    if ((!${#torch[@]})) || [[ $(torch_source "$python") == pypi ]]; then
        "$@" --no-deps --require-hashes -r "$lock"
        return
    fi
    "$@" --no-deps --require-hashes -r <(without_torch "$lock") || return
    install_cpu_torch "$python" "$requirements"
    "$@" "${torch[@]}"
}

install() {
    local folder=$1 requirements=$2 lock=${2%.txt}.lock python=$1/bin/python command
    if command -v uv >/dev/null 2>&1; then
        command=("${guard[@]}" env UV_TORCH_BACKEND="${UV_TORCH_BACKEND:-auto}" uv pip install --quiet --python "$python")
    else
        command=("${guard[@]}" "$python" -m pip install --quiet --disable-pip-version-check)
    fi
    if [[ -f $lock ]]; then
        install_locked "$python" "$requirements" "$lock" "${command[@]}" || return
    else
        install_cpu_torch "$python" "$requirements"
        "${command[@]}" -r "$requirements" || return
    fi
    if grep -q '^# no-deps: ' "$requirements"; then
        "${command[@]}" --no-deps -r <(sed -n 's/^# no-deps: //p' "$requirements")
    fi
}

# Print what an environment takes, from environments.txt.
cost() { # NAME
    local environment gb minutes
    while read -r environment gb minutes _; do
        if [[ $environment == "${1/#requirements/main}" ]]; then
            echo "${minutes/-/ to } minutes and about $gb GB"
            return
        fi
    done <"${BASH_SOURCE[0]%/*}/environments.txt"
    echo "1 to 5 minutes"
}

is_complete() { # reads the variables of main
    [[ -f $stamp && $(<"$stamp") == "$want" && ! -e $folder/.installing ]] && runs
}

runs() { # reads the folder of main
    "$folder/bin/python" -c '' 2>/dev/null
}

# Wait until no other call installs into a folder beside this one. The kernel frees the lock when the last process of an
# install has ended: what outlives its script (without setpriv) still holds it.
lock() { # FOLDER
    local status=0 file
    command -v flock >/dev/null 2>&1 || return 0
    mkdir -p "$(dirname "$1")"
    file=$(dirname "$1")/.make_env.lock # a file, and not the folder: some disks of a network lock for writers alone
    exec 8>"$file"
    flock --nonblock --conflict-exit-code 9 8 || status=$?
    if ((status == 9)); then
        echo "another call makes an environment beside $1; waiting for its end" >&2
        flock 8
    elif ((status)); then
        echo "$file: this disk has no locks; do not start two calls at once" >&2
    fi
}

was_made() { # FOLDER: here, or begun
    [[ -e $1/.installing ]] || ls "$1"/.installed-* >/dev/null 2>&1
}

# End what an install that was stopped left at work: Python's venv has pip installed by a process below one of its own,
# which dies with neither this script nor it, holds no lock, and would write into the new environment.
end_orphans() { # FOLDER
    local folder=$1 path pid words
    if [[ $folder != /* ]]; then folder=$PWD/$folder; fi
    for path in /proc/[0-9]*/cmdline; do
        mapfile -d '' -t words <"$path" || continue
        [[ ${words[0]:-} == "$folder/bin/"* && "${words[*]}" == *pip* ]] || continue
        pid=${path//[!0-9]/}
        kill -KILL "$pid" || continue
        while [[ -n $(tr -d '\0' <"$path") ]]; do sleep 0.05; done # of one that is only not buried yet it is empty
    done 2>/dev/null
}

# Make way for a new environment: what was interrupted or is broken goes, if it was made here.
clear_folder() { # FOLDER
    local folder=$1 reason="" old
    for old in "$folder".old.[0-9]*; do
        if [[ -e $old ]]; then rm -rf "$old"; fi # a kill left it
    done
    [[ -e $folder && -n $(ls -A "$folder") ]] || return 0
    if [[ ! -e $folder/pyvenv.cfg && ! -e $folder/.installing ]]; then
        reason="is there, but is no virtual environment"
    elif [[ -e $folder/.adopted ]] || ! was_made "$folder"; then
        if runs; then
            touch "$folder/.adopted"
            return
        fi
        reason="was not made here, and its Python does not run"
    elif [[ ! -O $folder ]] && ! runs; then
        reason="belongs to another user, and its Python does not run for you"
    elif [[ ! -e $folder/.installing ]] && runs; then
        return
    fi
    if [[ -n $reason ]]; then
        echo "error: $folder $reason; remove it or name another folder" >&2
        return 2
    fi
    end_orphans "$folder"
    mv "$folder" "$folder.old.$$"
    rm -rf "$folder.old.$$"
}

main() {
    local folder=${1%/} requirements=$2 lock=${2%.txt}.lock files=("$2") file name stamp want started
    name=$(basename "$requirements" .txt)
    stamp=$folder/.installed-$name
    if [[ -f $lock ]]; then files+=("$lock"); fi
    want=$(for file in "${files[@]}"; do cksum <"$file"; done)
    if is_complete; then return; fi
    lock "$folder"
    if is_complete; then return; fi
    clear_folder "$folder"
    started=$SECONDS
    echo "installing $requirements into $folder; the first time this takes $(cost "$name")" >&2
    if ! runs; then
        mkdir -p "$folder"
        touch "$folder/.installing"
        make_venv "$folder"
    fi
    touch "$folder/.installing"
    rm -f "$stamp"
    install "$folder" "$requirements" || {
        echo "error: installing $requirements failed (see above); run the same command again to go on" >&2
        return 1
    }
    printf '%s\n' "$want" >"$stamp"
    rm "$folder/.installing"
    echo "installed in $((SECONDS - started)) s" >&2
}

if [[ $# -ne 2 ]]; then
    echo "usage: bash extras/environments/make_env.sh FOLDER REQUIREMENTS" >&2
    exit 2
fi
main "$@"; exit # on one line, for the file may change meanwhile
