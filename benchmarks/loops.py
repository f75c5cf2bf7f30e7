#!/usr/bin/env python3
"""The work that is timed: ours, and the loop that people use for it today.

    python benchmarks/loops.py filter ours --size tiny

Each case is a pair of functions that make ready and return what is done in each turn. Models are random where no result
depends on what they learnt. The other side is a library's own call, or the plain loop that a paper describes.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks"), str(ROOT / "stable-audio-tools")]

import numpy as np
from side_by_side import Work, clock, serve

from synthio.cli import new_parser, quiet_libraries, run_main, set_threads
from synthio.files import EMBEDDED

LABELS = ("dog", "rain", "bell", "siren")
PROMPT = "sound of a dog bark in the distant street"


@dataclass(frozen=True)
class Size:
    """How much of each work there is.

    Attributes:
        width, layers: of the random Stable Audio Open's transformer.
        channels: of its autoencoder's first layer, twice those of its latents; depth and rates are the real ones.
        frames: its latent frames; 1024 are 47.6 s.
        clip_s: length of the clips.
        steps: of sampling.
        generated: clips that a turn of ours generates.
        filtered: clips that the filter hears.
        trained: clips that the classifier is trained on.
        frames_heard: of the other side's classifier.
    """

    width: int = 384
    layers: int = 6
    channels: int = 32
    frames: int = 1024
    clip_s: float = 4.0
    steps: int = 8
    generated: int = 8
    filtered: int = 200
    trained: int = 150
    frames_heard: int = 1024


SIZES: Mapping[str, Size] = {
    "full": Size(),
    "tiny": Size(
        width=32,
        layers=1,
        channels=4,
        frames=16,
        clip_s=0.2,
        steps=2,
        generated=2,
        filtered=3,
        trained=4,
        frames_heard=64,
    ),
}
EPOCHS = 50  # of the classifier: one is timed
ALIGNED_STEPS = (1, 6)  # of the alignment: a step is what the second takes more


# ---- what is worked on


def write_clips(folder: Path, count: int, seconds: float, rate: int) -> Path:
    """A CSV of noisy tones of some labels, with prompts and seeds."""
    import csv

    import soundfile

    rng, time_s = np.random.default_rng(0), np.arange(round(seconds * rate)) / rate
    rows = []
    for i in range(count):
        pitch = 200.0 * (1 + i % len(LABELS)) * 2 ** (i / count)
        tone = 0.2 * np.sin(2 * np.pi * pitch * time_s) + 0.02 * rng.normal(size=len(time_s))
        soundfile.write(folder / f"{i}.wav", tone, rate)
        rows.append([f"{i}.wav", LABELS[i % len(LABELS)], PROMPT, i])
    with (folder / "clips.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([["path", "label", "prompt", "seed"], *rows])
    return folder / "clips.csv"


def save_stable_audio(folder: Path, size: Size, scheduler=None) -> Path:
    """A random Stable Audio Open in diffusers' format: 44.1 kHz stereo, latent frames of 2048 samples.

    Its scheduler is Stable Audio's own, which draws its noise with torchsde, where none of diffusers' is given.
    """
    import torch
    from diffusers import AutoencoderOobleck, StableAudioDiTModel, StableAudioPipeline
    from diffusers.pipelines.stable_audio.modeling_stable_audio import StableAudioProjectionModel
    from transformers import T5Config, T5EncoderModel

    from tests.tiny_models import cosine_scheduler, word_tokenizer

    torch.manual_seed(0)
    StableAudioPipeline(
        transformer=StableAudioDiTModel(
            sample_size=size.frames,
            in_channels=size.channels // 2,
            out_channels=size.channels // 2,
            num_layers=size.layers,
            attention_head_dim=size.width // 8,
            num_attention_heads=8,
            num_key_value_attention_heads=4,
            cross_attention_dim=size.width // 2,
            cross_attention_input_dim=size.width // 2,
            global_states_input_dim=size.width,
            time_proj_dim=64,
        ),
        vae=AutoencoderOobleck(
            encoder_hidden_size=size.channels,
            downsampling_ratios=[2, 4, 4, 8, 8],
            channel_multiples=[1, 2, 4, 8, 16],
            decoder_channels=size.channels,
            decoder_input_channels=size.channels // 2,
            audio_channels=2,
            sampling_rate=44100,
        ),
        text_encoder=T5EncoderModel(T5Config(vocab_size=64, d_model=64, d_kv=16, d_ff=128, num_layers=2, num_heads=4)),
        tokenizer=word_tokenizer(64),
        projection_model=StableAudioProjectionModel(
            text_encoder_dim=64, conditioning_dim=size.width // 2, min_value=0, max_value=512
        ),
        scheduler=scheduler or cosine_scheduler()(),
    ).save_pretrained(folder)
    return folder


def stage(name: str, *words: object) -> None:
    """Do a stage as its script does it, here."""
    import importlib

    before, sys.argv = sys.argv, [name, *map(str, words)]
    try:
        importlib.import_module(name).main()
    finally:
        sys.argv = before


# ---- generation


def generate_ours(size: Size, device: str, folder: Path) -> Work:
    model, csv = save_stable_audio(folder / "model", size), write_clips(folder, size.generated, size.clip_s, 44100)
    return stage_of_generation(csv, size.generated, device, "--model", model, "--num_steps", size.steps)


def stage_of_generation(csv: Path, count: int, device: str, *words: object) -> Work:
    """Seconds for each clip of stage 6, the loading of the model included; each turn writes new clips."""
    turns: list[Path] = []

    def work() -> float:
        turns.append(csv.parent / f"turn_{len(turns)}")
        started = clock(device)
        outputs = ["--output_csv", turns[-1] / "out.csv", "--output_folder", turns[-1]]
        stage("generate", "--input_csv", csv, *outputs, "--device", device, *words)
        return (clock(device) - started) / count

    return work


def generate_others(size: Size, device: str, folder: Path) -> Work:
    """diffusers' pipeline, one prompt a call; its solver is one of its own that needs no torchsde."""
    import torch
    from diffusers import EDMDPMSolverMultistepScheduler, StableAudioPipeline

    path = save_stable_audio(folder / "model", size, EDMDPMSolverMultistepScheduler(sigma_min=0.3, sigma_max=500))
    pipeline = StableAudioPipeline.from_pretrained(path).to(device)
    pipeline.set_progress_bar_config(disable=True)

    def work() -> None:
        generator = torch.Generator().manual_seed(0)
        pipeline(PROMPT, num_inference_steps=size.steps, audio_end_in_s=size.clip_s, generator=generator)

    return work


