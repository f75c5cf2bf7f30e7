#!/usr/bin/env python3
"""Pretrain the embedded AST: transformers' ASTForAudioClassification, 1.8 million parameters.

    python extras/embedded/train_ast.py --cache .scratch/corpus --output weights/ast

Two losses: the events of each clip, mixtures among them, and the statistics of its log-mel spectrogram. The second
makes the pooled output keep what a plain classifier on such statistics reads, which few real labels would teach it.
Half of the clips are shorter than the input, from 0.3 s on, and are filled up as ASTFeatureExtractor does it, so that
the model hears a short clip in a pipeline as it heard it here. With --teacher there is a third loss: the pooled output
is to be that of a frozen AST for the same sound, repeated to the whole input. Prints and stores the accuracy on the
held-out fold of us8k_part (as the extractor gives them, and repeated to 5 s) and on held-out procedural clips.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]

import numpy as np
from training import recipe_parser

from synthio.cli import UserError, pick_device, progress, quiet_libraries, run_main, set_threads
from synthio.manifest import all_labels, split_labels
from synthio.models.fbank import num_frames

FRAMES = 496  # 31 patches of 16 frames, 4.97 s
BANDS = 64  # half of AudioSet's AST, for half the patches
SHORTEST = 96  # frames of the shortest training input
SHORTEST_SOUND = 28  # frames of the shortest sound in it, 0.3 s
# What fills up a short clip: ASTFeatureExtractor pads log-mels with zeros, before it normalises them.
PADDING = 0.0
TEACHER_WEIGHT = 3.0  # of the error of the pooled output, in units of its variance


def get_parser():
    parser = recipe_parser(__doc__, "ast", steps=4000, batch_size=64)
    parser.add_argument(
        "--init", default="", help="AST folder whose weights and normalisation to go on from; empty: none"
    )
    parser.add_argument("--teacher", default="", help="AST folder that hears each clip repeated; empty: none")
    return parser


def new_model(names: list[str], seed: int):
    """A small AST with patches that do not overlap: 4 x 31 of them."""
    import torch
    from transformers import ASTConfig, ASTForAudioClassification

    torch.manual_seed(seed)
    config = ASTConfig(
        hidden_size=192,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=768,
        patch_size=16,
        frequency_stride=16,
        time_stride=16,
        max_length=FRAMES,
        num_mel_bins=BANDS,
        num_labels=len(names),
        id2label=dict(enumerate(names)),
        label2id={name: i for i, name in enumerate(names)},
    )
    return ASTForAudioClassification(config)


def fbank(waveforms, device: str) -> np.ndarray:
    """Waveforms [B, 80000] -> log-mels [B, FRAMES, BANDS], as ASTFeatureExtractor gives them before normalisation."""
    import torch

    from synthio.models.fbank import kaldi_fbank

    return kaldi_fbank(torch.as_tensor(waveforms).to(device), BANDS)[:, :FRAMES].cpu().numpy()


def encode_corpus(corpus, path: Path, device: str) -> np.ndarray:
    """Log-mels of every clip repeated to 5 s, float16 [N, FRAMES, BANDS], computed once and kept in `path`."""
    from synthio.files import atomic_path

    if not path.exists():
        count = len(corpus.table)
        out = np.empty((count, FRAMES, BANDS), np.float16)
        for start in progress(range(0, count, 64), "log-mels: batches"):
            rows = np.arange(start, min(start + 64, count))
            out[rows] = fbank(corpus.filled(rows), device)
        with atomic_path(path) as temporary:
            np.save(temporary, out)
    return np.load(path)


def label_matrix(corpus, names: list[str]) -> np.ndarray:
    """Which events are in which clip, float32 [N, labels]."""
    place = {name: i for i, name in enumerate(names)}
    out = np.zeros((len(corpus.table), len(names)), np.float32)
    for row, cell in enumerate(corpus.table["events"]):
        for name in split_labels(cell):
            out[row, place[name]] = 1
    return out


def sounding_piece(mels, length: int, frames: int, rng) -> np.ndarray:
    """Part of a clip's log-mels [FRAMES, BANDS] as float32 [at most `frames`, BANDS].

    Half are as long as the input, from anywhere; a quarter is the clip as it is; a quarter is a piece of it, its length
    drawn evenly on a logarithmic scale.

    Args:
        length: frames of the clip itself, after which it is repeated.
    """
    way = rng.random()
    if 0.5 <= way < 0.75:
        return mels[: min(length, frames)].astype(np.float32)
    count = frames if way < 0.5 else round(np.exp(rng.uniform(np.log(SHORTEST_SOUND), np.log(frames))))
    return np.roll(mels, rng.integers(FRAMES), axis=0)[:count].astype(np.float32)


def draw(corpus, mels, matrix, rng, count: int):
    """Sounding log-mels, `count` of [at most F, BANDS], the input length F and the share of each event [B, K].

    Half of the clips are the sum of two. Sums are taken of energies, as if phases were independent.
    """
    rows, others = corpus.balanced_rows(rng, count), corpus.balanced_rows(rng, count)
    frames = int(rng.choice([FRAMES, FRAMES, 400, 304, 208, SHORTEST]))
    sounding, labels = [], matrix[rows].copy()
    for i in range(count):
        length = max(SHORTEST_SOUND, num_frames(int(corpus.lengths[rows[i]])))
        mel = sounding_piece(mels[rows[i]], length, frames, rng)
        if rng.random() < 0.5:
            second = np.roll(mels[others[i]], rng.integers(FRAMES), axis=0)[: len(mel)].astype(np.float32)
            level = np.log(np.exp(mel).mean() / np.exp(second).mean()) - np.log(10) * rng.uniform(0, 0.9)
            mel = np.logaddexp(mel, second + level)
            labels[i] = np.maximum(labels[i], matrix[others[i]])
        sounding.append((mel + np.log(10) * rng.uniform(-2.0, 0.6)).astype(np.float32))
    return sounding, frames, labels / labels.sum(axis=1, keepdims=True)


def padded(sounding, frames: int):
    """Log-mels [B, frames, BANDS] of clips that are at most as long."""
    import torch

    out = torch.full((len(sounding), frames, BANDS), PADDING)
    for row, mel in zip(out, sounding, strict=True):
        row[: len(mel)] = torch.as_tensor(mel)
    return out


def repeated(sounding):
    """The same clips repeated to the model's own input length, [B, FRAMES, BANDS]."""
    import torch

    return torch.stack([torch.as_tensor(mel).repeat(-(-FRAMES // len(mel)), 1)[:FRAMES] for mel in sounding])


def describe(clips):
    """Statistics over time of normalised log-mels, B of [F, BANDS]: [B, 5 * BANDS].

    Mean, deviation, deviation of the change from frame to frame, and the quietest and loudest tenth.
    """
    import torch

    tenths = torch.tensor([0.1, 0.9])
    return torch.stack(
        [torch.cat([x.mean(0), x.std(0), x.diff(dim=0).std(0), *torch.quantile(x, tenths, dim=0)]) for x in clips]
    )


def mask_stripes(x, rng):
    """SpecAugment: up to a sixth of the frames and up to 12 bands of each clip set to zero (the mean)."""
    x = x.clone()
    for clip in x:
        for axis, most in ((0, x.shape[1] // 6), (1, 12)):
            width = int(rng.integers(0, most + 1))
            clip.narrow(axis, int(rng.integers(0, clip.shape[axis] - width + 1)), width).zero_()
    return x


def pooled_output(model, x):
    """Output of the two special tokens [B, H] for an input [B, F, BANDS] of any length.

    The position embedding is cut as fine-tuning on shorter clips cuts it, so that such inputs are known to the model.
    """
    from torch.func import functional_call

    from synthio.models.ast_model import resize_positions

    body, config = model.audio_spectrogram_transformer, model.config
    positions = resize_positions(
        body.embeddings.position_embeddings, BANDS // config.patch_size, x.shape[1] // config.patch_size
    )
    return functional_call(body, {"embeddings.position_embeddings": positions}, (x,)).pooler_output


def predict(model, mels) -> np.ndarray:
    """Logits [N, K] of normalised log-mels [N, FRAMES, BANDS]."""
    import torch

    with torch.no_grad():
        return torch.cat([model(part).logits for part in torch.as_tensor(mels).split(32)]).numpy()


def evaluate(model, corpus, mels, names, scale) -> dict[str, float]:
    """Accuracy on held-out clips: among us8k_part's labels on its fold, and among all labels on procedural clips.

    Clips are repeated to 5 s; for us8k_part it is told as well with their own lengths, filled up as the extractor does.
    """
    sources, labels = corpus.table["source"].to_numpy(), corpus.table["label"].to_numpy()
    lengths = [max(1, min(FRAMES, num_frames(int(length)))) for length in corpus.lengths]
    scores = {}
    for source, is_padded in (("us8k_part", False), ("us8k_part", True), ("procedural", False)):
        rows = corpus.heldout[sources[corpus.heldout] == source]
        kept = [names.index(name) for name in sorted(set(labels[rows]))]
        clips = [mels[r][: lengths[r] if is_padded else FRAMES].astype(np.float32) for r in rows]
        best = predict(model, scale(padded(clips, FRAMES)))[:, kept].argmax(axis=1)
        right = np.mean([names[kept[i]] == labels[r] for i, r in zip(best, rows, strict=True)])
        scores[f"accuracy_{source}{'_padded' if is_padded else ''}"] = float(right)
    return scores


def first_model(args, sample, names: list[str]):
    """The model to start from and its feature extractor, whose statistics are those of the sounding log-mels."""
    from transformers import ASTFeatureExtractor, ASTForAudioClassification

    if args.init:
        model = ASTForAudioClassification.from_pretrained(args.init).float()
        if list(model.config.id2label.values()) != names:
            raise UserError(f"--init {args.init}: its labels are not those of {args.cache}")
        return model, ASTFeatureExtractor.from_pretrained(args.init)
    values = np.concatenate(sample)
    mean, std = round(float(values.mean()), 4), round(float(values.std()), 4)
    return new_model(names, args.seed), ASTFeatureExtractor(mean=mean, std=std, max_length=FRAMES, num_mel_bins=BANDS)


def main() -> int:
    args = get_parser().parse_args()
    import torch
    import torch.nn.functional as F
    from corpus import Corpus
    from training import fit, save_half

    from synthio.files import write_json
    from synthio.models.ast_model import load_pretrained_ast

    quiet_libraries()
    set_threads()
    corpus = Corpus(args.cache)
    names = all_labels(corpus.table["events"])
    matrix = label_matrix(corpus, names)
    mels = encode_corpus(corpus, args.scratch / "log_mels.npy", pick_device(args.device))
    sample = draw(corpus, mels, matrix, np.random.default_rng([args.seed, 5]), 512)[0]
    model, extractor = first_model(args, sample, names)
    extractor.save_pretrained(args.output)

    def scale(x):
        return (torch.as_tensor(x) - extractor.mean) / (2 * extractor.std)

    teacher = load_pretrained_ast(args.teacher).audio_spectrogram_transformer.eval() if args.teacher else None
    targets = describe([scale(clip) for clip in sample])
    centre, spread = targets.mean(0), targets.std(0)
    parts = torch.nn.ModuleDict({"ast": model, "describe": torch.nn.Linear(model.config.hidden_size, len(centre))})

    def batch_of(step: int):
        rng = np.random.default_rng([args.seed, 6, step])
        drawn, frames, labels = draw(corpus, mels, matrix, rng, args.batch_size)
        statistics = (describe([scale(clip) for clip in drawn]) - centre) / spread
        whole = scale(repeated(drawn)) if teacher else torch.empty(0)
        return mask_stripes(scale(padded(drawn, frames)), rng), torch.from_numpy(labels), statistics, whole

    def loss_of(batch):
        x, labels, statistics_of_x, whole = batch
        pooled = pooled_output(model, x)
        losses = {
            "events": F.cross_entropy(model.classifier(pooled), labels),
            "statistics": F.mse_loss(parts["describe"](pooled), statistics_of_x),
        }
        if teacher:
            with torch.no_grad():
                wanted = teacher.to(x.device)(whole).pooler_output
            losses["teacher"] = TEACHER_WEIGHT * F.mse_loss(pooled, wanted) / wanted.var(dim=0).mean()
        return {"loss": sum(losses.values()), **losses}

    def export():
        model.eval()
        save_half(model, args.output)
        scores = evaluate(model, corpus, mels, names, scale)
        write_json(args.output / "metrics.json", scores)
        print(scores, flush=True)
        model.train()

    fit("ast", parts, batch_of, loss_of, args=args, export=export, weight_decay=0.05)
    return 0


if __name__ == "__main__":
    run_main(main)
