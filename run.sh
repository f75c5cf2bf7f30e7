#!/usr/bin/env bash
# shellcheck disable=SC2034,SC2329 # variables are also read by name, and traps call functions
if [ -z "${BASH_VERSION:-}" ] || shopt -qo posix; then exec bash "$0" "$@"; fi # `sh run.sh`: sh may be dash
# From a CSV of real clips to the test scores of a classifier trained with synthetic ones:  sh run.sh
# `sh run.sh --help` explains every variable. Edit them here, or give them as --name value.

# ==== variables
# Paths start at the folder you call from. A word before the colon says what is allowed.
# -- data
profile=embedded           # embedded|stable_audio_open|stable_audio_3|paper: models and what suits them, set together; what you set wins
dataset_name=demo          # text: names the outputs, ./<dataset_name>/ and ./<dataset_name>_synthetic/
input_train_file=""        # text: CSV of the training clips (path, label); all three CSVs empty: a demo set is made
valid_csv=""               # text: CSV of the validation clips; they choose the step of the classifier
test_csv=""                # text: CSV of the test clips; scored once, at the end
num_samples=""             # whole 0..: training clips to draw, stratified; 0: all; empty: 50 of the demo set, else all
multi_label=false          # bool: clips have several labels, joined by ';' in the CSV
on_bad_audio=stop          # stop|drop: what to do with a clip that cannot be read; drops are listed in a file
seed=0                     # whole 0..2147483647: of everything random
# -- what is done
augment=true               # bool: make synthetic clips; false: train on the gold clips alone
dpo=true                   # bool: align the text-to-audio model with the gold clips first (preference optimisation)
dpo_ckpt_folder=""         # text: adapter folder of an earlier run, instead of stages 3 and 4
num_iters=2                # whole 1..100: synthetic clips for each gold clip (paper: 2)
use_label=false            # bool: prompts are "Sound of a <label>", no captions
plain_caption=false        # bool: prompts from each clip's own caption, without MixCap's pool
plain_wo_caption=false     # bool: prompts from label and domain alone
supcon=false               # bool: a contrastive loss beside AST's cross-entropy, on prompts that go beyond each label
initialize_audio=false     # bool: generation starts from the gold clip plus noise (paper: false)
init_noise_level=0.6       # number 0.01..1: that noise; 0.01 keeps the gold clip, 1 forgets it
clap_filter=true           # bool: drop the clips that do not sound like their label
clap_threshold=0.85        # number 0..1 or auto: least sigmoid(scale * cosine) of a kept clip; auto: like real clips (paper: 0.85)
iterative=true             # bool: self-reflection, new prompts for the clips that were dropped
reflect_rounds=2           # whole 0..100: rounds of it, at most; they end when each class has num_iters for each gold clip
balance=false              # bool: cut the synthetic clips so that no class has a larger share of its quota than another
only_synthetic=false       # bool: train on the synthetic clips without the gold ones
classifier=auto            # auto|fusion|probe|ast: what is saved as the classifier; all are trained and shown. auto: the fusion of what the models know and what the clips teach, unless validation clips say clearly that another is better
use_ast=true               # bool: fine-tune AST; false: only heads on frozen embeddings, and classifier=auto means probe
zero_shot=false            # bool: for use_ast=false and augment=false: CLAP takes the label whose prompts are nearest
retrieval_csv=""           # text: CSV of a corpus (path): its clips nearest to the gold ones by CLAP, in place of generated ones
domain=""                  # text: where the sounds come from, for the prompts ("urban street recordings")
# -- models: embedded, a folder, or a Hugging Face id
text_to_audio_model=embedded # text: Stable Audio in diffusers' format, or a model of stable-audio-tools
dtype=auto                 # auto|float32|float16|bfloat16: its precision; auto: float16 to generate with a full-size one on CUDA
clap_model=embedded        # text: transformers' ClapModel, a .pt file of laion_clap, msclap:2022, msclap:2023, or a .pth file of msclap
ast_model=embedded         # text: transformers' AST, or a .pth checkpoint of the AST repository
captioner=embedded         # text: what describes the gold clips: embedded, gama, or an audio LLM's folder or Hugging Face id
caption_instruction=auto   # text: what a captioner that is a model is asked; auto: our wording, none: no words
caption_max_tokens=256     # whole 1..: the same: longest caption, in tokens
caption_batch_size=8       # whole 1..: the same: clips described at once
gama_dir=""                # text: for captioner=gama: clone of its repository, with the folder of its base model in it
gama_checkpoint=""         # text: the same: its weights, a file or the folder of one
caption_writer=embedded    # text: what writes the prompts: embedded, openai, or a chat model's folder or Hugging Face id
llm_model=""               # text: for caption_writer=openai, whose key is in OPENAI_API_KEY: name of the model there
llm_base_url=""            # text: the same: the server, http://localhost:8000/v1; empty: OPENAI_BASE_URL, else OpenAI
llm_max_calls=0            # whole 0..: the same: calls that stage 5, and each round of 8, may make; 0: no limit
llm_max_tokens=0           # whole 0..: the same: tokens, sent and received; 0: no limit
llm_input_price=0          # number 0..: the same: price of a million tokens sent; 0: costs are not told
llm_output_price=0         # number 0..: the same: received
# -- generation
sampler=auto               # auto|euler|heun|dpmpp_2m|dpmpp_2m_sde|dpmpp_3m_sde|pingpong: solver; auto: what suits the model
num_steps=0                # whole 0..1000: sampling steps; 0: what suits the model
cfg_scale=0                # number 0..100: guidance; 1: none, 0: what suits the model (paper: 7)
cfg_rescale=0              # number 0..1: how far guidance is kept from raising the level; 0: not at all, 1: entirely
generate_batch_size=16     # whole 1..: clips generated at once; halved where the GPU's memory does not hold them
# -- filter
threshold_kind=absolute    # absolute|class_quantile|rank: clap_threshold for all classes, or the best keep_percent of each
auto_quantile=0.1          # number 0..1: share of the real clips that clap_threshold=auto would drop
keep_percent=70            # number 1..100: for class_quantile (ties included) and rank (exactly)
classifier_weight=0        # number 0..1: share of a gold-only classifier in the rank, beside CLAP; 0: CLAP alone
duplicate_cosine=0.9       # number 0..1: clips more like a gold, validation or test clip are dropped as copies; 1: none
drop_repeats=false         # bool: drop copies of better synthetic clips too
max_clipped=0.01           # number 0..1: largest share of samples at full scale
filter_w_finetune=false    # bool: fine-tune CLAP on the gold clips first
finetune_num_steps=200     # whole 1..: optimiser steps of that, at most; validation clips end it earlier
finetune_learning_rate=1e-5 # number 0..: of that
# -- preference optimisation
dpo_train_parts=lora       # lora|prefix|all: what is trained; a prefix (the paper's) needs a rate of about 1e-2
dpo_loss=dpo               # dpo|sft: preference, or the plain loss on the gold clips ("ERM" in the paper)
dpo_pairs=gold             # gold|ranked: gold against generated, or best against worst generation by CLAP score
dpo_losers=2               # whole 1..100: generations for each gold clip that it is preferred to (paper: 2)
dpo_rounds=1               # whole 1..100: rounds; each trains on, against generations of the round before (paper: 1)
dpo_beta=2000              # number 0..: strength of the preference (paper: 2000)
dpo_winner_weight=0        # number 0..: weight of the winner's own loss, an anchor to the gold clips (paper: 0)
dpo_timesteps=uniform      # uniform|logit_normal: distribution of the training times
dpo_num_steps=150          # whole 1..: optimiser steps of each round
dpo_num_epochs=0           # number 0..: passes over the pairs instead; 0: dpo_num_steps counts
dpo_learning_rate=5e-5     # number 0..: of AdamW (paper: 5e-5)
dpo_warmup_steps=10        # whole 0..: steps of linear warm-up
dpo_batch_size=8           # whole 1..: pairs in memory at once
dpo_accumulation=1         # whole 1..: such batches in each step
dpo_ema_decay=0            # number 0..0.9999999: of averaged weights; 0: the last weights
# -- classifier
ast_num_steps=150          # whole 1..: optimiser steps, the same with and without synthetic clips
ast_learning_rate=3e-4     # number 0..: highest learning rate (paper, for a model 80 times larger: 1e-5)
ast_batch_size=16          # whole 1..: clips a step (paper: 48)
ast_head_init=names        # names|probe|random: the new head starts at a linear probe and what the pretrained head says, where that has names for every label; at the probe alone; or at random (paper)
ast_wise_ft_alpha=auto     # number 0..1 or auto: unless ast_head_init=random, share of the trained weights in the classifier, the rest being those at the start; auto: what is best on the validation clips; 1: the trained ones alone (paper)
ast_class_weights=false    # bool: each class has the same weight in the loss
synthetic_weight=auto      # number 0.. or auto: how often a synthetic clip comes for one time that a gold one does; auto: what is best on the validation clips, 0 where they do not help there (paper: 1)
ast_waveform_augment=none  # none|noise|pitch|chain: changes each clip anew at each step; chain: gain, noise, pitch, shift, filter
ast_spec_augment=false     # bool: mask a band of frequencies and a stretch of time, at each step (SpecAugment)
ast_mixup=0                # number 0..: alpha of mixup's Beta distribution; 0: no mixup
supcon_weight=1            # number 0..: for supcon=true, of the contrastive loss; cross-entropy has 1
supcon_temperature=0.1     # number 0.001..: for supcon=true (its paper: 0.1)
probe_embeddings=both      # both|ast|clap: for classifier=probe, what the linear probe hears
probe_clap_model=""        # text: another CLAP than clap_model, which filters, for all heads on frozen embeddings
# -- outputs
quality=true               # bool: measure the synthetic clips against real ones: FAD, diversity, label agreement, copies
results_root=""            # text: folder of all outputs; empty: that of run.sh
output_folder=""           # text: folder of the synthetic audio; empty: <results_root>/<dataset_name>_synthetic
output_csv_path=""         # text: the merged CSV; empty: <results_root>/<dataset_name>/train_<n>_synthetic.csv
embeddings_folder=""       # text: keeps what linear probe, retrieval and quality hear; empty: <results_root>/<dataset_name>/embeddings
share_stages=false         # bool: take over what a results_root beside this one (in the same folder) has done already
make_report=true           # bool: write report.html, the page that shows the run
report_clips=60            # whole 0..: clips that can be listened to in report.html
# -- machine: a change here does no finished work again
device=auto                # text: auto (every GPU of CUDA_VISIBLE_DEVICES), cpu or mps
cpu_shards=1               # whole 1..1024: processes that share the work where there is no GPU
cpu_threads=0              # whole 0..1024: threads of each process there; 0: all cores. It decides the last bits of a result
compile=false              # bool: torch.compile for generation, alignment and AST: minutes at the start, then a GPU may be faster
log_to=none                # none|tensorboard|wandb|trackio: where training curves and scores are sent, too
stable_audio_env=""        # text: venv folder or conda environment that generates; empty: .venv, or the .envs/<name> that the model needs
gama_env=""                # text: the same, captions
clap_env=""                # text: the same, filter and linear probe
msclap_env=""              # text: the same, in place of clap_env where clap_model is one of msclap
ast_env=""                 # text: the same, classifier
# -- this call
stage=0                    # whole 0..10: first stage to run
stop_stage=10              # whole 0..10: last stage to run
force_steps=false          # bool: do the stages again even where they are up to date
dry_run=false              # bool: only print stages and commands; --dry_run alone means true
check=false                # bool: only say what is missing, for the models that are chosen; --check alone means true
# ==== end of variables
set -euo pipefail

