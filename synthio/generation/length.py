"""How long the latents of a run are: one length, which every stage and shard finds for itself in the gold clips.

A diffusion transformer computes all of its latents, heard or not. Stable Audio Open's are of 47.5 s, whatever the clip;
of the first 4.5 s alone, a clip of 4 s costs a tenth in encoder, transformer and training. The condition says the
clip's length in seconds as before.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

from synthio.audio import BadAudio, probe
from synthio.cli import AUTO, UserError
from synthio.manifest import DURATION, PATH, read_manifest
from synthio.models.base import TextToAudio
from synthio.options import WHOLE


def seconds_of(record: Mapping[str, str]) -> float:
    """Length of a row's clip: what stage 0 noted, else what its file says."""
    if record.get(DURATION):
        return float(record[DURATION])
    try:
        sample_rate, _, frames = probe(record[PATH])
    except BadAudio as error:
        raise UserError(f"gold clip {record[PATH]}: {error}") from None
    return frames / sample_rate


def longest_of(gold_csv: str) -> float:
    """Length of the longest clip of a table, 0 where it has no rows."""
    records = read_manifest(gold_csv, (PATH,)).to_dict("records")
    return max(map(seconds_of, records), default=0.0)


def check_length(model: TextToAudio, asked_s: float, longest_s: float) -> None:
    """Refuse a length of latents that the model has not, or that the clips have not room in.

    Raises:
        UserError: it is more than the model's, or less than the longest clip.
    """
    if asked_s > model.max_seconds:
        raise UserError(f"latent_seconds {asked_s:g} is more than {model.name} has, which is {model.max_seconds:.2f}")
    if round(longest_s, 3) > asked_s:
        raise UserError(f"latent_seconds {asked_s:g} is less than the longest clip, {longest_s:.2f} s; raise it")


def set_latent_length(model: TextToAudio, asked: float | str, gold_csv: str, fixed_s: float = 0.0) -> None:
    """Give the model the length of latents that is asked for.

    A model of variable length has each clip at its own, so nothing is set.

    Args:
        model: as it was loaded.
        asked: `LatentLength.latent_seconds`.
        gold_csv: the gold clips: all of the run, not those of a shard.
        fixed_s: length of every clip that is made, where it is not that of its gold clip.

    Raises:
        UserError: the length is more than the model's, or less than the longest clip.
    """
    if model.variable_length or asked == WHOLE:
        return
    longest_s = fixed_s or longest_of(gold_csv)
    own_s = model.max_seconds
    if asked != AUTO:
        check_length(model, float(asked), longest_s)
    model.set_frames(model.grid.chosen(asked, longest_s))
    if model.is_shortened:
        print(f"latents of {model.max_seconds:.2f} s, of {model.name}'s {own_s:.2f}", file=sys.stderr)
