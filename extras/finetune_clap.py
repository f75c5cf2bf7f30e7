#!/usr/bin/env python3
"""Fine-tune a CLAP on the small dataset, so that the filter knows how its sounds are recorded.

    python extras/finetune_clap.py --train_csv W/train_100.csv --valid_csv W/checked/valid.csv \\
        --output_folder W/clap_finetuned

The loss is CLAP's own, contrastive between clips and "Sound of a {label}", except that all clips of a label are right
for its text. The scale of the cosines stays as it is, so that a threshold keeps its meaning. Dropout is off and batch
statistics are frozen: the best step is the one with the lowest loss on the validation clips, step 0 (the model as it
was) among them, and training ends when --patience evaluations in a row brought nothing better.

The output folder is a CLAP folder; for a checkpoint of laion_clap or msclap it holds one in the same format, clap.pt
or clap.pth. A run that was killed goes on from checkpoint.pt in it to the same weights.
`<output_folder>_history.csv` and `<output_folder>.json` beside it say how it went.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from synthio.cli import (
    UserError,
    new_parser,
    pick_device,
    progress,
    quiet_libraries,
    run_main,
    set_threads,
)
from synthio.files import EMBEDDED
from synthio.filtering.options import FinetuneOptions
from synthio.models.load import SCORER_HELP
from synthio.options import Device, add_options, from_args

if TYPE_CHECKING:
    import torch

MAX_WINDOWS = 6  # of a long clip, evenly spread: a minute of one clip teaches little more
EVAL_BATCH = 16
WARMUP = 0.1


def get_parser():
    parser = new_parser(__doc__)
    add = parser.add_argument
    add("--train_csv", required=True, help="the small dataset (path, label)")
    add("--valid_csv", required=True, help="validation clips, which choose the step")
    add("--output_folder", required=True, help="output: the fine-tuned CLAP")
    add("--model", default=str(EMBEDDED / "clap"), help=SCORER_HELP)
    add_options(parser, FinetuneOptions)
    add_options(parser, Device)
    return parser


@dataclass(frozen=True)
class Clips:
    """The clips of one CSV, ready for the model.

    Attributes:
        features: of each clip, what CLAP reads of its windows, [W, ...].
        labels: number of each clip's class.
        texts: "Sound of a {label}" of each class.
    """

    features: list[torch.Tensor]
    labels: list[int]
    texts: list[str]


def read_clips(csv: str, scorer) -> Clips:
    """Read and cut every clip; a class is a label cell.

    Raises:
        UserError: no clips, or one that cannot be used.
    """
    from synthio.audio import BadAudio, read_audio
    from synthio.captions.pools import label_prompt
    from synthio.contents import check_contents
    from synthio.manifest import LABEL, PATH, class_of, read_manifest

    table = read_manifest(csv)
    check_contents(table, csv)
    if table.empty:
        raise UserError(f"{csv}: no clips to fine-tune on")
    features = []
    for row, path in enumerate(progress(table[PATH], f"clips of {Path(csv).name}"), 1):
        try:
            audio, _ = read_audio(path, scorer.sample_rate)
        except BadAudio as error:
            raise UserError(f"{csv} row {row}: {path}: {error}") from None
        features.append(window_features(audio, scorer))
    classes = [class_of(cell) for cell in table[LABEL]]
    names = sorted(set(classes))
    return Clips(features, [names.index(name) for name in classes], [label_prompt(name) for name in names])


def window_features(audio, scorer) -> torch.Tensor:
    """Mono audio [1, T] -> what CLAP reads of its windows, [W, ...]."""
    import numpy as np

    from synthio.audio import cut_windows

    windows = cut_windows(audio, round(scorer.window_s * scorer.sample_rate))[:, 0]
    chosen = np.linspace(0, len(windows) - 1, min(len(windows), MAX_WINDOWS)).round().astype(int)
    return scorer.features(windows[chosen])


def contrastive_loss(audio: torch.Tensor, texts: torch.Tensor, labels: torch.Tensor, scale: float) -> torch.Tensor:
    """Symmetric cross-entropy of the scaled cosines, where every clip of a label is right for its text.

    Args:
        audio: unit vectors [B, E].
        texts: unit vectors [K, E], one for each class that occurs in `labels`.
        labels: class of each clip, int64 [B] in 0..K-1.
        scale: of the cosines.

    Returns:
        The mean of clip -> text (one right text) and text -> clip (mean over its right clips).
    """
    import torch.nn.functional as F

    logits = scale * audio @ texts.T  # [B, K]
    is_right = F.one_hot(labels, len(texts)).to(logits.dtype)
    to_clips = -(is_right * logits.log_softmax(dim=0)).sum(dim=0) / is_right.sum(dim=0)
    return (F.cross_entropy(logits, labels) + to_clips.mean()) / 2


def draw_batch(clips: Clips, options: FinetuneOptions, step: int) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
    """(a random window of each clip of the batch, their classes, texts of these classes), from (seed, step) alone."""
    import numpy as np
    import torch

    from synthio.classification.training import batch_rows
    from synthio.files import stable_seed

    rng = np.random.default_rng(stable_seed(options.seed, "clap window", step))
    rows = batch_rows(len(clips.features), options.batch_size, step, options.seed)
    windows = [clips.features[row][rng.integers(len(clips.features[row]))] for row in rows]
    present, labels = np.unique([clips.labels[row] for row in rows], return_inverse=True)
    return torch.stack(windows), torch.from_numpy(labels), [clips.texts[k] for k in present]


def train_step(scorer, optimizer, clips: Clips, options: FinetuneOptions, step: int) -> float:
    """One optimiser step (from 0); returns the loss.

    Raises:
        UserError: the loss is not finite.
    """
    import torch

    from synthio.classification.training import learning_rate_factor

    windows, labels, texts = draw_batch(clips, options, step)
    for group in optimizer.param_groups:
        group["lr"] = options.learning_rate * learning_rate_factor(step, options.num_steps, WARMUP)
    audio, text = scorer.audio_vectors(windows), scorer.text_vectors(texts)
    loss = contrastive_loss(audio, text, labels.to(scorer.device), scorer.logit_scale)
    if not torch.isfinite(loss):
        raise UserError(f"the loss is {loss.item()} at step {step + 1}; lower --learning_rate")
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(list(scorer.trainable.values()), 1.0)
    optimizer.step()
    return loss.item()


def evaluate(scorer, clips: Clips) -> tuple[float, float]:
    """(loss, zero-shot accuracy) over whole clips, the mean of their windows, as the filter hears them."""
    import torch

    with torch.no_grad():
        windows = torch.cat(clips.features)
        vectors = torch.cat([scorer.audio_vectors(part) for part in windows.split(EVAL_BATCH)])
        means = [part.mean(dim=0) for part in vectors.split([len(part) for part in clips.features])]
        audio = torch.nn.functional.normalize(torch.stack(means), dim=-1)
        text = scorer.text_vectors(clips.texts)
        labels = torch.tensor(clips.labels, device=audio.device)
        loss = contrastive_loss(audio, text, labels, scorer.logit_scale)
        return loss.item(), ((audio @ text.T).argmax(dim=1) == labels).double().mean().item()


@dataclass
class State:
    """What a run has reached: steps done, one record an evaluation, weights of the best one."""

    step: int
    history: list[dict[str, float]]
    best: dict[str, torch.Tensor]

    def best_row(self) -> dict[str, float]:
        """The evaluation with the lowest validation loss; the earliest of equal ones."""
        return min(self.history, key=lambda row: row["valid_loss"])

    def is_stuck(self, patience: int) -> bool:
        """Whether the last `patience` evaluations brought nothing better."""
        return len(self.history) - 1 - self.history.index(self.best_row()) >= patience


def record(state: State, scorer, valid: Clips, train_loss: float | None) -> None:
    """Evaluate, and keep the weights if they are the best so far."""
    loss, accuracy = evaluate(scorer, valid)
    row = {"step": state.step, "train_loss": train_loss, "valid_loss": loss, "valid_accuracy": accuracy}
    state.history.append(row)
    if state.best_row() is row:
        state.best = {name: p.detach().cpu().clone() for name, p in scorer.trainable.items()}
    print(f"step {state.step}: validation loss {loss:.4f}, zero-shot accuracy {accuracy:.3f}", file=sys.stderr)


def load_weights(scorer, weights: dict[str, torch.Tensor]) -> None:
    """Put saved weights into the model."""
    import torch

    with torch.no_grad():
        for name, parameter in scorer.trainable.items():
            parameter.copy_(weights[name])


def save_checkpoint(path: Path, identity: str, state: State, scorer, optimizer) -> None:
    """Everything a rerun needs to go on."""
    import torch

    from synthio.files import atomic_path

    content = {"identity": identity, "state": vars(state), "weights": scorer.trainable}
    with atomic_path(path) as temporary:
        torch.save(content | {"optimizer": optimizer.state_dict()}, temporary)


def load_checkpoint(path: Path, identity: str, scorer, optimizer) -> State | None:
    """What to go on from; None without a checkpoint of this very training."""
    import torch

    if not path.is_file():
        return None
    content = torch.load(path, weights_only=True)
    if content["identity"] != identity:
        return None
    load_weights(scorer, content["weights"])
    optimizer.load_state_dict(content["optimizer"])
    print(f"going on after step {content['state']['step']}", file=sys.stderr)
    return State(**content["state"])


def fit(scorer, train: Clips, valid: Clips, options: FinetuneOptions, checkpoint: Path, identity: str) -> State:
    """Train, and leave the weights of the best validation loss in the model."""
    import torch

    for parameter in scorer.trainable.values():
        parameter.requires_grad_(True)
    optimizer = torch.optim.AdamW(scorer.trainable.values(), weight_decay=options.weight_decay)
    state = load_checkpoint(checkpoint, identity, scorer, optimizer)
    if state is None:
        state = State(0, [], {})
        record(state, scorer, valid, None)
    losses = []
    for step in progress(range(state.step, options.num_steps), "finetune: steps"):
        if state.is_stuck(options.patience):
            break
        losses.append(train_step(scorer, optimizer, train, options, step))
        if (step + 1) % options.eval_every == 0 or step + 1 == options.num_steps:
            state.step = step + 1
            record(state, scorer, valid, sum(losses) / len(losses))
            save_checkpoint(checkpoint, identity, state, scorer, optimizer)
            losses = []
    load_weights(scorer, state.best)
    return state


def main() -> int:
    args = get_parser().parse_args()
    import pandas as pd

    from synthio.files import fingerprint, sha256_file, sha256_value, write_json
    from synthio.manifest import PATH, read_manifest, versions, write_table
    from synthio.models.load import load_scorer

    quiet_libraries()
    set_threads()
    folder, scorer = Path(args.output_folder), load_scorer(args.model, pick_device(args.device))
    csvs = (args.train_csv, args.valid_csv)
    clips = {csv: [sha256_file(path) for path in read_manifest(csv)[PATH]] for csv in csvs}
    options = {name: value for name, value in vars(args).items() if name not in ("device", "output_folder")}
    options["model_sha256"] = fingerprint(args.model)
    identity = sha256_value([options, [sha256_file(csv) for csv in csvs], clips])
    train, valid = (read_clips(csv, scorer) for csv in csvs)
    state = fit(scorer, train, valid, from_args(FinetuneOptions, args), folder / "checkpoint.pt", identity)
    folder.mkdir(parents=True, exist_ok=True)
    scorer.save(folder)
    best, first = state.best_row(), state.history[0]
    history = pd.DataFrame(state.history)
    write_table(history, folder.with_name(folder.name + "_history.csv"))
    result = {"options": options, "best": best, "start": first, "steps": state.step, "versions": versions()}
    write_json(folder.with_name(folder.name + ".json"), result)
    (folder / "checkpoint.pt").unlink(missing_ok=True)
    print(
        f"best at step {best['step']} of {state.step}: validation loss {best['valid_loss']:.4f} "
        f"(start {first['valid_loss']:.4f}), zero-shot accuracy {best['valid_accuracy']:.3f} "
        f"(start {first['valid_accuracy']:.3f})",
        file=sys.stderr,
    )
    return 0


if __name__ == "__main__":
    run_main(main)
