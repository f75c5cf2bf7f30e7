# shellcheck shell=bash disable=SC2004,SC2034,SC2154 # arrays that step reads and variables of the driver that reads this file
# Stage functions of run.sh's recipe that only some variables ask for: a corpus in place of the generator, several
# generators, a fine-tuned CLAP or a classifier in the filter, captions by a server, classes of equal shares, a label for what
# is none of the others, advice in place of a run, whether the adapter is used, the gold clips' recording chain, what each
# part bought, clips that are added to a run, AST's training, what a listener decided.

# What else stage 0 looks at, and is told, beside the three CSVs: adds to `reads` and `words`.
check_more_inputs() {
    local name
    $augment || words+=(--augment_only)
    for name in retrieval_csv other_csv; do
        if [[ -n ${!name} ]]; then reads+=("${!name}") words+=("--$name" "${!name}"); fi
    done
}

# Set `tag`, what names of a generator other than the first have; the first one's are those of a run with one.
tag_member() {
    tag=""
    if ((member)); then tag=_m$((member + 1)); fi
}

# Fill `suited`, which words_of heeds, with what suits the size of the generator `member` in place of another one's.
suit_member() {
    local name
    suited=()
    is_full_size "${generators[member]}" || for name in "${!sized[@]}"; do suited[$name]=${sized[$name]}; done
}

# Generate a table of prompts: with several generators each has its share of each label's. Stages 6 and 8.
generate_shared() { # NUMBER SUFFIX INPUT OUTPUT AUDIO_FOLDER [MORE OPTIONS...]
    local member=0 tag shares=() clips=()
    if ((${#generators[@]} == 1)); then
        generate "$1" "generate$2" "$3" "$4" "$5" ${adapters[0]:+--adapter "${adapters[0]}"} "${@:6}"
        return
    fi
    for member in "${!generators[@]}"; do
        shares+=("${3%.csv}_m$((member + 1)).csv") clips+=("${4%.csv}_m$((member + 1)).csv")
    done
    reads=("$3") writes=("${shares[@]}")
    step "$1" "deal$2" -m synthio.generation.shares deal --input_csv "$3" --output_csvs "${shares[@]}"
    for member in "${!generators[@]}"; do
        tag_member
        generate "$1" "generate$tag$2" "${shares[member]}" "${clips[member]}" "$5" \
            ${adapters[member]:+--adapter "${adapters[member]}"} "${@:6}"
    done
    reads=("$3" "${clips[@]}") writes=("$4")
    step "$1" "gather$2" -m synthio.generation.shares gather --input_csv "$3" --made_csvs "${clips[@]}" --output_csv "$4"
}

# Captions by a server: one process, whose limits are those of the stage.
caption_served() {
    words_of CaptionerOptions gama_dir gama_checkpoint gama_env
    step 2 caption gama_csv_inf.py --input_csv "${reads[0]}" --output_csv "${writes[0]}" "${words[@]}"
}

# The nearest clips of a corpus stand where the generated ones would.
retrieve() { # NUMBER OUTPUT
    models=("clap_model=$clap_model") reads=("$train_csv" "$retrieval_csv" "$valid" "$test") writes=("$2")
    step "$1" retrieve extras/retrieve.py --gold_csv "$train_csv" --output_csv "$2" \
        --corpus_csv "$retrieval_csv" --exclude_csvs "$valid" "$test" --num_clips "$num_iters" --model "$clap_model" \
        --cache_folder "$embeddings_folder" --device "$device"
}

# What the filter hears with, in stage 7. Sets `filter_clap` and the array `filter_classifier`.
prepare_filter() {
    filter_clap=$clap_model filter_classifier=()
    if $filter_w_finetune; then
        models=("clap_model=$clap_model") reads=("$base_csv" "$valid") writes=("$work/clap_finetuned")
        words_of FinetuneOptions
        step 7 finetune_clap extras/finetune_clap.py --train_csv "$base_csv" --valid_csv "$valid" \
            --output_folder "$work/clap_finetuned" --model "$clap_model" "${words[@]}" --device "$device"
        case $clap_model in # it stays in the format that it came in
            *.pt) filter_clap=$work/clap_finetuned/clap.pt ;;
            msclap:* | *.pth) filter_clap=$work/clap_finetuned/clap.pth ;;
            *) filter_clap=$work/clap_finetuned ;;
        esac
    fi
    is_zero "$classifier_weight" || train_filter_classifier
}

