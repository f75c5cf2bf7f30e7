#!/usr/bin/env bash
# Make the embedded models anew, in one command:  bash extras/embedded/train.sh [DATA_FOLDER]
# DATA_FOLDER holds us8k_part, philharmonia and sonicpi (default: ../shared/data). About 5 hours on 2 CPU cores. Every
# step goes on where it stopped; to start over, remove .scratch. The numbers of the card are printed at the end.
set -euo pipefail

root=$(CDPATH="" cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
here=$root/extras/embedded
data=${1:-$root/../shared/data}
python=$root/.venv/bin/python
# glibc gives large arrays back to the system at once and takes them again: a third of the time of a step
export MALLOC_MMAP_THRESHOLD_=33554432 MALLOC_TRIM_THRESHOLD_=1073741824

bash "$root/extras/make_env.sh" "$root/.venv" "$root/requirements.txt"
[[ -f $root/.scratch/corpus/table.csv ]] || "$python" "$here/corpus.py" --data "$data"
for name in autoencoder generator clap ast; do
    "$python" "$here/train_$name.py"
done
"$python" "$here/evaluate.py"
