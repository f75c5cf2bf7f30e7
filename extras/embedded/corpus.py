#!/usr/bin/env python3
"""Build the corpus that the embedded models are trained on: procedural sounds, notes and words of free synthesisers,
and three sets of recordings.

    python extras/embedded/corpus.py --data ../shared/data --cache .scratch/corpus

The cache holds `audio.npy`, int16 [N, 80000] (16 kHz mono, zero-padded to 5 s), and `table.csv` with label, caption,
source, length (samples), events, heldout, what the embedded captioner hears (manners and backgrounds), and words that
are true of the place a recording was put in (places). Procedural clip i depends on (seed, i) alone. Held out of all
training: fold 10 of us8k_part, fold 5 of philharmonia, the last 5 % of the procedural clips, every fifth key and two
voices. ESC-10 is never touched.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]

import numpy as np
import rendered
from scipy import signal

from synthio import sounds
from synthio.audio import read_audio
from synthio.captions.composer import choose_manners, extract, main_clause
from synthio.captions.describer import describe
from synthio.captions.pools import label_prompt
from synthio.cli import in_range, new_parser, progress, run_main
from synthio.data.workers import end_with_parent
from synthio.files import atomic_path, stable_seed
from synthio.manifest import label_words, read_table, split_labels
from synthio.sounds.scenes import reverberate

SAMPLES = 80000
HELD_OUT_FOLD = {"us8k_part": "10", "philharmonia": "5"}
COLUMNS = ["label", "caption", "source", "length", "events", "heldout", "manners", "backgrounds", "places"]
TEMPLATE_SHARE, PROMPT_SHARE = 0.35, 0.35  # of the captions; the others are exact
# How often a training clip is of a source.
SHARES = {
    "procedural": 0.37,
    "us8k_part": 0.30,
    "philharmonia": 0.08,
    "soundfont": 0.08,
    "espeak": 0.07,
    "placed": 0.07,
    "sonicpi": 0.03,
}

# Words that people use for sounds, so that the tokenizer knows them as wholes although no training caption has them.
VOCABULARY = """
acoustic air airport alarm ambience ambulance animal applause baby background band bang bar bark barking bass beach
beat beep bell bells bicycle bird birds blender boat boiling bottle breathing breeze bright brush bubbling bus buzz
buzzing cafe call camera can car cat cathedral cave cello chainsaw chair chatter cheering chicken child children
chime chirp chirping choir church city clap clapping clarinet clatter click clicking clock cluck coffee coin
construction cough coughing cow crackle crackling crash creak creaking cricket crow crowd crowing cry crying cymbal
dark deep dishes distant distorted dog door doorbell drill drilling drip dripping drum drums dry electric engine
faint fan far fast field fire firework flag flowing flute fly footsteps forest frog gentle giggle glass grass
gravel guitar gun gust hall hammer hammering hand harsh heavy helicopter hen hi-hat high hiss hissing hollow home
honk honking horn horse house howl hum humming indoors insect instrument jackhammer jazz keyboard keys kitchen
knock knocking laugh laughing laughter leaves light loud low machine man market melody metal metallic microphone
mooing motor motorcycle mouse muffled music near night noise noisy ocean office open organ outdoors outside owl
page park passing people person phone piano pig plane playing plucked pop pouring pump quiet radio rail rain rainy
rattle rattling reverb reverberant ringing river road roaring rock room rooster rough rumble rumbling rustling saw
saxophone scrape scratch scream screech sea seagull sharp sheep shop short shout shouting shower shutter siren
sizzling slam slow small smooth sneeze sneezing snore snoring soft song speaker speaking speech splash spray squeak
squeal station steady steam steps storm stream street string subway synth talking tap tapping telephone thud
thunder thunderstorm tick ticking toilet tone toothbrush traffic train tree truck trumpet turkey typing vacuum
vehicle vibrating video violin voice voices walking washing water wave waves whale whisper whistle whistling wind
windy wood wooden woman workshop zipper
""".split()


def get_parser():
    parser = new_parser(__doc__)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared/data", help="folder of the recordings")
    parser.add_argument("--cache", type=Path, default=ROOT / ".scratch/corpus", help="output folder")
    parser.add_argument("--procedural", type=in_range(int, 20), default=20000, help="number of procedural clips")
    parser.add_argument("--notes", type=in_range(int, 0), default=40, help="clips of each instrument of the SoundFont")
    parser.add_argument("--words", type=in_range(int, 0), default=60, help="clips of each word of espeak-ng")
    parser.add_argument("--workers", type=in_range(int, 1), default=2, help="processes")
    parser.add_argument("--seed", type=in_range(int, 0), default=0, help="of the procedural clips")
    return parser


def procedural(job: tuple[int, int, int]) -> list[tuple[np.ndarray, dict]]:
    """Clip i of `count`: labels take turns, so that every label has equally many."""
    seed, i, count = job
    rng = np.random.default_rng([seed, i])
    names = sounds.labels()
    clip = sounds.make_clip(names[i % len(names)], rng, float(rng.uniform(2.0, 5.0)))
    row = {"label": clip.label, "caption": clip.caption, "source": "procedural", "events": ";".join(clip.events)}
    return [entry(clip.audio, row | {"heldout": str(int(i >= 0.95 * count))})]


def entry(audio: np.ndarray, row: dict) -> tuple[np.ndarray, dict]:
    """float [T] and its row -> int16 [at most 80000], clipped, and the row with what the captioner hears."""
    audio = np.clip(audio[:SAMPLES], -1, 1)
    heard = extract(label_words(row["label"]), describe(audio.astype(np.float32)))
    row = {"places": ""} | row | {"manners": ";".join(heard.events), "backgrounds": ";".join(heard.backgrounds)}
    return np.round(audio * 32767).astype(np.int16), row


def recorded(job: tuple[Path, dict]) -> list[tuple[np.ndarray, dict]]:
    """One recording, at most 5 s of it."""
    return [entry(*read_recording(job))]


def placed_again(job: tuple[Path, dict]) -> list[tuple[np.ndarray, dict]]:
    """The same recording as it sounds in a room or from afar, with words for that."""
    audio, row = read_recording(job)
    rng = np.random.default_rng(stable_seed(job[1]["path"]))
    audio, words = placed(rng, audio)
    name = label_words(row["label"])
    row |= {"source": "placed", "caption": f"{name}, {words[0]}", "places": ";".join(words)}
    return [entry(audio, row)]


def placed(rng: np.random.Generator, audio: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """[T] in a place that is drawn, and the writer's words that are true of it there."""
    where = str(rng.choice(["small", "hall", "afar"]))
    t60 = {"small": rng.uniform(0.15, 0.4), "hall": rng.uniform(0.9, 2.0), "afar": rng.uniform(0.3, 1.0)}[where]
    mix = {"small": rng.uniform(0.3, 0.6), "hall": rng.uniform(0.4, 0.7), "afar": rng.uniform(0.5, 0.8)}[where]
    tail = rng.standard_normal(round(t60 * sounds.SAMPLE_RATE))
    tail *= 10 ** (-3 * np.linspace(0, 1, len(tail)))  # 60 dB less at its end
    out = reverberate(audio, tail, mix)
    if where != "afar":
        words = {"small": ("in a small room", "indoors"), "hall": ("in a large hall", "reverberant", "indoors")}
        return out, words[where]
    muffled = signal.sosfilt(signal.butter(1, rng.uniform(1200, 3000), fs=sounds.SAMPLE_RATE, output="sos"), out)
    return muffled * 10 ** (-rng.uniform(6, 15) / 20), ("distant",)


