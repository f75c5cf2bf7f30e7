#!/usr/bin/env bash
# Our loops beside those that people use: prints a table of ratios and writes docs/benchmarks.md.
#
#     sh benchmarks/run.sh [--device cuda] [--demo true]      more options: sh benchmarks/run.sh --help
#
# The first call makes .venv. On 2 cores it takes about a quarter of an hour, with the demo run some minutes more.
set -eu
root=$(CDPATH="" cd "$(dirname "$0")/.." && pwd)
bash "$root/extras/environments/make_env.sh" "$root/.venv" "$root/requirements.txt"
# as run.sh does (extras/driver/local.sh): both sides have all cores, and glibc keeps what it gets
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN)}" OMP_WAIT_POLICY=PASSIVE
export MALLOC_MMAP_THRESHOLD_=33554432 MALLOC_TRIM_THRESHOLD_=1073741824 MALLOC_TOP_PAD_=67108864
exec "$root/.venv/bin/python" "$root/benchmarks/speed.py" "$@"
