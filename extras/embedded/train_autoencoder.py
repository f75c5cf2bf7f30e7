#!/usr/bin/env python3
"""Train the log-mel autoencoder of the embedded text-to-audio model.

    python extras/embedded/train_autoencoder.py --cache .scratch/corpus --output weights/text_to_audio/vae

Needs the corpus of corpus.py. Writes the autoencoder with latents of unit mean variance, and prints how far the log-mel
of a held-out clip moves through the whole round trip, Griffin-Lim included.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]

import numpy as np
from training import recipe_parser

from synthio.cli import run_main, set_threads

CROP = 32 * 1024  # samples a training clip: 16 latent frames, 2 s
CODE_NOISE = 0.1
CODE_CHANNELS = 128  # of 320 log-mel values each; with 64, a classifier lost 12 points on decoded clips


def get_parser():
    return recipe_parser(__doc__, "text_to_audio/vae", steps=4000, batch_size=16)


def crops(corpus, rng: np.random.Generator, rows):
    """Random 2 s pieces [B, 1, CROP] of clips that start inside the sound, with a random gain."""
    import torch

    audio = corpus.waveforms(rows)
    out = np.zeros((len(rows), 1, CROP), np.float32)
    for i, row in enumerate(rows):
        start = int(rng.integers(0, max(1, corpus.lengths[row] - CROP + 1)))
        part = audio[i, start : start + CROP]
        out[i, 0, : len(part)] = part * 10 ** (rng.uniform(-12, 6) / 20)
    return torch.from_numpy(np.clip(out, -1, 1))


def balanced_crops(corpus, rng: np.random.Generator, count: int):
    """`crops` of random training clips."""
    return crops(corpus, rng, corpus.balanced_rows(rng, count))


def measure_mels(model, corpus, seed: int) -> tuple[float, float]:
    """Mean and standard deviation of log-mels over random training pieces, for normalisation."""
    mels = model.log_mel(balanced_crops(corpus, np.random.default_rng([seed, 1]), 256))
    values = mels * model.config.mel_std + model.config.mel_mean
    return float(values.mean()), float(values.std())


def reconstruction_loss(model, mel, noise):
    """Losses of a batch: median, edges, deviation, size of the codes.

    The median is fitted by L1 on log-mels and on their differences in time and frequency (which keep onsets and edges
    sharp), the deviation by the likelihood of a Laplace distribution around that median. Noise on the codes, and a
    small pull to zero, keep nearby codes meaning nearby sounds.
    """
    codes = model.encode_mel(mel)
    median, deviation = model.decode_mel(codes + CODE_NOISE * noise)
    error = (median - mel).abs()
    edges = sum((median.diff(dim=d) - mel.diff(dim=d)).abs().mean() for d in (1, 2))
    return error.mean(), edges, (deviation.log() + error.detach() / deviation).mean(), codes.square().mean()


def set_scales(model, corpus, seed: int) -> None:
    """Measure over training clips the principal components of the codes, and the gain of the texture."""
    import torch

    rng = np.random.default_rng([seed, 2])
    with torch.no_grad():
        model.set_latents(model.encode_mel(model.log_mel(balanced_crops(corpus, rng, 2048))))
        recordings = [row for row in corpus.train_by_source["us8k_part"] if corpus.lengths[row] >= CROP]
        model.texture_gain.copy_(texture_gain(model, crops(corpus, rng, rng.choice(recordings, 512))))


def texture_gain(model, audio):
    """Gain [M] with which decoded recordings [B, 1, CROP] change from frame to frame as much as the true ones.

    The median over clips: a mean is ruled by the few whose changes the median of the decoder misses most.
    """
    mel = model.log_mel(audio)
    codes = model.encode_mel(mel)
    median, deviation = model.decode_mel(model.to_codes(model.to_latents(codes)))
    parts = (mel, median, deviation * model.texture(mel.shape[2]))
    true, kept, added = (x.diff(dim=2).square().mean(dim=2) for x in parts)
    # median and texture are independent, so the squares of their changes add up
    return ((true - kept) / added).clamp_min(0.0).sqrt().median(dim=0).values


def round_trip(model, corpus) -> dict[str, float]:
    """Mean |log-mel difference| (natural log) and loudness error in dB of held-out clips, through audio and back."""
    import torch

    rng = np.random.default_rng(0)
    rows = rng.choice(corpus.heldout, min(64, len(corpus.heldout)), replace=False)
    audio = torch.from_numpy(corpus.waveforms(rows))[:, None]
    with torch.no_grad():
        out = model.decode(model.encode(audio).latent_dist.mode()).sample
        padded = torch.nn.functional.pad(audio, (0, out.shape[2] - audio.shape[2]))
        change = (model.log_mel(out) - model.log_mel(padded)).abs().mean() * model.config.mel_std
    level = 20 * torch.log10(out.square().mean((1, 2)).sqrt() / padded.square().mean((1, 2)).sqrt().clamp_min(1e-6))
    return {"log_mel_distance": float(change), "loudness_error_db": float(level.abs().median())}


def main() -> int:
    args = get_parser().parse_args()
    import torch
    from corpus import Corpus
    from training import fit, save_half

    from synthio.files import write_json
    from synthio.models.mel_autoencoder import FRAMES_PER_CODE, MelAutoencoder

    set_threads()
    corpus = Corpus(args.cache)
    torch.manual_seed(args.seed)
    mean, std = measure_mels(MelAutoencoder(), corpus, args.seed)
    model = MelAutoencoder(code_channels=CODE_CHANNELS, mel_mean=round(mean, 4), mel_std=round(std, 4))

    def batch_of(step: int):
        rng = np.random.default_rng([args.seed, 3, step])
        audio = balanced_crops(corpus, rng, args.batch_size)
        shape = (args.batch_size, CODE_CHANNELS, CROP // (model.config.hop * FRAMES_PER_CODE))
        return audio, torch.from_numpy(rng.standard_normal(shape, dtype=np.float32))

    def loss_of(batch):
        audio, noise = batch
        l1, edges, spread, size = reconstruction_loss(model, model.log_mel(audio), noise)
        loss = l1 + 0.25 * edges + 0.05 * spread + 0.01 * size
        return {"loss": loss, "l1": l1, "edges": edges, "spread": spread, "size": size}

    def export():
        set_scales(model, corpus, args.seed)
        save_half(model, args.output)
        metrics = round_trip(model, corpus)
        write_json(args.output.parent / "metrics_autoencoder.json", metrics)
        print(metrics, flush=True)

    fit("autoencoder", model, batch_of, loss_of, args=args, export=export, decay=0.998)
    return 0


if __name__ == "__main__":
    run_main(main)
