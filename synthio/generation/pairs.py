"""The preference pairs of a training, and their latents and conditions, computed once and kept on disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from synthio.audio import BadAudio, as_written, fit_length, probe, read_audio
from synthio.batching import Halving
from synthio.cache import CHECKSUM, read_tensors, tell_damage, write_tensors
from synthio.captions.pools import label_prompt
from synthio.cli import UserError, progress
from synthio.files import fingerprint, sha256_file, sha256_value
from synthio.generation.decoding import decode_clips
from synthio.manifest import CONTENT, MODEL, PATH, PROMPT, SCORE, SOURCE, prompt_cells, read_table, write_table
from synthio.models.base import Condition, TextToAudio

if TYPE_CHECKING:
    import pandas as pd

BATCH = 16
SCORE_COLUMNS = [CONTENT, PROMPT, MODEL, SCORE, CHECKSUM]


class Pair(NamedTuple):
    """Paths of the preferred clip and of the other one ("" where there is none), and the prompt of both."""

    winner: str
    loser: str
    prompt: str


# ---- who is paired with whom


def gold_alone(gold: pd.DataFrame) -> list[Pair]:
    """The gold clips under the template of their label, without losers: for supervised fine-tuning."""
    return [Pair(path, "", label_prompt(cell)) for path, cell in zip(gold[PATH], prompt_cells(gold), strict=True)]


def check_losers(losers: pd.DataFrame, gold: pd.DataFrame, losers_csv: str) -> None:
    """Refuse generations that cannot be paired.

    Raises:
        UserError: none at all, one that was generated for a clip that is not in the gold CSV, or without a prompt.
    """
    known = set(gold[PATH])
    for row, loser in enumerate(losers.to_dict("records"), 1):
        if loser[SOURCE] not in known:
            raise UserError(f"{losers_csv} row {row}: source_path {loser[SOURCE]} is not in the gold CSV")
        if not loser[PROMPT]:
            raise UserError(f"{losers_csv} row {row}: the prompt is empty")
    if not len(losers):
        raise UserError(f"{losers_csv}: no rows, so there is nothing to prefer the gold clips to")


def gold_pairs(losers: pd.DataFrame) -> list[Pair]:
    """Each gold clip against each of its generations, in the order of the generations."""
    return [Pair(*row) for row in zip(losers[SOURCE], losers[PATH], losers[PROMPT], strict=True)]


def ranked_pairs(losers: pd.DataFrame, scores: Sequence[float], losers_csv: str) -> list[Pair]:
    """The best against the worst of the generations of one gold clip and prompt, by score (CRPO, Hung et al. 2024).

    Where all scores of a group are equal there is nothing to prefer, and no pair.

    Raises:
        UserError: a group of one generation, or no pair at all.
    """
    groups: dict[tuple[str, str], list[int]] = {}
    for row, key in enumerate(zip(losers[SOURCE], losers[PROMPT], strict=True)):
        groups.setdefault(key, []).append(row)
    paths, pairs = list(losers[PATH]), []
    for (source, prompt), rows in groups.items():
        if len(rows) < 2:
            raise UserError(f"{losers_csv} row {rows[0] + 1}: ranked pairs need two generations or more of {source}")
        best, worst = max(rows, key=lambda row: scores[row]), min(rows, key=lambda row: scores[row])
        if scores[best] > scores[worst]:
            pairs.append(Pair(paths[best], paths[worst], prompt))
    if not pairs:
        raise UserError(f"{losers_csv}: the generations of each gold clip have equal scores, so none is preferred")
    return pairs


def clap_scores(losers: pd.DataFrame, model: str, device: str, cache_csv: Path) -> list[float]:
    """Cosine of each generation with its prompt, by a CLAP model.

    Scores are kept in `cache_csv` by content of the clip, prompt and model; what is there is not computed again.
    """
    identity = fingerprint(model)[:12]
    keys = [(sha256_file(path), prompt, identity) for path, prompt in zip(losers[PATH], losers[PROMPT], strict=True)]
    known = _read_scores(cache_csv)
    missing = [row for row, key in enumerate(keys) if key not in known]
    if missing:
        from synthio.models.load import load_scorer

        scorer = load_scorer(model, device)
    fitting = Halving(BATCH)
    for start in progress(range(0, len(missing), BATCH), "dpo: scoring batches"):
        rows = missing[start : start + BATCH]
        clips = [read_clip(path, scorer.sample_rate, mono=True) for path in losers[PATH].iloc[rows]]
        texts = scorer.score_text([keys[row][1] for row in rows])
        cosines = (np.stack(fitting.run(scorer.score_audio, clips)) * texts).sum(axis=1)
        # Six decimals, as everywhere: equal sounds must not differ by the rounding of a sum.
        known |= {keys[row]: round(float(cosine), 6) for row, cosine in zip(rows, cosines, strict=True)}
        _write_scores(known, cache_csv)
    return [known[key] for key in keys]


def _read_scores(path: Path) -> dict[tuple[str, str, str], float]:
    """The scores that are whole; damage is told in a line, and what is lost is scored again."""
    if not path.is_file():
        return {}
    try:
        rows = read_table(path, SCORE_COLUMNS)[SCORE_COLUMNS].values.tolist()
    except UserError as error:
        tell_damage(path, f"damaged ({error}); all clips are scored again")
        return {}
    whole = [row for row in rows if row[-1] == sha256_value(row[:-1])]
    if len(whole) < len(rows):
        tell_damage(path, f"{len(rows) - len(whole)} of its rows are damaged; their clips are scored again")
    return {(content, prompt, model): float(score) for content, prompt, model, score, _ in whole}


def _write_scores(scores: dict[tuple[str, str, str], float], path: Path) -> None:
    import pandas as pd

    rows = [[*key, f"{score:.6f}"] for key, score in scores.items()]
    write_table(pd.DataFrame([[*row, sha256_value(row)] for row in rows], columns=SCORE_COLUMNS), path)


# ---- what the network sees of them


@dataclass(frozen=True)
class TrainingData:
    """N pairs in the model's terms; clips and prompts that several pairs share are kept once.

    Attributes:
        latents: [M, D, L] of M clips.
        frames: how many of the L each clip fills, whole numbers [M]; the others hold padding.
        condition: of K prompts with a length each.
        winners, losers: rows of `latents` [N]; losers is None where there are none.
        prompts: rows of `condition` [N].
        content: hash of all sounds and prompts, in order.
        anchors: rows of `latents` [N], the winners as they were recorded; None where those of `winners` are.
    """

    latents: torch.Tensor
    frames: torch.Tensor
    condition: Condition
    winners: torch.Tensor
    losers: torch.Tensor | None
    prompts: torch.Tensor
    content: str
    anchors: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.winners)


def encode_pairs(
    pairs: Sequence[Pair],
    model: TextToAudio,
    identity: str,
    cache: Path,
    decode_winners: bool = False,
    decode_losers: bool = False,
    anchored: bool = False,
) -> TrainingData:
    """Latents and conditions of the pairs, from the cache where they are in it.

    Winner and loser are cut alike: both start at 0 and have the model's length, or their own where the model's is
    variable. The condition says the winner's length, which is what the loser was generated at.

    Args:
        pairs: all with a loser, or all without.
        model: whose encoders are used.
        identity: hash of the model, for the cache.
        cache: folder; safetensors files named by the hash of all that is encoded in them.
        decode_winners, decode_losers: take in the clips' place the copies that the model's own autoencoder makes of
            them (`decoded_copies`).
        anchored: take decoded winners as they were recorded, too.
    """
    winners = list(dict.fromkeys(pair.winner for pair in pairs))
    losers = list(dict.fromkeys(pair.loser for pair in pairs if pair.loser))
    content = {path: sha256_file(path) for path in winners + losers}
    anchors = winners if anchored and decode_winners else []
    lengths = [clip_seconds(path) for path in winners + losers + anchors]
    width = max(map(model.frames_for, lengths))
    # apart, so that the gold clips' files are found again when the next round comes with other losers
    sides = ((winners, decode_winners), (losers, decode_losers), (anchors, False))
    parts = [encode_clips(paths, content, model, identity, cache, width, copy) for paths, copy in sides if paths]
    seconds = dict(zip(winners, parts[0]["seconds"].tolist(), strict=True))
    texts = [(pair.prompt, seconds[pair.winner]) for pair in pairs]
    place = {path: i for i, path in enumerate(winners)}
    distinct = {text: i for i, text in enumerate(dict.fromkeys(texts))}
    loser_place = {path: i for i, path in enumerate(losers, len(winners))}
    clips = [[content[pair.winner], content.get(pair.loser, ""), pair.prompt] for pair in pairs]
    winner_rows = torch.tensor([place[pair.winner] for pair in pairs])
    return TrainingData(
        latents=torch.cat([part["latents"] for part in parts]).to(model.device),
        frames=torch.tensor([model.sounding_frames(length) for length in lengths], device=model.device),
        condition=encode_texts(list(distinct), model, identity, cache),
        winners=winner_rows,
        losers=torch.tensor([loser_place[pair.loser] for pair in pairs]) if losers else None,
        prompts=torch.tensor([distinct[text] for text in texts]),
        content=sha256_value([clips, decode_winners, decode_losers]),
        anchors=winner_rows + len(winners) + len(losers) if anchors else None,
    )


def encode_clips(
    paths: Sequence[str],
    content: dict[str, str],
    model: TextToAudio,
    identity: str,
    cache: Path,
    width: int,
    copies: bool = False,
) -> dict[str, torch.Tensor]:
    """latents [N, D, width] and seconds [N] of clips, or of their decoded copies.

    Where the model's length is variable, a clip is encoded at its own, and what lies beyond it is zero.
    """
    fitting = Halving(BATCH)

    def encode(batch: Sequence[str]) -> dict[str, torch.Tensor]:
        latents, seconds = torch.zeros(len(batch), model.latent_shape[0], width), torch.zeros(len(batch)).double()
        frames = torch.tensor([model.frames_for(clip_seconds(path)) for path in batch])
        for length in frames.unique().tolist():
            rows = (frames == length).nonzero()[:, 0]
            clips = [read_for_model(batch[row], model, length) for row in rows]
            audio = torch.stack([clip for clip, _ in clips])
            seconds[rows] = torch.tensor([length_s for _, length_s in clips], dtype=torch.float64)
            found = torch.stack(fitting.run(model.encode, audio))
            if copies:
                audio = decoded_copies(found, seconds[rows].tolist(), audio.shape[2], model, fitting)
                found = torch.stack(fitting.run(model.encode, audio))
            latents[rows, :, :length] = found.cpu()
        return {"latents": latents, "seconds": seconds}

    what = f"latents of {width} frames" + (" of decoded copies" if copies else "")
    return _in_cached_batches(what, paths, [content[path] for path in paths], encode, identity, cache)


def decoded_copies(
    latents: torch.Tensor, seconds: Sequence[float], samples: int, model: TextToAudio, fitting: Halving
) -> torch.Tensor:
    """What generation would have left of clips if it had given just their latents.

    They go the way of a generated clip: decoder, cut to the clip's length, level and rounding of its 16-bit file.

    Args:
        latents: [B, D, L].
        seconds: length of each clip.
        samples: T.

    Returns:
        Audio [B, C, T].
    """
    clips = decode_clips(model, latents, seconds, fitting)
    return torch.from_numpy(np.stack([fit_length(as_written(clip), samples) for clip in clips]))


def encode_texts(texts: Sequence[tuple[str, float]], model: TextToAudio, identity: str, cache: Path) -> Condition:
    """The condition of prompts with a length in seconds each."""

    def encode(batch: Sequence[tuple[str, float]]) -> dict[str, torch.Tensor]:
        condition = model.condition(*zip(*batch, strict=True))
        parts = {"cross": condition.cross, "pooled": condition.pooled, "null": condition.null}
        return {name: part for name, part in parts.items() if part is not None}

    found = _in_cached_batches("conditions", texts, texts, encode, identity, cache)
    found = {name: tensor.to(model.device) for name, tensor in found.items()}
    return Condition(found["cross"], found.get("pooled"), found.get("null"))


def _in_cached_batches(
    what: str, items: Sequence, contents: Sequence, encode: Callable, identity: str, cache: Path
) -> dict[str, torch.Tensor]:
    """encode(batch) of consecutive batches, joined; each batch is a file named by `contents` and the model."""
    found = []
    for start in progress(range(0, len(items), BATCH), f"dpo: batches of {what}"):
        rows = slice(start, start + BATCH)
        name = sha256_value([what, identity, contents[rows]])[:32]
        found.append(cached(cache / f"{name}.safetensors", partial(encode, items[rows])))
    return {name: torch.cat([batch[name] for batch in found]) for name in found[0]}


def cached(path: Path, make: Callable[[], dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """The tensors of a file of `write_tensors`; where it is missing or damaged, it is made first."""
    found = read_tensors(path)
    if found is None:
        found = {name: tensor.cpu().numpy() for name, tensor in make().items()}
        write_tensors(path, found)
    return {name: torch.from_numpy(array) for name, array in found.items()}


def clip_seconds(path: str) -> float:
    """Length of a clip, without reading its sound; one that must not be used is named."""
    try:
        sample_rate, _, frames = probe(path)
    except BadAudio as error:
        raise UserError(f"{path}: {error}") from None
    return frames / sample_rate


def read_for_model(path: str, model: TextToAudio, frames: int | None = None) -> tuple[torch.Tensor, float]:
    """A clip as [C, T] at the model's rate and channels; also its length in seconds before padding.

    T is that of `frames` latent frames; None: the model's length.
    """
    audio = read_clip(path, model.sample_rate, mono=model.channels == 1)
    seconds = min(audio.shape[1] / model.sample_rate, model.max_seconds)
    audio = audio if len(audio) == model.channels else audio.mean(0, keepdims=True).repeat(model.channels, axis=0)
    share = 1 if frames is None else frames / model.latent_shape[1]
    return torch.from_numpy(fit_length(audio, round(model.max_seconds * model.sample_rate * share))), seconds


def read_clip(path: str, sample_rate: int, mono: bool):
    """As `read_audio`; a clip that must not be used is named."""
    try:
        return read_audio(path, sample_rate, mono=mono)[0]
    except BadAudio as error:
        raise UserError(f"{path}: {error}") from None
