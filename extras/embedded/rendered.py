"""Sounds that free synthesisers make: notes of a SoundFont through FluidSynth, words of espeak-ng.

Of Debian: `apt-get install espeak-ng fluidsynth fluid-soundfont-gm`. Fluid's SoundFont is under the MIT licence;
espeak-ng (GPL 3) and FluidSynth (LGPL 2.1) are programs, whose licences do not go on to the sounds that they make.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from synthio.audio import read_audio
from synthio.cli import UserError, making_of
from synthio.sounds import SAMPLE_RATE
from synthio.sounds.scenes import in_a_room

SOUNDFONT = Path("/usr/share/sounds/sf2/FluidR3_GM.sf2")
HELD_OUT_PITCH = 5  # every fifth key is held out, as of the recorded notes
DRUM_BANK = 128
# Programs of General MIDI (counted from 0) that are heard as a label.
INSTRUMENTS = {
    "piano": (0, 1, 3),
    "electric_piano": (4, 5),
    "harpsichord": (6,),
    "clavinet": (7,),
    "celesta": (8,),
    "glockenspiel": (9,),
    "music_box": (10,),
    "vibraphone": (11,),
    "marimba": (12,),
    "xylophone": (13,),
    "tubular_bells": (14,),
    "dulcimer": (15,),
    "organ": (16, 17, 18),
    "church_organ": (19,),
    "accordion": (21, 23),
    "harmonica": (22,),
    "guitar": (24, 25),
    "electric_guitar": (26, 27, 28, 29, 30),
    "bass_guitar": (32, 33, 34, 35, 36, 37),
    "synth_bass": (38, 39),
    "violin": (40,),
    "viola": (41,),
    "cello": (42,),
    "double_bass": (43,),
    "harp": (46,),
    "timpani": (47,),
    "strings": (48, 49, 50, 51),
    "choir": (52, 53, 54),
    "trumpet": (56, 59),
    "trombone": (57,),
    "tuba": (58,),
    "french_horn": (60,),
    "brass": (61, 62, 63),
    "saxophone": (64, 65, 66, 67),
    "oboe": (68,),
    "cor_anglais": (69,),
    "bassoon": (70,),
    "clarinet": (71,),
    "piccolo": (72,),
    "flute": (73,),
    "recorder": (74,),
    "pan_flute": (75,),
    "ocarina": (79,),
    "synthesizer": (80, 81, 84, 86, 87, 88, 89, 90),
    "sitar": (104,),
    "banjo": (105,),
    "koto": (106, 107),
    "kalimba": (108,),
    "bagpipe": (109,),
    "fiddle": (110,),
    "steel_drums": (114,),
    "taiko_drum": (116,),
}
# Keys of General MIDI's percussion.
DRUMS = {
    "bass_drum": (35, 36),
    "rimshot": (37,),
    "snare_drum": (38, 40),
    "hand_clap": (39,),
    "tom_drum": (41, 43, 45, 47, 48, 50),
    "hi_hat": (42, 44, 46),
    "cymbal": (49, 51, 52, 55, 57, 59),
    "tambourine": (54,),
    "cowbell": (56,),
    "bongo": (60, 61),
    "conga": (62, 63, 64),
    "timbale": (65, 66),
    "agogo_bell": (67, 68),
    "maracas": (70,),
    "guiro": (73, 74),
    "claves": (75,),
    "woodblock": (76, 77),
    "triangle": (80, 81),
}
LABELS = (*INSTRUMENTS, *DRUMS)
LOW_KEY, HIGH_KEY = 52, 76  # below and above, a note is called low-pitched or high-pitched
WORDS = """
zero one two three four five six seven eight nine ten yes no up down left right on off stop go forward backward follow
learn hello help please start open close happy wow
""".split()  # none that names a sound: "Sound of a bird" is no one who says bird
VOICES = {
    "man": ("m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8"),
    "woman": ("f1", "f2", "f3", "f4", "f5"),
}
HELD_OUT_VOICES = ("m8", "f5")
ACCENTS = ("en-us", "en-gb", "en-gb-scotland", "en-gb-x-rp", "en-029", "en-gb-x-gbclan")


def require(notes: int, words: int) -> None:
    """See that what renders notes and words is there, where any are wanted.

    Raises:
        UserError: it is not.
    """
    lacking = []
    if notes and not (find_spec("fluidsynth") and shutil.which("fluidsynth") and SOUNDFONT.exists()):
        lacking.append(f"notes: pyfluidsynth, fluidsynth or {SOUNDFONT}")
    if words and not shutil.which("espeak-ng"):
        lacking.append("words: espeak-ng")
    if lacking:
        raise UserError(
            f"missing for {'; for '.join(lacking)}; apt-get install espeak-ng fluidsynth fluid-soundfont-gm, and use "
            f"the environment corpus ({making_of('corpus')}), or --notes 0 --words 0"
        )


def notes(seed: int, label: str, count: int) -> Iterator[tuple[np.ndarray, dict]]:
    """`count` clips of a pitched instrument or a drum: (float [T], row), one note each, or several in a row."""
    rng = np.random.default_rng([seed, 0x5F, LABELS.index(label)])
    for _ in range(count):
        yield note(rng, label)


def note(rng: np.random.Generator, label: str) -> tuple[np.ndarray, dict]:
    """One clip and its row: label, caption and whether it is held out."""
    is_drum = label in DRUMS
    program = 0 if is_drum else int(rng.choice(INSTRUMENTS[label]))
    first = int(rng.choice(DRUMS[label])) if is_drum else int(rng.integers(36, 97))
    times = int(rng.choice([1, 2, 3, 4], p=[0.7, 0.1, 0.1, 0.1]))
    keys = [first if is_drum else int(np.clip(first + rng.integers(-7, 8) * (i > 0), 24, 103)) for i in range(times)]
    seconds, velocity = float(rng.uniform(0.15, 2.5) / times**0.5), int(rng.integers(40, 128))
    audio = play(program, is_drum, keys, seconds, velocity)
    audio, room = in_a_room(rng, audio) if rng.random() < 0.3 else (audio, "")
    pitch = "" if is_drum else "low-pitched" if first < LOW_KEY else "high-pitched" if first > HIGH_KEY else ""
    what = ("being struck" if is_drum else "playing a note") if times == 1 else "playing"
    name = label.replace("_", " ")
    words = [word for word in (pitch, "short" if seconds < 0.4 and not is_drum else "", room) if word]
    heldout = not is_drum and first % HELD_OUT_PITCH == 0
    caption = ", ".join([f"{'an' if name[0] in 'aeiou' else 'a'} {name} {what}", *words])
    return at_a_level(rng, audio), {"label": label, "caption": caption, "heldout": str(int(heldout))}


@cache
def synthesiser():
    """FluidSynth with the SoundFont, one a process; its reverberation is off."""
    import fluidsynth

    player = fluidsynth.Synth(gain=0.5, samplerate=float(SAMPLE_RATE))
    player.setting("synth.reverb.active", 0)
    player.setting("synth.chorus.active", 0)
    return player, player.sfload(str(SOUNDFONT))


def play(program: int, is_drum: bool, keys: list[int], seconds: float, velocity: int) -> np.ndarray:
    """Keys one after the other, each held for these seconds: float32 [T] of at most 4 s with what rings on."""
    player, font = synthesiser()
    channel, held = 9 if is_drum else 0, round(seconds * SAMPLE_RATE)
    player.program_select(channel, font, DRUM_BANK if is_drum else 0, program)
    parts = []
    for key in keys:
        player.noteon(channel, key, velocity)
        parts.append(player.get_samples(held))
        player.noteoff(channel, key)
    parts.append(player.get_samples(SAMPLE_RATE * 3 // 2))
    player.all_sounds_off(channel)
    player.get_samples(SAMPLE_RATE)  # what still rings is not the next clip's
    stereo = np.concatenate(parts).astype(np.float32).reshape(-1, 2)
    return without_silence(stereo.mean(axis=1))[: 4 * SAMPLE_RATE]


def without_silence(audio: np.ndarray) -> np.ndarray:
    """[T] without what is 50 dB below its peak at its ends."""
    loud = np.flatnonzero(np.abs(audio) > np.abs(audio).max() * 10 ** (-50 / 20))
    return audio[loud[0] : loud[-1] + 1] if len(loud) else audio


def at_a_level(rng: np.random.Generator, audio: np.ndarray) -> np.ndarray:
    """[T] with a peak of -24 to -1 dB and a floor of noise, as the procedural clips have them."""
    audio = audio / (np.abs(audio).max() + 1e-9)
    noise = rng.standard_normal(len(audio)) * np.sqrt(np.mean(audio**2)) * 10 ** (rng.uniform(-70, -30) / 20)
    return ((audio + noise) * 10 ** (rng.uniform(-24, -1) / 20)).astype(np.float32)


def words(seed: int, word: str, count: int) -> Iterator[tuple[np.ndarray, dict]]:
    """`count` clips of a spoken word by many voices: (float [T], row)."""
    rng = np.random.default_rng([seed, 0xE5, WORDS.index(word)])
    for _ in range(count):
        yield spoken(rng, word)


def spoken(rng: np.random.Generator, word: str) -> tuple[np.ndarray, dict]:
    """One clip of a word and its row."""
    who = str(rng.choice(list(VOICES)))
    voice, accent = str(rng.choice(VOICES[who])), str(rng.choice(ACCENTS))
    pitch, speed = int(rng.integers(20, 80)), int(rng.integers(110, 230))
    audio = without_silence(speak(word, f"{accent}+{voice}", pitch, speed))
    audio, room = in_a_room(rng, audio) if rng.random() < 0.4 else (audio, "")
    pace = "slow" if speed < 135 else "fast" if speed > 200 else ""
    caption = ", ".join(part for part in (f"a {who} saying {word}", pace, room) if part)
    return at_a_level(rng, audio), {
        "label": word,
        "caption": caption,
        "heldout": str(int(voice in HELD_OUT_VOICES)),
    }


def speak(text: str, voice: str, pitch: int, speed: int) -> np.ndarray:
    """What espeak-ng says, [T] at 16 kHz; `pitch` of 0 to 99, `speed` in words a minute."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "said.wav"
        command = ["espeak-ng", "-v", voice, "-p", str(pitch), "-s", str(speed), "-w", str(file), text]
        subprocess.run(command, check=True, capture_output=True)
        return read_audio(file, SAMPLE_RATE)[0][0]
