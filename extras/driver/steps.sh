# shellcheck shell=bash disable=SC2004,SC2030,SC2031,SC2034,SC2154 # variables of the driver that reads this file, some by name
# A step of the recipe: its interpreter, whether it is up to date, its processes, its time.

# ---------------------------------------------------------------- what a step is

# A stage function says what its next step loads, reads and writes, and then calls step or run_sharded, which clear it:
#     models   variable=model words; the first is the one whose environment variable (clap_env, ...) may name the
#              interpreter. All are inputs of the stamp
#     reads    files and folders; the first is the table that its rows come from
#     writes   files and folders that it makes; the first is its table
#     watched  CSVs whose clips may change under them
models=() reads=() writes=() watched=()
together=() # what stands between Python and the script where several processes do the step; it changes no result
planning=false
early=false                     # see early.sh: of steps that begin before their turn,
declare -A begun=() begun_pids=() # by name, why they run; by log, their process

clear_step() { models=() reads=() writes=() watched=(); }

# Print "0 demo, check" and so on, of the variables as they stand; the rounds of a step count as one.
list_stages() {
    (
        stage=0 stop_stage=10 shards=1
        choose_head
        resolve_paths
        plan recipe
        printf '%s\n' "${records[@]}"
    ) 2>/dev/null | awk -F '\t' '
        { sub(/_([0-9]+|gold_only|synthio|other)$/, "", $2); gsub("_", " ", $2) }
        !seen[$1, $2]++ { steps[$1] = steps[$1] (steps[$1] == "" ? "" : ", ") $2; last = $1 }
        END { for (i = 0; i <= last; i++) if (i in steps) printf "  %2d  %s\n", i, steps[i] }'
}

# Run a recipe without any effect but to note its steps. Fills `records`, a line for each (what synthio.pipeline.steps
# reads), `ahead`, those of them that lie between --stage and --stop_stage, `ahead_names`, their names, and `made`, what
# the steps write.
plan() { # RECIPE
    records=() ahead=() ahead_names=() made=()
    planning=true
    "$1"
    planning=false
}

record() { # NUMBER NAME COMMAND...
    local number=$1 name=$2 line
    shift 2
    printf -v line '%s\t' "$number" "$name" "${models[*]@Q}" "${reads[*]@Q}" "${writes[*]@Q}"
    records+=("$line${*@Q}")
    made+=("${writes[@]}")
    if ((stage <= number && number <= stop_stage)); then
        ahead+=("$line${*@Q}")
        ahead_names+=("$name")
    fi
}

# ---------------------------------------------------------------- interpreters

env_variables=(stable_audio_env gama_env clap_env msclap_env ast_env)

# Set the array `interpreter` to the words that start Python in an environment that the user names: venv folder or conda.
find_named() { # VARIABLE
    local value=${!1}
    if [[ -x $value/bin/python ]]; then
        interpreter=("$(absolute "$value")/bin/python")
    elif command -v conda >/dev/null 2>&1 && conda run -n "$value" true >/dev/null 2>&1; then
        interpreter=(conda run -n "$value" --no-capture-output python)
    else
        interpreter=("$python")
        lack "--$1: '$value' is neither a venv folder (no $value/bin/python) nor a conda environment"
    fi
}

# Print "step variable environment model" for each step ahead that loads a model, by synthio.pipeline.environments. On
# a fresh clone any Python can tell, but for what the hub must be asked.
ask_environments() { # VARIABLES THAT NAME AN ENVIRONMENT...
    if [[ -x $python ]]; then
        printf '%s\n' "${ahead[@]}" | "$python" -m synthio.pipeline.environments --named "$@" || exit 2 # it has said why
    else
        printf '%s\n' "${ahead[@]}" | python3 -m synthio.pipeline.environments --named "$@" 2>/dev/null || echo later
    fi
}

