# shellcheck shell=bash disable=SC2004,SC2034,SC2154 # variables of the driver that reads this file, some by name
# The launcher of this machine: processes and GPUs.

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

children=()
# Linux: a child dies with the driver even if that is killed by -9.
guard=()
if setpriv --pdeathsig KILL true 2>/dev/null; then guard=(setpriv --pdeathsig KILL); fi

stop_children() {
    local pid
    for pid in "${children[@]}"; do kill -TERM -- "-$pid" 2>/dev/null || true; done
    for pid in "${children[@]}"; do wait "$pid" 2>/dev/null || true; done
    children=()
}

# Start a command in the background, in a process group of its own.
start() { # LOG COMMAND...
    local log=$1
    shift
    mkdir -p "${log%/*}"
    : >"$log" # it is there before the reader opens it
    set -m
    "${guard[@]}" "$@" </dev/null >"$log" 2>&1 9>&- &
    children+=("$!")
    set +m
}

# Wait for every child while printing what they log. Fills `statuses`, one for each.
wait_for_children() { # LOG...
    local log fd i line fds=() partial=() alive=true prefix
    statuses=()
    for log in "$@"; do
        exec {fd}<"$log"
        fds+=("$fd")
        partial+=("")
    done
    while $alive; do
        alive=false
        for i in "${!children[@]}"; do
            if kill -0 "${children[i]}" 2>/dev/null; then alive=true; fi
        done
        for i in "${!fds[@]}"; do
            prefix="    "
            if ((${#fds[@]} > 1)); then prefix="    [$((i + 1))] "; fi
            while IFS= read -r line <&"${fds[i]}"; do
                printf '%s\n' "$prefix${partial[i]}$line"
                partial[i]=""
            done
            partial[i]+=$line
        done
        if $alive; then sleep 0.1 9>&-; fi
    done
    for i in "${!fds[@]}"; do
        fd=${fds[i]}
        exec {fd}<&-
        statuses[i]=0
        wait "${children[i]}" || statuses[i]=$?
    done
    children=()
}
