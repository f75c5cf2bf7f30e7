"""A procedural sound engine: 16 kHz clips of everyday sounds with captions that are exactly true.

It makes the demo dataset and most of the corpus that the embedded models are trained on. Each event is modelled on
how the sound arises: modes for struck bodies, filtered noise with envelopes for weather, jittered impulse trains for
machines, glottal pulses through formants for voices and animals, frequency modulation for sirens. Every number comes
from the generator that is passed in, and the caption is written from the parameters that were drawn.

    clip = make_clip("dog_bark", np.random.default_rng(0), 3.0)
    clip.caption   # "two loud low-pitched barks of a dog barking, with light rain in the background"
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass

import numpy as np

from synthio.sounds.blocks import SAMPLE_RATE, make_noise, samples, unit
from synthio.sounds.registry import EVENTS
from synthio.sounds.scenes import SCENES, in_a_room, make_scene

# The order of labels() is that of these imports.
# isort: off
from synthio.sounds import weather, machines, objects, voices, animals, music  # noqa: F401
# isort: on

DEMO_LABELS = (
    "rain",
    "engine",
    "siren",
    "clock_tick",
    "footsteps",
    "bird",
    "bell",
    "wind",
    "dog_bark",
    "knocking",
)


@dataclass(frozen=True)
class Clip:
    """One generated sound.

    Attributes:
        audio: float32 [T], mono, |x| <= 0.99, never silent.
        sample_rate: in Hz.
        label: the main event.
        caption: what is heard, in words.
        events: labels of all events, the main one first.
        background: name of the background scene, or "".
    """

    audio: np.ndarray
    sample_rate: int
    label: str
    caption: str
    events: tuple[str, ...]
    background: str


def labels() -> tuple[str, ...]:
    """Every event label."""
    return tuple(EVENTS)


def scenes() -> tuple[str, ...]:
    """Every background scene."""
    return tuple(SCENES)


def phrase(label: str) -> str:
    """A label in natural words: "dog_bark" -> "a dog barking"."""
    return EVENTS[_known(label)].phrase


def _known(label: str) -> str:
    if label not in EVENTS:
        near = difflib.get_close_matches(label, EVENTS, 3) or sorted(EVENTS)[:5]
        raise ValueError(f"unknown sound '{label}'; near it are {', '.join(near)}")
    return label


def _caption(rng, label: str, attributes: list[str], second: str, background: str) -> str:
    words = [word for word in dict.fromkeys(attributes) if word]
    main, joined = phrase(label), " ".join(words)
    forms = [main, f"{main}, {joined}" if words else main, f"the sound of {main}"]
    if words:
        forms += [f"{joined} sound of {main}", f"a recording of {main}, {' and '.join(words)}"]
    text = str(rng.choice(forms))
    if second:
        text += str(
            rng.choice([f" and {phrase(second)}", f", followed by {phrase(second)}", f" with {phrase(second)}"])
        )
    if background:
        text += str(
            rng.choice([f" with {background} in the background", f", {background} behind it", f" over {background}"])
        )
    return text


def make_clip(
    label: str,
    rng: np.random.Generator,
    duration_s: float,
    *,
    background: str | None = "auto",
    snr_db: float | None = None,
    second_event: str | None = "auto",
) -> Clip:
    """Make one clip.

    Args:
        label: one of `labels()`.
        rng: the only source of randomness.
        duration_s: length in seconds.
        background: a scene, "auto" (drawn, often none) or None.
        snr_db: level of the events over the background in dB; None draws it from 0 to 20.
        second_event: a label, "auto" (drawn, mostly none) or None.

    Raises:
        ValueError: unknown label or scene (near matches are listed), or a length that is not positive.
    """
    _known(label)
    if duration_s <= 0:
        raise ValueError(f"duration_s must be positive, got {duration_s}")
    if background not in (None, "auto", "") and background not in SCENES:
        raise ValueError(f"unknown scene '{background}'; there are {', '.join(SCENES)}")
    n = samples(duration_s)
    audio, attributes = EVENTS[label].make(rng, n)
    audio = unit(audio)
    second = _draw_second(rng, label, second_event)
    if second:
        audio = audio + unit(EVENTS[second].make(rng, n)[0]) * rng.uniform(0.25, 0.7)
    audio, room_word = in_a_room(rng, audio)
    scene = _draw_scene(rng, background)
    snr_db = rng.uniform(0, 20) if snr_db is None else snr_db
    if scene:
        audio = unit(audio) + unit(make_scene(scene, rng, n)) * 10 ** (-snr_db / 20)
    audio = audio + unit(make_noise(rng, n, 0.4)) * np.sqrt(np.mean(audio**2)) * 10 ** (rng.uniform(-70, -30) / 20)
    peak_db = rng.uniform(-24, -1)
    audio = audio / (np.abs(audio).max() + 1e-9) * 10 ** (peak_db / 20) * 0.99
    level_word = "quiet" if peak_db < -18 else "loud" if peak_db > -4 else ""
    caption = _caption(rng, label, [level_word, *attributes, room_word], second, scene)
    events = (label, second) if second else (label,)
    return Clip(audio.astype(np.float32), SAMPLE_RATE, label, caption, events, scene)


def _draw_second(rng, label: str, wanted: str | None) -> str:
    if wanted == "auto":
        other = str(rng.choice(labels()))
        return other if rng.random() < 0.2 and other != label else ""
    return _known(wanted) if wanted else ""


def _draw_scene(rng, wanted: str | None) -> str:
    if wanted == "auto":
        scene = str(rng.choice(scenes()))
        return scene if rng.random() < 0.4 else ""
    return wanted or ""


def random_clip(rng: np.random.Generator, duration_s: float) -> Clip:
    """A clip of a random label."""
    return make_clip(str(rng.choice(labels())), rng, duration_s)