# ---- alignment


def align_ours(size: Size, device: str, folder: Path) -> Work:
    """Seconds of a step of stage 4: latents, conditions and reference come from what is computed once."""
    write_clips(folder, 2, size.clip_s, 44100)
    gold, losers = folder / "gold.csv", folder / "losers.csv"
    gold.write_text(f"path,label\n0.wav,{LABELS[0]}\n", encoding="utf-8")
    losers.write_text(f"path,label,source_path,prompt\n1.wav,{LABELS[0]},0.wav,{PROMPT}\n", encoding="utf-8")
    words = ["--gold_csv", gold, "--losers_csv", losers, "--model", save_stable_audio(folder / "model", size)]
    turns: list[Path] = []

    def seconds_of(steps: int) -> float:
        turns.append(folder / f"turn_{len(turns)}")  # beside each other, so that they share what is computed once
        started = clock(device)
        stage("dpo_train", *words, "--output_folder", turns[-1], "--num_steps", steps, "--device", device)
        return clock(device) - started

    seconds_of(1)

    def work() -> float:
        few, many = ALIGNED_STEPS
        return (seconds_of(many) - seconds_of(few)) / (many - few)

    return work


def align_others(size: Size, device: str, folder: Path) -> Work:
    """The same step as it is often written: autoencoder and text encoder each time, a second model as the reference."""
    import torch

    from synthio.generation.diffusion import add_noise, dpo_loss, squared_errors
    from synthio.generation.options import PreferenceOptions
    from synthio.generation.pairs import read_for_model
    from synthio.generation.preference import new_optimizer
    from synthio.models.adapters import make_trainable
    from synthio.models.base import Condition
    from synthio.models.load import load_text_to_audio

    write_clips(folder, 2, size.clip_s, 44100)
    path = str(save_stable_audio(folder / "model", size))
    policy, reference = (load_text_to_audio(path, None, device, "float32") for _ in range(2))
    trainable, options = make_trainable(policy, "lora"), PreferenceOptions()
    optimizer = new_optimizer(trainable, options)
    audio = torch.stack([read_for_model(str(folder / f"{i}.wav"), policy)[0] for i in range(2)]).to(device)

    def work() -> None:
        latents = policy.encode(audio)
        t, noise = torch.rand(1, device=device).repeat(2), torch.randn_like(latents[:1]).repeat(2, 1, 1)
        noisy, target = add_noise(policy.objective, latents, noise, t)
        frames = torch.full((2,), latents.shape[2], device=device)

        def errors(model) -> tuple[torch.Tensor, ...]:
            condition = Condition.joined([model.condition([PROMPT], [size.clip_s])] * 2)
            return squared_errors(model.predict(noisy, t, condition), target, frames).chunk(2)

        with torch.no_grad():
            before = errors(reference)
        optimizer.zero_grad()
        dpo_loss(*errors(policy), *before, options.beta).loss.backward()
        optimizer.step()

    return work


