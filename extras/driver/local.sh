# shellcheck shell=bash disable=SC2004,SC2034,SC2154 # variables of the driver that reads this file, some by name
# The launcher of this machine: its processes and its GPUs. A launcher gives three functions, and nothing else of the
# driver knows which one it is:
#     start LOG COMMAND...   start a job, whose output goes to LOG; the log is its name
#     wait_for_jobs [one]    wait for all jobs while showing what they log; with `one`, in silence, until one or more have
#                            ended. Sets `statuses`, by log, of those that have ended
#     stop_jobs              end all
# and find_devices, which says what jobs may be shared out to.

job_logs=() job_pids=()
declare -A statuses=()
# Linux: a child dies with the driver even if that is killed by -9.
guard=()
if setpriv --pdeathsig KILL true 2>/dev/null; then guard=(setpriv --pdeathsig KILL); fi

# Fill `devices` with GPU numbers, set `shards`, and where there is no GPU `threads`, of each process.
# The number of threads does not depend on that of the shards: it decides in which order sums are rounded.
find_devices() {
    local line
    devices=() threads=""
    if [[ $device == auto && -n ${CUDA_VISIBLE_DEVICES+set} ]]; then
        while IFS= read -r line; do
            if [[ -n $line && $line != -1 ]]; then devices+=("$line"); fi
        done < <(tr ',' '\n' <<<"${CUDA_VISIBLE_DEVICES// /}")
    elif [[ $device == auto ]] && command -v nvidia-smi >/dev/null 2>&1; then
        while IFS= read -r line; do
            if [[ $line =~ ^[0-9]+$ ]]; then devices+=("$line"); fi
        done < <(nvidia-smi --query-gpu=index --format=csv,noheader 2>/dev/null || true)
    fi
    shards=${#devices[@]}
    printf -v machine '%s, ' "${devices[@]}"
    machine="GPU ${machine%, }"
    if ((shards == 0)); then
        shards=$cpu_shards
        threads=$cpu_threads
        ((threads)) || threads=$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN)
        export OMP_NUM_THREADS=$threads OMP_WAIT_POLICY=PASSIVE # more threads than cores must not spin
        machine="${device/auto/CPU}, processes: $shards, threads of each: $threads"
        machine=${machine/#cpu/CPU}
        # glibc hands large arrays back to the kernel at once, which has to clear the pages of the next ones: 30 % of the
        # time of a training step. Kept are up to 32 MB an array and 1 GB at the end of the heap, which grows by 64 MB.
        export MALLOC_MMAP_THRESHOLD_=${MALLOC_MMAP_THRESHOLD_-33554432}
        export MALLOC_TRIM_THRESHOLD_=${MALLOC_TRIM_THRESHOLD_-1073741824} MALLOC_TOP_PAD_=${MALLOC_TOP_PAD_-67108864}
    fi
}

# A job runs in the background, in a process group of its own.
start() { # LOG COMMAND...
    local log=$1
    shift
    mkdir -p "${log%/*}"
    : >"$log" # it is there before the reader opens it
    set -m
    "${guard[@]}" "$@" </dev/null >"$log" 2>&1 9>&- &
    job_logs+=("$log") job_pids+=("$!")
    set +m
}

stop_jobs() {
    local pid
    for pid in "${job_pids[@]}"; do kill -TERM -- "-$pid" 2>/dev/null || true; done
    for pid in "${job_pids[@]}"; do wait "$pid" 2>/dev/null || true; done
    job_logs=() job_pids=()
}

wait_for_jobs() { # [one]
    statuses=()
    if [[ ${1:-} == one ]]; then
        until collect_jobs; do sleep 0.2 9>&-; done
    else
        show_logs
        collect_jobs || true
    fi
}

# Take the jobs that have ended off the list, with their statuses; fails where none has.
collect_jobs() {
    local i logs=() pids=()
    for i in "${!job_pids[@]}"; do
        if kill -0 "${job_pids[i]}" 2>/dev/null; then
            logs+=("${job_logs[i]}") pids+=("${job_pids[i]}")
            continue
        fi
        statuses[${job_logs[i]}]=0
        wait "${job_pids[i]}" || statuses[${job_logs[i]}]=$?
    done
    job_logs=("${logs[@]}") job_pids=("${pids[@]}")
    ((${#statuses[@]}))
}

# Print what the jobs log, until all have ended.
show_logs() {
    local log fd i line fds=() partial=() alive=true prefix REPLY
    for log in "${job_logs[@]}"; do
        exec {fd}<"$log"
        fds+=("$fd")
        partial+=("")
    done
    while $alive; do
        alive=false
        for i in "${!job_pids[@]}"; do
            if kill -0 "${job_pids[i]}" 2>/dev/null; then alive=true; fi
        done
        for i in "${!fds[@]}"; do
            prefix="    "
            if ((${#fds[@]} > 1)); then prefix="    [$((i + 1))] "; fi
            while IFS= read -r line <&"${fds[i]}"; do
                printable "${partial[i]}$line"
                printf '%s\n' "$prefix$REPLY"
                partial[i]=""
            done
            partial[i]+=$line
        done
        if $alive; then sleep 0.1 9>&-; fi
    done
    for fd in "${fds[@]}"; do exec {fd}<&-; done
}
