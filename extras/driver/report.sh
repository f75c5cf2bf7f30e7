# shellcheck shell=bash disable=SC2004,SC2034,SC2154 # variables of the driver that reads this file, some by name
# The end of a run: scores, seconds, where things are, and the page that shows it.

# Write W/timings.csv and W/report.html, print scores and seconds, say where things are.
report() {
    local page scores=() results=() words=() ends=(--stamp "$work/stamps/report.end" --outputs "$work/scores.json" "$work/scores.txt")
    words_of ReportClips
    page=(-m synthio.report.page --work "$work" --output "$work/report.html" "${words[@]}")
    if $planning || $dry_run; then
        plan_page
        return
    fi
    write_timings
    ((stop_stage == 10)) || return 0
    name_results
    if $make_report; then ends+=("$work/report.html"); fi
    ends+=(--tables "${made[@]}" "$work/timings.csv" --command "$python" "${results[@]//"$work/"/}" "${page[@]//"$work/"/}")
    echo
    if ask synthio.pipeline.stamp check "${ends[@]}" && ! $force_steps && [[ $log_to == none ]]; then
        cat "$work/scores.txt"
        say_where
        if $make_report; then say_report; fi
        return
    fi
    SYNTHIO_LOADED=$work/stamps/report.loaded print_results
    say_where
    if $make_report; then SYNTHIO_LOADED=$work/stamps/report.loaded write_page || return 0; fi
    ask synthio.pipeline.stamp write "${ends[@]}" || true # the next call makes them again
}

# The page in the plan.
plan_page() {
    ! $planning || ! $make_report || {
        reads=("$output_csv_path") writes=("$work/report.html")
        $augment || reads=("$train_csv")
        record 10 report "${page[@]}"
        unset "made[-1]" # it is no part of itself
        clear_step
    }
}

write_timings() {
    local i
    mkdir -p "$work"
    {
        echo stage,seconds
        for i in "${!timing_names[@]}"; do echo "${timing_names[i]},${timing_seconds[i]}"; done
    } >"$work/.timings.tmp"
    mv "$work/.timings.tmp" "$work/timings.csv"
}

# Set `scores`, name=file of the chosen classifiers, and `results`, the command that prints them.
name_results() {
    local name=synthio measured=() trained=("gold-only=$work/classifier/gold_only_heads")
    scores=("gold-only=$work/classifier/gold_only/scores.json")
    if $use_ast; then trained+=("gold-only=$work/classifier/gold_only_ast"); fi
    if $augment; then
        if $only_synthetic; then name=synthetic-only; fi
        scores+=("$name=$work/classifier/synthio/scores.json")
        trained+=("$name=$work/classifier/synthio_heads")
        if $use_ast; then trained+=("$name=$work/classifier/synthio_ast"); fi
        if $quality; then measured=(--quality "$work/quality.json"); fi
    fi
    if $other_class; then measured+=(--false_alarms "$work/false_alarms.json"); fi
    results=(-m synthio.report.results --output_json "$work/scores.json" --timings "$work/timings.csv" --seed "$seed"
        "${measured[@]}" "${tracking[@]}" --scores "${scores[@]}" --trained "${trained[@]}")
}

# Print the scores, and keep what was printed for the next call.
print_results() {
    helper "${results[@]}" >"$work/.scores.tmp"
    mv "$work/.scores.tmp" "$work/scores.txt"
    cat "$work/scores.txt"
}

say_where() { # reads the scores of name_results
    local best
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
}

# The page that shows the run. The scores stand without it, so its failure is told and does not end the run.
write_page() {
    mkdir -p "$work/logs"
    rm -f "$work/report.html" # never that of an earlier run beside these scores
    if helper "${page[@]}" >"$work/logs/report.log" 2>&1; then
        say_report
    else
        echo "run.sh: the report could not be made (the scores above stand); see $(shown "$work/logs/report.log")" >&2
        return 1
    fi
}

say_report() { # with what it said of its size, perhaps when the folder was elsewhere
    local said
    said=$(tail -n 1 "$work/logs/report.log")
    echo "report           $(shown "$work/report.html ${said##*/report.html }")"
}
