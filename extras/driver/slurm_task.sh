#!/usr/bin/env bash
# A task of a job array, on its node: does what RECORD/task.K says and leaves there how it ended (see slurm.sh).
# SLURM and whoever cancels a job signal every process of it, so that nothing has to be passed on here.
set -u

record=$1 k=$SLURM_ARRAY_TASK_ID
printf -v began '%(%s)T' -1
directory="" loaded="" command=() # in the file
stopped=false
trap 'stopped=true' TERM

finish() { # STATUS
    local status=$1
    printf '%s %s %(%s)T %s %s\n' "$status" "$began" -1 "${SLURMD_NODENAME:-$(uname -n)}" "$(wc -c <"$record/log.$k")" \
        >"$record/.status.$k"
    mv "$record/.status.$k" "$record/status.$k"
    exit "$status"
}

# Of two copies of a task one does something; where the record is gone, nobody wants it any more.
if [[ -e $record/status.$k ]] || ! mkdir "$record/claim.$k" 2>/dev/null; then exit 0; fi
exec >>"$record/log.$k" 2>&1 </dev/null
# shellcheck source=/dev/null # written by slurm.sh
source "$record/task.$k" || finish 72
if ! cd "$directory"; then # SLURM would go on in the node's temporary folder
    echo "error: ${SLURMD_NODENAME:-this node} does not see $directory: it is on no disk that the nodes share"
    finish 72
fi
if $stopped; then finish 143; fi
if [[ -n $loaded ]]; then export SYNTHIO_LOADED=$record/loaded.$k; fi
"${command[@]}"
finish "$?"
