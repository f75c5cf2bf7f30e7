#!/usr/bin/env python3
"""Train the embedded CLAP: transformers' ClapModel, 3 million parameters, 16 kHz, windows of 5 s.

    python extras/embedded/train_clap.py --cache .scratch/corpus --output weights/clap

Prints and stores the zero-shot accuracy on the held-out fold of us8k_part and on held-out procedural clips.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]

import numpy as np
from training import recipe_parser

from synthio.cli import quiet_libraries, run_main, set_threads

MAX_TOKENS = 48
SAMPLES = 80000  # of a window, 5 s


def get_parser():
    return recipe_parser(__doc__, "clap", steps=3500, batch_size=64)


def new_model(seed: int):
    """A ClapModel small enough for two CPU cores."""
    import torch
    from transformers import ClapConfig, ClapModel

    audio = {
        "spec_size": 128,
        "num_mel_bins": 64,
        "patch_size": 8,
        "patch_stride": [8, 8],
        "window_size": 4,
        "depths": [2, 4],
        "num_attention_heads": [3, 6],
        "patch_embeds_hidden_size": 96,
        "hidden_size": 192,
        "projection_dim": 128,
        "enable_fusion": False,
        "drop_path_rate": 0.0,
    }
    text = {
        "vocab_size": 2048,
        "hidden_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 256,
        "max_position_embeddings": MAX_TOKENS + 2,
        "pad_token_id": 0,
        "projection_dim": 128,
    }
    torch.manual_seed(seed)
    return ClapModel(ClapConfig(text_config=text, audio_config=audio, projection_dim=128, logit_scale_init_value=10.0))


def new_extractor():
    """64 mel bands, 251 frames for 5 s."""
    from transformers import ClapFeatureExtractor

    return ClapFeatureExtractor(
        feature_size=64,
        sampling_rate=16000,
        hop_length=320,
        max_length_s=5,
        fft_window_size=1024,
        frequency_min=50,
        frequency_max=8000,
        truncation="rand_trunc",
        padding="repeatpad",
    )


def batched_mels(waveforms, extractor):
    """What the extractor gives for windows of exactly 5 s, [B, 80000] -> [B, 1, 251, 64], in one pass of torch."""
    import torch

    spectrum = torch.stft(
        waveforms,
        extractor.fft_window_size,
        extractor.hop_length,
        window=torch.hann_window(extractor.fft_window_size, device=waveforms.device),
        return_complex=True,
        pad_mode="reflect",
    )
    filters = torch.from_numpy(extractor.mel_filters_slaney).to(waveforms)
    power = torch.einsum("bft,fm->btm", spectrum.abs().square(), filters)
    return 10 * power.clamp_min(1e-10).log10()[:, None]


def draw(corpus, rng, count: int):
    """What `mix` and `mask` make a batch of; and the captions and labels of its clips.

    Random gain and shift, a quieter other clip behind half of the clips, as recordings have, noise over a third, and
    a stripe of time and one of frequency to be masked (SpecAugment). Levels are amplitudes; 0: none.
    """
    import torch

    rows = corpus.balanced_rows(rng, 2 * count)
    mels = (251, 64)
    widths = np.stack([rng.integers(0, 50, count), rng.integers(0, 10, count)])
    batch = {
        "audio": corpus.audio[rows],
        "lengths": np.maximum(corpus.lengths[rows], 1),
        "shifts": rng.integers(SAMPLES, size=2 * count),
        "gain": 10 ** (rng.uniform(-15, 6, count) / 20),
        "behind": (rng.random(count) < 0.5) * 10 ** (-rng.uniform(3, 20, count) / 20),
        "noise_level": (rng.random(count) < 0.3) * 10 ** (-rng.uniform(3, 25, count) / 20),
        "noise": rng.standard_normal(SAMPLES, dtype=np.float32),  # of all clips, each with a shift of its own
        "noise_shifts": rng.integers(SAMPLES, size=count),
        "widths": widths,
        "starts": np.stack([rng.integers(0, size - 1 - width) for size, width in zip(mels, widths, strict=True)]),
    }
    captions = [corpus.caption(row, rng) for row in rows[:count]]
    batch = {k: torch.as_tensor(v if v.dtype.kind == "i" else v.astype(np.float32)) for k, v in batch.items()}
    return batch, captions, corpus.table["label"].to_numpy()[rows[:count]]


def mix(batch):
    """The clips of a batch, float [B, 80000].

    They are repeated to the full length, not padded, as the extractor's "repeatpad" does for short clips.
    """
    import torch

    place = torch.arange(SAMPLES, device=batch["audio"].device)
    index = (place + batch["shifts"][:, None]) % SAMPLES % batch["lengths"][:, None]
    clips, behind = (batch["audio"].gather(1, index).float() / 32767).chunk(2)

    def rms(x):
        return x.square().mean(dim=1, keepdim=True).sqrt()

    clips = clips + behind * batch["behind"][:, None] * rms(clips) / (rms(behind) + 1e-4)
    noise = batch["noise"][(place + batch["noise_shifts"][:, None]) % SAMPLES]
    clips = clips + noise * batch["noise_level"][:, None] * rms(clips)
    return (clips * batch["gain"][:, None]).clamp(-1, 1)


def mask(mels, batch):
    """Log-mels [B, 1, 251, 64] with the stripes of the batch set to the clip's mean."""
    import torch

    mean = mels.mean(dim=(2, 3), keepdim=True)
    for dim, width, start in zip((2, 3), batch["widths"], batch["starts"], strict=True):
        place = torch.arange(mels.shape[dim], device=mels.device)
        stripe = (place >= start[:, None]) & (place < (start + width)[:, None])
        mels = torch.where(stripe[:, None, :, None] if dim == 2 else stripe[:, None, None, :], mean, mels)
    return mels


