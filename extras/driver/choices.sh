# shellcheck shell=bash disable=SC2004,SC2034,SC2154 # variables of the driver that reads this file, some by name
# What the variables of run.sh mean together: what is refused, and the paths that follow from them.

# Refuse values that cannot go together, before anything runs.
check_choices() {
    check_prompt_modes
    check_classifiers
    check_servers
    check_alignment
    check_filter
    ! $advise || { $augment && [[ -z $retrieval_csv ]]; } ||
        refuse "advise=true asks what generated clips would bring; it needs augment=true and no retrieval_csv"
    choose_launcher
    $augment || ! $only_synthetic || refuse "only_synthetic=true needs augment=true"
    ((stage <= stop_stage)) || refuse "--stage $stage comes after --stop_stage $stop_stage"
    [[ $device == auto || $device == cpu || $device == mps ]] ||
        refuse "--device: '$device' is none of auto, cpu, mps; choose GPUs by CUDA_VISIBLE_DEVICES"
    check_given
    check_dataset_name
}

check_prompt_modes() {
    local name modes=()
    for name in use_label plain_caption plain_wo_caption; do
        if ${!name}; then modes+=("$name"); fi
    done
    ((${#modes[@]} < 2)) || refuse "${modes[0]} and ${modes[1]} are both true; they are different prompts, so choose one"
}

check_classifiers() {
    ! $zero_shot || { ! $use_ast && ! $augment; } || refuse "zero_shot=true trains nothing; it needs use_ast=false and augment=false"
    $use_ast || ! $supcon || refuse "supcon=true trains AST, but use_ast is false; drop one of them"
    if ! $use_ast; then
        [[ $classifier != ast ]] || refuse "classifier=ast needs use_ast=true"
        [[ $ast_waveform_augment == none && $ast_spec_augment == false ]] || refuse "use_ast=false takes no augmentation of AST"
        is_zero "$ast_mixup" || refuse "use_ast=false takes no ast_mixup"
    fi
    choose_head
    ! $supcon || is_zero "$ast_mixup" ||
        refuse "supcon=true asks which clips share a label, and ast_mixup blends the labels; drop one of them"
}

# What only some captioners and writers of prompts take: a clone, a server.
check_servers() {
    if [[ $captioner == gama ]]; then
        [[ -d $gama_dir ]] || lack "--gama_dir: no such folder: '$gama_dir' (captioner=gama needs a clone of its repository)"
        [[ -e $gama_checkpoint ]] || lack "--gama_checkpoint: no such file: '$gama_checkpoint' (captioner=gama needs it)"
    else
        [[ -z $gama_dir$gama_checkpoint ]] || refuse "gama_dir and gama_checkpoint go with captioner=gama"
    fi
    if [[ $captioner == openai ]]; then
        [[ -n $caption_model ]] || refuse "captioner=openai needs --caption_model, the name of a model on the server that hears"
    else
        [[ -z $caption_model$caption_base_url ]] || refuse "caption_model and caption_base_url go with captioner=openai"
    fi
    if [[ $caption_writer == openai ]]; then
        [[ -n $llm_model ]] || refuse "caption_writer=openai needs --llm_model, the name of a model on the server"
    else
        [[ -z $llm_model$llm_base_url ]] || refuse "llm_model and llm_base_url go with caption_writer=openai"
    fi
}

check_alignment() {
    [[ $dpo != auto || (-z $dpo_ckpt_folder && $dpo_loss == dpo) ]] ||
        refuse "dpo=auto asks the losers of its alignment: it takes neither dpo_ckpt_folder nor dpo_loss=sft; say dpo=true"
    [[ -z $dpo_ckpt_folder || $dpo != false ]] || refuse "dpo_ckpt_folder is given, but dpo is false; drop one of them"
    [[ $dpo_pairs == gold ]] || ((dpo_losers > 1)) || refuse "dpo_pairs=ranked needs dpo_losers of 2 or more"
    [[ $dpo_loss == dpo || ($dpo_pairs == gold && $dpo_rounds == 1) ]] ||
        refuse "dpo_loss=sft knows no losers, so it takes neither dpo_pairs=ranked nor several dpo_rounds"
}

check_filter() {
    check_needs
    $clap_filter || ! $filter_w_finetune || refuse "filter_w_finetune=true needs clap_filter=true"
}

# What goes with one value of another variable alone; the scripts have the same rules (synthio/options.py).
check_needs() {
    local row name value other wanted why
    for row in "${need_rows[@]}"; do
        read -r name value other wanted why <<<"$row"
        if [[ $value == nonzero ]]; then
            ! is_zero "${!name}" || continue
        else
            [[ ${!name} == "$value" ]] || continue
        fi
        [[ ${!other} == "$wanted" ]] || refuse "$name=${!name} needs $other=$wanted: $why"
    done
}

# Whether the CSVs and folders that are given are there and go together.
check_given() {
    local name csvs=()
    for name in input_train_file valid_csv test_csv; do
        if [[ -n ${!name} ]]; then csvs+=("$name"); fi
    done
    ((${#csvs[@]} == 0 || ${#csvs[@]} == 3)) ||
        refuse "only ${csvs[*]} given; give input_train_file, valid_csv and test_csv, or none of them for the demo set"
    for name in "${csvs[@]}"; do
        [[ -f ${!name} ]] || lack "--$name: no such CSV file: ${!name}"
    done
    [[ -z $add_csv || -f $add_csv ]] || lack "--add_csv: no such CSV file: $add_csv"
    [[ -z $add_csv || -z $retrieval_csv ]] ||
        refuse "add_csv extends what is generated, and retrieval_csv takes a corpus in its place; drop one of them"
    [[ -z $other_csv ]] || $other_class || refuse "other_csv goes with other_class=true"
    [[ -z $other_csv || -e $other_csv ]] || refuse "--other_csv: no such CSV file or folder: $other_csv"
    [[ $other_class == false || -n $other_csv ]] || { $augment && $clap_filter; } ||
        refuse "other_class=true without other_csv has nothing but what a filter rejects: it needs augment and clap_filter"
    [[ -z $review || -f $review ]] || lack "--review: no such CSV file: $review (report.html saves it)"
    [[ -z $retrieval_csv || -f $retrieval_csv ]] || refuse "--retrieval_csv: no such CSV file: $retrieval_csv"
    [[ -z $dpo_ckpt_folder || -d $dpo_ckpt_folder ]] || refuse "--dpo_ckpt_folder: no such folder: $dpo_ckpt_folder"
}

check_dataset_name() {
    case $dataset_name in
        "" | .* | -* | */*) refuse "--dataset_name: '$dataset_name' cannot name a folder; no '/', no leading '.' or '-'" ;;
        ast | benchmarks | dataset_csvs | extras | runs | stable-audio-tools | synthio | tests)
            refuse "--dataset_name: '$dataset_name' is a folder of this program; choose another name" ;;
    esac
    local LC_ALL=C
    ((${#dataset_name} <= 200)) || refuse "--dataset_name: a name of ${#dataset_name} bytes, at most 200 are allowed"
}

# Read the launcher that is asked for over that of this machine.
choose_launcher() {
    if [[ $launcher == local ]]; then
        [[ -z $launcher_options ]] || refuse "launcher_options go with launcher=slurm"
        return
    fi
    if [[ $launcher != slurm ]]; then
        [[ -f $launcher ]] || refuse "--launcher: '$launcher' is neither local, slurm nor a file of launcher functions"
        launcher=$(absolute "$launcher")
    fi
    # shellcheck source=/dev/null # checked by itself
    if [[ $launcher == slurm ]]; then source "$root/extras/driver/slurm.sh"; else source "$launcher"; fi
}

# Set `head`, the trained method that becomes the classifier, or auto.
choose_head() {
    head=$classifier
    if $zero_shot; then
        [[ $classifier == auto ]] || refuse "zero_shot=true is a classifier of its own; leave classifier at auto"
        head=zero_shot
    elif [[ $classifier == probe || ($classifier == auto && $use_ast == false) ]]; then
        head=probe
        [[ $probe_embeddings == both ]] || head=probe_$probe_embeddings
    fi
    [[ $head == probe* || $probe_embeddings == both ]] || refuse "probe_embeddings goes with classifier=probe"
}

absolute() { # a path as seen from the caller's folder
    case $1 in
        "" | /*) printf '%s' "$1" ;;
        *) printf '%s' "$PWD/${1#./}" ;;
    esac
}

shown() { # a path as short as it can be said
    local REPLY
    printable "${1#"$PWD"/}"
    printf '%s' "$REPLY"
}

# Print what a folder or file lacks that a model or an adapter has; nothing where it may be one, by its names.
lacks_of_model() { # PATH CONFIG...: one such file says what the weights are; a checkpoint may do so itself
    local path=$1 config weights=(-name '*.safetensors' -o -name '*.ckpt' -o -name '*.bin' -o -name '*.pt' -o -name '*.pth')
    shift
    if [[ ! -d $path ]]; then
        [[ ! -f $path || $(find "$path" \( "${weights[@]}" \)) ]] || printf 'it is no file of weights'
        return
    fi
    for config in "$@"; do
        [[ -f $path/$config ]] || continue
        # parts of a model have folders of their own
        [[ $(find -L "$path/" -maxdepth 2 \( "${weights[@]}" \) -print -quit) ]] || printf '%s is there, but no weights' "$config"
        return
    done
    [[ $(find -L "$path/" -maxdepth 1 \( "${weights[@]}" \) -print -quit) ]] ||
        { printf 'no %s' "$1" && printf ' or %s' "${@:2}" && printf ', and no weights'; }
}

model_path() { # VALUE VARIABLE: folder or hub id
    local lacks
    if [[ $1 == embedded ]]; then
        printf '%s' "$root/${own_models[$2]}"
    elif [[ -e $1 ]]; then
        lacks=$(lacks_of_model "$1" config.json model_index.json model_config.json)
        [[ -z $lacks ]] || refuse "$1: holds no model: $lacks"
        absolute "$1"
    else
        case $1 in
            ./* | ../* | /*) refuse "no such model folder: $1" ;;
            *.pt | *.pth | *.ckpt | *.safetensors) refuse "no such model file: $1" ;;
            *) printf '%s' "$1" ;;
        esac
    fi
}

# Set the array `generators`, the models of text_to_audio_model, and that to their paths or ids.
resolve_generators() {
    local i k
    split_generators "$text_to_audio_model"
    for i in "${!generators[@]}"; do
        generators[i]=$(model_path "${generators[i]}" text_to_audio_model) || exit
        for ((k = 0; k < i; k++)); do
            [[ ${generators[k]} != "${generators[i]}" && ! ${generators[k]} -ef ${generators[i]} ]] ||
                refuse "--text_to_audio_model names ${generators[i]} twice; name each generator once"
        done
    done
    text_to_audio_model=$(IFS=,; printf '%s' "${generators[*]}")
    ((${#generators[@]} == 1)) || [[ -z $dpo_ckpt_folder ]] ||
        refuse "dpo_ckpt_folder is the adapter of one generator, and text_to_audio_model names ${#generators[@]}"
}

# Refuse a folder of outputs that cannot be made: nothing is to be found out about it after the first stage.
check_place() { # FOLDER
    local above=$1
    while [[ ! -e $above && ! -L $above ]]; do
        above=${above%/*}
        above=${above:-/}
    done
    if [[ ! -d $above ]]; then
        refuse "$1 is for outputs, but $above is no folder; choose another results_root, dataset_name or output_folder"
    fi
    [[ -w $above && -x $above ]] ||
        refuse "$1 is for outputs, but nothing can be written to $above; choose another results_root or output_folder"
}

# Refuse to write the merged CSV over what a user gave.
check_output_csv() {
    local name
    [[ -n $output_csv_path ]] || return 0
    [[ ! -d $output_csv_path ]] || refuse "--output_csv_path: $output_csv_path is a folder; name a file in it"
    check_place "${output_csv_path%/*}"
    for name in input_train_file valid_csv test_csv add_csv retrieval_csv other_csv review; do
        [[ ${!name} != "$output_csv_path" && ! ${!name} -ef $output_csv_path ]] ||
            refuse "--output_csv_path is $name ($output_csv_path), which would be written over; name another file"
    done
}

resolve_paths() {
    local name lacks
    for name in input_train_file valid_csv test_csv add_csv output_folder output_csv_path dpo_ckpt_folder results_root gama_dir \
        gama_checkpoint other_csv retrieval_csv review embeddings_folder; do
        printf -v "$name" %s "$(absolute "${!name}")"
    done
    results_root=${results_root:-$root}
    work=$results_root/$dataset_name
    output_folder=${output_folder:-${work}_synthetic}
    embeddings_folder=${embeddings_folder:-$work/embeddings}
    check_place "$work"
    check_place "$output_folder"
    check_place "$embeddings_folder"
    check_output_csv
    resolve_generators
    if [[ -n $dpo_ckpt_folder ]]; then
        lacks=$(lacks_of_model "$dpo_ckpt_folder" adapter_config.json synthio_adapter.json)
        [[ -z $lacks ]] || refuse "--dpo_ckpt_folder: $dpo_ckpt_folder holds no adapter: $lacks"
    fi
    clap_model=$(model_path "$clap_model" clap_model)
    if [[ -n $probe_clap_model ]]; then
        probe_clap_model=$(model_path "$probe_clap_model" probe_clap_model)
        [[ $probe_clap_model != "$clap_model" && ! $probe_clap_model -ef $clap_model ]] ||
            refuse "--probe_clap_model is clap_model, which filters; name another CLAP"
    fi
    heads_clap=clap_model # the variable whose CLAP all heads on frozen embeddings hear
    if [[ -n $probe_clap_model ]]; then heads_clap=probe_clap_model; fi
    ast_model=$(model_path "$ast_model" ast_model)
    [[ $captioner == embedded || $captioner == gama || $captioner == openai ]] || captioner=$(model_path "$captioner" captioner)
    set_writer
    is_demo=false
    if [[ -z $input_train_file ]]; then
        is_demo=true
        demo=$results_root/dataset_csvs/demo
        input_train_file=$demo/train.csv valid_csv=$demo/valid.csv test_csv=$demo/test.csv
    fi
    if [[ -z $num_samples ]]; then
        if $is_demo; then num_samples=50; else num_samples=0; fi
    fi
    if ((num_samples)); then train_csv=$work/train_$num_samples.csv; else train_csv=$work/train_all.csv; fi
    base_csv=$train_csv added_csv=$work/checked/added.csv # the clips of the first call, and those of add_csv
    if [[ -n $add_csv ]]; then train_csv=${base_csv%.csv}_added.csv; fi
    # Of which clips the stages from 2 to 8 make more, what is gold beside them, where, and how their steps are called.
    made_for=$base_csv gold_csv=$base_csv part=$work sounds=$output_folder name_end=""
    valid=$work/checked/valid.csv test=$work/checked/test.csv # as they are used
    output_csv_path=${output_csv_path:-${train_csv%.csv}_synthetic.csv}
    rounds=$reflect_rounds
    [[ $iterative == true && -z $retrieval_csv ]] || rounds=0 # what is retrieved has no prompts to rewrite
    compiling=() # options of the stages that run one network many times
    if $compile; then compiling=(--compile true); fi
    tracking=() # options of the stages that have curves
    if [[ $log_to != none ]]; then tracking=(--log_to "$log_to" --log_folder "$work/tracking"); fi
    python=$root/.venv/bin/python
    export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1
}

# Set the array `writer`, options of the steps that write prompts.
set_writer() {
    writer=(--writer "$caption_writer")
    [[ $caption_writer != embedded ]] || return 0
    if [[ $caption_writer == openai ]]; then
        words_of WriterOptions
        writer+=("${words[@]}")
    else
        caption_writer=$(model_path "$caption_writer" caption_writer)
        writer=(--writer "$caption_writer" --device "$device")
    fi
    writer+=(--cache "$work/captions_cache.jsonl")
}