# The classifier that has a say in the filter is not one that measures success: it has another seed, and where
# ast/train.py tests it stand the validation clips, so that no test clip has a part in what is kept.
train_filter_classifier() {
    local folder=$work/filter_classifier
    if $planning; then :; elif ((stage <= 7 && 7 <= stop_stage)); then
        say "the test clips of the next step are the validation clips"
    fi
    models=("ast_model=$ast_model") reads=("$base_csv" "$valid" "$work/checked/train.csv") writes=("$folder")
    words_of Recipe seed synthetic_weight # trained as the classifier is
    train 7 filter_classifier ast/train.py --train_csv "$base_csv" --valid_csv "$valid" --test_csv "$valid" \
        --classes_csv "${reads[2]}" --output_folder "$folder" --model "$ast_model" "${words[@]}" \
        --seed "$((seed + 1))" --device "$device" "${compiling[@]}"
    filter_classifier=(--classifier "$folder" --classifier_weight "$classifier_weight")
}

balance_classes() { # KEPT...
    reads=("$train_csv" "$@") writes=("$work/balanced.csv")
    step 9 balance -m synthio.filtering.rounds balance --gold_csv "$train_csv" --num_iters "$num_iters" --kept_csvs "$@" \
        --output_csv "$work/balanced.csv" --classifier_weight "$classifier_weight"
}

# The clips of a label for what is none of the others. In stage 9, so that too few of them are told before any training.
gather_other() {
    local csvs=("$gold" "$valid" "$test" "$work/checked/train.csv") thrown=()
    other=$work/other
    if $augment; then
        csvs[0]=$output_csv_path thrown=("${rejected[@]}")
    fi
    reads=("${csvs[@]}" "${thrown[@]}")
    if [[ -n $other_csv ]]; then reads+=("$other_csv"); fi
    writes=("$other/train.csv" "$other/valid.csv" "$other/classes.csv" "$other/foreign.csv")
    step 9 other -m synthio.classification.other --train_csv "${csvs[0]}" --valid_csv "$valid" --test_csv "$test" \
        --classes_csv "${csvs[3]}" --rejected_csvs "${thrown[@]}" --other_csv "$other_csv" --output_folder "$other" \
        --seed "$seed"
}

# One more classifier, with that label, and how many false alarms it saves.
classify_other() {
    local before=gold_only
    if $augment; then before=synthio; fi
    classify other "$other/train.csv" "$other/valid.csv" "$other/classes.csv"
    models=("$heads_clap=${!heads_clap}" "ast_model=$ast_model")
    reads=("$work/classifier/$before" "$work/classifier/other" "$other/foreign.csv") writes=("$work/false_alarms.json")
    step 10 false_alarms -m synthio.classification.false_alarms --before "${reads[0]}" --after "${reads[1]}" \
        --foreign_csv "${reads[2]}" --ast_model "$ast_model" --clap_model "${!heads_clap}" \
        --cache_folder "$embeddings_folder" --seed "$seed" --device "$device" --output_json "$work/false_alarms.json"
}

# Instead of the stages from 2 on: a few clips of each label are generated and heard, no classifier is tested.
give_advice() {
    local made=$work/advise/generated.csv
    reads=("$train_csv") writes=("$work/advise/prompts.csv")
    step 5 prompts_advise -m synthio.captions.samples --input_csv "$train_csv" --output_csv "${writes[0]}" --seed "$seed"
    adapters=()
    generate_shared 6 _advise "$work/advise/prompts.csv" "$made" "$output_folder/advise"
    models=("$heads_clap=${!heads_clap}" "ast_model=$ast_model")
    reads=("$made" "$train_csv" "$valid" "$work/checked/train.csv") writes=("$work/advise.json" "$work/advise.txt")
    step 10 advise -m synthio.report.advise --gold_csv "$train_csv" --valid_csv "$valid" --made_csv "$made" \
        --classes_csv "${reads[3]}" --output_json "${writes[0]}" --multi_label "$multi_label" --seed "$seed" \
        --synthetic_weight "$synthetic_weight" --ast_model "$ast_model" --clap_model "${!heads_clap}" \
        --cache_folder "$embeddings_folder" --device "$device"
    if $planning || $dry_run || ((stop_stage < 10)); then return; fi
    echo
    cat "$work/advise.txt"
    echo "as JSON          $(shown "$work/advise.json")"
}

