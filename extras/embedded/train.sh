#!/usr/bin/env bash
# Make the embedded models anew, in one command:  bash extras/embedded/train.sh [DATA_FOLDER]
# DATA_FOLDER holds us8k_part, philharmonia and sonicpi (default: ../shared/data). A GPU is used where there is one.
# Estimated: half an hour with a GPU and 16 cores, 7 hours on 2 cores. Every step goes on where it stopped; to start over,
# remove .scratch. The numbers of the card are printed at the end.
set -euo pipefail

main() {
    local root here data python name
    root=$(CDPATH="" cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
    here=$root/extras/embedded
    data=${1:-$root/../shared/data}
    python=$root/.venv/bin/python
    # glibc gives large arrays back to the system at once and takes them again: a third of the time of a step
    export MALLOC_MMAP_THRESHOLD_=33554432 MALLOC_TRIM_THRESHOLD_=1073741824

    bash "$root/extras/environments/make_env.sh" "$root/.venv" "$root/requirements.txt"
    if [[ ! -f $root/.scratch/corpus/table.csv ]]; then
        bash "$root/extras/environments/make_env.sh" "$root/.envs/corpus" "$root/extras/environments/corpus.txt"
        "$root/.envs/corpus/bin/python" "$here/corpus.py" --data "$data" --workers "$(nproc)"
    fi
    for name in autoencoder generator clap ast; do
        "$python" "$here/train_$name.py" --workers "$(($(nproc) / 4))"
    done
    "$python" "$here/distil_generator.py"
    # once more, with the AST that there is as the teacher of what a padded clip should sound like
    "$python" "$here/train_ast.py" --workers "$(($(nproc) / 4))" --scratch "$root/.scratch/padded" --steps 1400 \
        --learning_rate 4e-4 --init "$here/weights/ast" --teacher "$here/weights/ast"
    "$python" "$here/evaluate.py"
    "$python" "$here/compare_distilled.py"
    "$python" "$here/evaluate_kinds.py"
}

main "$@"; exit # on one line, for the file may change in these hours
