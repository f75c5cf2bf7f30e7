#!/usr/bin/env bash
# shellcheck disable=SC2034,SC2154,SC2329 # run.sh, which is read below, sets and reads variables by name
if [ -z "${BASH_VERSION:-}" ] || shopt -qo posix; then exec env -u POSIXLY_CORRECT -u SHELLOPTS bash "$0" "$@"; fi # `sh experiment.sh`: sh may be dash
# Methods x numbers of clips x seeds x folds on one dataset, and a table like the paper's:  sh experiment.sh
# `sh experiment.sh --help` explains every variable. Edit them here, or give them as --name value. Every other variable
# of run.sh may be given too and holds for all methods (an edit in run.sh does so as well).
#
# A job is one call of run.sh: a method, n, seed and fold, in a result root of its own,
#     <results_root>/<experiment_name>/n100_seed0_fold5/<method>/<dataset_name>/
# The roots of one n, seed and fold lie side by side, and run.sh's share_stages takes a stage that one of them has done
# over as links: what is the same between methods (checks, losers, adapter, captions, generation, the gold-only
# classifier) is done once, and no method can overwrite another. The methods of one n, seed and fold therefore run one
# after the other; the others run side by side. A job that is done, by its options, data and code, is not started again.

# ==== variables
# Lists are parted by commas or spaces.
methods="gold_only synthio" # text: all, or some of the methods; gold_only is always among them
n=100                      # text: numbers of training clips to draw (paper: 50,100,200,500); 0: all
seeds=0                    # text: seeds; each draws its own training clips
folds=all                  # text: folds to test on, each with the fold before it for validation; for --source
source=""                  # text: CSV with a column fold (and group, if clips belong together), or what preparer reads
preparer=csv               # csv|esc10|esc50|us8k: what --source is, for dataset_csvs/prepare.py
experiment_name=""         # text: names the folder of results; empty: <dataset_name>_experiment
mixup_alpha=0.3            # number 0.001..: of the method mixup
jobs=auto                  # whole 1..64 or auto: jobs at once; auto: one for each GPU, 1 without
resamples=1000             # whole 100..100000: of the bootstrap
compare_to=gold_only       # text: the method that the table takes differences to; synthio: what each part is worth
paper_csv=""               # text: table to compare with (n,method,<datasets>); empty: dataset_csvs/paper_table.csv
only_table=false           # bool: start no job; make the tables of what is there, also while jobs run
only_cell=""               # text: only the jobs of one n, seed and fold, such as n100_seed0_fold5, and no table: the tasks of launcher=slurm
# ==== end of variables
set -euo pipefail