# Find the interpreter of each step ahead. Fills `pythons`, by the step's name, its words a line each, and `own_envs`,
# the environments of extras/ that the run needs.
find_interpreters() {
    local step variable environment model told="" answer interpreter
    local -A named=()
    declare -gA pythons=()
    own_envs=()
    for variable in "${env_variables[@]}"; do
        [[ -n ${!variable} ]] || continue
        find_named "$variable"
        named[$variable]=$(printf '%s\n' "${interpreter[@]}")
    done
    answer=$(ask_environments "${!named[@]}") || exit 2
    if [[ $answer == *later* ]] && $dry_run; then
        echo "(which environments the models need is told when .venv is there)"
    elif [[ $answer == *later* ]] && ! $check; then # the hub must be asked, or there is no Python: .venv would be made next
        make_main_environment
        answer=$(ask_environments "${!named[@]}") || exit 2
    fi
    while read -r step variable environment model; do
        [[ -n $step ]] || continue # no step ahead loads a model
        case $environment in
            unknown) name_unknown "$model" ;;
            conflict) name_conflict "$step" "$variable" ;;
        esac
        if [[ -n ${named[$variable]:-} ]]; then
            pythons[$step]=${named[$variable]}
        elif [[ -f $root/extras/environments/$environment.txt ]]; then
            pythons[$step]=$root/.envs/$environment/bin/python
            [[ " ${own_envs[*]} " == *" $environment "* ]] || own_envs+=("$environment")
        fi
        if [[ $environment == gama ]]; then pythons[$step]=$python; fi # the step starts GAMA's process there
    done <<<"$answer"
}

# No file and no name that tells: the wrong environment would be found out after hours. --check says more.
name_unknown() { # VARIABLE; reads and sets `told` of find_interpreters
    local REPLY text="--$1: neither the hub nor its cache shows the files of ${!1}"
    [[ $told != *" $1 "* ]] || return 0
    told+=" $1 "
    if $dry_run; then
        printable "$text"
        echo "($REPLY; .venv is taken)"
    elif ! $check; then
        refuse "$text, which tell its environment; --check says why, or name it in stable_audio_env"
    fi
}

name_conflict() { # STEP VARIABLE
    local line loads=""
    for line in "${ahead[@]}"; do
        if [[ $line == *$'\t'"$1"$'\t'* ]]; then loads=$(cut -f 3 <<<"$line"); fi
    done
    lack "${1//_/ } loads in one process what no environment has together: ${loads//\'/}; choose others, or name in $2" \
        "an environment that has the libraries of all"
}

# ---------------------------------------------------------------- looking ahead

timing_names=() timing_seconds=()

now_us() { # microseconds
    if [[ -n ${EPOCHREALTIME:-} ]]; then printf '%s' "${EPOCHREALTIME/[.,]/}"; else printf '%s' "${SECONDS}000000"; fi
}

say() {
    local REPLY
    printable "$*"
    printf '[%(%H:%M:%S)T] %s\n' -1 "$REPLY"
}

helper() { # a light script of ours, in the main environment; of one that is killed it is said
    local status=0
    OMP_NUM_THREADS=1 "$python" "$@" 9>&- || status=$?
    tell_killed "$status" "${*:1:2}"
    return "$status"
}

tell_killed() { # STATUS HELPER
    (($1 <= 128)) || echo "${0##*/}: a helper ($(shown "$2")) was $(killed "$1"); the same command goes on" >&2
}

helpers_pid=""