# ---- filter


def filter_ours(size: Size, device: str, folder: Path) -> Work:
    """The clips as stage 7 hears them: levels, spectra for the search of copies and scores."""
    from synthio.filtering.hearing import hear, score
    from synthio.filtering.options import FilterOptions
    from synthio.manifest import read_manifest
    from synthio.models.load import load_scorer

    table = read_manifest(write_clips(folder, size.filtered, size.clip_s, 16000))
    scorer, options = load_scorer(str(EMBEDDED / "clap"), device), FilterOptions()

    def work() -> None:
        score(table, hear(table, scorer, options), scorer)

    return work


def filter_others(size: Size, device: str, folder: Path) -> Work:
    """transformers' pipeline, clip by clip."""
    import soundfile
    from transformers import pipeline

    write_clips(folder, size.filtered, size.clip_s, 48000)  # it takes what it is given for the model's own rate
    judge = pipeline("zero-shot-audio-classification", model=str(EMBEDDED / "clap"), device=device)

    def work() -> None:
        for i in range(size.filtered):
            audio, _ = soundfile.read(folder / f"{i}.wav", dtype="float32")
            judge(audio, candidate_labels=list(LABELS), hypothesis_template="Sound of a {}")

    return work


# ---- classifier


def train_classifier(size: Size, device: str, folder: Path, frames: int | None) -> tuple[Callable, Callable]:
    """(read: features of some waveforms, step: an optimiser step on a batch of them), at `frames` or the clips' own."""
    import torch

    from synthio.classification.training import Normalisation, choose_frames, fill, log_mel, loss_of
    from synthio.models.ast_model import load_ast, load_ast_config

    config = load_ast_config(str(EMBEDDED / "ast"))
    samples = round(size.clip_s * 16000)
    own = choose_frames([1 + (samples - 400) // 160], config.max_length, config)
    norm = Normalisation(frames or own, -4.27, 4.57)
    model = load_ast(str(EMBEDDED / "ast"), list(LABELS), norm.frames, False, 0).to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    targets = torch.eye(len(LABELS), device=device)

    def read(waveforms) -> torch.Tensor:
        return fill([log_mel(waveform, config.num_mel_bins, norm.frames) for waveform in waveforms], norm)

    def step(features: torch.Tensor) -> None:
        optimizer.zero_grad()
        rows = torch.arange(len(features), device=device) % len(LABELS)
        loss_of(model(features.to(device)).logits, targets[rows], False).backward()
        optimizer.step()

    return read, step


def clips_of(csv: Path) -> Callable[[], list[np.ndarray]]:
    from synthio.classification.training import read_waveforms
    from synthio.manifest import PATH, read_manifest

    paths = list(read_manifest(csv)[PATH])
    return lambda: list(read_waveforms(paths, csv))


BATCH = 16


def classify_ours(size: Size, device: str, folder: Path) -> Work:
    """Features once, as long as the clips; seconds of these and of 50 epochs, one of which is timed."""
    clips = clips_of(write_clips(folder, size.trained, size.clip_s, 16000))
    read, step = train_classifier(size, device, folder, None)

    def work() -> float:
        started = clock(device)
        features = read(clips())
        read_s, started = clock(device) - started, clock(device)
        for batch in features.split(BATCH):
            step(batch)
        return read_s + EPOCHS * (clock(device) - started)

    return work


def classify_others(size: Size, device: str, folder: Path) -> Work:
    """Clips are read and their features computed in each epoch, padded to 1024 frames."""
    clips = clips_of(write_clips(folder, size.trained, size.clip_s, 16000))
    read, step = train_classifier(size, device, folder, size.frames_heard)

    def work() -> float:
        started = clock(device)
        waveforms = clips()
        for first in range(0, len(waveforms), BATCH):
            step(read(waveforms[first : first + BATCH]))
        return EPOCHS * (clock(device) - started)

    return work


# ---- the embedded generator


def embedded_ours(size: Size, device: str, folder: Path) -> Work:
    csv = write_clips(folder, size.generated, size.clip_s, 16000)
    return stage_of_generation(csv, size.generated, device)


def embedded_others(size: Size, device: str, folder: Path) -> Work:
    """The base weights: 24 steps, each of two evaluations."""
    csv = write_clips(folder, size.generated, size.clip_s, 16000)
    words = ("--num_steps", 24 if size.steps > 2 else 2, "--cfg_scale", 1.5, "--sampler", "euler")
    return stage_of_generation(csv, size.generated, device, *words)


@dataclass(frozen=True)
class Case:
    """Two ways of the same work.

    Attributes:
        title: of the row.
        other: what the other side is.
        ours, others: make ready for a size, a device and a folder of their own.
        wanted: least ratio on a CPU and on a GPU; None: none.
    """

    title: str
    other: str
    ours: Callable[[Size, str, Path], Work]
    others: Callable[[Size, str, Path], Work]
    wanted: tuple[float | None, float | None]


CASES: Mapping[str, Case] = {
    "generation": Case(
        "generation, random small Stable Audio Open, clips of 4 s: seconds a clip",
        "diffusers' StableAudioPipeline, one prompt a call, 47 s, as many steps",
        generate_ours,
        generate_others,
        (12, 20),
    ),
    "alignment": Case(
        "DPO step of a pair, the same model",
        "autoencoder and text encoder in each step, a second model as reference, 47 s",
        align_ours,
        align_others,
        (15, 15),
    ),
    "filter": Case(
        "CLAP filter, 200 clips",
        "transformers' zero-shot-audio-classification, clip by clip",
        filter_ours,
        filter_others,
        (1.5, 5),
    ),
    "classifier": Case(
        "classifier, 50 epochs of 150 clips",
        "filterbank in each epoch, 1024 frames",
        classify_ours,
        classify_others,
        (3, 5),
    ),
    "embedded": Case(
        "embedded generator: seconds a clip", "24 steps with guidance", embedded_ours, embedded_others, (4, None)
    ),
}


def get_parser():
    parser = new_parser(__doc__)
    parser.add_argument("case", choices=list(CASES), help="what is done")
    parser.add_argument("side", choices=["ours", "others"], help="by whom")
    parser.add_argument("--size", choices=list(SIZES), default="full", help="how much of it")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    return parser


def main() -> int:
    args = get_parser().parse_args()
    quiet_libraries()
    set_threads()
    with tempfile.TemporaryDirectory() as folder:
        prepare = getattr(CASES[args.case], args.side)
        serve(lambda: prepare(SIZES[args.size], args.device, Path(folder)), args.device)
    return 0


if __name__ == "__main__":
    run_main(main)