root=$(CDPATH="" cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# ---------------------------------------------------------------- options

refuse() { # a mistake of the user's: one line, status 2
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 2
}

# Something that the run needs is not there: a mistake, but one finding among others for --check.
lack() {
    $check || refuse "$@"
    lacks+=("--lack=$*")
}

# Read the block of variables of a file: adds to the arrays `names` and `kinds` (by name).
read_block() { # FILE
    local line in_block=false value='("[^"]*"|[^ ]*)'
    local pattern="^([a-z_]+)=$value +# ([^:]+): "
    while IFS= read -r line; do
        case $line in
            '# ==== variables'*) in_block=true ;;
            '# ==== end'*) break ;;
        esac
        if $in_block && [[ $line =~ $pattern ]]; then
            names+=("${BASH_REMATCH[1]}")
            kinds[${BASH_REMATCH[1]}]=${BASH_REMATCH[3]}
        fi
    done <"$1"
}

print_help() {
    cat <<'END'
usage: sh run.sh [--name value | --name=value]... [--stage N] [--stop_stage N] [--dry_run] [--check] [--help]

Stages: 0 check, 1 stratify, 2 caption, 3 losers, 4 dpo, 5 captions, 6 generate, 7 filter, 8 reflect, 9 merge,
10 classify. A stage whose command and inputs are as they were is skipped. The first call makes .venv.
END
    print_variables "${BASH_SOURCE[0]}"
}

