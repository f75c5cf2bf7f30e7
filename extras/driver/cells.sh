# shellcheck shell=bash disable=SC2004,SC2034,SC2154 # variables of the driver that reads this file, some by name
# An experiment by another launcher than this machine's: a task for each cell (n, seed, fold), which is experiment.sh
# itself with --only_cell. It does the methods of the cell one after the other, for each takes up what others have done,
# and keeps its journal in the cell's folder: several nodes cannot append to one file of a network disk.

# Set `cell_list`, and by cell `cell_jobs`, the numbers of its jobs.
list_cells() {
    local i cell
    declare -gA cell_jobs=()
    cell_list=()
    for i in "${!job_cells[@]}"; do
        cell=${job_cells[i]}
        if [[ -z ${cell_jobs[$cell]:-} ]]; then cell_list+=("$cell"); fi
        cell_jobs[$cell]+="$i "
    done
}

# Set the array `command`: the words of this call, for one cell and by the node's own launcher.
cell_command() { # CELL
    command=(bash "$root/experiment.sh" "${given_words[@]}" --launcher local --launcher_options "" --jobs 1
        --cpu_threads "$threads" --device "$device" --only_cell "$1")
}

run_cells() {
    local cell log cells_left=0 cells_done=0 began=$SECONDS
    list_cells
    if [[ $jobs != auto ]]; then at_once=$jobs; fi
    for cell in "${cell_list[@]}"; do
        take_journal "$cell"
        if is_cell_done "$cell"; then
            cells_done=$((cells_done + 1))
            continue
        fi
        cell_command "$cell"
        mkdir -p "$work/$cell"
        start "$work/$cell/cell.log" "${command[@]}"
        cells_left=$((cells_left + 1))
    done
    say "${#cell_list[@]} tasks of ${#method_list[@]} methods each, $cells_done of them done: ${method_list[*]}"
    cells_ended=0
    while ((cells_left > cells_ended)); do
        wait_for_jobs one
        for log in "${!statuses[@]}"; do
            cell=${log%/cell.log}
            cells_ended=$((cells_ended + 1))
            book_cell "${cell##*/}" "${statuses[$log]}"
        done
    done
    forget_jobs cell
}

# Whether every job of a cell is done as it would be now.
is_cell_done() { # CELL
    local i
    ! $force_steps || return 1
    for i in ${cell_jobs[$1]}; do
        job_command "$i" >/dev/null && is_done "$i" "$(job_key "${command[@]}")" || return 1
    done
    for i in ${cell_jobs[$1]}; do job_states[i]=kept; done
}

# Add what is new in a cell's journal to that of the experiment.
take_journal() { # CELL
    local new
    [[ -s $work/jobs.csv ]] || echo "method,cell,key,status,seconds" >"$work/jobs.csv"
    new=$(grep -vxFf "$work/jobs.csv" "$work/$1/jobs.csv" 2>/dev/null) || true
    if [[ -n $new ]]; then printf '%s\n' "$new" >>"$work/jobs.csv"; fi
}

# A cell's task has ended: what its methods came to stands in its journal.
book_cell() { # CELL STATUS; reads cells_left, cells_ended and began of run_cells
    local cell=$1 i last good=0 count=0 left
    take_journal "$cell"
    for i in ${cell_jobs[$cell]}; do
        last=$(grep "^${job_methods[i]},$cell," "$work/jobs.csv" | tail -n 1 | cut -d , -f 4) || true
        classifier_folder "${job_methods[i]}" "$cell"
        job_states[i]=failed count=$((count + 1))
        if [[ $last == 0 && -f $classifier/scores.json ]]; then
            job_states[i]=finished
            good=$((good + 1))
        fi
    done
    left=$(((SECONDS - began) * (cells_left - cells_ended) / cells_ended))
    left=$( ((cells_left == cells_ended)) || printf '; about %d min left' $(((left + 59) / 60)))
    say "$cells_ended/$cells_left: $cell: $good of $count methods$left"
    if [[ $2 != 0 ]]; then
        echo "    the task ended with $2; see $(shown "$work/$cell/cell.log")"
        tail -n 4 "$work/$cell/cell.log" | sed 's/^/    /'
    fi
}

# The jobs of one cell, on a node. Data and tables are the driver's, who holds the lock of the experiment. By hand, before
# any driver, there is no data yet.
run_only_cell() {
    mkdir -p "$work/$only_cell"
    lock_folder "$work/$only_cell"
    journal=$work/$only_cell/jobs.csv
    fold_list=("${job_folds[0]}")
    data_folder "${job_folds[0]}"
    [[ -f ${csvs[1]} && -f ${csvs[3]} && -f ${csvs[5]} ]] || prepare_data
    sum_given
    run_jobs
    name_failures
}

# Of a dry run: the tasks, and the hours that what was measured gives.
show_cells() {
    local cell
    list_cells
    print_plan | helper -m synthio.report.node_hours --journal "$work/jobs.csv" --at_once "${jobs/auto/0}"
    for cell in "${cell_list[@]}"; do
        cell_command "$cell"
        printf '%s\n    ' "$cell"
        printf '%q ' "${command[@]}"
        echo
    done
}