def read_recording(job: tuple[Path, dict]) -> tuple[np.ndarray, dict]:
    """(float [T], row) of a recording."""
    folder, record = job
    audio, _ = read_audio(folder / record["path"], sounds.SAMPLE_RATE)
    name = folder.name
    label, caption = name_recording(name, record)
    heldout = str(int(record["fold"] == HELD_OUT_FOLD.get(name)))
    row = {"label": label, "caption": caption, "source": name, "events": label, "heldout": heldout}
    return audio[0], row


def note_clips(job: tuple[int, str, int]) -> list[tuple[np.ndarray, dict]]:
    """The clips of an instrument of the SoundFont."""
    return [entry(audio, named(row, "soundfont")) for audio, row in rendered.notes(*job)]


def word_clips(job: tuple[int, str, int]) -> list[tuple[np.ndarray, dict]]:
    """The clips of a spoken word."""
    return [entry(audio, named(row, "espeak")) for audio, row in rendered.words(*job)]


def named(row: dict, source: str) -> dict:
    """A row with its source, and its label as the event."""
    return row | {"source": source, "events": row["label"]}


def name_recording(source: str, record: dict) -> tuple[str, str]:
    """(label, caption) of a recording."""
    if source == "us8k_part":
        return record["label"], f"{sounds.phrase(record['label'])}, recorded outdoors in a city"
    if source == "philharmonia":
        return record["label"], f"a {label_words(record['label'])} playing a single note"
    kind, *rest = record["name"].split("_")
    words = {"bd": "bass drum", "sn": "snare drum", "hat": "hi-hat", "elec": "electronic sound", "perc": "percussion"}
    return f"sample_{kind}", " ".join(["a short", words.get(kind, kind), "sample,", *rest])


def jobs(args) -> list[tuple[Callable, list, int]]:
    """What makes clips, its jobs, and the clips of each job."""
    made = [(args.seed, i, args.procedural) for i in range(args.procedural)]
    notes = [(args.seed, label, args.notes) for label in rendered.LABELS if args.notes]
    words = [(args.seed, word, args.words) for word in rendered.WORDS if args.words]
    found: list[tuple[Path, dict]] = []
    for name in ("us8k_part", "philharmonia", "sonicpi"):
        folder = args.data / name
        found += [(folder, record) for record in read_table(folder / f"{name}.csv").to_dict("records")]
    again = [(folder, record) for folder, record in found if record["fold"] != HELD_OUT_FOLD.get(folder.name)]
    return [
        (procedural, made, 1),
        (note_clips, notes, args.notes),
        (word_clips, words, args.words),
        (recorded, found, 1),
        (placed_again, again, 1),
    ]