print_variables() { # FILE
    awk '
        /^# ==== variables/ { inside = 1; next }
        /^# ==== end/ { exit }
        !inside { next }
        /^# -- / { printf "\n%s\n", substr($0, 6); next }
        /^#/ { printf "%s%s\n", first++ ? "" : "\n", substr($0, 3); next }
        match($0, /^[a-z_]+=/) {
            name = substr($0, 1, RLENGTH - 1); rest = substr($0, RLENGTH + 1)
            at = index(rest, " # "); value = substr(rest, 1, at); text = substr(rest, at + 3)
            gsub(/^"|"? *$/, "", value)
            at = index(text, ": ")
            printf "  --%-21s %s [%s; default: %s]\n", name, substr(text, at + 2), substr(text, 1, at - 1), value == "" ? "empty" : value
        }' "$1"
}

# Print the known name with the fewest edits to the given one.
nearest() {
    printf '%s\n' "${names[@]}" | awk -v word="$1" '
        function least(a, b, c) { return a < b ? (a < c ? a : c) : (b < c ? b : c) }
        {
            for (j = 0; j <= length($0); j++) old[j] = j
            for (i = 1; i <= length(word); i++) {
                new[0] = i
                for (j = 1; j <= length($0); j++)
                    new[j] = least(old[j] + 1, new[j - 1] + 1, old[j - 1] + (substr(word, i, 1) != substr($0, j, 1)))
                for (j = 0; j <= length($0); j++) old[j] = new[j]
            }
            if (NR == 1 || old[length($0)] < best) { best = old[length($0)]; name = $0 }
        }
        END { print name }'
}

