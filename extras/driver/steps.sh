# shellcheck shell=bash disable=SC2004,SC2034,SC2154 # variables of the driver that reads this file, some by name
# A step of the recipe: its interpreter, whether it is up to date, its processes, its time.

# Set `own_env` and `library`, by variable: the environment of extras/ that its model needs, and what loads it. On a
# fresh clone any Python can tell; where the hub must be asked, or there is none, .venv is made, as it would be next.
find_environments() { # VARIABLE=MODEL...
    local name own loads answer=""
    declare -gA own_env=() library=()
    if [[ -x $python ]]; then
        answer=$("$python" -m synthio.environments "$@") || exit 2 # it has said why
    else
        answer=$(python3 -m synthio.environments "$@" 2>/dev/null) || answer=later
    fi
    if [[ $answer == *later* ]] && $dry_run; then
        echo "(which environments the models need is told when .venv is there)"
    elif [[ $answer == *later* ]] && ! $check; then
        make_main_environment
        answer=$("$python" -m synthio.environments "$@") || exit 2
    fi
    while read -r name own loads; do
        [[ $own != unknown ]] || name_unknown "$name"
        if [[ -f $root/extras/$own.txt ]]; then own_env[$name]=$own; fi
        library[$name]=$loads
    done <<<"$answer"
}

# No file and no name that tells: the wrong environment would be found out after hours. --check says more.
name_unknown() { # VARIABLE
    local text="--$1: neither the hub nor its cache shows the files of ${!1}"
    if $dry_run; then
        echo "($text; .venv is taken)"
    elif ! $check; then
        refuse "$text, which tell its environment; --check says why, or name it in stable_audio_env"
    fi
}

# Set the array `interpreter` to the words that start Python in an environment: venv folder or conda name. An empty
# variable means the environment that the model needs, which joins `own_envs`, else the main one.
set_interpreter() { # VARIABLE [MODEL VARIABLE]
    local value=${!1} own=""
    if [[ -z $value && -n ${2:-} ]]; then own=${own_env[$2]:-}; fi
    if [[ -n $own ]]; then
        interpreter=("$root/.envs/$own/bin/python")
        [[ " ${own_envs[*]} " == *" $own "* ]] || own_envs+=("$own")
    elif [[ -z $value ]]; then
        interpreter=("$python")
    elif [[ -x $value/bin/python ]]; then
        interpreter=("$(absolute "$value")/bin/python")
    elif command -v conda >/dev/null 2>&1 && conda run -n "$value" true >/dev/null 2>&1; then
        interpreter=(conda run -n "$value" --no-capture-output python)
    else
        interpreter=("$python")
        lack "--$1: '$value' is neither a venv folder (no $value/bin/python) nor a conda environment"
    fi
}

resolve_interpreters() {
    local generates=text_to_audio_model listens=captioner scores=clap_model asked # "": nothing asks it
    if ! $augment || [[ -n $retrieval_csv ]]; then generates="" listens=""; fi
    if ! $augment || [[ $clap_filter == false && -z $retrieval_csv ]]; then scores=""; fi
    own_envs=() # those of extras/ that this run needs
    asked=("clap_model=$clap_model" "probe_clap_model=$probe_clap_model" "captioner=$captioner")
    if [[ -n $generates && -z $stable_audio_env ]]; then asked+=("$generates=$text_to_audio_model"); fi
    find_environments "${asked[@]}"
    set_interpreter stable_audio_env "$generates"
    audio_python=("${interpreter[@]}")
    set_interpreter gama_env "$listens"
    caption_python=("${interpreter[@]}")
    if [[ $captioner == gama ]]; then caption_python=("$python"); fi # it starts GAMA's process in gama_env
    set_clap_interpreter clap_model "$scores"
    clap_python=("${interpreter[@]}")
    set_clap_interpreter probe_clap_model probe_clap_model
    heads_python=("${interpreter[@]}")
    [[ $dpo_pairs == gold || -n $stable_audio_env || -z ${own_env[clap_model]:-} ]] ||
        refuse "dpo_pairs=ranked scores in the process that trains; choose a clap_model of transformers, or name a" \
            "stable_audio_env that can load this one too"
    set_interpreter ast_env
    ast_python=("${interpreter[@]}")
}

set_clap_interpreter() { # MODEL VARIABLE [THE SAME, IF SOMETHING ASKS IT]
    if [[ -n $msclap_env && ${library[$1]:-} == msclap ]]; then
        set_interpreter msclap_env "${2:-}"
    else
        set_interpreter clap_env "${2:-}"
    fi
}