# The same for a module that is asked again and again: one process answers for all (synthio/pipeline/helpers.py). What
# it prints is in REPLY, for a subshell has no part in the process.
ask() { # MODULE WORDS...
    local status=0 from
    if [[ -z $helpers_pid ]]; then
        # shellcheck disable=SC2034 # its descriptors are read below
        coproc helpers { OMP_NUM_THREADS=1 exec "${guard[@]}" "$python" -m synthio.pipeline.helpers 9>&-; }
        helpers_pid=$!
    fi
    trap '' PIPE # it may have been killed
    { printf '%s\0' "$#" "$@" >&"${helpers[1]:-2}"; } 2>/dev/null || true
    trap - PIPE
    from=${helpers[0]:-}
    if [[ -z $from ]] || ! IFS= read -r -d '' status <&"$from" || ! IFS= read -r -d '' REPLY <&"$from"; then
        status=0
        wait "$helpers_pid" || status=$?
        helpers_pid="" REPLY=""
        tell_killed "$status" "-m $1"
        ((status)) || status=1
    fi
    return "$status"
}

killed() { # STATUS over 128: in words
    local memory=""
    if (($1 == 137)); then memory=", perhaps as the memory is used up"; fi
    echo "killed (signal $(($1 - 128)))$memory"
}