parse_options() {
    local name value
    while (($#)); do
        case $1 in
            --help | -h)
                print_help
                exit 0
                ;;
            --*) name=${1#--} ;;
            *) refuse "'$1' is no option; options are --name value (see sh ${0##*/} --help)" ;;
        esac
        value=""
        if [[ $name == *=* ]]; then
            value=${name#*=}
            name=${name%%=*}
            shift
            [[ -n ${kinds[$name]:-} ]] || refuse "unknown option --$name; did you mean --$(nearest "$name")?"
        else
            [[ -n ${kinds[$name]:-} ]] || refuse "unknown option --$name; did you mean --$(nearest "$name")?"
            if [[ ($name == dry_run || $name == check) && ($# -eq 1 || ${2:-} == --*) ]]; then
                value=true
                shift
            else
                [[ $# -ge 2 && $2 != --* ]] || refuse "--$name needs a value (${kinds[$name]})"
                value=$2
                shift 2
            fi
        fi
        printf -v "$name" %s "$value"
        given[$name]=true
    done
}

# Set the variables of the profile, but for those that were given or edited. Fills `profile_sets`, to be shown.
apply_profile() {
    local row column=0 i name value
    profile_sets=()
    [[ $profile != embedded ]] || return 0
    while read -r -a row; do
        name=${row[0]:-#}
        [[ $name != '#'* ]] || continue
        if [[ $name == variable ]]; then
            for i in "${!row[@]}"; do if [[ ${row[i]} == "$profile" ]]; then column=$i; fi; done
            continue
        fi
        value=${row[column]#-}
        [[ -z ${given[$name]:-} && ${!name} == "${row[1]#-}" && ${!name} != "$value" ]] || continue
        [[ $name != llm_model || $caption_writer == openai ]] || continue # it goes with a server alone
        printf -v "$name" %s "$value"
        profile_sets+=("$name=$value")
    done <"$root/extras/profiles.txt"
}

is_zero() { # a number that check_kind let pass
    [[ ${1%%[eE]*} != *[1-9]* ]]
}

# Check one variable against its kind; booleans become true or false.
check_kind() {
    local name=$1 kind=$2 value=${!1} low high
    case $kind in
        text)
            [[ $value != *$'\n'* ]] || refuse "--$name: a value of several lines is not allowed"
            ;;
        bool*)
            [[ $kind != *" or $value" ]] || return 0
            case ${value,,} in
                true | yes | on | 1) printf -v "$name" true ;;
                false | no | off | 0) printf -v "$name" false ;;
                *) refuse "--$name: '$value' is not a boolean; use true or false" ;;
            esac
            ;;
        whole* | number*)
            [[ -n $value || $name != num_samples ]] || return 0
            if [[ $kind == *' or '* ]]; then
                [[ $value != "${kind##* or }" ]] || return 0
                kind=${kind% or *}
            fi
            if [[ $kind == whole* ]]; then
                [[ $value =~ ^[0-9]{1,15}$ ]] || refuse "--$name: '$value' is not a whole number"
            else
                [[ $value =~ ^([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$ ]] || refuse "--$name: '$value' is not a number"
            fi
            kind=${kind#* } low=${kind%%..*} high=${kind##*..}
            LC_ALL=C awk -v x="$value" -v low="$low" -v high="$high" \
                'BEGIN { exit !(x + 0 >= low + 0 && (high == "" || x + 0 <= high + 0)) }' ||
                refuse "--$name: $value is outside [$low, ${high:-infinity}]"
            if [[ $value =~ ^[0-9]+$ ]]; then printf -v "$name" %d "$((10#$value))"; fi
            ;;
        *)
            [[ $value && "|$kind|" == *"|$value|"* ]] || refuse "--$name: '$value' is none of ${kind//|/, }"
            ;;
    esac
}

# Refuse values that cannot go together, before anything runs.
check_choices() {
    local name modes=() csvs=()
    for name in use_label plain_caption plain_wo_caption; do
        if ${!name}; then modes+=("$name"); fi
    done
    ((${#modes[@]} < 2)) || refuse "${modes[0]} and ${modes[1]} are both true; they are different prompts, so choose one"
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
    if [[ $captioner == gama ]]; then
        [[ -d $gama_dir ]] || lack "--gama_dir: no such folder: '$gama_dir' (captioner=gama needs a clone of its repository)"
        [[ -e $gama_checkpoint ]] || lack "--gama_checkpoint: no such file: '$gama_checkpoint' (captioner=gama needs it)"
    else
        [[ -z $gama_dir$gama_checkpoint ]] || refuse "gama_dir and gama_checkpoint go with captioner=gama"
    fi
    if [[ $caption_writer == openai ]]; then
        [[ -n $llm_model ]] || refuse "caption_writer=openai needs --llm_model, the name of a model on the server"
    else
        [[ -z $llm_model$llm_base_url ]] || refuse "llm_model and llm_base_url go with caption_writer=openai"
    fi
    [[ -z $dpo_ckpt_folder ]] || $dpo || refuse "dpo_ckpt_folder is given, but dpo is false; drop one of them"
    [[ $dpo_pairs == gold ]] || ((dpo_losers > 1)) || refuse "dpo_pairs=ranked needs dpo_losers of 2 or more"
    [[ $dpo_loss == dpo || ($dpo_pairs == gold && $dpo_rounds == 1) ]] ||
        refuse "dpo_loss=sft knows no losers, so it takes neither dpo_pairs=ranked nor several dpo_rounds"
    [[ $clap_threshold != auto || $threshold_kind == absolute ]] ||
        refuse "clap_threshold=auto is an absolute threshold; it cannot go with threshold_kind=$threshold_kind"
    is_zero "$classifier_weight" || [[ $threshold_kind == rank ]] ||
        refuse "classifier_weight needs threshold_kind=rank: it mixes ranks"
    $clap_filter || ! $filter_w_finetune || refuse "filter_w_finetune=true needs clap_filter=true"
    $augment || ! $only_synthetic || refuse "only_synthetic=true needs augment=true"
    ((stage <= stop_stage)) || refuse "--stage $stage comes after --stop_stage $stop_stage"
    [[ $device == auto || $device == cpu || $device == mps ]] ||
        refuse "--device: '$device' is none of auto, cpu, mps; choose GPUs by CUDA_VISIBLE_DEVICES"
    for name in input_train_file valid_csv test_csv; do
        if [[ -n ${!name} ]]; then csvs+=("$name"); fi
    done
    ((${#csvs[@]} == 0 || ${#csvs[@]} == 3)) ||
        refuse "only ${csvs[*]} given; give input_train_file, valid_csv and test_csv, or none of them for the demo set"
    for name in "${csvs[@]}"; do
        [[ -f ${!name} ]] || lack "--$name: no such CSV file: ${!name}"
    done
    [[ -z $retrieval_csv || -f $retrieval_csv ]] || refuse "--retrieval_csv: no such CSV file: $retrieval_csv"
    [[ -z $dpo_ckpt_folder || -d $dpo_ckpt_folder ]] || refuse "--dpo_ckpt_folder: no such folder: $dpo_ckpt_folder"
    case $dataset_name in
        "" | .* | -* | */*) refuse "--dataset_name: '$dataset_name' cannot name a folder; no '/', no leading '.' or '-'" ;;
        ast | benchmarks | dataset_csvs | extras | runs | stable-audio-tools | synthio | tests)
            refuse "--dataset_name: '$dataset_name' is a folder of this program; choose another name" ;;
    esac
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

# ---------------------------------------------------------------- paths and interpreters

absolute() { # a path as seen from the caller's folder
    case $1 in
        "" | /*) printf '%s' "$1" ;;
        *) printf '%s' "$PWD/${1#./}" ;;
    esac
}

shown() { # a path as short as it can be said
    printf '%s' "${1#"$PWD"/}"
}

model_path() { # VALUE EMBEDDED-NAME: folder or hub id
    if [[ $1 == embedded ]]; then
        printf '%s' "$root/extras/embedded/weights/$2"
    elif [[ -e $1 ]]; then
        absolute "$1"
    else
        case $1 in
            ./* | ../* | /*) refuse "no such model folder: $1" ;;
            *.pt | *.pth | *.ckpt | *.safetensors) refuse "no such model file: $1" ;;
            *) printf '%s' "$1" ;;
        esac
    fi
}

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

resolve_paths() {
    local name
    for name in input_train_file valid_csv test_csv output_folder output_csv_path dpo_ckpt_folder results_root gama_dir \
        gama_checkpoint retrieval_csv embeddings_folder; do
        printf -v "$name" %s "$(absolute "${!name}")"
    done
    results_root=${results_root:-$root}
    work=$results_root/$dataset_name
    output_folder=${output_folder:-${work}_synthetic}
    embeddings_folder=${embeddings_folder:-$work/embeddings}
    text_to_audio_model=$(model_path "$text_to_audio_model" text_to_audio)
    clap_model=$(model_path "$clap_model" clap)
    if [[ -n $probe_clap_model ]]; then
        probe_clap_model=$(model_path "$probe_clap_model" clap)
        [[ $probe_clap_model != "$clap_model" && ! $probe_clap_model -ef $clap_model ]] ||
            refuse "--probe_clap_model is clap_model, which filters; name another CLAP"
    fi
    probe_clap_model=${probe_clap_model:-$clap_model}
    ast_model=$(model_path "$ast_model" ast)
    [[ $captioner == embedded || $captioner == gama ]] || captioner=$(model_path "$captioner" "")
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
    output_csv_path=${output_csv_path:-${train_csv%.csv}_synthetic.csv}
    [[ $iterative == true && -z $retrieval_csv ]] || reflect_rounds=0 # what is retrieved has no prompts to rewrite
    compiling=() # options of the stages that run one network many times
    if $compile; then compiling=(--compile true); fi
    tracking=() # options of the stages that have curves
    if [[ $log_to != none ]]; then tracking=(--log_to "$log_to" --log_folder "$work/tracking"); fi
    python=$root/.venv/bin/python
}

# Set the arrays `writer`, options of the stages that write prompts, and `writer_inputs`, what these read besides CSVs.
set_writer() {
    writer=(--writer "$caption_writer") writer_inputs=("$root/synthio/sound_words.txt")
    [[ $caption_writer != embedded ]] || return 0
    writer_inputs+=("$root/synthio/prompts.toml")
    if [[ $caption_writer == openai ]]; then
        writer+=(--llm_model "$llm_model" --llm_base_url "$llm_base_url" --llm_max_calls "$llm_max_calls"
            --llm_max_tokens "$llm_max_tokens" --llm_input_price "$llm_input_price" --llm_output_price "$llm_output_price")
    else
        caption_writer=$(model_path "$caption_writer" "")
        writer=(--writer "$caption_writer" --device "$device")
        writer_inputs+=("$caption_writer")
    fi
    writer+=(--cache "$work/captions_cache.jsonl")
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

# Fill `devices` with GPU numbers, set `shards`, and where there is no GPU `threads`, of each process.
# The number of threads does not depend on that of the shards: it decides in which order sums are rounded.
find_devices() {
    local line
    devices=() threads=""
    if [[ $device == auto && -n ${CUDA_VISIBLE_DEVICES+set} ]]; then
        while IFS= read -r line; do
            if [[ -n $line && $line != -1 ]]; then devices+=("$line"); fi
        done < <(tr ',' '\n' <<<"${CUDA_VISIBLE_DEVICES// /}")
    elif [[ $device == auto ]] && command -v nvidia-smi >/dev/null 2>&1; then
        while IFS= read -r line; do
            if [[ $line =~ ^[0-9]+$ ]]; then devices+=("$line"); fi
        done < <(nvidia-smi --query-gpu=index --format=csv,noheader 2>/dev/null || true)
    fi
    shards=${#devices[@]}
    printf -v machine '%s, ' "${devices[@]}"
    machine="GPU ${machine%, }"
    if ((shards == 0)); then
        shards=$cpu_shards
        threads=$cpu_threads
        ((threads)) || threads=$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN)
        export OMP_NUM_THREADS=$threads OMP_WAIT_POLICY=PASSIVE # more threads than cores must not spin
        machine="${device/auto/CPU}, processes: $shards, threads of each: $threads"
        machine=${machine/#cpu/CPU}
        # glibc hands large arrays back to the kernel at once, which has to clear the pages of the next ones: 30 % of the
        # time of a training step. Kept are up to 32 MB an array and 1 GB at the end of the heap, which grows by 64 MB.
        export MALLOC_MMAP_THRESHOLD_=${MALLOC_MMAP_THRESHOLD_-33554432}
        export MALLOC_TRIM_THRESHOLD_=${MALLOC_TRIM_THRESHOLD_-1073741824} MALLOC_TOP_PAD_=${MALLOC_TOP_PAD_-67108864}
    fi
}

# ---------------------------------------------------------------- processes

children=()
# Linux: a child dies with the driver even if that is killed by -9.
guard=()
if setpriv --pdeathsig KILL true 2>/dev/null; then guard=(setpriv --pdeathsig KILL); fi

stop_children() {
    local pid
    for pid in "${children[@]}"; do kill -TERM -- "-$pid" 2>/dev/null || true; done
    for pid in "${children[@]}"; do wait "$pid" 2>/dev/null || true; done
    children=()
}

# Start a command in the background, in a process group of its own.
start() { # LOG COMMAND...
    local log=$1
    shift
    mkdir -p "${log%/*}"
    : >"$log" # it is there before the reader opens it
    set -m
    "${guard[@]}" "$@" </dev/null >"$log" 2>&1 9>&- &
    children+=("$!")
    set +m
}

# Wait for every child while printing what they log. Fills `statuses`, one for each.
wait_for_children() { # LOG...
    local log fd i line fds=() partial=() alive=true prefix
    statuses=()
    for log in "$@"; do
        exec {fd}<"$log"
        fds+=("$fd")
        partial+=("")
    done
    while $alive; do
        alive=false
        for i in "${!children[@]}"; do
            if kill -0 "${children[i]}" 2>/dev/null; then alive=true; fi
        done
        for i in "${!fds[@]}"; do
            prefix="    "
            if ((${#fds[@]} > 1)); then prefix="    [$((i + 1))] "; fi
            while IFS= read -r line <&"${fds[i]}"; do
                printf '%s\n' "$prefix${partial[i]}$line"
                partial[i]=""
            done
            partial[i]+=$line
        done
        if $alive; then sleep 0.1 9>&-; fi
    done
    for i in "${!fds[@]}"; do
        fd=${fds[i]}
        exec {fd}<&-
        statuses[i]=0
        wait "${children[i]}" || statuses[i]=$?
    done
    children=()
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

# ---------------------------------------------------------------- stages

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

generate() { # NUMBER NAME INPUT OUTPUT AUDIO_FOLDER [MORE OPTIONS...]
    local number=$1 name=$2 folder=$5
    inputs=("$3" "$text_to_audio_model") outputs=("$4")
    shift 5
    if [[ ${1:-} == --adapter ]]; then inputs+=("$2"); fi
    run_sharded "$number" "$name" "$generate_batch_size" "${audio_python[@]}" "$root/stable-audio-tools/generate.py" \
        --output_folder "$folder" --model "$text_to_audio_model" --batch_size "$generate_batch_size" \
        --sampler "$sampler" --num_steps "$num_steps" --cfg_scale "$cfg_scale" --cfg_rescale "$cfg_rescale" \
        --dtype "$dtype" --device "$device" "${compiling[@]}" "$@"
}

write_captions() { # NUMBER NAME MODE INPUT OUTPUT [OPTIONS...]
    local number=$1 name=$2 mode=$3
    inputs=("$4") outputs=("$5")
    shift 5
    if [[ $mode != template ]]; then
        inputs+=("${writer_inputs[@]}")
        set -- "$@" "${writer[@]}"
    fi
    step "$number" "$name" "$python" "$root/generate_captions_gpt.py" --input_csv "${inputs[0]}" \
        --output_csv "${outputs[0]}" --seed "$seed" --mode "$mode" "$@"
}

prepare_demo() {
    inputs=("$root/synthio/datasets_demo.py" "$root"/synthio/sounds/*.py)
    outputs=("$input_train_file" "$valid_csv" "$test_csv")
    step 0 demo "$python" "$root/dataset_csvs/prepare.py" demo --output_folder "$demo" --seed "$seed"
}

check_inputs() {
    local options=(--num_samples "$num_samples" --on_bad_audio "$on_bad_audio")
    $augment || options+=(--augment_only)
    inputs=("$input_train_file" "$valid_csv" "$test_csv") watched=("${inputs[@]}")
    outputs=("$work/checked/train.csv" "$work/checked/valid.csv" "$work/checked/test.csv")
    step 0 check "$python" -m synthio.check_inputs --train_csv "$input_train_file" --valid_csv "$valid_csv" \
        --test_csv "$test_csv" --output_folder "$work/checked" "${options[@]}"
}

stratify() {
    inputs=("$work/checked/train.csv") outputs=("$train_csv")
    step 1 stratify "$python" "$root/stratify_dataset.py" --input_csv "${inputs[0]}" --output_csv "$train_csv" \
        --num_samples "$num_samples" --seed "$seed"
}

caption_gold() {
    local options=(--captioner "$captioner" --device "$device")
    inputs=("$train_csv") outputs=("$work/captions.csv")
    if [[ $captioner != embedded ]]; then
        inputs+=("$root/synthio/models/captioning.py") # our wording of the instruction
        options+=(--instruction "$caption_instruction" --max_new_tokens "$caption_max_tokens"
            --batch_size "$caption_batch_size")
    fi
    if [[ $captioner == gama ]]; then
        inputs+=("$gama_checkpoint")
        options+=(--gama_dir "$gama_dir" --gama_checkpoint "$gama_checkpoint" --gama_env "$gama_env")
    elif [[ $captioner != embedded ]]; then
        inputs+=("$captioner")
    fi
    run_sharded 2 caption "$caption_batch_size" "${caption_python[@]}" "$root/gama_csv_inf.py" "${options[@]}"
}

# Stages 3 and 4. Sets the array `adapter`, options for generate.
align() {
    local round
    adapter=()
    $dpo || return 0
    if [[ -n $dpo_ckpt_folder ]]; then
        adapter=(--adapter "$dpo_ckpt_folder")
        return
    fi
    if [[ $dpo_loss == dpo ]]; then
        write_captions 3 loser_prompts template "$train_csv" "$work/dpo/prompts.csv" --num_captions "$dpo_losers"
    fi
    for ((round = 1; round <= dpo_rounds; round++)); do align_round "$round"; done
}

# Generate losers with the adapter there is, and train on from it.
align_round() { # ROUND
    local suffix=_$1 losers earlier="" options=() needed=("$train_csv" "$text_to_audio_model")
    if (($1 == 1)); then suffix=""; else earlier=${adapter[1]}; fi
    if [[ $dpo_loss == dpo ]]; then
        losers=$work/dpo/losers$suffix.csv
        generate 3 "losers$suffix" "$work/dpo/prompts.csv" "$losers" "$output_folder/dpo_losers" "${adapter[@]}"
        options+=(--losers_csv "$losers")
        needed+=("$losers")
    fi
    if [[ -n $earlier ]]; then
        options+=(--init_adapter "$earlier")
        needed+=("$earlier")
    fi
    if [[ $dpo_pairs == ranked ]]; then
        options+=(--scorer "$clap_model")
        needed+=("$clap_model")
    fi
    adapter=(--adapter "$work/dpo/adapter$suffix")
    inputs=("${needed[@]}") outputs=("${adapter[1]}")
    step 4 "dpo$suffix" "${audio_python[@]}" "$root/dpo_train.py" --gold_csv "$train_csv" "${options[@]}" \
        --output_folder "${adapter[1]}" --model "$text_to_audio_model" --train "$dpo_train_parts" --loss "$dpo_loss" \
        --pairs "$dpo_pairs" --beta "$dpo_beta" --winner_weight "$dpo_winner_weight" \
        --timestep_distribution "$dpo_timesteps" --num_steps "$dpo_num_steps" --num_epochs "$dpo_num_epochs" \
        --learning_rate "$dpo_learning_rate" --warmup_steps "$dpo_warmup_steps" --batch_size "$dpo_batch_size" \
        --gradient_accumulation "$dpo_accumulation" --ema_decay "$dpo_ema_decay" --seed "$seed" \
        --dtype "$dtype" --device "$device" "${compiling[@]}" "${tracking[@]}"
}

# Generate and filter the prompts of a round. Stages 6 and 7, or 8 and 8.
generate_and_filter() { # ROUND GENERATE_NUMBER FILTER_NUMBER
    local round=$1 folder=$work/round_$1 options=("${adapter[@]}") suffix=_$1
    if ((round == 0)); then suffix=""; fi
    if $initialize_audio; then options+=(--initialize_audio true --init_noise_level "$init_noise_level"); fi
    if [[ -n $retrieval_csv ]]; then
        retrieve "$2" "$folder/generated.csv"
    else
        generate "$2" "generate$suffix" "$folder/prompts.csv" "$folder/generated.csv" "$output_folder/round_$round" \
            "${options[@]}"
    fi
    $clap_filter || return 0
    if ((round == 0)); then prepare_filter; fi
    filter "$round" "$3" "filter$suffix"
}

# The nearest clips of a corpus stand where the generated ones would.
retrieve() { # NUMBER OUTPUT
    inputs=("$train_csv" "$retrieval_csv" "$work/checked/valid.csv" "$work/checked/test.csv" "$clap_model") outputs=("$2")
    step "$1" retrieve "${clap_python[@]}" "$root/extras/retrieve.py" --gold_csv "$train_csv" --output_csv "$2" \
        --corpus_csv "$retrieval_csv" --exclude_csvs "$work/checked/valid.csv" "$work/checked/test.csv" \
        --num_clips "$num_iters" --model "$clap_model" --cache_folder "$embeddings_folder" --device "$device"
}

# What the filter needs besides a CLAP, in stage 7. Changes `clap_model`, sets the array `filter_classifier`.
prepare_filter() {
    local csvs=(--train_csv "$train_csv" --valid_csv "$work/checked/valid.csv")
    filter_classifier=()
    if $filter_w_finetune; then
        inputs=("$train_csv" "$work/checked/valid.csv" "$clap_model") outputs=("$work/clap_finetuned")
        step 7 finetune_clap "${clap_python[@]}" "$root/extras/finetune_clap.py" "${csvs[@]}" \
            --output_folder "$work/clap_finetuned" --model "$clap_model" --num_steps "$finetune_num_steps" \
            --learning_rate "$finetune_learning_rate" --seed "$seed" --device "$device"
        case $clap_model in # it stays in the format that it came in
            *.pt) clap_model=$work/clap_finetuned/clap.pt ;;
            msclap:* | *.pth) clap_model=$work/clap_finetuned/clap.pth ;;
            *) clap_model=$work/clap_finetuned ;;
        esac
    fi
    is_zero "$classifier_weight" || train_filter_classifier "${csvs[@]}"
}

# The classifier that has a say in the filter is not one that measures success: it has another seed, and where
# ast/train.py tests it stand the validation clips, so that no test clip has a part in what is kept.
train_filter_classifier() { # CSV OPTIONS...
    local folder=$work/filter_classifier
    if ((stage <= 7 && 7 <= stop_stage)); then say "the test clips of the next step are the validation clips"; fi
    inputs=("$train_csv" "$work/checked/valid.csv" "$ast_model") outputs=("$folder")
    step 7 filter_classifier "${ast_python[@]}" "$root/ast/train.py" "$@" --test_csv "$work/checked/valid.csv" \
        --output_folder "$folder" --model "$ast_model" --num_steps "$ast_num_steps" --batch_size "$ast_batch_size" \
        --learning_rate "$ast_learning_rate" --head_init "$ast_head_init" --multi_label "$multi_label" \
        --seed "$((seed + 1))" --device "$device" "${compiling[@]}"
    filter_classifier=(--classifier "$folder" --classifier_weight "$classifier_weight")
}

# Only the options that this kind of filter reads are given to it: a change of the others must not run it again.
filter() { # ROUND NUMBER NAME
    local folder=$work/round_$1 k more=() earlier=()
    inputs=("$folder/generated.csv" "$clap_model" "$train_csv" "$work/checked/valid.csv" "$work/checked/test.csv")
    case $threshold_kind-$clap_threshold in
        absolute-auto) more=(--threshold auto --auto_quantile "$auto_quantile") ;;
        absolute-*) more=(--threshold "$clap_threshold") ;;
        *) more=(--keep_percent "$keep_percent" "${filter_classifier[@]}") ;;
    esac
    if ((${#filter_classifier[@]})); then inputs+=("${filter_classifier[1]}"); fi
    if $drop_repeats; then
        for ((k = 0; k < $1; k++)); do earlier+=("$work/round_$k/kept.csv"); done
        inputs+=("${earlier[@]}")
        more+=(--drop_repeats true --earlier_csvs "${earlier[@]}")
    fi
    outputs=("$folder/kept.csv" "$folder/rejected.csv" "$folder/kept.png")
    step "$2" "$3" "${clap_python[@]}" "$root/filter_audios.py" --input_csv "$folder/generated.csv" \
        --kept_csv "$folder/kept.csv" --rejected_csv "$folder/rejected.csv" --model "$clap_model" \
        --threshold_kind "$threshold_kind" "${more[@]}" --gold_csv "$train_csv" \
        --valid_csv "$work/checked/valid.csv" --test_csv "$work/checked/test.csv" \
        --duplicate_cosine "$duplicate_cosine" --max_clipped "$max_clipped" --device "$device"
}

# Print the gain of the last round. Whether every class has its quota, so that no further round is needed.
quota_reached() { # KEPT...
    local csv rejected=() record=(--output_csv "$work/rounds.csv") line status=0
    for csv in "$@"; do
        [[ -f $csv ]] || ! $dry_run || return 1 # not known yet: no
        [[ -f $csv ]] || return 0               # the filter is beyond --stop_stage
        rejected+=("${csv%/*}/rejected.csv")
    done
    if $dry_run; then record=(); fi
    line=$(helper -m synthio.rounds count --gold_csv "$train_csv" --num_iters "$num_iters" --kept_csvs "$@" \
        --rejected_csvs "${rejected[@]}" "${record[@]}") || status=$?
    ((status == 0 || status == 3)) || exit 2 # it has said why
    say "$line"
    return "$status"
}

# Stages 2 to 5. Sets `adapter`.
prepare_prompts() {
    local mode=mixcap source=$work/captions.csv
    if $use_label; then
        mode=template
    elif $plain_caption; then
        mode=plain
    elif $plain_wo_caption; then
        mode=plain_wo_caption
    elif $supcon; then
        mode=supcon
    fi
    if [[ $mode == mixcap || $mode == plain ]]; then caption_gold; else source=$train_csv; fi # only these read captions
    align
    write_captions 5 captions "$mode" "$source" "$work/round_0/prompts.csv" --num_captions "$num_iters" \
        --domain "$domain"
}

# Stages 2 to 9.
synthesise() {
    local round kept=()
    adapter=()
    [[ -n $retrieval_csv ]] || prepare_prompts
    generate_and_filter 0 6 7
    kept=("$work/round_0/kept.csv")
    if $clap_filter; then
        for ((round = 1; ; round++)); do
            if quota_reached "${kept[@]}" || ((round > reflect_rounds)); then break; fi
            reflect "$round" "${kept[@]}"
            kept+=("$work/round_$round/kept.csv")
        done
    else
        kept=("$work/round_0/generated.csv") # nothing is rejected
    fi
    if $balance; then
        balance_classes "${kept[@]}"
        kept=("$work/balanced.csv")
    fi
    $only_synthetic || kept=("$train_csv" "${kept[@]}")
    inputs=("${kept[@]}") outputs=("$output_csv_path")
    step 9 merge "$python" "$root/merge_csv.py" --input_csvs "${kept[@]}" --output_csv "$output_csv_path"
    inputs=("$output_csv_path") outputs=("$work/dataset")
    step 9 dataset "$python" "$root/extras/export_dataset.py" --input_csv "$output_csv_path" \
        --output_folder "$work/dataset" --work "$work"
}

balance_classes() { # KEPT...
    inputs=("$train_csv" "$@") outputs=("$work/balanced.csv")
    step 9 balance "$python" -m synthio.rounds balance --gold_csv "$train_csv" --num_iters "$num_iters" \
        --kept_csvs "$@" --output_csv "$work/balanced.csv" --classifier_weight "$classifier_weight"
}

reflect() { # ROUND KEPT...
    local round=$1 before=$work/round_$(($1 - 1))/rejected.csv out=$work/round_$1/prompts.csv
    shift
    inputs=("$before" "$@" "${writer_inputs[@]}") outputs=("$out")
    step 8 "rewrite_$round" "$python" "$root/generate_captions_gpt.py" --mode rewrite --input_csv "$before" \
        --accepted_csv "$@" --output_csv "$out" --seed "$seed" --domain "$domain" "${writer[@]}"
    generate_and_filter "$round" 8 8
}

# Train every classifier on a CSV, and make one of them *the* classifier.
classify() { # NAME TRAIN_CSV
    local folder=$work/classifier/$1 trained=() csvs=("$2" "$work/checked/valid.csv" "$work/checked/test.csv")
    local options=(--train_csv "${csvs[0]}" --valid_csv "${csvs[1]}" --test_csv "${csvs[2]}"
        --multi_label "$multi_label" --seed "$seed" --device "$device" --synthetic_weight "$synthetic_weight")
    if $use_ast; then
        train_ast "$1"
        trained+=("${folder}_ast")
    fi
    inputs=("${csvs[@]}" "$ast_model" "$probe_clap_model") outputs=("${folder}_heads")
    step 10 "heads_$1" "${heads_python[@]}" "$root/ast/heads.py" "${options[@]}" --output_folder "${folder}_heads" \
        --ast_model "$ast_model" --clap_model "$probe_clap_model" --cache_folder "$embeddings_folder"
    case $head in
        auto) trained+=("${folder}_heads/fusion" "${folder}_heads/probe") ;;
        ast) ;;
        *) trained+=("${folder}_heads/$head") ;;
    esac
    inputs=("${trained[@]}") outputs=("$folder")
    step 10 "choose_$1" "$python" -m synthio.classification.choose --classifier "$head" --folders "${trained[@]}" \
        --output_folder "$folder"
}

train_ast() { # NAME; reads the arrays csvs and options of classify
    inputs=("${csvs[@]}" "$ast_model") outputs=("$work/classifier/${1}_ast")
    step 10 "classify_$1" "${ast_python[@]}" "$root/ast/train.py" "${options[@]}" --output_folder "${outputs[0]}" \
        --model "$ast_model" --num_steps "$ast_num_steps" --batch_size "$ast_batch_size" \
        --learning_rate "$ast_learning_rate" --head_init "$ast_head_init" --wise_ft_alpha "$ast_wise_ft_alpha" \
        --class_weights "$ast_class_weights" --waveform_augment "$ast_waveform_augment" \
        --spec_augment "$ast_spec_augment" --mixup "$ast_mixup" \
        --supcon "$supcon" --supcon_weight "$supcon_weight" --supcon_temperature "$supcon_temperature" \
        "${compiling[@]}" "${tracking[@]}"
}

# The synthetic clips against real ones, by models that did not filter them where there are such.
measure_quality() {
    local csvs=("$output_csv_path" "$train_csv" "$work/checked/valid.csv" "$work/checked/test.csv")
    local judge=$work/classifier/gold_only_heads/probe_ast # CLAP has no part in it, for CLAP filters
    $quality || return 0
    if $use_ast; then judge=$work/classifier/gold_only_ast; fi
    inputs=("${csvs[@]}" "$judge" "$ast_model" "$probe_clap_model") outputs=("$work/quality.json")
    step 10 quality "${heads_python[@]}" -m synthio.quality --input_csv "${csvs[0]}" --gold_csv "${csvs[1]}" \
        --valid_csv "${csvs[2]}" --test_csv "${csvs[3]}" --classifier "$judge" \
        --ast_model "$ast_model" --clap_model "$probe_clap_model" --classifier_weight "$classifier_weight" \
        --duplicate_cosine "$duplicate_cosine" --output_json "$work/quality.json" --cache_folder "$embeddings_folder" \
        --seed "$seed" --device "$device"
}

# Write W/timings.csv and W/report.html, print scores and seconds, say where things are.
report() {
    local i scores=("gold-only=$work/classifier/gold_only/scores.json") name=synthio measured=()
    local trained=("gold-only=$work/classifier/gold_only_heads")
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
    helper -m synthio.results --output_json "$work/scores.json" --timings "$work/timings.csv" --seed "$seed" \
        "${measured[@]}" "${tracking[@]}" --scores "${scores[@]}" --trained "${trained[@]}"
    echo
    echo "scores           $(shown "$work/scores.json")"
    echo "classifiers      $(shown "$work/classifier")"
    if $augment; then
        echo "training CSV     $(shown "$output_csv_path")"
        echo "synthetic audio  $(shown "$output_folder")"
        echo "with a card      $(shown "$work/dataset")"
    fi
    write_page
}

# The page that shows the run. The scores stand without it, so its failure is told and does not end the run.
write_page() {
    local log=$work/logs/report.log
    $make_report || return 0
    mkdir -p "$work/logs"
    rm -f "$work/report.html" # never that of an earlier run beside these scores
    if helper -m synthio.report --work "$work" --output "$work/report.html" --max_clips "$report_clips" >"$log" 2>&1; then
        echo "report           $(shown "$(tail -n 1 "$log")")"
    else
        echo "run.sh: the report could not be made (the scores above stand); see $(shown "$log")" >&2
    fi
}

# A tracker's library that is missing is told before the first stage, not after the hours of the fourth.
check_tracking() {
    [[ $log_to != none ]] && ! $dry_run || return 0
    helper -m synthio.tracking --log_to "$log_to" || exit 2
    "${ast_python[@]}" -m synthio.tracking --log_to "$log_to" 9>&- || exit 2
    if $augment && $dpo; then "${audio_python[@]}" -m synthio.tracking --log_to "$log_to" 9>&- || exit 2; fi
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

main() {
    ((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] >= 404)) || refuse "bash 4.4 or newer is needed, this is $BASH_VERSION"
    declare -gA kinds=() given=()
    lacks=()
    local name
    names=()
    read_block "${BASH_SOURCE[0]}"
    parse_options "$@"
    check_kind profile "${kinds[profile]}"
    apply_profile
    for name in "${names[@]}"; do check_kind "$name" "${kinds[$name]}"; done
    check_choices
    resolve_paths
    export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1
    resolve_interpreters
    find_devices
    trap 'exit 130' INT
    trap 'exit 143' TERM
    trap 'exit 129' HUP
    trap stop_children EXIT
    gather_variables
    if ((${#profile_sets[@]})); then echo "profile $profile sets ${profile_sets[*]}"; fi
    if $check; then
        examine
        exit
    fi
    if $dry_run; then
        if [[ -x $python ]]; then announce; else echo "(.venv is not there yet: it would be made first)"; fi
        for name in "${own_envs[@]}"; do
            [[ -x $root/.envs/$name/bin/python ]] || echo "(.envs/$name is not there yet: it would be made first)"
        done
    else
        lock
        make_main_environment
        announce
        make_own_environments
    fi
    check_tracking
    if $is_demo; then prepare_demo; fi
    check_inputs
    stratify
    if $augment; then synthesise; fi
    classify gold_only "$train_csv"
    if $augment; then
        measure_quality
        classify synthio "$output_csv_path"
    fi
    $dry_run || report
}

if [[ ${BASH_SOURCE[0]} != "$0" ]]; then return 0; fi # experiment.sh reads the functions
main "$@"
exit
