#!/usr/bin/env bash
# shellcheck disable=SC2034,SC2154,SC2329 # variables are also read by name and set in extras/driver, traps call functions
if [ -z "${BASH_VERSION:-}" ] || shopt -qo posix; then exec env -u POSIXLY_CORRECT -u SHELLOPTS bash "$0" "$@"; fi # `sh run.sh`: sh may be dash
# From a CSV of real clips to the test scores of a classifier trained with synthetic ones:  sh run.sh
# `sh run.sh --help` explains every variable. Edit them here, or give them as --name value.

# ==== variables
# Paths start at the folder you call from. A word before the colon says what is allowed.
# -- data
profile=embedded           # embedded|stable_audio_open|stable_audio_3|laptop|paper_models|paper: models and what suits them, set together; what you set wins
dataset_name=demo          # text: names the outputs, ./<dataset_name>/ and ./<dataset_name>_synthetic/
input_train_file=""        # text: CSV of the training clips (path, label); all three CSVs empty: a demo set is made
valid_csv=""               # text: CSV of the validation clips; they choose the step of the classifier
test_csv=""                # text: CSV of the test clips; scored once, at the end
add_csv=""                 # text: CSV of training clips (path, label) that a run is extended by: only what depends on them is done, and the validation and test clips stay what they are
num_samples=""             # whole 0..: training clips to draw, stratified; 0: all; empty: 50 of the demo set, else all
multi_label=false          # bool: clips have several labels, joined by ';' in the CSV
on_bad_audio=stop          # stop|drop: what to do with a clip that is missing or cannot be used; drops are listed in a file
seed=0                     # whole 0..2147483647: seed of everything random
# -- what is done
augment=true               # bool: make synthetic clips; false: train on the gold clips alone
dpo=true                   # bool or auto: align the text-to-audio model with the gold clips first (preference optimisation). auto: no clips with it where labels are heard less, beyond chance, in some that are made both ways (paper: true)
dpo_ckpt_folder=""         # text: adapter folder of an earlier run, instead of stages 3 and 4
num_iters=2                # whole 1..100: synthetic clips for each gold clip (paper: 2)
use_label=false            # bool: prompts are "Sound of a <label>", no captions
plain_caption=false        # bool: prompts from each clip's own caption, without MixCap's pool
plain_wo_caption=false     # bool: prompts from label and domain alone
supcon=false               # bool: a contrastive loss beside the classifier's cross-entropy; in a run also prompts that go beyond each label
initialize_audio=false     # bool: generation starts from the gold clip plus noise (paper: false)
init_noise_level=0.6       # number 0.01..1: for initialize_audio=true, level of the noise; 0.01 keeps the gold clip, 1 forgets it
channel_match=false        # bool: generated clips are heard through the recording chain of the gold clips: room, tone, bandwidth, level, noise, estimated from all of them (paper: false)
clap_filter=true           # bool: drop the clips that do not sound like their label
clap_threshold=0.85        # number 0..1 or auto: least sigmoid(scale * cosine) of a kept clip, of PeAudio a probability; 0 keeps all; auto: like real clips (paper: 0.85)
iterative=true             # bool: self-reflection, new prompts for the clips that were dropped
reflect_rounds=2           # whole 0..100: rounds of self-reflection, at most; they end when each class has num_iters for each gold clip
balance=false              # bool: cut the synthetic clips so that no class has a larger share of its quota than another
only_synthetic=false       # bool: train on the synthetic clips without the gold ones
review=""                  # text: review.csv as report.html saves it: clips that a listener keeps, drops or relabels, for a rerun
classifier=auto            # auto|fusion|probe|ast: what is saved as the classifier; all are trained and shown. auto: the fusion of what the models know and what the clips teach, unless validation clips say clearly that another is better
use_ast=true               # bool: fine-tune ast_model; false: only heads on frozen embeddings, and classifier=auto means probe
zero_shot=false            # bool: for use_ast=false and augment=false: CLAP takes the label whose prompts are nearest
other_class=false          # bool: train one more classifier, with a label other for what is none of the labels: from clips that the filter rejected and from other_csv; the end says how many false alarms that saves
other_csv=""               # text: for other_class=true, CSV (path) or folder of sounds that are none of the labels, such as the background
retrieval_csv=""           # text: CSV of a corpus (path): its clips nearest to the gold ones by CLAP, in place of generated ones
domain=""                  # text: where the sounds come from, for the prompts ("urban street recordings")
# -- models: embedded, a folder, or a Hugging Face id
text_to_audio_model=embedded # text: Stable Audio in diffusers' format or as published, or a model of stable-audio-tools; several, parted by commas, share the clips of each label, and the report compares them
dtype=auto                 # auto|float32|float16|bfloat16: precision of the text-to-audio model; auto: float16 to generate with a full-size one on CUDA, else float32. Training takes bfloat16 where float16 is asked for
clap_model=embedded        # text: transformers' ClapModel or PeAudio, a .pt file of laion_clap, msclap:2022, msclap:2023, or a .pth file of msclap
ast_model=embedded         # text: transformers' AST or another audio classifier of it (Wav2Vec2, HuBERT, Whisper, ...), or a .pth checkpoint of the AST repository
captioner=embedded         # text: what describes the gold clips: embedded, gama, openai, or an audio LLM's folder or Hugging Face id
caption_instruction=auto   # text: what a captioner that is a model is asked; auto: our wording, but no words for a model with 'captioner' in its name, which takes sound alone; none: no words
caption_max_tokens=256     # whole 1..: longest caption of a captioner that is a model, in tokens
caption_batch_size=8       # whole 1..: clips that a captioner that is a model describes at once
caption_model=""           # text: for captioner=openai, name of a model that hears, on a server of OpenAI's protocol (llama.cpp, vLLM, OpenAI)
caption_base_url=""        # text: for captioner=openai, the server, http://localhost:8080/v1, whose key is in CAPTION_API_KEY; empty: that of OPENAI_BASE_URL, else OpenAI, with OPENAI_API_KEY
gama_dir=""                # text: for captioner=gama, clone of its repository, with the folder of its base model in it
gama_checkpoint=""         # text: for captioner=gama, its weights, a file or the folder of one
caption_writer=embedded    # text: what writes the prompts: embedded, openai, or a chat model's folder or Hugging Face id
llm_model=""               # text: for caption_writer=openai, whose key is in OPENAI_API_KEY: name of the model there
llm_base_url=""            # text: for caption_writer=openai, the server, http://localhost:8000/v1; empty: OPENAI_BASE_URL, else OpenAI
llm_max_calls=0            # whole 0..: for a server (caption_writer=openai, captioner=openai), calls that stages 2 and 5, and each round of 8, may make; 0: no limit
llm_max_tokens=0           # whole 0..: for a server (caption_writer=openai, captioner=openai), tokens that a step may send and receive; 0: no limit
llm_input_price=0          # number 0..: for a server (caption_writer=openai, captioner=openai), price of a million tokens sent; 0: costs are not told
llm_output_price=0         # number 0..: for a server (caption_writer=openai, captioner=openai), price of a million tokens received; 0: costs are not told
# -- generation
latent_seconds=auto        # number 0.1.. or auto or model: length of the latents that are made and trained on. auto: the longest training clip and what the decoder hears beyond it, at most the model's; model: always the model's; a number: seconds. The embedded model keeps its own under auto (paper: model)
sampler=auto               # auto|euler|heun|dpmpp_2m|dpmpp_2m_sde|dpmpp_3m_sde|pingpong: solver; auto: what suits the model; heun and pingpong are for rectified flows alone
distilled=auto             # auto|true|false: the weights for few steps that the embedded model has beside its own; auto: where neither sampler, num_steps nor cfg_scale is set, and the adapter, if there is one, is a LoRA
num_steps=0                # whole 0..1000: sampling steps; 0: what suits the model
cfg_scale=0                # number 0..100: guidance; 1: none, 0: what suits the model (paper: 7)
cfg_rescale=0              # number 0..1: how far guidance is kept from raising the level; 0: not at all, 1: entirely
generate_batch_size=16     # whole 1..: clips generated at once; halved where the GPU's memory does not hold them
# -- filter
threshold_kind=absolute    # absolute|class_quantile|rank: absolute: clap_threshold for all classes; class_quantile (ties included) and rank (exactly): the best keep_percent of each class
auto_quantile=0.1          # number 0..1: share of the real clips that a threshold of auto would drop
keep_percent=70            # number 1..100: share of each class that is kept by threshold_kind class_quantile and rank
classifier_weight=0        # number 0..1: share of a gold-only classifier in the rank of a clip, beside CLAP; 0: CLAP alone
duplicate_cosine=0.9       # number 0..1: clips more like a gold, validation or test clip than this cosine are dropped as copies; 1: none
drop_repeats=false         # bool: drop copies of better synthetic clips too
max_clipped=0.01           # number 0..1: largest share of a clip's samples at full scale
filter_w_finetune=false    # bool: fine-tune the CLAP of the filter on the gold clips first
finetune_num_steps=200     # whole 1..: optimiser steps of the fine-tuning of CLAP, at most; validation clips end it earlier
finetune_learning_rate=1e-5 # number 0..: highest learning rate of the fine-tuning of CLAP
# -- preference optimisation
dpo_train_parts=lora       # lora|prefix|all: what is trained in the alignment; a prefix (the paper's) needs a rate of about 1e-2
dpo_loss=dpo               # dpo|sft: dpo: preference; sft: the plain loss on the gold clips ("ERM" in the paper)
dpo_pairs=gold             # gold|ranked: gold: gold against generated clips; ranked: best against worst generation by CLAP score (CRPO)
dpo_losers=2               # whole 1..100: generations for each gold clip that it is preferred to (paper: 2)
dpo_rounds=1               # whole 1..100: rounds of alignment; each trains on, against generations of the round before (paper: 1)
dpo_codec_match=true       # bool: gold clips go through the model's autoencoder before they are preferred to generated ones, which have been through it, so that the model cannot learn the autoencoder's marks (paper: false)
dpo_beta=2000              # number 0..: strength of the preference in the alignment: half of it multiplies the difference of the errors, each a mean over the frames that a clip fills (paper: 2000, with the padding in the mean)
dpo_winner_weight=0        # number 0..: weight of the winner's own diffusion loss, an anchor to the gold clips as recorded (TangoFlux; paper: 0)
dpo_timesteps=uniform      # uniform|logit_normal: distribution of the training times of the alignment
dpo_num_steps=150          # whole 1..: optimiser steps of each round of alignment
dpo_num_epochs=0           # number 0..: passes over the pairs in a round of alignment; 0: the number of steps counts
dpo_learning_rate=5e-5     # number 0..: learning rate of AdamW in the alignment, after warm-up (paper: 5e-5)
dpo_warmup_steps=10        # whole 0..: steps of alignment in which the learning rate rises
dpo_batch_size=8           # whole 1..: pairs of the alignment in memory at once
dpo_accumulation=1         # whole 1..: batches of pairs in each optimiser step
dpo_gradient_checkpointing=false # bool: activations of the alignment are computed again for the gradients in place of being kept: a step takes about a quarter longer, in a fraction of the memory
dpo_ema_decay=0            # number 0..0.9999999: decay of averaged weights of the adapter; 0: the last weights
# -- classifier
ast_num_steps=150          # whole 1..: optimiser steps, as many with synthetic clips as without
ast_epochs=0               # number 0..: passes over the training clips (paper: 50); 0: ast_num_steps counts
ast_patience=8             # whole 0..: evaluations of the classifier in a row, 20 of which make the whole training, without a lower validation loss, after which it ends; 0: it never ends before its last step (paper)
ast_learning_rate=3e-4     # number 0..: highest learning rate of the classifier (paper, for a model 80 times larger: 1e-5)
ast_batch_size=16          # whole 1..: clips in a step of the classifier (paper: 48)
ast_precision=auto         # auto|float32|bfloat16: what the classifier multiplies in when it is trained; auto: bfloat16 on a GPU that has it, else float32. It is scored in float32
ast_optimizer=adamw        # adamw|adam: optimiser of the classifier; adam (paper) has the weight decay in the gradient
ast_schedule=cosine        # cosine|step: how the learning rate of the classifier goes. cosine: it rises in the first tenth of the steps and falls to 0; step: it falls by 15 % after each epoch from the fifth on (paper)
ast_head_init=names        # names|probe|random: where the new head starts. names: at a linear probe and what the pretrained head says, where that has names for every label; probe: at the probe alone; random (paper)
ast_wise_ft_alpha=auto     # number 0..1 or auto: share of the trained weights in the classifier, the rest being those at the start; auto: what is best on the validation clips; 1: the trained ones alone (paper, and always where the head starts at random)
ast_class_weights=false    # bool: each class has the same weight in the loss
synthetic_weight=auto      # number 0.. or auto: how often a synthetic clip comes for one time that a gold one does; auto: what is best on the validation clips, 0 where they do not help there (paper: 1)
ast_waveform_augment=none  # none|noise|pitch|speed|chain: changes each clip anew at each step; pitch keeps the tempo (the paper's), speed changes both by resampling; chain: gain, noise, pitch, shift, filter
ast_spec_augment=false     # bool: mask a band of frequencies and a stretch of time, at each step (SpecAugment); of AST alone
ast_mixup=0                # number 0..: alpha of mixup's Beta distribution; 0: no mixup
supcon_weight=1            # number 0..: for supcon=true, weight of the contrastive loss; cross-entropy has 1
supcon_temperature=0.1     # number 0.001..: for supcon=true, temperature of the contrastive loss (its paper: 0.1)
supcon_epochs=0            # number 0..: for supcon=true, passes over the training clips by the contrastive loss alone, after which cross-entropy alone trains (paper: 100); 0: both losses share the steps
ast_input_length=percentile # percentile|mean: how long the input of the classifier is: the 95th percentile of the real training clips, or their mean, which cuts the longer half (paper)
probe_embeddings=both      # both|ast|clap: for classifier=probe, what the linear probe hears
probe_clap_model=""        # text: another CLAP than clap_model, which filters, for all heads on frozen embeddings
# -- outputs
quality=true               # bool: measure the synthetic clips against real ones: KAD, FAD, diversity, label agreement, copies
attribution_clips=16       # whole 0..1000: clips that are generated again for each part, with alignment and without captions, to tell what these bought; 0: none
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
cpu_threads=0              # whole 0..1024: threads of each process where there is no GPU; 0: all cores. They decide the last bits of a result
compile=false              # bool: torch.compile the network of generation, alignment or AST: minutes at the start, after which a GPU may be faster
log_to=none                # none|tensorboard|wandb|trackio: where training curves and scores are sent, too
stable_audio_env=""        # text: venv folder or conda environment that generates; empty: .venv, or the .envs/<name> that the model needs
gama_env=""                # text: venv folder or conda environment of the captioner; empty: .venv, or the .envs/<name> that it needs
train_devices=1            # whole 1..64 or auto: GPUs that one training (alignment, AST) is shared out to; auto: all. It pays above some thousand clips
launcher=local             # text: where stages with a model run: local, slurm (as jobs of a cluster), or a file of launcher functions
launcher_options=""        # text: for launcher=slurm, options of sbatch: partition=gpu gres=gpu:1 cpus-per-task=8 mem=32G time=2:00:00
launcher_tasks=4           # whole 1..9999: for launcher=slurm, tasks that share the work of a stage
launcher_retries=1         # whole 0..100: for launcher=slurm, how often a task that was lost, or cut off by its time limit, is submitted again
clap_env=""                # text: venv folder or conda environment of filter and heads; empty: as for stable_audio_env
msclap_env=""              # text: venv folder or conda environment in place of clap_env, where clap_model is one of msclap
ast_env=""                 # text: venv folder or conda environment of the classifier; empty: as for stable_audio_env
# -- this call
stage=0                    # whole 0..10: first stage to run
stop_stage=10              # whole 0..10: last stage to run
strict_env=false           # bool: do the stages again whose results were made with other versions of libraries than are installed
force_steps=false          # bool: do the stages again even where they are up to date
dry_run=false              # bool: only print stages and commands; --dry_run alone means true
check=false                # bool: only say what is missing, for the models that are chosen; --check alone means true
advise=false               # bool: only say, in minutes, what synthetic clips and more recordings would bring each label; --advise alone means true
# ==== end of variables (what they are is written here by: python -m synthio.pipeline.variables)
set -euo pipefail