# A log on a full disk does not say why its process failed. What it has written goes when it ends, so there may be room
# again; then the log is empty.
tell_full_disk() { # LOG
    if [[ ! -s $1 ]] || ! { head -c 65536 /dev/zero >"$1.room"; } 2>/dev/null; then
        echo "${0##*/}: the disk that holds $(shown "${1%/*}") is full; free some space, and the same command goes on"
    fi
    rm -f "$1.room"
}

# Fill `variables` with what is known of the run, as name=value words, for the programs that look ahead.
gather_variables() {
    local name
    variables=("work=$work" "train_csv=$train_csv" "machine=$machine" "is_demo=$is_demo" "own_envs=${own_envs[*]}"
        "ahead=${ahead_names[*]}")
    for name in "${names[@]}"; do variables+=("$name=${!name}"); done
}

# Say what will run, on what and how long. The run does not need it, so its failure is told and does not end the run.
announce() {
    printf '%s\n' "${records[@]}" | helper -m synthio.pipeline.estimate "${variables[@]}" ||
         echo "run.sh: what lies ahead could not be told (see above)" >&2
}

# Say what is missing; status 2 if anything is. On a fresh clone any Python does, and looks at less.
examine() {
    local checker=$python
    [[ -x $checker ]] || checker=$(command -v python3) || refuse "Python 3.11 or newer is needed; no python3 was found"
    "$checker" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        refuse "Python 3.11 or newer is needed; $checker is older"
    printf '%s\n' "${records[@]}" | "$checker" -m synthio.pipeline.doctor "${variables[@]}" "${lacks[@]}"
}

# Whether the stage must run: prints its line, and the reason or `up to date`.
must_run() { # NUMBER NAME COMMAND...
    local number=$1 name=$2 action=check answer status=0 input
    shift 2
    stage_command=("$@")
    say "stage $number ${name//_/ }: $(shown "${reads[0]:-nothing}") -> $(shown "${writes[0]}")"
    if [[ -n ${begun[$name]:-} ]]; then
        echo "    running beside earlier stages: ${begun[$name]}"
        return 0
    fi
    if $dry_run; then
        action=ask
        print_command "${launched[@]}"
        [[ -x $python ]] || return 1
    else
        for input in "${inputs[@]}"; do
            [[ $input != "$work"/* || -e $input ]] ||
                refuse "stage $number ${name//_/ } needs $(shown "$input"), which is not there; start at an earlier --stage"
        done
    fi
    if $strict_env; then stamp_options+=(--strict_env); fi
    if $share_stages && ! $force_steps; then stamp_options+=(--siblings); fi
    ask synthio.pipeline.stamp "$action" "${stamp_options[@]}" --command "$@" || status=$?
    answer=$REPLY
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

# Note how long a step took: now, or, without COUNTS, when it was done.
note_time() { # NUMBER NAME STARTED_US [COUNTS]
    local us=$(($(now_us) - $3 - waited_us)) seconds
    waited_us=0
    printf -v seconds '%d.%d' $((us / 1000000)) $((us / 100000 % 10))
    if (($# == 3)); then
        read_durations
        seconds=${seconds_of[$2]:-$seconds}
    fi
    timing_names+=("$1 ${2//_/ }")
    timing_seconds+=("$seconds")
    [[ $# -gt 3 ]] || return 0
    echo "    ${4:+$4, }$seconds s"
    printf '%s\t%s\t%s\t%s\t%s\n' "$2" "$seconds" "${4%% *}" "$machine" "${stage_command[*]@Q}" >>"$work/durations.tsv"
}

declare -A seconds_of=()

# Fill `seconds_of`, by the step's name, with what it took the last time.
read_durations() {
    local name seconds
    ((${#seconds_of[@]} == 0)) && [[ -f $work/durations.tsv ]] || return 0
    while IFS=$'\t' read -r name seconds _; do
        if [[ $name ]]; then seconds_of[$name]=$seconds; fi
    done <"$work/durations.tsv"
}

# A step of a stage, as one process. The script is a path in the repository, or -m and a module.
step() { # NUMBER NAME SCRIPT WORDS...
    run_step "" "$@"
}

# A step that is one training, of a process for each device that train_devices asks for.
train() { # NUMBER NAME SCRIPT WORDS...
    local together=()
    if [[ $train_devices != 1 ]]; then together=(-m synthio.pipeline.launch "$train_devices"); fi
    run_step "" "$@"
}

# A step whose rows are shared out to a process for each device: reads[0] and writes[0] are the CSVs, which the words do
# not name.
run_sharded() { # NUMBER NAME BLOCK_SIZE SCRIPT WORDS...
    local number=$1 name=$2 block=$3
    shift 3
    if ((shards == 1)); then block=""; fi
    run_step "$block" "$number" "$name" "$@" --input_csv "${reads[0]}" --output_csv "${writes[0]}"
}

run_step() { # BLOCK_SIZE, empty for one process; NUMBER NAME SCRIPT WORDS...
    local block=$1 number=$2 name=$3${name_end:-} started inputs launched interpreter=()
    shift 3
    [[ $1 == -m ]] || set -- "$root/$1" "${@:2}"
    if $planning; then
        record "$number" "$name" "$@"
    elif ((stage <= number && number <= stop_stage)); then
        started=$(now_us)
        mapfile -t interpreter <<<"${pythons[$name]:-$python}"
        inputs=("${reads[@]}" "${models[@]#*=}")
        launched=("${interpreter[@]}" "${together[@]}" "$@")
        stamp_options=(--stamp "$work/stamps/$name.json" --inputs "${inputs[@]}" --outputs "${writes[@]}"
            --watch_audio "${watched[@]}")
        if $early; then
            begin "$name" "${interpreter[@]}" "$@"
        elif must_run "$number" "$name" "${interpreter[@]}" "$@"; then
            make "$block" "$number" "$name" "${interpreter[@]}" "$@"
        else
            $dry_run || forget_jobs "$name"
            note_time "$number" "$name" "$started"
        fi
    fi
    clear_step
}

# Do the work of a step that must run, and stamp it. Reads `started`, `inputs`, `launched` and `stamp_options` of
# run_step.
make() { # BLOCK_SIZE NUMBER NAME COMMAND...
    local block=$1 number=$2 name=$3 counts shard_stamps=()
    shift 3
    if [[ -z $block ]]; then
        if [[ -n ${begun[$name]:-} ]]; then
            join "$work/logs/$name.log"
        else
            start "$work/logs/$name.log" env "SYNTHIO_LOADED=$work/stamps/$name.loaded" "${launched[@]}"
        fi
        wait_for_jobs
        stop_on_failure "stage $number ${name//_/ }" "$work/logs/$name.log"
    else
        helper "$root/split_csvs.py" --input_csv "${reads[0]}" --output_folder "$work/shards/$name" \
            --num_shards "$shards" --block_size "$block"
        run_shards "$number" "$name" "$work/shards/$name" "${@:1:$#-4}" # without the CSVs
        helper "$root/merge_csv.py" --input_csvs "${shard_outputs[@]}" --output_csv "${writes[0]}" \
            --expected_csv "${reads[0]}"
    fi
    ask synthio.pipeline.stamp write "${stamp_options[@]}" --parts "${shard_stamps[@]}" --command "$@" || lose "$name"
    counts=$REPLY
    forget_jobs "$name"
    note_time "$number" "$name" "$started" "$counts"
}

shard_stamp() { # ACTION SHARD_CSV COMMAND...
    local action=$1 csv=$2
    shift 2
    ask synthio.pipeline.stamp "$action" --stamp "${csv%.csv}.stamp.json" --inputs "$csv" "${inputs[@]:1}" \
        --outputs "${csv%.csv}.out.csv" --command "$@" --input_csv "$csv" --output_csv "${csv%.csv}.out.csv"
}

# The processes of a sharded stage; those whose output is complete are left out. Fills `shard_outputs`, `shard_stamps`.
run_shards() { # NUMBER NAME FOLDER COMMAND...
    local number=$1 name=$2 folder=$3 csv k=0 logs=() running=() i unwritten=0
    shift 3
    shard_outputs=() shard_stamps=()
    for csv in "$folder"/shard_[0-9][0-9][0-9].csv "$folder"/shard_[0-9][0-9][0-9][0-9].csv; do
        [[ -e $csv ]] || continue
        shard_outputs+=("${csv%.csv}.out.csv") shard_stamps+=("${csv%.csv}.stamp.json")
        if $force_steps || ! shard_stamp check "$csv" "$@"; then
            logs+=("$work/logs/$name.$((k + 1)).log")
            running+=("$csv")
            start "$work/logs/$name.$((k + 1)).log" env "CUDA_VISIBLE_DEVICES=${devices[k]:-}" \
                "SYNTHIO_LOADED=${csv%.csv}.stamp.loaded" "$@" --input_csv "$csv" --output_csv "${csv%.csv}.out.csv"
        else
            echo "    shard $((k + 1)) is complete"
        fi
        k=$((k + 1))
    done
    wait_for_jobs
    for i in "${!running[@]}"; do
        if [[ ${statuses[${logs[i]}]} == 0 ]]; then shard_stamp write "${running[i]}" "$@" || unwritten=1; fi
    done
    stop_on_failure "stage $number ${name//_/ }" "${logs[@]}"
    ((unwritten == 0)) || lose "$name"
}

# End a run whose jobs ended well but left no outputs: they were removed since.
lose() { # NAME
    forget_jobs "$1"
    exit 1
}

# End the run when a job failed: say how many, name the logs, print the end of the first.
stop_on_failure() { # LABEL LOG...
    local label=$1 log failed=() named="" status
    shift
    local logs=("$@")
    for log in "${logs[@]}"; do
        if [[ ${statuses[$log]} != 0 ]]; then failed+=("$log"); fi
    done
    ((${#failed[@]})) || return 0
    for log in "${failed[@]}"; do named+="${named:+, }$(shown "$log")"; done
    status=${statuses[${failed[0]}]}
    {
        if ((${#logs[@]} > 1)); then
            echo "run.sh: ${#failed[@]} of ${#logs[@]} shards of $label failed; see $named"
        else
            echo "run.sh: $label failed (status $status); see $named"
        fi
        if ((status > 128)); then echo "run.sh: it was $(killed "$status"); the same command goes on"; fi
        tell_full_disk "${failed[0]}"
        # on a terminal the words of a single process stand right above
        if [[ ${#logs[@]} -gt 1 || ! -t 1 ]]; then print_end "${failed[0]}" 15; fi
    } >&2
    exit 1
}

# Print the gain of the last round. Whether every class has its quota, so that no further round is needed.
quota_reached() { # KEPT...
    local csv rejected=() record=(--output_csv "$part/rounds.csv") REPLY status=0
    ! $planning || return 1
    for csv in "$@"; do
        [[ -f $csv ]] || ! $dry_run || return 1 # not known yet: no
        [[ -f $csv ]] || return 0               # the filter is beyond --stop_stage
        rejected+=("${csv%/*}/rejected.csv")
    done
    if $dry_run; then record=(); fi
    ask synthio.filtering.rounds count --gold_csv "$made_for" --num_iters "$num_iters" --kept_csvs "$@" \
        --rejected_csvs "${rejected[@]}" "${record[@]}" || status=$?
    ((status == 0 || status == 3)) || exit 2 # it has said why
    say "$REPLY"
    return "$status"
}

# One run at a time in a result folder. The kernel frees the lock when this process ends, however it ends: no child
# inherits it, but for one that starts jobs (slurm.sh).
lock() {
    lock_folder "$work"
    settle_jobs
}

lock_folder() { # FOLDER
    local words
    words=$(mkdir -p "$1" 2>&1) ||
        refuse "$(shown "$1") is for outputs, and cannot be made (${words##*: }); choose another results_root"
    command -v flock >/dev/null 2>&1 || return 0
    exec 9>"$1/.lock"
    flock --timeout 2 9 || refuse "another run works in $(shown "$1"); wait for it, or choose another dataset_name"
}

# As a job, which ends with the driver; and a shell that waits heeds a signal at once.
make_environment() { # FOLDER REQUIREMENTS
    set -m
    "${guard[@]}" bash "$root/extras/environments/make_env.sh" "$@" </dev/null 9>&- &
    set +m
    job_logs+=("$1") job_pids+=("$!")
    wait "$!" || exit
    job_logs=() job_pids=()
}

make_main_environment() {
    make_environment "$root/.venv" "$root/requirements.txt"
}

make_own_environments() {
    local name
    for name in "${own_envs[@]}"; do
        make_environment "$root/.envs/$name" "$root/extras/environments/$name.txt"
    done
}

# A tracker's library that is missing is told before the first stage, not after the hours of the fourth.
check_tracking() {
    local line name asked="" interpreter
    [[ $log_to != none ]] && ! $dry_run || return 0
    helper -m synthio.training.tracking --log_to "$log_to" || exit 2
    for line in "${ahead[@]}"; do
        IFS=$'\t' read -r _ name _ <<<"$line"
        [[ $line == *"'--log_to'"* && -n ${pythons[$name]:-} && $asked != *"${pythons[$name]}"* ]] || continue
        asked+=${pythons[$name]}
        mapfile -t interpreter <<<"${pythons[$name]}"
        "${interpreter[@]}" -m synthio.training.tracking --log_to "$log_to" 9>&- || exit 2
    done
}

stop_with_us() { # no job outlives the driver
    trap 'stopped 130' INT
    trap 'stopped 143' TERM
    trap 'stopped 129' HUP
    trap stop_jobs EXIT
}

stopped() { # STATUS
    trap '' INT TERM HUP
    echo "${0##*/}: stopped; the same command goes on from here" >&2 || true
    exit "$1"
}

# Refuse models that cannot do what is asked of them.
check_suits() {
    printf '%s\n' "${ahead[@]}" | helper -m synthio.pipeline.suits "${variables[@]}" || exit 2 # it has said why
}

# Lock the result folder, make the environments and say what lies ahead.
make_ready() {
    local name
    if $dry_run; then
        if [[ -x $python ]]; then
            check_suits
            announce
        else
            echo "(.venv is not there yet: it would be made first)"
        fi
        for name in "${own_envs[@]}"; do
            [[ -x $root/.envs/$name/bin/python ]] || echo "(.envs/$name is not there yet: it would be made first)"
        done
    else
        lock
        make_main_environment
        helper -m synthio.pipeline.sweep "$work" "$embeddings_folder"
        check_suits
        announce
        make_own_environments
    fi
    check_tracking
}