def main() -> int:
    args = get_parser().parse_args()
    from concurrent.futures import ProcessPoolExecutor
    from itertools import chain

    import pandas as pd

    rendered.require(args.notes, args.words)
    parts = jobs(args)
    args.cache.mkdir(parents=True, exist_ok=True)
    rows = []
    workers = ProcessPoolExecutor(args.workers, initializer=end_with_parent)
    with atomic_path(args.cache / "audio.npy") as temporary, workers as pool:
        shape = (sum(len(work) * count for _, work, count in parts), SAMPLES)
        audio = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.int16, shape=shape)
        clips = chain.from_iterable(
            pool.map(make, work, chunksize=50 if count == 1 else 1) for make, work, count in parts
        )
        made = progress(chain.from_iterable(clips), "corpus: clips", total=shape[0])
        for i, (clip, row) in enumerate(made):
            audio[i, : len(clip)] = clip
            rows.append(row | {"length": str(len(clip))})
        audio.flush()
    with atomic_path(args.cache / "table.csv") as temporary:
        pd.DataFrame(rows, columns=COLUMNS).to_csv(temporary, index=False)
    print(f"{len(rows)} clips in {args.cache}", file=sys.stderr)
    return 0


class Corpus:
    """The cache, read back.

    Attributes:
        audio: int16 [N, 80000], memory-mapped.
        table: one row a clip.
        train, heldout: row numbers.
    """

    def __init__(self, cache: Path):
        self.audio = np.load(cache / "audio.npy", mmap_mode="r")
        self.table = read_table(cache / "table.csv", COLUMNS)
        self.lengths = self.table["length"].astype(int).to_numpy()
        is_heldout = self.table["heldout"].to_numpy() == "1"
        self.train, self.heldout = np.flatnonzero(~is_heldout), np.flatnonzero(is_heldout)
        sources = self.table["source"].to_numpy()
        self.train_by_source = {name: self.train[sources[self.train] == name] for name in np.unique(sources)}

    def waveforms(self, rows) -> np.ndarray:
        """float32 [B, 80000]."""
        return self.audio[np.sort(rows)][np.argsort(np.argsort(rows))].astype(np.float32) / 32767

    def filled(self, rows) -> np.ndarray:
        """The same, with repetitions of the sound in place of the zeros after it."""
        audio = self.waveforms(rows)
        for clip, length in zip(audio, self.lengths[rows], strict=True):
            clip[:] = np.resize(clip[: max(length, 1)], len(clip))
        return audio

    def balanced_rows(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Random training rows, of the sources in their `SHARES`; those that the corpus lacks leave theirs."""
        names = [name for name in SHARES if name in self.train_by_source]
        shares = np.array([SHARES[name] for name in names])
        drawn = rng.choice(names, size=count, p=shares / shares.sum())
        return np.array([rng.choice(self.train_by_source[name]) for name in drawn])

    def caption(self, row: int, rng: np.random.Generator) -> str:
        """A caption: the label template of prompts and filter, a prompt as the writer makes it, or the exact one."""
        record, way = self.table.iloc[row], rng.random()
        if way < TEMPLATE_SHARE and not record["places"]:
            return label_prompt(record["label"])
        return self.prompt(record, rng) if way < TEMPLATE_SHARE + PROMPT_SHARE else record["caption"]

    @staticmethod
    def prompt(record, rng: np.random.Generator) -> str:
        """What the embedded writer could have said of a clip that the embedded captioner heard: true, not complete."""
        draw = random.Random(int(rng.integers(2**32)))
        manners = choose_manners(split_labels(record["manners"]), draw.randint(0, 2), draw)
        text = main_clause(label_words(record["label"]), manners, draw)
        backgrounds, places = split_labels(record["backgrounds"]), split_labels(record["places"])
        if places:  # else a label alone would come to mean a room
            return f"{text}, {draw.choice(places)}"
        return f"{text}, with {backgrounds[0]} in the background" if backgrounds and draw.random() < 0.4 else text


def train_tokenizer(corpus: Corpus, folder: Path, start: bool, max_length: int) -> None:
    """A byte-level BPE tokenizer of 2048 entries on all captions, saved in transformers' format.

    Args:
        start: put <s> before the text (RoBERTa, for CLAP) or not (T5).
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    special = ["<pad>", "</s>", "<unk>", "<s>"]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=2048, special_tokens=special, initial_alphabet=alphabet)
    texts = list(corpus.table["caption"].iloc[corpus.train]) + [word for word in VOCABULARY for _ in range(30)]
    tokenizer.train_from_iterator(texts, trainer)
    template = "<s> $A </s>" if start else "$A </s>"
    tokenizer.post_processor = processors.TemplateProcessing(template, special_tokens=[("<s>", 3), ("</s>", 1)])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        bos_token="<s>",
        model_max_length=max_length,
    ).save_pretrained(folder)


if __name__ == "__main__":
    run_main(main)