root=$(CDPATH="" cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
if [[ ! -d $root/extras/driver ]]; then
    echo "run.sh: its other half is not there: $root/extras/driver" >&2
    exit 2
fi
for part in options choices steps early extra_stages local report; do
    # shellcheck source=/dev/null # each is checked by itself
    source "$root/extras/driver/$part.sh"
done

print_help() {
    cat <<'END'
usage: sh run.sh [--name value | --name=value]... [--stage N] [--stop_stage N] [--dry_run] [--check] [--advise]
                 [--version] [--help]

Stages and their steps. A step whose command, inputs and code are as they were is skipped. The first call makes .venv.
END
    list_stages
    print_variables "${BASH_SOURCE[0]}"
}

# ==== the stages
# They are read twice: `plan` notes the steps, then they run (extras/driver/steps.sh). So nothing here may have an effect
# but through step and run_sharded, and no variable of the block is changed.
recipe() {
    if $is_demo; then prepare_demo; fi
    check_inputs
    check_review
    stratify
    if $advise; then
        give_advice
        return
    fi
    gold=$train_csv # as it trains
    if $augment; then synthesise; else apply_review; fi
    if $other_class; then gather_other; fi
    classify gold_only "$gold"
    if $augment; then
        measure_quality
        classify synthio "$output_csv_path"
    fi
    if $other_class; then classify_other; fi
    report
}

prepare_demo() {
    writes=("$input_train_file" "$valid_csv" "$test_csv")
    step 0 demo dataset_csvs/prepare.py demo --output_folder "$demo" --seed "$seed"
}

check_inputs() {
    words_of CheckOptions
    reads=("$input_train_file" "$valid_csv" "$test_csv") watched=("${reads[@]}")
    writes=("$work/checked/train.csv" "$valid" "$test")
    check_more_inputs
    step 0 check -m synthio.data.check_inputs --train_csv "$input_train_file" --valid_csv "$valid_csv" \
        --test_csv "$test_csv" --output_folder "$work/checked" --num_samples "$num_samples" "${words[@]}"
}

stratify() {
    reads=("$work/checked/train.csv") writes=("$base_csv")
    step 1 stratify stratify_dataset.py --input_csv "${reads[0]}" --output_csv "$base_csv" \
        --num_samples "$num_samples" --seed "$seed"
    [[ -z $add_csv ]] || add_clips
}

# Stages 2 to 9: from the gold clips to the CSV that the second classifier is trained on.
synthesise() {
    local heard kept=()
    rejected=() adapters=() made_by=() # of each filtered round, by filter; folders, one a generator, by align; for quality
    begin_early classify gold_only "$gold"
    make_clips
    generate_again
    if $clap_filter && ((attribution_clips)); then parts+=(--kept_csvs "${kept[@]}"); fi
    [[ -z $add_csv ]] || make_clips_of_added
    heard=("${kept[@]}" "${rejected[@]}")
    if ((${#generators[@]} > 1)); then made_by=(--made_csvs "${kept[@]}"); fi
    if $balance; then
        balance_classes "${kept[@]}"
        kept=("$work/balanced.csv")
    fi
    apply_review
    $only_synthetic || kept=("$gold" "${kept[@]}")
    reads=("${kept[@]}") writes=("$output_csv_path")
    step 9 merge merge_csv.py --input_csvs "${kept[@]}" --output_csv "$output_csv_path"
    reads=("$output_csv_path") writes=("$work/dataset")
    step 9 dataset extras/export_dataset.py --input_csv "$output_csv_path" --output_folder "$work/dataset" --work "$work"
}

# Stages 2 to 8, for the clips of $made_for. Adds what goes on to the array `kept` of its caller.
make_clips() {
    local round=1 these=("$part/round_0/kept.csv")
    [[ -n $retrieval_csv ]] || prepare_prompts
    generate_and_filter 0 6 7
    $clap_filter || these=("$part/round_0/generated.csv") # nothing is rejected
    while $clap_filter && ! quota_reached "${these[@]}" && ((round <= rounds)); do
        reflect "$round" "${kept[@]}" "${these[@]}"
        these+=("$part/round_$round/kept.csv")
        round=$((round + 1))
    done
    kept+=("${these[@]}")
}

# Stages 2 to 5.
prepare_prompts() {
    local mode=mixcap source=$part/captions.csv pool=()
    if $supcon; then mode=supcon; fi
    if $use_label; then mode=template; elif $plain_caption; then mode=plain; fi
    if $plain_wo_caption; then mode=plain_wo_caption; fi
    if [[ $mode == mixcap || $mode == plain ]]; then caption_gold; else source=$made_for; fi # only these read captions
    if [[ $part == "$work" ]]; then align; fi # what is added does not change the adapter
    [[ $mode != mixcap || $part == "$work" ]] || pool=(--pool_csv "$work/captions.csv")
    write_captions 5 captions "$mode" "$source" "$part/round_0/prompts.csv" --num_captions "$num_iters" \
        --domain "$domain" "${pool[@]}"
}

caption_gold() {
    local options=(--captioner "$captioner" --device "$device")
    models=("captioner=$captioner") reads=("$made_for") writes=("$part/captions.csv")
    if [[ $captioner != embedded ]]; then
        options+=(--instruction "$caption_instruction" --max_new_tokens "$caption_max_tokens"
            --batch_size "$caption_batch_size")
    fi
    if [[ $captioner == gama ]]; then
        reads+=("$gama_checkpoint")
        options+=(--gama_dir "$gama_dir" --gama_checkpoint "$gama_checkpoint" --gama_env "$gama_env")
    fi
    if [[ $captioner == openai ]]; then
        caption_served
        return
    fi
    run_sharded 2 caption "$caption_batch_size" gama_csv_inf.py "${options[@]}"
}

# Stages 3 and 4.
align() {
    local round member
    [[ $dpo != false ]] || return 0
    if [[ -n $dpo_ckpt_folder ]]; then
        adapters=("$dpo_ckpt_folder")
        return
    fi
    if [[ $dpo_loss == dpo ]]; then
        write_captions 3 loser_prompts template "$base_csv" "$work/dpo/prompts.csv" --num_captions "$dpo_losers"
    fi
    for member in "${!generators[@]}"; do
        for ((round = 1; round <= dpo_rounds; round++)); do align_round "$round"; done
    done
    judge_alignment
}

# Generate losers with the adapter there is, and train on from it; both of the generator `member`.
align_round() { # ROUND
    local suffix=_$1 earlier=${adapters[member]:-} options=() gold=("$base_csv" "$valid") tag
    local model=${generators[member]} loaded=("text_to_audio_model=${generators[member]}")
    if (($1 == 1)); then suffix=""; fi
    tag_member
    suffix=$tag$suffix
    if [[ $dpo_loss == dpo ]]; then
        options+=(--losers_csv "$work/dpo/losers$suffix.csv")
        generate 3 "losers$suffix" "$work/dpo/prompts.csv" "${options[1]}" "$output_folder/dpo_losers" \
            ${earlier:+--adapter "$earlier"}
        gold+=("${options[1]}")
    fi
    if [[ -n $earlier ]]; then
        options+=(--init_adapter "$earlier")
        gold+=("$earlier")
    fi
    if [[ $dpo_pairs == ranked ]]; then
        options+=(--scorer "$clap_model")
        loaded+=("clap_model=$clap_model")
    fi
    adapters[member]=$work/dpo/adapter$suffix
    models=("${loaded[@]}") reads=("${gold[@]}") writes=("${adapters[member]}")
    suit_member
    words_of PreferenceOptions
    suited=()
    train 4 "dpo$suffix" dpo_train.py --gold_csv "$base_csv" --valid_csv "$valid" "${options[@]}" \
        --output_folder "${adapters[member]}" --model "$model" "${words[@]}" --device "$device" \
        "${compiling[@]}" "${tracking[@]}"
}

write_captions() { # NUMBER NAME MODE INPUT OUTPUT [OPTIONS...]
    local number=$1 name=$2 mode=$3
    reads=("$4") writes=("$5")
    shift 5
    csvs_among "$@"
    if [[ $mode != template ]]; then
        models=("caption_writer=$caption_writer")
        set -- "$@" "${writer[@]}"
    fi
    step "$number" "$name" generate_captions_gpt.py --input_csv "${reads[0]}" --output_csv "${writes[0]}" \
        --seed "$seed" --mode "$mode" "$@"
}

# Generate and filter the prompts of a round. Stages 6 and 7, or 8 and 8.
generate_and_filter() { # ROUND GENERATE_NUMBER FILTER_NUMBER
    local round=$1 folder=$part/round_$1 options=() suffix=_$1 form=generated
    if ((round == 0)); then suffix=""; fi
    if $initialize_audio; then options+=(--initialize_audio true --init_noise_level "$init_noise_level"); fi
    if $channel_match; then form=unmatched; fi
    if [[ -n $retrieval_csv ]]; then
        retrieve "$2" "$folder/generated.csv"
    else
        generate_shared "$2" "$suffix" "$folder/prompts.csv" "$folder/$form.csv" "$sounds/round_$round" \
            "${options[@]}"
        match_channel "$round" "$2" "channel$suffix"
    fi
    $clap_filter || return 0
    if [[ $folder == "$work/round_0" ]]; then prepare_filter; fi
    filter "$round" "$3" "filter$suffix"
}

generate() { # NUMBER NAME INPUT OUTPUT AUDIO_FOLDER [MORE OPTIONS...]; of the generator `member`, else the first
    local model=${generators[${member:-0}]}
    models=("text_to_audio_model=$model") reads=("$3" "$base_csv") writes=("$4")
    if [[ ${6:-} == --adapter ]]; then reads+=("$7"); fi
    words_of SamplingOptions initialize_audio init_noise_level # of no losers
    run_sharded "$1" "$2" "$generate_batch_size" stable-audio-tools/generate.py --output_folder "$5" --whole_csv "$3" \
        --gold_csv "$base_csv" --model "$model" "${words[@]}" --device "$device" "${compiling[@]}" "${@:6}"
}

# Only the options that this kind of filter reads are given to it: a change of the others must not run it again.
filter() { # ROUND NUMBER NAME
    local folder=$part/round_$1 k more=() earlier=()
    models=("clap_model=$filter_clap") reads=("$folder/generated.csv" "$gold_csv" "$valid" "$test")
    case $threshold_kind-$clap_threshold in
        absolute-auto) more=(--threshold auto --auto_quantile "$auto_quantile") ;;
        absolute-*) more=(--threshold "$clap_threshold") ;;
        *) more=(--keep_percent "$keep_percent" "${filter_classifier[@]}") ;;
    esac
    if ((${#filter_classifier[@]})); then reads+=("${filter_classifier[1]}"); fi
    if $drop_repeats; then
        earlier=("${kept[@]}") # of the clips that were there before some were added
        for ((k = 0; k < $1; k++)); do earlier+=("$part/round_$k/kept.csv"); done
        reads+=("${earlier[@]}")
        more+=(--drop_repeats true --earlier_csvs "${earlier[@]}")
    fi
    writes=("$folder/kept.csv" "$folder/rejected.csv" "$folder/kept.png")
    rejected+=("${writes[1]}")
    step "$2" "$3" filter_audios.py --input_csv "$folder/generated.csv" --kept_csv "$folder/kept.csv" \
        --rejected_csv "$folder/rejected.csv" --model "$filter_clap" --threshold_kind "$threshold_kind" "${more[@]}" \
        --gold_csv "$gold_csv" --valid_csv "$valid" --test_csv "$test" --duplicate_cosine "$duplicate_cosine" \
        --max_clipped "$max_clipped" --device "$device"
}

reflect() { # ROUND KEPT...
    local round=$1 before=$part/round_$(($1 - 1))/rejected.csv out=$part/round_$1/prompts.csv
    shift
    models=("caption_writer=$caption_writer") reads=("$before" "$@") writes=("$out")
    step 8 "rewrite_$round" generate_captions_gpt.py --mode rewrite --input_csv "$before" --accepted_csv "$@" \
        --output_csv "$out" --seed "$seed" --domain "$domain" "${writer[@]}"
    generate_and_filter "$round" 8 8
}

# Train every classifier on a CSV, and make one of them *the* classifier.
classify() { # NAME TRAIN_CSV [VALID_CSV CLASSES_CSV]
    local folder=$work/classifier/$1 trained=() csvs=("$2" "${3:-$valid}" "$test" "${4:-$work/checked/train.csv}")
    local options=(--train_csv "$2" --valid_csv "${csvs[1]}" --test_csv "$test" --multi_label "$multi_label"
        --classes_csv "${csvs[3]}" --seed "$seed" --device "$device" --synthetic_weight "$synthetic_weight")
    if $use_ast; then
        train_ast "$1"
        trained+=("${folder}_ast")
    fi
    models=("$heads_clap=${!heads_clap}" "ast_model=$ast_model") reads=("${csvs[@]}") writes=("${folder}_heads")
    step 10 "heads_$1" ast/heads.py "${options[@]}" --output_folder "${folder}_heads" \
        --ast_model "$ast_model" --clap_model "${!heads_clap}" --cache_folder "$embeddings_folder"
    case $head in
        auto) trained+=("${folder}_heads/fusion" "${folder}_heads/probe") ;;
        ast) ;;
        *) trained+=("${folder}_heads/$head") ;;
    esac
    reads=("${trained[@]}") writes=("$folder")
    step 10 "choose_$1" -m synthio.classification.choose --classifier "$head" --folders "${trained[@]}" \
        --output_folder "$folder"
}

# The synthetic clips against real ones, by models that did not filter them where there are such.
measure_quality() {
    local judge=$work/classifier/gold_only_heads/probe_ast # CLAP has no part in it, for CLAP filters
    $quality || return 0
    if $use_ast; then judge=$work/classifier/gold_only_ast; fi
    models=("$heads_clap=${!heads_clap}" "ast_model=$ast_model")
    reads=("$output_csv_path" "$train_csv" "$valid" "$test" "$judge") writes=("$work/quality.json")
    csvs_among "${parts[@]}" "${made_by[@]}"
    step 10 quality -m synthio.report.quality --input_csv "$output_csv_path" --gold_csv "$train_csv" --valid_csv "$valid" \
        --test_csv "$test" --classifier "$judge" --ast_model "$ast_model" --clap_model "${!heads_clap}" \
        --classifier_weight "$classifier_weight" --duplicate_cosine "$duplicate_cosine" "${parts[@]}" "${made_by[@]}" \
        --output_json "$work/quality.json" --cache_folder "$embeddings_folder" --seed "$seed" --device "$device"
}

# ==== main
prepare() { # OPTIONS...; up to the plan of the run, without an effect
    read_variables "${BASH_SOURCE[0]}"
    parse_options "$@"
    check_variables
    check_choices
    resolve_paths
    find_devices
    plan recipe
}

main() {
    prepare "$@"
    stop_with_us
    find_interpreters
    gather_variables
    if ((${#taken[@]})); then printf '%s\n' "${taken[@]}"; fi
    if $check; then
        examine
        exit
    fi
    make_ready
    recipe
}

if [[ ${BASH_SOURCE[0]} != "$0" ]]; then return 0; fi # a test reads the plan
main "$@"; exit # on one line: bash reads on where it stopped, and the file may have changed meanwhile