inputs=() outputs=() watched=() # of the next stage; step and step_sharded read and clear them
timing_names=() timing_seconds=()

now_us() { # microseconds
    if [[ -n ${EPOCHREALTIME:-} ]]; then printf '%s' "${EPOCHREALTIME/[.,]/}"; else printf '%s' "${SECONDS}000000"; fi
}

say() { printf '[%(%H:%M:%S)T] %s\n' -1 "$*"; }

helper() { # a light script of ours, in the main environment
    OMP_NUM_THREADS=1 "$python" "$@" 9>&-
}

# Fill `variables` with what is known of the run, as name=value words, for the programs that look ahead.
gather_variables() {
    local name
    variables=("work=$work" "train_csv=$train_csv" "machine=$machine" "is_demo=$is_demo" "own_envs=${own_envs[*]}")
    for name in "${names[@]}"; do variables+=("$name=${!name}"); done
}

# Say what will run, on what and how long. The run does not need it, so its failure is told and does not end the run.
announce() {
    helper -m synthio.estimate "${variables[@]}" || echo "run.sh: what lies ahead could not be told (see above)" >&2
}

# Say what is missing; status 2 if anything is. On a fresh clone any Python does, and looks at less.
examine() {
    local checker=$python
    [[ -x $checker ]] || checker=$(command -v python3) || refuse "Python 3.11 or newer is needed; no python3 was found"
    "$checker" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        refuse "Python 3.11 or newer is needed; $checker is older"
    "$checker" -m synthio.doctor "${variables[@]}" "${lacks[@]}"
}