root=$(CDPATH="" cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
for part in options choices steps local jobs cells; do
    # shellcheck source=/dev/null # each is checked by itself
    source "$root/extras/driver/$part.sh"
done
# shellcheck source=/dev/null # the variables of run.sh, as they stand there
source <(sed -n '/^# ==== variables/,/^# ==== end/p' "$root/run.sh")

# What each method is for run.sh, in the order in which they run. Read now: the file may change while the jobs run.
all_methods=() classical=() # those that augment gold clips by classical means
declare -A words_of_method=()
while IFS='|' read -r method words _; do
    [[ $method =~ ^([a-z_]+)\ $ ]] || continue # a comment
    all_methods+=("${BASH_REMATCH[1]}")
    words_of_method[${BASH_REMATCH[1]}]=$words
    if [[ $words == *" --augment false --"* ]]; then classical+=("${all_methods[-1]}"); fi
done <"$root/extras/methods.txt"

print_help() {
    cat <<'END'
usage: sh experiment.sh [--name value | --name=value]... [--dry_run] [--version] [--help]

Methods, each as options of run.sh (extras/methods.txt):
END
    awk -F ' *[|] *' '!/^#/ { printf "  %-23s %s\n", $1, $3 }' "$root/extras/methods.txt"
    cat <<'END'

Each trains its classifier for the same number of steps and wants the same number of synthetic clips. All that
gold_only and synthio train has a row of its own: ast, probe, zero_shot, fusion, gold_and_valid and so on, with synthetic
clips synthio_ast, synthio_probe and so on. What the clips of each method bring to a classifier stands below.
END
    print_variables "${BASH_SOURCE[0]}"
    echo
    echo "And every variable of run.sh but those that tell the methods apart: see sh run.sh --help. make_report and quality"
    echo "are false here: a job has a report.html or quality.json only if they are given."
}

# Set the array `method_options` to what a method is for run.sh.
set_method_options() { # METHOD
    local i variable
    contains "$1" "${all_methods[@]}" || refuse "--methods: '$1' is none of all, ${all_methods[*]}"
    read -ra method_options <<<"${words_of_method[$1]}"
    for i in "${!method_options[@]}"; do
        variable=${method_options[i]//[\{\}]/}
        if [[ ${method_options[i]} == "{$variable}" ]]; then method_options[i]=${!variable}; fi
    done
}

# Variables of run.sh that the jobs set, that tell the methods apart, or that job_command passes on.
set_by_jobs=(num_samples seed share_stages output_folder output_csv_path stage stop_stage)
told_apart=(augment dpo use_label plain_caption plain_wo_caption clap_filter iterative use_ast zero_shot
    ast_waveform_augment ast_spec_augment ast_mixup dpo_loss)
held_back=(dataset_name input_train_file valid_csv test_csv results_root retrieval_csv embeddings_folder dry_run
    make_report quality launcher launcher_options launcher_tasks launcher_retries)

contains() { # WORD WORDS...
    local word=$1 other
    shift
    for other in "$@"; do
        if [[ $word == "$other" ]]; then return 0; fi
    done
    return 1
}

# Parse the options. Sets the array `passed_on` to those that every job gets.
read_options() {
    local name
    local -A before=()
    for name in "${run_names[@]}"; do before[$name]=${!name}; done
    parse_options "$@"
    check_variables
    ! $advise || refuse "--advise is for run.sh, with the same options: sh run.sh --advise"
    ! $check || refuse "--check is for run.sh, with the same options: sh run.sh --check"
    passed_on=()
    for name in "${run_names[@]}"; do
        [[ ${!name} != "${before[$name]}" ]] || continue
        ! contains "$name" "${set_by_jobs[@]}" || refuse "--$name is set by the jobs; give n, seeds and results_root"
        ! contains "$name" "${told_apart[@]}" || refuse "--$name tells the methods apart; choose among --methods"
        contains "$name" "${held_back[@]}" || passed_on+=("--$name" "${!name}")
    done
}

# Set the arrays `method_list`, `n_list` and `seed_list`.
read_lists() {
    local name
    read -ra n_list <<<"${n//,/ }"
    read -ra seed_list <<<"${seeds//,/ }"
    ((${#n_list[@]} && ${#seed_list[@]})) || refuse "--n and --seeds need a number each"
    for name in "${n_list[@]}" "${seed_list[@]}"; do
        [[ $name =~ ^(0|[1-9][0-9]{0,8})$ ]] || refuse "--n and --seeds: '$name' is not a whole number"
    done
    read_methods
}

read_methods() {
    local name wanted=(gold_only)
    for name in ${methods//,/ }; do
        [[ $name == all ]] || set_method_options "$name" # refuses what is none
        [[ $name != retrieval || -n $retrieval_csv ]] || refuse "the method retrieval needs --retrieval_csv, a corpus"
        wanted+=("$name")
    done
    if contains synthio_best_classical "${wanted[@]}"; then wanted+=("${classical[@]}"); fi # what it chooses among
    method_list=()
    for name in "${all_methods[@]}"; do
        [[ $name != retrieval || -n $retrieval_csv ]] || continue
        if contains all "${wanted[@]}" || contains "$name" "${wanted[@]}"; then method_list+=("$name"); fi
    done
}

# ---------------------------------------------------------------- data

# Set the array `fold_list`; without --source it has one empty name.
list_folds() {
    local name
    fold_list=("")
    [[ -n $source ]] || return 0
    [[ -z $given_csv ]] || refuse "--source and --input_train_file are two datasets; give one"
    if [[ $folds != all ]]; then
        read -ra fold_list <<<"${folds//,/ }"
    elif [[ $preparer == csv ]]; then
        name=$(helper -m synthio.report.experiment folds --csv "$source") || exit 2
        mapfile -t fold_list <<<"$name"
    else
        fold_list=(1 2 3 4 5)
        [[ $preparer != us8k ]] || fold_list+=(6 7 8 9 10)
    fi
    ((${#fold_list[@]})) || refuse "--folds is empty"
    for name in "${fold_list[@]}"; do
        [[ $name =~ ^[A-Za-z0-9_][A-Za-z0-9._-]*$ ]] || refuse "--folds: '$name' cannot name a folder"
    done
}

prepare_data() {
    local fold words
    for fold in "${fold_list[@]}"; do
        data_folder "$fold"
        if [[ -n $source ]]; then
            words=("$preparer" --source "$source" --test_fold "$fold")
            if [[ $preparer == csv ]]; then
                words+=(--fold_column fold)
                if head -n 1 "$source" | tr -d '\r"' | tr ',' '\n' | grep -qx group; then words+=(--group_column group); fi
            fi
        elif [[ -z $given_csv ]]; then
            words=(demo --seed 0)
        else
            continue
        fi
        helper "$root/dataset_csvs/prepare.py" "${words[@]}" --output_folder "$data" >"$work/prepare.log" 2>&1 || {
            cat "$work/prepare.log" >&2
            exit 2
        }
    done
}

# Set `data`, the folder of a fold's CSVs, and the array `csvs`, options that name them.
data_folder() { # FOLD
    data=$work/data/${1:+fold_$1}
    data=${data%/}
    csvs=(--input_train_file "$data/train.csv" --valid_csv "$data/valid.csv" --test_csv "$data/test.csv")
    if [[ -n $given_csv ]]; then
        csvs=(--input_train_file "$input_train_file" --valid_csv "$valid_csv" --test_csv "$test_csv")
    fi
}

# ---------------------------------------------------------------- jobs

# Set `classifier`: where a job's run.sh leaves scores.json. Without synthetic clips that is gold_only.
classifier_folder() { # METHOD CELL
    local name=gold_only
    set_method_options "$1"
    contains --augment "${method_options[@]}" || name=synthio
    classifier=$work/$2/$1/$dataset_name/classifier/$name
}

# Print the classical method that is best on the validation clips of a cell.
best_classical() { # CELL
    local method scores=()
    for method in "${classical[@]}"; do
        classifier_folder "$method" "$1"
        if [[ -f $classifier/scores.json ]]; then scores+=("$method=$classifier/scores.json"); fi
    done
    ((${#scores[@]})) || return 1
    helper -m synthio.report.experiment best --scores "${scores[@]}"
}

# Set the array `command`.
job_command() { # JOB
    local method=${job_methods[$1]} cell=${job_cells[$1]} best
    data_folder "${job_folds[$1]}"
    set_method_options "$method"
    if [[ $method == synthio_best_classical ]] && ! $dry_run; then
        best=$(best_classical "$cell") || return 1
        say "$(job_name "$1") takes $best, the best classical augmentation on validation clips"
        set_method_options "$best"
        method_options=("${method_options[@]:2}") # without --augment false
    fi
    command=(bash "$root/run.sh" --results_root "$work/$cell/$method" --dataset_name "$dataset_name" "${csvs[@]}"
        --num_samples "${job_ns[$1]}" --seed "${job_seeds[$1]}" --share_stages true --make_report "$make_report"
        --quality "$quality" --embeddings_folder "$work/embeddings" "${passed_on[@]}" "${method_options[@]}")
}

# A sum over what a job is given: the command, its CSVs, the driver and the state of the model folders.
job_key() { # COMMAND...; where it runs is no part of it
    { printf '%s\n' "$@" "$given_sum" | sed '/^--\(device\|train_devices\|cpu_threads\)$/,+1d' && cat "${csvs[1]}" "${csvs[3]}" "${csvs[5]}"; } | cksum | tr ' ' '-'
}

sum_given() { # the driver by content, the models by name, size and time
    local path models=()
    for path in "${generators[@]}" "$clap_model" "$ast_model" "$captioner" "$caption_writer"; do # absolute
        if [[ -e $path ]]; then models+=("$path"); fi
    done
    given_sum=$({
        cat "$root/run.sh" "$root"/extras/driver/*.{sh,txt} "$root"/extras/{profiles,sizes}.txt
        ((${#models[@]} == 0)) || ls -lLR "${models[@]}"
    } | cksum)
}

# Whether the journal says that the job was done with this key, its scores are there, and its steps' code is as it was.
is_done() { # JOB KEY
    classifier_folder "${job_methods[$1]}" "${job_cells[$1]}"
    [[ -f $classifier/scores.json ]] &&
        grep -qsF "${job_methods[$1]},${job_cells[$1]},$2,0," "$work/jobs.csv" "$journal" &&
        helper -m synthio.pipeline.loaded "${classifier%/classifier/*}/stamps" >/dev/null
}

print_plan() { # which scores belong to the table
    local i
    echo "method,n,seed,fold,cell,scores"
    for i in "${!job_states[@]}"; do
        classifier_folder "${job_methods[i]}" "${job_cells[i]}"
        echo "${job_methods[i]},${job_ns[i]},${job_seeds[i]},${job_folds[i]},${job_cells[i]},${classifier#"$work"/}/scores.json"
    done
}

# What differences are taken to is a method that runs, or a row of what the methods train.
check_comparison() {
    local rows=()
    if [[ -x $python ]]; then mapfile -t rows < <(helper -m synthio.report.experiment heads); fi
    contains "$compare_to" "${method_list[@]}" "${rows[@]}" ||
        refuse "--compare_to: '$compare_to' is none of ${method_list[*]} ${rows[*]}"
}

# Check the options and fill in what depends on them.
resolve() {
    given_csv=$input_train_file$valid_csv$test_csv
    read_lists
    check_choices
    [[ -z $source || -e $source ]] || refuse "--source: no such file or folder: $source"
    [[ $train_devices == 1 || $train_devices == auto ]] ||
        refuse "--train_devices: $train_devices; of an experiment it is 1, or auto for the GPUs that each job is dealt"
    [[ -n $source || $folds == all ]] || refuse "--folds goes with --source, whose clips have folds"
    resolve_paths
    source=$(absolute "$source")
    paper_csv=$(absolute "$paper_csv")
    work=$results_root/${experiment_name:-${dataset_name}_experiment} journal=$work/jobs.csv
    $dry_run || make_main_environment # the others are made by the jobs that need them
    check_comparison
    find_devices
    list_folds
    plan_jobs
    count_slots
}

experiment() {
    local status=0 run_names given_words=("$@")
    read_variables "$root/run.sh"
    run_names=("${names[@]}")
    make_report=false quality=false # of each job, unless asked for
    read_block "${BASH_SOURCE[0]}"
    read_options "$@"
    stop_with_us
    resolve
    if $dry_run; then
        if [[ $launcher == local ]]; then show_plan; else show_cells; fi
        return
    fi
    mkdir -p "$work"
    if [[ -n $only_cell ]]; then
        run_only_cell
        return
    fi
    if ! $only_table; then
        lock
        prepare_data
        refuse_misfits
        sum_given
        if [[ $launcher == local ]]; then run_jobs; else run_cells; fi
    fi
    print_plan >"$work/.plan.tmp"
    mv "$work/.plan.tmp" "$work/plan.csv"
    helper -m synthio.report.experiment table --folder "$work" --dataset_name "$dataset_name" --resamples "$resamples" \
        --compare_to "$compare_to" --paper_csv "${paper_csv:-$root/dataset_csvs/paper_table.csv}" || status=$?
    name_failures || status=1
    return "$status"
}

experiment "$@"; exit # on one line: bash reads on where it stopped, and the file may have changed meanwhile
