# shellcheck shell=bash disable=SC2004,SC2034,SC2154 # variables of the driver that reads this file, some by name
# Jobs side by side, each a call of run.sh: who starts when and where, and how long it will take. The jobs are the arrays
# job_methods, job_cells and job_states (pending, running, kept, finished, failed); job_command, job_name, job_key and
# is_done tell of one.

job_methods=() job_ns=() job_seeds=() job_folds=() job_cells=() job_states=()

plan_jobs() {
    local method count seed_of fold cell
    for count in "${n_list[@]}"; do
        for seed_of in "${seed_list[@]}"; do
            for fold in "${fold_list[@]}"; do
                for method in "${method_list[@]}"; do
                    cell=n${count}_seed$seed_of${fold:+_fold$fold}
                    [[ -z $only_cell || $only_cell == "$cell" ]] || continue
                    job_methods+=("$method") job_ns+=("$count") job_seeds+=("$seed_of") job_folds+=("$fold")
                    job_cells+=("$cell") job_states+=(pending)
                done
            done
        done
    done
    ((${#job_states[@]})) || refuse "--only_cell: '$only_cell' is none of this experiment, such as $cell"
}

job_name() { # JOB
    printf '%s' "${job_methods[$1]} n=${job_ns[$1]} seed=${job_seeds[$1]}${job_folds[$1]:+ fold=${job_folds[$1]}}"
}

# Start a job in a slot, or mark it done.
start_job() { # JOB SLOT
    local job=$1 slot=$2 visible=() k log
    if ! job_command "$job"; then
        job_states[job]=failed
        say "$(job_name "$job") failed: no classical augmentation has scores to choose by"
        return
    fi
    slot_keys[slot]=$(job_key "${command[@]}")
    if ! $force_steps && is_done "$job" "${slot_keys[slot]}"; then
        job_states[job]=kept
        return
    fi
    # devices are dealt out to the slots, so that one job alone has all of them
    for ((k = slot; k < ${#devices[@]}; k += slots)); do visible+=("${devices[k]}"); done
    if ((${#visible[@]})); then command=(env "CUDA_VISIBLE_DEVICES=$(IFS=, && echo "${visible[*]}")" "${command[@]}"); fi
    log=$work/${job_cells[job]}/${job_methods[job]}/run.log
    start "$log" "${command[@]}"
    slot_jobs[slot]=$job slot_logs[slot]=$log slot_started[slot]=$SECONDS
    job_states[job]=running
}

# The next job that waits for nothing: no other job of its n, seed and fold is running. Sets `next`; empty for none.
next_job() {
    local i slot busy=""
    next=""
    for slot in "${!slot_jobs[@]}"; do
        if [[ -n ${slot_jobs[slot]} ]]; then busy+=" ${job_cells[${slot_jobs[slot]}]} "; fi
    done
    for i in "${!job_states[@]}"; do
        if [[ ${job_states[i]} == pending && $busy != *" ${job_cells[i]} "* ]]; then
            next=$i
            return
        fi
    done
}

# Book a job that has ended.
finish_job() { # SLOT
    local slot=$1 job=${slot_jobs[$1]} status=${statuses[${slot_logs[$1]}]} seconds method
    seconds=$((SECONDS - slot_started[slot])) method=${job_methods[job]}
    echo "$method,${job_cells[job]},${slot_keys[slot]},$status,$seconds" >>"$journal"
    slot_jobs[slot]=""
    if ((status)); then
        job_states[job]=failed
        say "$(count_done): $(job_name "$job") failed (status $status); see $(shown "$work/${job_cells[job]}/$method/run.log")"
        print_end "$work/${job_cells[job]}/$method/run.log" 4
        return
    fi
    job_states[job]=finished
    method_seconds[$method]=$((${method_seconds[$method]:-0} + seconds))
    method_counts[$method]=$((${method_counts[$method]:-0} + 1))
    say "$(count_done): $(job_name "$job") in $seconds s$(time_left)"
}

count_done() { # "3/12"
    local state count=0
    for state in "${job_states[@]}"; do
        if [[ $state == finished || $state == kept || $state == failed ]]; then count=$((count + 1)); fi
    done
    printf '%d/%d' "$count" "${#job_states[@]}"
}

# "; about 12 min left": what the jobs that are left take if each is as long as those of its method that have ended, or,
# where none has, as the mean job. Empty when nothing is left.
time_left() {
    local i sum=0 count=0 ahead=0 method
    for method in "${!method_seconds[@]}"; do
        sum=$((sum + method_seconds[$method])) count=$((count + method_counts[$method]))
    done
    for i in "${!job_states[@]}"; do
        if [[ ${job_states[i]} != pending && ${job_states[i]} != running ]]; then continue; fi
        method=${job_methods[i]}
        if [[ -n ${method_counts[$method]:-} ]]; then
            ahead=$((ahead + method_seconds[$method] / method_counts[$method]))
        else
            ahead=$((ahead + sum / count))
        fi
    done
    ((ahead)) || return 0
    printf '; about %d min left' $(((ahead / slots + 59) / 60))
}

# Refuse options that a method cannot run with, before the first job: its run.sh says so in a dry run.
refuse_misfits() {
    local job said misfits=() dry_run=true # job_command asks: nothing is chosen by scores yet
    for job in "${!method_list[@]}"; do # the jobs of the first cell
        job_command "$job"
        said=$("${command[@]}" --dry_run 2>&1 >/dev/null) && continue
        printf '%s: %s\n' "${job_methods[job]}" "$said" >&2
        misfits+=("${job_methods[job]}")
    done
    ((!${#misfits[@]})) || refuse "no job was started: ${misfits[*]} cannot run with these options"
}

run_jobs() {
    local slot
    local -A method_seconds=() method_counts=()
    slot_jobs=() slot_logs=() slot_started=() slot_keys=()
    for ((slot = 0; slot < slots; slot++)); do slot_jobs+=(""); done
    say "${#job_states[@]} jobs, $slots at once: ${method_list[*]}"
    [[ -f $journal ]] || echo "method,cell,key,status,seconds" >"$journal"
    while true; do
        for slot in "${!slot_jobs[@]}"; do
            while [[ -z ${slot_jobs[slot]} ]]; do
                next_job
                [[ -n $next ]] || break
                start_job "$next" "$slot"
            done
        done
        [[ ${slot_jobs[*]} == *[0-9]* ]] || break
        wait_for_jobs one
        for slot in "${!slot_jobs[@]}"; do
            if [[ -n ${slot_jobs[slot]} && -n ${statuses[${slot_logs[slot]}]:-} ]]; then finish_job "$slot"; fi
        done
    done
}

# Set `slots`, the number of jobs at once, at most one for each n, seed and fold.
count_slots() {
    local cells=$((${#job_states[@]} / ${#method_list[@]})) cores
    slots=$jobs
    if [[ $jobs == auto ]]; then slots=$((${#devices[@]} ? ${#devices[@]} : 1)); fi
    if ((slots > cells)); then slots=$cells; fi
    if ((${#devices[@]} == 0 && slots > 1 && cpu_threads == 0)); then
        cores=$threads
        passed_on+=(--cpu_threads $((cores / slots > 0 ? cores / slots : 1)))
    fi
}

name_failures() {
    local i failed=()
    for i in "${!job_states[@]}"; do
        if [[ ${job_states[i]} == failed ]]; then failed+=("$i"); fi
    done
    ((${#failed[@]})) || return 0
    {
        echo "experiment.sh: ${#failed[@]} of ${#job_states[@]} jobs failed; the same command tries them again:"
        for i in "${failed[@]}"; do
            echo "    $(job_name "$i"): $(shown "$work/${job_cells[i]}/${job_methods[i]}/run.log")"
        done
    } >&2
    return 1
}

show_plan() {
    local i
    echo "${#job_states[@]} jobs, $slots at once, in $(shown "$work")"
    for i in "${!job_states[@]}"; do
        job_command "$i"
        job_name "$i"
        echo
        print_command "${command[@]}"
    done
}