# With dpo=auto: some losers again, now with the adapter of each generator. Where labels are heard less in these, none is
# used: in place of its folder stands a JSON, which says so to generate.py.
judge_alignment() {
    local member tag losers judged
    [[ $dpo == auto ]] || return 0
    for member in "${!generators[@]}"; do
        tag_member
        losers=$work/dpo/losers$tag.csv judged=$work/dpo/judged$tag
        reads=("$losers") writes=("$judged/prompts.csv")
        step 4 "again_prompts${tag}_judged" -m synthio.report.again --losers_csv "$losers" \
            --output_csv "${writes[0]}" --attribution_clips 100
        generate 4 "again${tag}_judged" "$judged/prompts.csv" "$judged/generated.csv" "$output_folder/dpo_judged" \
            --adapter "${adapters[member]}"
        models=("ast_model=$ast_model") reads=("$losers" "$judged/generated.csv" "$base_csv" "${adapters[member]}")
        writes=("$judged.json")
        step 4 "judge$tag" -m synthio.report.judge --losers_csv "$losers" --again_csv "${reads[1]}" \
            --gold_csv "$base_csv" --adapter "${adapters[member]}" --output_json "$judged.json" --ast_model "$ast_model" \
            --multi_label "$multi_label" --cache_folder "$embeddings_folder" --seed "$seed" --device "$device"
        adapters[member]=$judged.json
    done
}