def targets(captions, labels):
    """Soft targets [B, B]: equal captions are equally right, an equal label is half right; rows sum to 1."""
    import torch

    captions, labels = np.array(captions), np.array(labels)
    same = np.maximum(captions[:, None] == captions[None], 0.3 * (labels[:, None] == labels[None]))
    return torch.from_numpy(same / same.sum(axis=1, keepdims=True)).float()


def contrastive_loss(model, mels, tokens, target):
    """Symmetric cross-entropy of the scaled cosines against soft targets."""
    import torch
    import torch.nn.functional as F

    audio = F.normalize(model.get_audio_features(input_features=mels).pooler_output, dim=-1)
    text = F.normalize(model.get_text_features(**tokens).pooler_output, dim=-1)
    with torch.no_grad():  # a bounded scale keeps the probabilities of the filter from saturating
        model.logit_scale_a.clamp_(max=float(np.log(30.0)))
        model.logit_scale_t.copy_(model.logit_scale_a)
    logits = model.logit_scale_a.exp() * audio @ text.T
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target.T / target.T.sum(1, keepdim=True))) / 2


def zero_shot(scorer, corpus, source: str) -> float:
    """Share of held-out clips of a source whose label's template comes first among the source's labels."""
    from synthio.captions.pools import label_prompt

    table = corpus.table.iloc[corpus.heldout]
    rows = corpus.heldout[(table["source"] == source).to_numpy()]
    names = sorted(set(corpus.table["label"].to_numpy()[rows]))
    clips = [clip[None, : corpus.lengths[row]] for clip, row in zip(corpus.waveforms(rows), rows, strict=True)]
    audio = np.concatenate([scorer.embed_audio(clips[i : i + 32]) for i in range(0, len(clips), 32)])
    text = scorer.embed_text([label_prompt(name) for name in names])
    best = [names[i] for i in (audio @ text.T).argmax(axis=1)]
    return float(np.mean([b == label for b, label in zip(best, corpus.table["label"].to_numpy()[rows], strict=True)]))


def main() -> int:
    args = get_parser().parse_args()
    from corpus import Corpus, train_tokenizer
    from training import fit, save_half
    from transformers import AutoTokenizer

    from synthio.files import write_json
    from synthio.models.clap import ClapScorer

    quiet_libraries()
    set_threads()
    corpus = Corpus(args.cache)
    model, extractor = new_model(args.seed), new_extractor()
    extractor.save_pretrained(args.output)
    train_tokenizer(corpus, args.output, start=True, max_length=MAX_TOKENS)
    tokenizer = AutoTokenizer.from_pretrained(args.output)

    def batch_of(step: int):
        rng = np.random.default_rng([args.seed, 4, step])
        batch, captions, labels = draw(corpus, rng, args.batch_size)
        tokens = tokenizer(captions, padding=True, truncation=True, return_tensors="pt")
        texts = {"input_ids": tokens.input_ids, "attention_mask": tokens.attention_mask}
        return batch, texts, targets(captions, labels)

    def loss_of(batch):
        clips, texts, target = batch
        mels = mask(batched_mels(mix(clips), extractor), clips)
        return {"loss": contrastive_loss(model, mels, texts, target)}

    def export():
        model.eval()
        save_half(model, args.output)
        scorer = ClapScorer(str(args.output))
        scores = {f"zero_shot_{s}": zero_shot(scorer, corpus, s) for s in ("us8k_part", "procedural", "philharmonia")}
        write_json(args.output / "metrics.json", scores | {"logit_scale": scorer.logit_scale})
        print(scores, flush=True)
        model.train()

    fit("clap", model, batch_of, loss_of, args=args, export=export, weight_decay=0.05)
    return 0


if __name__ == "__main__":
    run_main(main)
