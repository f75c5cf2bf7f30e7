# shellcheck shell=bash disable=SC2004,SC2034,SC2154 # variables of the driver that reads this file, some by name
# The end of a run: scores, seconds, where things are, and the page that shows it.

# Write W/timings.csv and W/report.html, print scores and seconds, say where things are.
report() {
    local i scores=("gold-only=$work/classifier/gold_only/scores.json") name=synthio measured=() best
    local trained=("gold-only=$work/classifier/gold_only_heads")
    if $planning || $dry_run; then
        write_page
        return
    fi
    if $use_ast; then trained+=("gold-only=$work/classifier/gold_only_ast"); fi
    mkdir -p "$work"
    {
        echo stage,seconds
        for i in "${!timing_names[@]}"; do echo "${timing_names[i]},${timing_seconds[i]}"; done
    } >"$work/.timings.tmp"
    mv "$work/.timings.tmp" "$work/timings.csv"
    ((stop_stage == 10)) || return 0
    if $augment; then
        if $only_synthetic; then name=synthetic-only; fi
        scores+=("$name=$work/classifier/synthio/scores.json")
        trained+=("$name=$work/classifier/synthio_heads")
        if $use_ast; then trained+=("$name=$work/classifier/synthio_ast"); fi
        if $quality; then measured=(--quality "$work/quality.json"); fi
    fi
    echo
    if $other_class; then measured+=(--false_alarms "$work/false_alarms.json"); fi
    helper -m synthio.report.results --output_json "$work/scores.json" --timings "$work/timings.csv" --seed "$seed" \
        "${measured[@]}" "${tracking[@]}" --scores "${scores[@]}" --trained "${trained[@]}"
    echo
    echo "scores           $(shown "$work/scores.json")"
    echo "classifiers      $(shown "$work/classifier")"
    best=$(dirname "${scores[-1]#*=}")
    if $other_class; then best=$work/classifier/other; fi
    echo "listen with it   python listen.py --model '$(shown "$best")' --input recordings --output events.csv"
    if $augment; then
        echo "training CSV     $(shown "$output_csv_path")"
        echo "synthetic audio  $(shown "$output_folder")"
        echo "with a card      $(shown "$work/dataset")"
    fi
    write_page
}

# The page that shows the run. The scores stand without it, so its failure is told and does not end the run.
write_page() {
    local log=$work/logs/report.log command words=()
    $make_report || return 0
    words_of ReportClips
    command=(-m synthio.report.page --work "$work" --output "$work/report.html" "${words[@]}")
    if $planning; then
        reads=("$output_csv_path") writes=("$work/report.html")
        $augment || reads=("$train_csv")
        record 10 report "${command[@]}"
        clear_step
    fi
    ! $planning && ! $dry_run || return 0
    mkdir -p "$work/logs"
    rm -f "$work/report.html" # never that of an earlier run beside these scores
    if helper "${command[@]}" >"$log" 2>&1; then
        echo "report           $(shown "$(tail -n 1 "$log")")"
    else
        echo "run.sh: the report could not be made (the scores above stand); see $(shown "$log")" >&2
    fi
}
