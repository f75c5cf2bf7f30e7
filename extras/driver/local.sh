# shellcheck shell=bash disable=SC2004,SC2034,SC2154 # variables of the driver that reads this file, some by name
# The launcher of this machine: its processes and its GPUs. A launcher gives three functions, and nothing else of the
# driver knows which one it is:
#     start LOG COMMAND...   start a job, whose output goes to LOG; the log is its name
#     wait_for_jobs [one]    wait for all jobs while showing what they log; with `one`, in silence, until one or more have
#                            ended. Sets `statuses`, by log, of those that have ended
#     stop_jobs              end all
# and find_devices, which says what jobs may be shared out to. One whose jobs outlive the driver has two more to say:
#     settle_jobs            take up, or refuse, what an earlier call left at work in this result folder
#     forget_jobs STEP       no job of a step counts any more: the step is up to date, or its outputs are lost
# Another launcher is read after this file and may call what it redefines as start_here, wait_here and stop_here.

job_logs=() job_pids=()
declare -A statuses=()
waited_us=0 # of the last step, the time in which none of its jobs ran: it tells nothing of the next call
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
        set_threads
        machine="${device/auto/CPU}, processes: $shards, threads of each: $threads"
        machine=${machine/#cpu/CPU}
    elif [[ $train_devices != auto ]] && ((train_devices > shards)); then
        lack "--train_devices: $train_devices, but there are ${#devices[@]} GPUs; take fewer, or auto"
    fi
}

# Of each process that computes on a CPU.
set_threads() {
    export OMP_NUM_THREADS=$threads OMP_WAIT_POLICY=PASSIVE # more threads than cores must not spin
    # glibc hands large arrays back to the kernel at once, which has to clear the pages of the next ones: 30 % of the
    # time of a training step. Kept are up to 32 MB an array and 1 GB at the end of the heap, which grows by 64 MB.
    export MALLOC_MMAP_THRESHOLD_=${MALLOC_MMAP_THRESHOLD_-33554432}
    export MALLOC_TRIM_THRESHOLD_=${MALLOC_TRIM_THRESHOLD_-1073741824} MALLOC_TOP_PAD_=${MALLOC_TOP_PAD_-67108864}
}

start() { start_here "$@"; }
wait_for_jobs() { wait_here "$@"; }
stop_jobs() { stop_here; }

# Two drivers' jobs must not write the same files: what is in a queue yet is not taken over by this machine.
settle_jobs() {
    [[ -d $work/jobs ]] || return 0
    # shellcheck source=/dev/null # checked by itself
    (source "$root/extras/driver/slurm.sh" && refuse_queued) || exit 2
}

forget_jobs() { # STEP; settle_jobs has seen that none is at work
    rm -rf "$work/jobs/$1" || true
}

forks="" # name of the process that imports torch and the like once, and forks: see synthio/pipeline/forks.py

# Start it where several steps ahead would import them. A fork cannot use a GPU, and must end with the driver.
serve_forks() { # STEPS AHEAD...
    local line name count=0
    [[ -z $forks && ${#devices[@]} -eq 0 && ${#guard[@]} -gt 0 && $OSTYPE == linux* ]] || return 0
    for line; do
        IFS=$'\t' read -r _ name _ <<<"$line"
        if [[ $line == *_model=* && -z ${pythons[$name]:-} ]]; then count=$((count + 1)); fi
    done
    ((count > 2)) || return 0
    forks=synthio-$$-$RANDOM$RANDOM
    "${guard[@]}" "$python" -P "$root/synthio/pipeline/forks.py" serve "$forks" </dev/null >/dev/null 2>&1 9>&- &
    disown
}

# Set the array `command`: what loads a model in the main environment is run by a fork.
through_forks() { # COMMAND...
    local i
    command=("$@")
    [[ -n $forks && ${models[*]} == *_model=* && ${#together[@]} -eq 0 ]] || return 0
    for i in "${!command[@]}"; do
        if [[ ${command[i]} == "$python" ]]; then
            command=("${@:1:i+1}" -I -S "$root/synthio/pipeline/forks.py" run "$forks" "${@:i+2}")
            return
        fi
    done
}

# A job runs in the background, in a process group of its own.
start_here() { # LOG COMMAND...
    local log=$1 command
    shift
    serve_forks "${ahead[@]}"
    through_forks "$@"
    mkdir -p "${log%/*}"
    : >"$log" # it is there before the reader opens it
    set -m
    "${guard[@]}" "${command[@]}" </dev/null >"$log" 2>&1 9>&- &
    job_logs+=("$log") job_pids+=("$!")
    set +m
}

stop_here() {
    local pid
    job_pids+=("${begun_pids[@]}")
    for pid in "${job_pids[@]}"; do kill -TERM -- "-$pid" 2>/dev/null || true; done
    for pid in "${job_pids[@]}"; do wait "$pid" 2>/dev/null || true; done
    job_logs=() job_pids=() begun_pids=()
}

wait_here() { # [one]
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
    local log i=0 alive=true prefix="    "
    for log in "${job_logs[@]}"; do
        i=$((i + 1))
        if ((${#job_logs[@]} > 1)); then prefix="    [$i] "; fi
        follow "$i" "$log" "$prefix"
    done
    while $alive; do
        alive=false
        for i in "${!job_pids[@]}"; do
            if kill -0 "${job_pids[i]}" 2>/dev/null; then alive=true; fi
        done
        print_new
        if $alive; then sleep 0.1 9>&-; fi
    done
    for i in "${!log_fds[@]}"; do unfollow "$i"; done
}

log_fds=() log_prefixes=() log_rests=() log_lines=() # of the logs that are followed; the third: a line without an end yet

follow() { # NUMBER LOG PREFIX
    local fd
    exec {fd}<"$2"
    log_fds[$1]=$fd log_prefixes[$1]=$3 log_rests[$1]="" log_lines[$1]=0
}

# Print the lines that the followed logs have got since the last call.
print_new() {
    local i line
    for i in "${!log_fds[@]}"; do
        while IFS= read -r line <&"${log_fds[i]}"; do
            printf '%s\n' "${log_prefixes[i]}${log_rests[i]}$line"
            log_rests[i]="" log_lines[i]=$((log_lines[i] + 1))
        done
        log_rests[i]+=$line
    done
}

unfollow() { # NUMBER
    local fd=${log_fds[$1]}
    exec {fd}<&-
    if [[ -n ${log_rests[$1]} ]]; then printf '%s\n' "${log_prefixes[$1]}${log_rests[$1]}"; fi
    unset "log_fds[$1]" "log_prefixes[$1]" "log_rests[$1]" "log_lines[$1]"
}