# Some losers again, now with the adapter, and some first clips without their prompts: what alignment and captions bought.
# Sets `parts`, options of quality.
generate_again() {
    local folder=$work/again form=generated made=() asked=(--attribution_clips "$attribution_clips") losers=()
    parts=("${asked[@]}")
    if $channel_match; then form=unmatched; fi
    if ((${#generators[@]} > 1)); then form+=_m1; fi # the parts are those of the first
    { $quality && ((attribution_clips)) && [[ -z $retrieval_csv ]]; } || return 0
    if [[ $dpo != false && -z $dpo_ckpt_folder && $dpo_loss == dpo ]]; then
        losers=(--losers_csv "$work/dpo/losers.csv")
        if [[ $dpo == auto ]]; then made=("$work/dpo/judged/generated.csv"); else asked+=("${losers[@]}"); fi
    fi
    if ! $use_label && ! $initialize_audio; then asked+=(--first_csv "$work/round_0/$form.csv"); fi
    if ((${#asked[@]} > 2)); then
        writes=("$folder/prompts.csv")
        csvs_among "${asked[@]}"
        step 9 again_prompts -m synthio.report.again "${asked[@]}" --output_csv "${writes[0]}"
        generate 9 again "$folder/prompts.csv" "$folder/generated.csv" "$output_folder/again" \
            ${adapters[0]:+--adapter "${adapters[0]}"}
        made+=("$folder/generated.csv")
    fi
    ((${#made[@]} == 0)) || parts=("${asked[@]}" "${losers[@]}" --again_csvs "${made[@]}")
}

csvs_among() { # WORDS...; those that are tables are read
    local word
    for word in "$@"; do if [[ $word == *.csv ]]; then reads+=("$word"); fi; done
}

# The clips of a round as the gold clips were recorded; the first round's chain serves all.
match_channel() { # ROUND NUMBER NAME
    local folder=$part/round_$1 chain=$work/round_0/generated.channel.json options=()
    $channel_match || return 0
    if [[ $folder != "$work/round_0" ]]; then options=(--channel "$chain"); fi
    reads=("$folder/unmatched.csv" "$base_csv" "${options[@]:1}") writes=("$folder/generated.csv")
    step "$2" "$3" -m synthio.generation.match_channel --input_csv "${reads[0]}" --gold_csv "$base_csv" \
        --output_csv "${writes[0]}" --output_folder "$sounds/round_$1_matched" "${options[@]}"
}

# The clips of add_csv, checked, and behind those that were drawn: so the rows that were there keep their places.
add_clips() {
    words_of CheckOptions
    $augment || words+=(--augment_only)
    reads=("$add_csv" "$base_csv" "$valid" "$test" "$work/checked/train.csv") watched=("$add_csv") writes=("$added_csv")
    step 1 add -m synthio.data.add_clips --add_csv "$add_csv" --train_csv "$base_csv" --valid_csv "$valid" \
        --test_csv "$test" --classes_csv "${reads[4]}" --output_csv "$added_csv" "${words[@]}"
    reads=("$base_csv" "$added_csv") writes=("$train_csv")
    step 1 merge_added merge_csv.py --input_csvs "${reads[@]}" --output_csv "$train_csv"
}

# Stages 2 and 5 to 8 for these clips alone. Captions, adapter and clips of the others stay: their phrases are in the
# pool, and their prompts among those that were accepted.
make_clips_of_added() {
    local made_for=$added_csv gold_csv=$train_csv part=$work/added sounds=$output_folder/added name_end=_added
    make_clips
}

# Train AST, for the classifier of a CSV.
train_ast() { # NAME; reads the arrays csvs and options of classify
    local finished=() # which may be the same training: where no synthetic clip is worth to come
    if [[ $1 == synthio ]]; then finished=(--finished_folder "$work/classifier/gold_only_ast"); fi
    models=("ast_model=$ast_model") reads=("${csvs[@]}") writes=("$work/classifier/${1}_ast")
    words_of Recipe multi_label seed synthetic_weight # which are among the options
    train 10 "classify_$1" ast/train.py "${options[@]}" --output_folder "${writes[0]}" --model "$ast_model" \
        "${words[@]}" "${finished[@]}" "${compiling[@]}" "${tracking[@]}"
}

# What a listener decided, against the clips that are there now: all that is wrong with it is told before anything runs.
check_review() {
    local drawn=() found
    [[ -n $review ]] || return 0
    reads=("$review" "$work"/checked/{train,valid,test}.csv)
    for found in "$work"/{,added/}round_[0-9]*/generated.csv "$work/checked/added.csv"; do
        if [[ -f $found ]]; then reads+=("$found"); fi
    done
    if [[ -f $train_csv ]]; then drawn=(--gold_csv "$train_csv"); fi
    reads+=("${drawn[@]:1}") writes=("$work/checked/review.csv")
    step 0 check_review -m synthio.data.review check --review_csv "$review" --work "$work" "${drawn[@]}" \
        --output_csv "${writes[0]}" --multi_label "$multi_label"
}

# The same decisions on the clips that train: after all generation, so that none is done again. Reads and sets the array
# `kept` of synthesise, `rejected` and `gold`; all rounds are in `heard`.
apply_review() {
    local options=(--gold_csv "$train_csv" --gold_output "${train_csv%.csv}_reviewed.csv")
    [[ -n $review ]] || return 0
    reads=("$review" "$train_csv" "$work"/checked/{train,valid,test}.csv) writes=("$work/decisions.csv" "${options[3]}")
    gold=${options[3]}
    if $augment; then
        reads+=("${kept[@]}" "${heard[@]}")
        options+=(--kept_csvs "${kept[@]}" --made_csvs "${heard[@]}" --rejected_csvs "${rejected[@]}"
            --kept_output "$work/reviewed.csv" --rejected_output "$work/reviewed_rejected.csv")
        kept=("$work/reviewed.csv") rejected=("$work/reviewed_rejected.csv")
        writes+=("${kept[@]}" "${rejected[@]}")
    fi
    step 9 review -m synthio.data.review apply --review_csv "$review" --work "$work" "${options[@]}" \
        --output_csv "${writes[0]}" --multi_label "$multi_label"
}
