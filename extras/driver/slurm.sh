# shellcheck shell=bash disable=SC2004,SC2034,SC2154 # variables of the driver that reads this file, some by name
# The launcher of a SLURM cluster: the jobs of a step are the tasks of one job array. A command without --device computes
# nothing worth a turn in the queue and runs here. Folders are on a disk that the nodes share.
#
#     W/jobs/<step>/<name>/      an array; its name is the job's, so that it can be found, taken up and cancelled without an id
#         task.K                 what task K does, as bash text: a later driver takes up a task that does the same
#         script                 what sbatch is given: slurm_task.sh as it was when the run began
#         log.K  slurm.K.txt     what it says, what SLURM says of it; the first is copied to W/logs at the end
#         claim.K                made by the task that begins: a second copy of it does nothing
#         loaded.K               its notes of code and libraries
#         status.K               "status began ended node bytes-of-log", by a new name: it is there once the task has ended
#         id                     the queue has taken the array
#         cancelled              given up, and to be gone before anything else starts
#
# Neither accounting (sacct) nor `sbatch --wait` is needed: a task's end is a file, and the queue is asked now and then
# whether the rest are still known there. What it does not answer is no answer, so a controller may be away meanwhile.

queue_seconds=${SYNTHIO_QUEUE_SECONDS:-15}       # from one look at the queue to the next
grace_seconds=${SYNTHIO_GRACE_SECONDS:-60}       # until a task that is in no queue is believed lost: disks show files late
patience_seconds=${SYNTHIO_PATIENCE_SECONDS:-1800} # for a controller that does not answer
followed=16                                      # logs that are printed as they grow, of an array
# Set by the driver: the record depends on them.
own_options=(array output error input wait wrap parsable job-name dependency chdir export open-mode requeue no-requeue
    signal test-only)

# Of the jobs of the step, by number: what `start` was given, and where it is: "RECORD/K", "" before it is submitted.
task_logs=() task_texts=() task_loaded=() task_outputs=() task_places=()
declare -gA task_tries=() task_missing=() # how often it was lost; since when no queue knows it
declare -gA task_at=() failed_names=()    # place -> number; arrays of which a task failed
declare -gA known_tasks=()                # text -> place, of earlier calls
declare -gA fetched=()                    # models that are in the cache of the hub
declare -gA queue=()                      # place, without the folder -> "STATE ID REASON"
task_script=$(<"$root/extras/driver/slurm_task.sh") # now: it goes with what is written here, and may change meanwhile
at_once="" # tasks of an array that may run at once; empty: as many as the cluster lets
tried_options=none # with which sbatch lets jobs pass
next_look=0 next_number=0 queue_words="" first_began=0 last_ended=0

# ---------------------------------------------------------------- what SLURM is asked

# What an outer job or the user's defaults would change in the calls below.
clean_environment() {
    local name
    for name in $(compgen -e); do
        case $name in
            SLURM_CONF | SLURM_CONF_SERVER | SLURM_CLUSTERS) ;;
            SLURM_* | SQUEUE_* | SCANCEL_* | SBATCH_EXPORT | SBATCH_WAIT | SBATCH_SIGNAL) unset "$name" ;;
        esac
    done
}