# Whether the stage must run: prints its line, and the reason or `up to date`.
must_run() { # NUMBER NAME COMMAND...
    local number=$1 name=$2 action=check answer status=0 input
    shift 2
    stage_command=("$@")
    say "stage $number ${name//_/ }: $(shown "${inputs[0]}") -> $(shown "${outputs[0]}")"
    if $dry_run; then
        action=ask
        printf '    '
        printf '%q ' "$@"
        printf '\n'
        [[ -x $python ]] || return 1
    else
        for input in "${inputs[@]}"; do
            [[ $input != "$work"/* || -e $input ]] ||
                refuse "stage $number ${name//_/ } needs $(shown "$input"), which is not there; start at an earlier --stage"
        done
    fi
    if $share_stages && ! $force_steps; then stamp_options+=(--siblings); fi
    answer=$(helper -m synthio.stamp "$action" "${stamp_options[@]}" --command "$@") || status=$?
    ((status == 0 || status == 3)) || exit 2 # it has said why
    if ((status == 0)) && ! $force_steps; then
        echo "    up to date${answer:+: $answer}"
        return 1
    fi
    if ((status == 0)); then answer="force_steps"; fi
    if $dry_run; then
        echo "    would run: $answer"
        return 1
    fi
    echo "    running: $answer"
}

note_time() { # NUMBER NAME STARTED_US [COUNTS]
    local us=$(($(now_us) - $3)) seconds
    printf -v seconds '%d.%d' $((us / 1000000)) $((us / 100000 % 10))
    timing_names+=("$1 ${2//_/ }")
    timing_seconds+=("$seconds")
    [[ $# -gt 3 ]] || return 0
    echo "    ${4:+$4, }$seconds s"
    printf '%s\t%s\t%s\t%s\t%s\n' "$2" "$seconds" "${4%% *}" "$machine" "${stage_command[*]@Q}" >>"$work/durations.tsv"
}

# One stage that is one process.
step() { # NUMBER NAME COMMAND...
    local number=$1 name=$2 started counts
    shift 2
    ((stage <= number && number <= stop_stage)) || { clear_step && return; }
    started=$(now_us)
    stamp_options=(--stamp "$work/stamps/$name.json" --inputs "${inputs[@]}" --outputs "${outputs[@]}"
        --watch_audio "${watched[@]}")
    if must_run "$number" "$name" "$@"; then
        start "$work/logs/$name.log" "$@"
        wait_for_children "$work/logs/$name.log"
        stop_on_failure "stage $number ${name//_/ }" "$work/logs/$name.log"
        counts=$(helper -m synthio.stamp write "${stamp_options[@]}" --command "$@")
        note_time "$number" "$name" "$started" "$counts"
    else
        note_time "$number" "$name" "$started"
    fi
    clear_step
}

clear_step() { inputs=() outputs=() watched=(); }

# One stage whose rows are shared out to a process for each device. inputs[0] and outputs[0] are the CSVs; the command
# is given without --input_csv and --output_csv.
run_sharded() { # NUMBER NAME BLOCK_SIZE COMMAND...
    local number=$1 name=$2 block=$3 started counts in out
    shift 3
    in=${inputs[0]} out=${outputs[0]}
    if ((shards == 1)); then
        step "$number" "$name" "$@" --input_csv "$in" --output_csv "$out"
        return
    fi
    ((stage <= number && number <= stop_stage)) || { clear_step && return; }
    started=$(now_us)
    stamp_options=(--stamp "$work/stamps/$name.json" --inputs "${inputs[@]}" --outputs "${outputs[@]}")
    if must_run "$number" "$name" "$@" --input_csv "$in" --output_csv "$out"; then
        local whole_options=("${stamp_options[@]}") folder=$work/shards/$name
        helper "$root/split_csvs.py" --input_csv "$in" --output_folder "$folder" --num_shards "$shards" \
            --block_size "$block"
        run_shards "$number" "$name" "$folder" "$@"
        helper "$root/merge_csv.py" --input_csvs "${shard_outputs[@]}" --output_csv "$out" --expected_csv "$in"
        counts=$(helper -m synthio.stamp write "${whole_options[@]}" --command "$@" --input_csv "$in" \
            --output_csv "$out")
        note_time "$number" "$name" "$started" "$counts"
    else
        note_time "$number" "$name" "$started"
    fi
    clear_step
}

shard_stamp() { # ACTION SHARD_CSV COMMAND...
    local action=$1 csv=$2
    shift 2
    helper -m synthio.stamp "$action" --stamp "${csv%.csv}.stamp.json" --inputs "$csv" "${inputs[@]:1}" \
        --outputs "${csv%.csv}.out.csv" --command "$@" --input_csv "$csv" --output_csv "${csv%.csv}.out.csv"
}

# The processes of a sharded stage; those whose output is complete are left out. Fills `shard_outputs`.
run_shards() { # NUMBER NAME FOLDER COMMAND...
    local number=$1 name=$2 folder=$3 csv k=0 logs=() running=() i unwritten=0
    shift 3
    shard_outputs=()
    for csv in "$folder"/shard_[0-9][0-9][0-9].csv; do
        shard_outputs+=("${csv%.csv}.out.csv")
        if $force_steps || ! shard_stamp check "$csv" "$@" >/dev/null; then
            logs+=("$work/logs/$name.$((k + 1)).log")
            running+=("$csv")
            start "$work/logs/$name.$((k + 1)).log" env "CUDA_VISIBLE_DEVICES=${devices[k]:-}" "$@" --input_csv "$csv" \
                --output_csv "${csv%.csv}.out.csv"
        else
            echo "    shard $((k + 1)) is complete"
        fi
        k=$((k + 1))
    done
    wait_for_children "${logs[@]}"
    for i in "${!running[@]}"; do
        if ((statuses[i] == 0)); then shard_stamp write "${running[i]}" "$@" >/dev/null || unwritten=1; fi
    done
    stop_on_failure "stage $number ${name//_/ }" "${logs[@]}"
    ((unwritten == 0)) || exit 1
}

# End the run when a child failed: say how many, name the logs, print the end of the first.
stop_on_failure() { # LABEL LOG...
    local label=$1 i failed=() named=""
    shift
    local logs=("$@")
    for i in "${!statuses[@]}"; do
        if ((statuses[i])); then failed+=("$i"); fi
    done
    ((${#failed[@]})) || return 0
    for i in "${failed[@]}"; do named+="${named:+, }$(shown "${logs[i]}")"; done
    {
        if ((${#logs[@]} > 1)); then
            echo "run.sh: ${#failed[@]} of ${#logs[@]} shards of $label failed; see $named"
        else
            echo "run.sh: $label failed (status ${statuses[0]}); see $named"
        fi
        # on a terminal the words of a single process stand right above
        if [[ ${#logs[@]} -gt 1 || ! -t 1 ]]; then tail -n 15 "${logs[${failed[0]}]}" | sed 's/^/    /'; fi
    } >&2
    exit 1
}

# One run at a time in a result folder. The kernel frees the lock when this process ends, however it ends: no child
# inherits it.
lock() {
    mkdir -p "$work"
    command -v flock >/dev/null 2>&1 || return 0
    exec 9>"$work/.lock"
    flock --timeout 2 9 || refuse "another run works in $(shown "$work"); wait for it, or choose another dataset_name"
}

make_main_environment() {
    bash "$root/extras/make_env.sh" "$root/.venv" "$root/requirements.txt" 9>&-
}

make_own_environments() {
    local name
    for name in "${own_envs[@]}"; do
        bash "$root/extras/make_env.sh" "$root/.envs/$name" "$root/extras/$name.txt" 9>&-
    done
}
