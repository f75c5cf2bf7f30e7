# shellcheck shell=bash disable=SC2004,SC2034,SC2154 # variables of the driver that reads this file, some by name
# Steps that begin before their turn, beside others: two processes keep two cores busier than one of two threads does.

# Let the steps of a function that load a model begin now, where nothing between here and their turn is read by them. At
# their turn they are waited for, and what they logged is shown; there they are stamped, counted, and their failure ends
# the run. The threads of each are as many as ever, for these decide the last bits of a result.
begin_early() { # FUNCTION WORDS...
    local early=true
    if ! $planning && ! $dry_run && has_idle_cores; then "$@"; fi
}

# Whether a second process finds cores that the first leaves idle, and memory: models of full size may fill it.
has_idle_cores() {
    local model
    [[ $launcher == local && ${device/auto/cpu} == cpu && ${#devices[@]} -eq 0 && $train_devices == 1 ]] || return 1
    ((shards == 1 && threads > 1)) && [[ -z $review ]] && ! $share_stages || return 1
    for model in "${generators[@]}" "$ast_model" "$clap_model" "${probe_clap_model:-embedded}"; do
        ! is_full_size "$model" || return 1
    done
}

# Begin a step, if it is to be done and what it reads is there. Reads `inputs`, `launched` and `stamp_options` of run_step.
begin() { # NAME COMMAND...
    local name=$1 input status=0 log=$work/logs/$1.log last
    shift
    ((${#models[@]})) || return 0 # it only reads what others of the function write
    for input in "${inputs[@]}"; do [[ $input != "$work"/* || -e $input ]] || return 0; done
    if $strict_env; then stamp_options+=(--strict_env); fi
    ask synthio.pipeline.stamp check "${stamp_options[@]}" --command "$@" || status=$?
    if ((status == 0)) && $force_steps; then REPLY=force_steps; elif ((status != 3)); then return 0; fi
    begun[$name]=$REPLY
    start "$log" env "SYNTHIO_LOADED=$work/stamps/$name.loaded" "${launched[@]}"
    last=$((${#job_pids[@]} - 1))
    begun_pids[$log]=${job_pids[last]}
    unset "job_pids[last]" "job_logs[last]"
}

# Take a step that has begun among the jobs that are waited for.
join() { # LOG
    job_logs+=("$1") job_pids+=("${begun_pids[$1]}")
    unset "begun_pids[$1]"
}