# Set the array `sbatch_options` from launcher_options.
read_sbatch_options() {
    local word own
    sbatch_options=()
    for word in $launcher_options; do
        word=${word#--}
        for own in "${own_options[@]}"; do
            [[ ${word%%=*} != "$own" ]] || refuse "launcher_options: '$word' is set by the driver; leave it out"
        done
        [[ $word =~ ^[a-z][a-z-]*(=.+)?$ ]] ||
            refuse "launcher_options: '$word' is no option of sbatch by its long name, such as partition=gpu or exclusive"
        sbatch_options+=("--$word")
    done
}

# What jobs are shared out to: tasks that get what launcher_options asks for. The driver's own GPUs and cores count for
# nothing. The number of threads decides in which order sums are rounded.
find_devices() {
    local word
    read_sbatch_options
    asked=("${sbatch_options[@]}")
    devices=() shards=$launcher_tasks threads=$cpu_threads
    if ((threads == 0)); then
        threads=1
        for word in "${sbatch_options[@]}"; do
            if [[ $word =~ ^--cpus-per-task=([1-9][0-9]*)$ ]]; then threads=${BASH_REMATCH[1]}; fi
        done
    fi
    set_threads
    machine="SLURM ($launcher_options), tasks: $shards, threads of each: $threads"
    machine=${machine/ ()/}
    $dry_run || look_for_slurm
}

look_for_slurm() {
    local word missing=() answer
    for word in sbatch squeue scancel scontrol; do
        command -v "$word" >/dev/null 2>&1 || missing+=("$word")
    done
    if ((${#missing[@]})); then
        lack "launcher=slurm: ${missing[*]} not found; call this on a login node of the cluster, or take launcher=local"
    elif $check; then
        answer=$(try_sbatch) || lack "launcher=slurm: sbatch says of a job with launcher_options='$launcher_options': $answer"
        together=(launch)
        ask_for_devices
        [[ ${asked[*]} == "${sbatch_options[*]}" ]] || answer=$(try_sbatch) ||
            lack "launcher=slurm, train_devices=$train_devices: sbatch says of a job with ${asked[*]}: $answer"
        together=()
    fi
}

# Set `asked`, what sbatch is asked for. launcher_options are for a task with one device: where several processes do the
# step, GPUs and cores are as many times that. With train_devices=auto they take what is there.
ask_for_devices() {
    local word
    local counted='^(--(gres=gpu:|gpus=|gpus-per-node=|gpus-per-task=|cpus-per-task=)([A-Za-z][A-Za-z0-9_-]*:)?)([0-9]+)$'
    asked=()
    for word in "${sbatch_options[@]}"; do
        if [[ ${#together[@]} -gt 0 && $train_devices != auto && $word =~ $counted ]]; then
            word=${BASH_REMATCH[1]}$((BASH_REMATCH[4] * train_devices))
        fi
        asked+=("$word")
    done
}

# Print what sbatch says of a job like ours, which it does not submit. Of an array it lets pass what can never run.
try_sbatch() { # reads `asked`
    local answer status=0
    answer=$(timeout 60 sbatch --test-only "${asked[@]}" --wrap true 2>&1 9>&-) || status=$?
    printf '%s' "${answer//$'\n'/; }"
    return "$status"
}

# Refuse options that sbatch refuses. A controller that has just come back knows its nodes after some seconds only.
try_options() { # STEP
    local answer pause
    tried_options=${asked[*]}
    for pause in 1 2 4 0; do
        answer=$(try_sbatch) && return 0
        ! is_passing "$answer" || return 0
        [[ $answer == *"not available"* ]] || break
        nap "$pause"
    done
    refuse "sbatch refuses the jobs of $1: $answer"
}

# Whether sbatch failed because the controller is away or busy, by its words.
is_passing() { # WORDS
    case $1 in "" | *imed\ out* | *contact* | *onnect* | *temporarily*) ;; *) return 1 ;; esac
}

# Fill `queue` with the tasks of arrays in some states; fails where the controller does not answer.
ask_queue() { # STATES, empty for those that have not ended; NAME...
    local states=() names answer name k id state reason
    if [[ -n $1 ]]; then states=(--states "$1"); fi
    shift
    names=$(IFS=, && echo "$*")
    answer=$(timeout 60 squeue --noheader --array "${states[@]}" --name "$names" --format '%j %K %F %T %r' 2>&1 9>&-) || {
        queue_error=${answer##*$'\n'}
        return 1
    }
    queue=()
    while read -r name k id state reason; do
        if [[ -n $name ]]; then queue[$name/$k]="$state $id $reason"; fi
    done <<<"$answer"
}

# The same, again and again until it answers, which is told each time.
insist_on_queue() { # STATES NAME...
    local end=$((SECONDS + patience_seconds))
    until ask_queue "$@"; do
        ((SECONDS < end)) || refuse "the cluster's controller has not answered for $patience_seconds s: $queue_error"
        say "the queue does not answer (${queue_error:-no words}); asking again"
        nap "$queue_seconds"
    done
}

nap() { sleep "$1" 9>&-; } # who waits does not hold the lock

is_queued() { # NAME, among those that were asked for
    local place
    for place in "${!queue[@]}"; do
        if [[ $place == "$1"/* ]]; then return 0; fi
    done
    return 1
}

# End what is left of some arrays, and wait until it is gone.
cancel_jobs() { # NAME...
    local end=$((SECONDS + patience_seconds)) told=$((SECONDS + 5))
    (($#)) || return 0
    while true; do
        insist_on_queue "" "$@"
        ((${#queue[@]})) || return 0
        timeout 60 scancel --name "$(IFS=, && echo "$*")" 9>&- 2>/dev/null || true
        ((SECONDS < end)) || refuse "these jobs do not end: $*"
        if ((SECONDS > told)); then
            say "waiting until jobs of an earlier call have ended: $*"
            told=$((SECONDS + 60))
        fi
        nap 0.3
    done
}

# ---------------------------------------------------------------- records of earlier calls

# Print the folder of each record, of a step or of all.
list_records() { # [STEP]
    local record
    for record in "$work"/jobs/*/*/; do
        record=${record%/}
        if [[ -d $record && ${record%/*} == "$work/jobs/"${1:-*} ]]; then printf '%s\n' "$record"; fi
    done
}

remove_records() { # RECORD...
    (($# == 0)) || rm -rf "$@" 2>/dev/null || true # a network disk keeps what somebody reads
    rmdir "$work"/jobs/* "$work/jobs" 2>/dev/null || true
}

# Take up what an earlier call left. An array that the queue never took is forgotten, one that was given up must be gone.
settle_jobs() {
    local record records given_up=() unknown=() file text
    clean_environment
    known_tasks=()
    mapfile -t records < <(list_records)
    for record in "${records[@]}"; do
        if [[ -e $record/cancelled ]]; then given_up+=("$record"); elif [[ ! -e $record/id ]]; then unknown+=("$record"); fi
    done
    cancel_jobs "${given_up[@]##*/}"
    remove_records "${given_up[@]}"
    if ((${#unknown[@]})); then insist_on_queue all "${unknown[@]##*/}"; fi
    for record in "${unknown[@]}"; do
        if is_queued "${record##*/}" || compgen -G "$(quoted "$record")/claim.*" >/dev/null; then
            echo "found again" >"$record/id"
        else
            remove_records "$record"
        fi
    done
    for record in "${records[@]}"; do
        for file in "$record"/task.*; do
            if [[ -f $file ]] && ! IFS= read -r -d '' text <"$file"; then known_tasks[$text]=$record/${file##*.}; fi
        done
    done
}

quoted() { # a path as a pattern that means itself
    printf '%s' "${1//[^a-zA-Z0-9\/._-]/?}"
}

# For another launcher: refuse to work beside jobs that are in the queue.
refuse_queued() {
    local records names=()
    mapfile -t records < <(list_records)
    ! all_ended "${records[@]}" || return 0
    names=("${records[@]##*/}")
    clean_environment
    ask_queue "" "${names[@]}" || refuse "jobs of launcher=slurm may be at work in $(shown "$work"), and the queue does" \
        "not say ($queue_error); ask again, or remove $(shown "$work/jobs") if none of them is: ${names[*]}"
    ((${#queue[@]} == 0)) || refuse "jobs of launcher=slurm are at work in $(shown "$work"); call again with it, or end" \
        "them: scancel --name $(IFS=, && echo "${names[*]}")"
}

all_ended() { # RECORD...
    local record file
    for record; do
        for file in "$record"/task.*; do
            [[ ! -e $file || -e $record/status.${file##*.} ]] || return 1
        done
    done
}

# What a record asks for and nobody wants any more is ended, before anything takes its place.
drop_records() { # STEP
    local record records file place names=() dropped=()
    mapfile -t records < <(list_records "$1")
    for record in "${records[@]}"; do
        place=""
        for file in "$record"/task.*; do
            if [[ -n ${task_at[$record/${file##*.}]:-} ]]; then place=$record; fi
        done
        if [[ -z $place ]]; then
            dropped+=("$record") names+=("${record##*/}")
        else
            drop_tasks "$record"
        fi
    done
    if ! all_ended "${dropped[@]}"; then cancel_jobs "${names[@]}"; fi
    remove_records "${dropped[@]}"
}

# Of a record that is wanted in part: the tasks that are not.
drop_tasks() { # RECORD
    local record=$1 file k ids place name=${1##*/}
    for file in "$record"/task.*; do
        k=${file##*.}
        if [[ -z ${task_at[$record/$k]:-} && ! -e $record/status.$k ]]; then
            while insist_on_queue "" "$name" && [[ -n ${queue[$name/$k]:-} ]]; do
                read -r _ ids _ <<<"${queue[$name/$k]}"
                timeout 60 scancel "${ids}_$k" 9>&- 2>/dev/null || true
                nap 0.3
            done
        fi
        if [[ -z ${task_at[$record/$k]:-} ]]; then rm -f "$file"; fi
    done
}

forget_jobs() { # STEP
    local records
    mapfile -t records < <(list_records "$1")
    ((${#records[@]})) || return 0
    if ! all_ended "${records[@]}"; then cancel_jobs "${records[@]##*/}"; fi
    remove_records "${records[@]}"
}

# ---------------------------------------------------------------- starting

start() { # LOG COMMAND...
    if [[ " ${*:2} " == *" --device "* ]]; then start_task "$@"; else start_here "$@"; fi
}

# Nodes often have no network: what a step loads from the hub is in its cache before its tasks start.
fetch_models() {
    local word model
    for word in "${models[@]}"; do
        model=${word#*=}
        [[ $model =~ ^[A-Za-z0-9_-][A-Za-z0-9_.-]*/[A-Za-z0-9_.-]+$ && ! -e $model && -z ${fetched[$model]:-} ]] || continue
        helper -m synthio.pipeline.fetch "$model" || exit 2 # it has said why
        fetched[$model]=1
    done
}

# Take down a task. The driver's GPUs are not the node's, and what a process has loaded is noted in the record.
start_task() { # LOG COMMAND...
    local log=$1 name word exports="" loaded="" begun="" text output="" i=$next_number
    shift
    fetch_models
    if [[ $1 == env ]]; then
        while [[ $2 == *=* ]]; do
            case $2 in
                SYNTHIO_LOADED=*) loaded=${2#*=} ;;
                CUDA_VISIBLE_DEVICES=*) ;;
                *) name=${2#*=} exports+=" ${2%%=*}=${name@Q}" ;;
            esac
            shift
        done
        shift
    fi
    for name in PYTHONPATH PYTHONUNBUFFERED OMP_NUM_THREADS OMP_WAIT_POLICY MALLOC_MMAP_THRESHOLD_ \
        MALLOC_TRIM_THRESHOLD_ MALLOC_TOP_PAD_; do
        if [[ -n ${!name+set} ]]; then exports+=" $name=${!name@Q}"; fi
    done
    # the inputs' content: with another, the same command is another task
    if [[ -f ${loaded%.loaded}.begun ]]; then IFS= read -r -d '' begun <"${loaded%.loaded}.begun" || true; fi
    printf -v text '%s\n' "log=${log@Q}" "directory=${PWD@Q}" "loaded=${loaded@Q}" "begun=${begun@Q}" "export$exports" \
        "command=(${*@Q})"
    for word; do
        if [[ $name == --output_csv || " ${writes[*]} " == *" $word "* ]]; then output=$word; fi
        name=$word
    done
    next_number=$((i + 1))
    task_logs[i]=$log task_texts[i]=$text task_loaded[i]=$loaded task_outputs[i]=$output task_tries[$i]=0
    task_places[i]=""
    take_up "$i" "${known_tasks[$text]:-}"
}

# Take up a task of an earlier call: one that is at work, or has ended well and was not booked since.
take_up() { # TASK PLACE
    local place=$2 status=""
    [[ -n $place && -f ${place%/*}/task.${place##*/} ]] || return 0
    if [[ -e ${place%/*}/status.${place##*/} ]]; then
        read -r status _ <"${place%/*}/status.${place##*/}" || true
        [[ $status == 0 ]] || return 0
        [[ ! ${task_loaded[$1]%.loaded}.json -nt ${place%/*}/status.${place##*/} ]] || return 0
    fi
    task_places[$1]=$place task_at[$place]=$1
}

step_of() { # LOG: "generate" of W/logs/generate.3.log
    local name=${1##*/}
    name=${name%.log}
    if [[ ${name##*.} =~ ^[0-9]+$ ]]; then name=${name%.*}; fi
    printf '%s' "${name:-step}"
}

# Submit the tasks that are in no record, in as few arrays as the cluster allows.
submit_tasks() { # STEP
    local i new=() most=1000 answer
    for i in "${!task_logs[@]}"; do
        if [[ -z ${task_places[i]} ]]; then new+=("$i"); fi
    done
    ((${#new[@]})) || return 0
    ask_for_devices
    if answer=$(timeout 60 scontrol show config 2>/dev/null 9>&-); then # else sbatch will say that nobody answers
        if [[ $answer =~ MaxArraySize[\ =]+([0-9]+) ]]; then most=$((BASH_REMATCH[1] - 1)); fi # highest index is below it
        ((most > 0)) || refuse "this cluster takes no job arrays (MaxArraySize)"
        [[ $tried_options == "${asked[*]}" ]] || try_options "$1"
    fi
    while ((${#new[@]})); do
        submit "$1" "${new[@]:0:most}"
        new=("${new[@]:most}")
    done
}

# Submit tasks as one array. sbatch can fail after it has submitted, so the queue is asked before it is called again. It
# holds the lock of the result folder: if the driver is killed meanwhile, no other one starts before sbatch has ended.
submit() { # STEP TASK...
    local step=$1 name record i k=0 answer end=$((SECONDS + patience_seconds))
    shift
    name=synthio-$dataset_name-$step-$(date +%m%d%H%M%S)-$(printf '%04x%04x' $RANDOM $RANDOM)
    name=${name//[^A-Za-z0-9._-]/_}
    record=$work/jobs/$step/$name
    mkdir -p "$record"
    printf '%s\n' "$task_script" >"$record/script"
    for i; do
        k=$((k + 1))
        : >"$record/log.$k"
        printf '%s' "${task_texts[i]}" >"$record/task.$k"
        task_places[i]=$record/$k task_at[$record/$k]=$i
    done
    until answer=$(timeout 300 sbatch --parsable --job-name "$name" --array "1-$k${at_once:+%$at_once}" \
        --output "${record//%/%%}/slurm.%a.txt" --open-mode append --no-requeue --export ALL --chdir / \
        "${asked[@]}" "$record/script" "$record" 2>&1); do
        answer=${answer//$'\n'/; }
        if ask_queue all "$name"; then
            if is_queued "$name" || compgen -G "$(quoted "$record")/claim.*" >/dev/null; then break; fi
            if ! is_passing "$answer"; then
                withdraw "$record"
                refuse "sbatch refuses the jobs of $step: $answer"
            fi
        fi
        if ((SECONDS >= end)); then
            withdraw "$record"
            refuse "sbatch has not taken the jobs of $step for $patience_seconds s: $answer"
        fi
        say "sbatch could not submit (${answer##*; }); trying again"
        nap "$queue_seconds"
    done
    echo "$answer" >"$record/id"
    echo "    submitted $k task$( ((k == 1)) || echo s): $name"
}

withdraw() { # RECORD that no queue has
    local place
    for place in "${!task_at[@]}"; do
        if [[ ${place%/*} == "$1" ]]; then
            unset "task_places[${task_at[$place]}]" "task_logs[${task_at[$place]}]" "task_at[$place]"
        fi
    done
    remove_records "$1"
}

# ---------------------------------------------------------------- waiting

wait_for_jobs() { # [one]
    local mode=${1:-all} step started i
    if ((${#task_logs[@]} == 0)); then
        wait_here "$@"
        return
    fi
    statuses=() started=$SECONDS
    for i in "${!task_logs[@]}"; do break; done
    step=$(step_of "${task_logs[i]}")
    if ((next_look == 0)); then # the first call for these tasks
        drop_records "$step"
        submit_tasks "$step"
        next_look=$((SECONDS + queue_seconds)) queue_words="" first_began=0 last_ended=0
    fi
    until wait_enough; do
        if [[ $mode == all ]]; then follow_tasks; fi
        look_at_files
        print_new
        if ((SECONDS >= next_look)); then look_at_queue; fi
        submit_tasks "$step"
        if ! wait_enough; then nap "$( ((SECONDS - started < 60)) && echo 0.5 || echo 1)"; fi
    done
    if ((${#task_logs[@]})); then return 0; fi
    if ((${#failed_names[@]})); then # somebody may have put one in the queue again
        timeout 60 scancel --name "$(IFS=, && echo "${!failed_names[*]}")" 9>&- 2>/dev/null || true
    fi
    next_look=0 next_number=0 failed_names=()
    waited_us=$(((SECONDS - started - (last_ended - first_began)) * 1000000))
}

wait_enough() { # reads `mode`
    if [[ $mode == one ]]; then ((${#statuses[@]})); else ((${#task_logs[@]} == 0)); fi
}

follow_tasks() {
    local i prefix
    for i in "${!task_logs[@]}"; do
        ((i < followed)) || break
        if [[ -z ${log_fds[i]:-} && -n ${task_places[i]} ]]; then
            prefix="    "
            if ((next_number > 1)); then prefix="    [$((i + 1))] "; fi
            follow "$i" "${task_places[i]%/*}/log.${task_places[i]##*/}" "$prefix"
        fi
    done
}

# See which tasks have ended. Files are asked for only when the list of the folder has them: of a name that was not there
# a network disk says so for a while after it is; and a new name in the folder makes it look anew.
look_at_files() {
    local record path i code began ended node size
    local -A records=()
    for i in "${!task_places[@]}"; do
        if [[ -n ${task_places[i]} ]]; then records[${task_places[i]%/*}]=1; fi
    done
    for record in "${!records[@]}"; do
        { : >"$record/.look" && rm -f "$record/.look"; } 2>/dev/null || true
        for path in "$record"/status.*; do
            i=${task_at[$record/${path##*.}]:-}
            if [[ -n $i ]] && read -r code began ended node size <"$path"; then
                end_task "$i" "$code" "$began" "$ended" "$size"
            fi
        done
    done
}

# A task has ended. Where it was cut off, it starts again if launcher_retries allows.
end_task() { # TASK STATUS BEGAN ENDED BYTES
    local i=$1 code=$2 place=${task_places[$1]}
    if ((code == 143)); then
        find_state "$place"
        if [[ -n $state ]] && try_again "$i"; then return 0; fi
    fi
    if ((first_began == 0 || $3 < first_began)); then first_began=$3; fi
    if (($4 > last_ended)); then last_ended=$4; fi
    await_size "${place%/*}/log.${place##*/}" "$5"
    if ((code == 0)) && [[ -n ${task_outputs[i]} ]]; then await_output "${task_outputs[i]}"; fi
    book_task "$i" "$code"
}

# Set `state`, and `reason` in brackets, to what the queue says of a task that has ended, if it still knows.
find_state() { # PLACE
    local record=${1%/*} k
    local key=${record##*/}/${1##*/}
    for ((k = 0; k < 20; k++)); do
        state="" reason=""
        if ask_queue all "${record##*/}"; then read -r state _ reason <<<"${queue[$key]:-}"; fi
        case $state in RUNNING | COMPLETING) nap 0.5 ;; *) break ;; esac
    done
    if [[ -n $reason ]]; then reason=" ($reason)"; fi
}

await_size() { # PATH BYTES
    local k text LC_ALL=C # a letter is a byte
    for ((k = 0; k < grace_seconds; k++)); do
        IFS= read -r -d '' -n "$2" text <"$1" || true # without another process, for there may be thousands of tasks
        if ((${#text} >= $2)) || (($(wc -c <"$1") >= $2)); then return 0; fi
        nap 1
    done
}

await_output() { # PATH
    local k
    for ((k = 0; k < grace_seconds; k++)); do
        [[ ! -e $1 ]] || return 0
        ls "${1%/*}" >/dev/null 2>&1 || true
        nap 1
    done
}

# Hand a task's end to the driver: its log, its notes, its status.
book_task() { # TASK STATUS
    local i=$1 place=${task_places[$1]} log lines
    log=${place%/*}/log.${place##*/}
    if [[ -n ${log_fds[i]:-} ]]; then
        print_new
        mapfile -t -s "${log_lines[i]}" lines <"$log" # opened anew: what is open may not show what is new
        log_rests[i]=""
        if ((${#lines[@]})); then printf "${log_prefixes[i]//%/%%}%s\n" "${lines[@]}"; fi
        unfollow "$i"
    elif [[ ${mode:-all} == all ]]; then
        mapfile -t lines <"$log"
        if ((${#lines[@]})); then echo "    [$((i + 1))] ${lines[-1]}"; fi
    fi
    [[ -d ${task_logs[i]%/*} ]] || mkdir -p "${task_logs[i]%/*}"
    cp "$log" "${task_logs[i]}"
    if [[ -n ${task_loaded[i]} && -d ${place%/*}/loaded.${place##*/} ]]; then
        mkdir -p "${task_loaded[i]}"
        cp "${place%/*}/loaded.${place##*/}"/*.json "${task_loaded[i]}/"
    fi
    log=${place%/*}
    if [[ $2 != 0 ]]; then failed_names[${log##*/}]=1; fi
    statuses[${task_logs[i]}]=$2
    unset "task_logs[$i]" "task_texts[$i]" "task_loaded[$i]" "task_outputs[$i]" "task_places[$i]" "task_at[$place]"
}

# See whether the tasks that have not ended are still known. One that is not, twice and a while apart, is lost.
look_at_queue() {
    local i place key names words
    next_look=$((SECONDS + queue_seconds))
    mapfile -t names < <(for place in "${task_places[@]}"; do echo "${place%/*}"; done | sort -u)
    ask_queue "" "${names[@]##*/}" || {
        tell_queue "the queue does not answer (${queue_error:-no words}); what runs, runs on"
        return 0
    }
    words=$(printf '%s\n' "${queue[@]}" | sort | awk '
        $1 == "PENDING" { $2 = ""; $1 = ""; sub("^ *", ""); n["PENDING (" $0 ")"]++; next }
        NF { n[$1]++ }
        END { for (i in n) printf "%s%d %s", c++ ? ", " : "", n[i], i }')
    if [[ $words == *PENDING* || (-n $queue_words && -n $words) ]]; then tell_queue "queue: $words"; fi
    look_at_files
    for i in "${!task_places[@]}"; do
        place=${task_places[i]}
        key=${place%/*} key=${key##*/}/${place##*/}
        if [[ -n ${queue[$key]:-} ]]; then
            unset "task_missing[$i]"
        elif [[ -z ${task_missing[$i]:-} ]]; then
            task_missing[$i]=$SECONDS
        elif ((SECONDS - task_missing[$i] >= grace_seconds)); then
            lose_task "$i"
        fi
    done
}

# Print what the queue says, when its kind changes: with a count alone it would be a line a look.
tell_queue() { # WORDS
    local kind=${1//[0-9]/}
    [[ $kind != "$queue_words" ]] || return 0
    queue_words=$kind
    echo "    $1"
}

lose_task() { # TASK
    local i=$1 place=${task_places[$1]} said
    find_state "$place"
    unset "task_missing[$i]"
    ! try_again "$i" || return 0
    said=$(tail -n 3 "${place%/*}/slurm.${place##*/}.txt" 2>/dev/null) || true
    echo "the task did not end by itself: ${state:-the queue does not know it any more}$reason${said:+; $said}" \
        >>"${place%/*}/log.${place##*/}"
    book_task "$i" "${state:-lost}"
    mv "${place%/*}/task.${place##*/}" "${place%/*}/lost.${place##*/}" # it is never taken up again
}

# Submit a task again that was lost or cut off, which says nothing against it.
try_again() { # TASK; reads `state`
    local i=$1 place=${task_places[$1]}
    case ${state:-lost} in NODE_FAIL | TIMEOUT | PREEMPTED | BOOT_FAIL | lost) ;; *) return 1 ;; esac
    ((task_tries[$i] < launcher_retries)) || return 1
    task_tries[$i]=$((task_tries[$i] + 1))
    say "task $((i + 1)): ${state:-lost}; it is submitted again (${task_tries[$i]} of $launcher_retries)"
    if [[ -n ${log_fds[i]:-} ]]; then unfollow "$i"; fi
    mv "${place%/*}/task.${place##*/}" "${place%/*}/lost.${place##*/}"
    unset "task_at[$place]"
    task_places[i]=""
}

# ---------------------------------------------------------------- ending

# When the driver ends before its tasks: after a lost connection (HUP) they stay, for the same call finds them again;
# else they are given up.
stop_jobs() {
    local status=$? place names=() list
    local -A records=()
    stop_here
    for place in "${task_places[@]}"; do
        if [[ -n $place ]]; then records[${place%/*}]=1; fi
    done
    ((${#records[@]})) || return 0
    names=("${!records[@]}")
    list=$(IFS=, && echo "${names[*]##*/}")
    if ((status == 129)); then
        echo "${0##*/}: the jobs run on; the same call finds them: squeue --name $list" >&2
        return 0
    fi
    for place in "${names[@]}"; do : >"$place/cancelled"; done
    timeout 10 scancel --name "$list" 9>&- 2>/dev/null ||
        echo "${0##*/}: the queue does not answer; when it does: scancel --name $list" >&2
}
