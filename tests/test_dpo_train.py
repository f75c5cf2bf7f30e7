"""The script dpo_train.py on tiny models: it learns, goes on after a kill, and says what it did."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from safetensors.torch import load_file

from synthio.cache import read_tensors
from synthio.files import sha256_file
from synthio.models.adapters import FILES
from tests.generation.toy import KINDS, OBJECTIVES, RATES, save_world
from tests.rows import rows_of, write_rows
from tests.scripts import ROOT, call_script, distance, kill_at, launch, launched, load_script

DPO, GENERATE = ROOT / "dpo_train.py", ROOT / "stable-audio-tools/generate.py"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Tiny models, gold clips of noise, and tones as their generations."""
    return save_world(tmp_path_factory.mktemp("world"))


def dpo(world, out, ok=True, model="rectified_flow", losers="losers.csv", **options):
    """Run the script; the adapter is world/<out>. All share the cache beside it."""
    options = {"num_steps": 4, "batch_size": 4, "learning_rate": 1e-3, "checkpoint_every": 3} | options
    extra = [part for name, value in options.items() for part in (f"--{name}", value)]
    if losers:
        extra += ["--losers_csv", world / losers]
    args = ["--gold_csv", world / "gold.csv", "--output_folder", world / out, "--model", world / model]
    done = call_script(DPO, *args, *extra)
    assert (done.returncode == 0) == ok, done.stderr
    return done


def adapter_bytes(world, out) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (world / out).iterdir()}


def history_of(world, out) -> list[dict[str, float]]:
    return [{k: float(v) for k, v in row.items()} for row in rows_of(world / f"{out}_history.csv")]


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_script_learns_to_prefer_the_gold_clips(world, kind, objective):
    out = f"learn_{kind}_{objective}"
    done = dpo(world, out, model=objective, train=kind, num_steps=40, batch_size=8, learning_rate=RATES[kind])
    history = history_of(world, out)
    assert history[0]["loss"] == pytest.approx(math.log(2), abs=1e-6) and history[0]["accuracy"] == 0.5
    accuracy = np.mean([row["accuracy"] for row in history[-15:]])
    assert accuracy > 0.6, accuracy
    assert np.mean([row["loss"] for row in history[-15:]]) < math.log(2)
    assert np.mean([row["margin"] for row in history[-15:]]) > 0
    assert "14 pairs, 40 steps" in done.stderr and "implicit accuracy " in done.stderr


@pytest.fixture(scope="module")
def plain(world):
    """The adapter of a short training, which every option has to change."""
    dpo(world, "plain", learning_rate=1e-2)
    return adapter_bytes(world, "plain")


@pytest.mark.parametrize(
    "option",
    [
        {"train": "prefix"},
        {"lora_rank": 2},
        {"loss": "sft"},
        {"pairs": "ranked"},
        {"codec_match": "false"},
        {"beta": 1},
        {"winner_weight": 1},
        {"timestep_distribution": "logit_normal"},
        {"condition_dropout": 0.9},
        {"learning_rate": 2e-2},
        {"weight_decay": 1},
        {"warmup_steps": 0},
        {"num_steps": 5},
        {"num_epochs": 1.5},
        {"batch_size": 5},
        {"gradient_accumulation": 2},
        {"ema_decay": 0.9},
        {"seed": 5},
        {"init_adapter": "plain"},
    ],
    ids=lambda option: next(iter(option)),
)
def test_each_option_changes_the_adapter(world, plain, option):
    name = f"option_{next(iter(option))}"
    if "init_adapter" in option:
        option = {"init_adapter": world / "plain"}
    dpo(world, name, **{"learning_rate": 1e-2, "scorer": world / "clap"} | option)
    assert adapter_bytes(world, name) != plain


def test_equal_options_give_equal_bytes(world, plain):
    dpo(world, "again", learning_rate=1e-2)
    assert adapter_bytes(world, "again") == plain


@pytest.mark.parametrize("kind", KINDS)
def test_activations_that_are_computed_again_change_no_byte(world, kind):
    """By diffusers' own checkpointing, around every kind of adapter; and the second pass is really made."""
    from diffusers.models.transformers.stable_audio_transformer import StableAudioDiTBlock

    calls, forward = [], StableAudioDiTBlock.forward
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StableAudioDiTBlock, "forward", lambda *a, **k: (calls.append(1), forward(*a, **k))[1])
        counts, names = [], [f"{kind}_kept", f"{kind}_again"]
        for name, again in zip(names, ("false", "true"), strict=True):
            calls.clear()
            dpo(world, name, train=kind, learning_rate=RATES[kind], gradient_checkpointing=again)
            counts.append(len(calls))
    assert counts[1] - counts[0] == 4 * 2  # once more in each of four steps, for two blocks
    assert adapter_bytes(world, names[0]) == adapter_bytes(world, names[1])


def test_short_clips_are_trained_on_in_short_latents(world):
    """Gold clips of .5 and .8 s; what is kept of the latents is of this length, and apart from other lengths."""
    for name in ("gold", "losers"):
        rows = [row for row in rows_of(world / f"{name}.csv") if row.get("source_path", row["path"])[5] in "01"]
        write_rows(world / f"short_{name}.csv", rows)
    found = {}
    for asked in ("auto", "model"):
        out = f"short_{asked}/adapter"
        options = {"gold_csv": world / "short_gold.csv", "latent_seconds": asked}
        done = dpo(world, out, model="v", losers="short_losers.csv", **options)
        files = (world / f"short_{asked}/cache").iterdir()
        tensors = [read_tensors(path) for path in files]
        found[asked] = {one["latents"].shape[2] for one in tensors if "latents" in one}
        assert ("latents of 1.15 s, of v's 1.28" in done.stderr) == (asked == "auto")
        record = json.loads((world / f"{out}.json").read_text())
        assert record["latent_seconds"] == {"auto": 1.152, "model": 1.28}[asked]
    assert found == {"auto": {36}, "model": {40}}


def test_encoders_are_given_up_before_the_training(world, monkeypatch):
    from synthio.generation import preference
    from synthio.models.base import TextToAudio

    given, align = [], preference.align
    move = TextToAudio.move
    monkeypatch.setattr(TextToAudio, "move", lambda *a: (given.append(a[1:]), move(*a))[1])

    def aligned(model, *words):
        left = {p.device.type for part in (model.vae, model.text_encoder, model.projection) for p in part.parameters()}
        given.append(left)
        return align(model, *words)

    monkeypatch.setattr(preference, "align", aligned)
    dpo(world, "given_up")
    assert given == [("text", "meta"), ("sound", "meta"), {"meta"}]


def test_prefix_tokens(world):
    dpo(world, "tokens", train="prefix", prefix_tokens=3)
    assert load_file(world / "tokens/prefix.safetensors")["0.tokens"].shape == (3, 32)


@pytest.mark.parametrize("kind", KINDS)
def test_the_adapter_changes_generation_and_the_model_on_disk_stays_as_it_is(world, kind):
    from synthio.files import fingerprint

    before = fingerprint(world / "v")
    out = f"generate_{kind}"
    dpo(world, out, model="v", train=kind, learning_rate=1e-2)
    prompts = [{"path": "gold_0.wav", "label": "rain", "prompt": "rain", "seed": str(seed)} for seed in (1, 2)]
    write_rows(world / "prompts.csv", prompts)
    rows = {}
    for name, adapter in {"plain": [], "tuned": ["--adapter", world / out]}.items():
        clips = world / f"{out}_{name}"
        args = ["--input_csv", world / "prompts.csv", "--output_csv", clips / "made.csv", "--output_folder", clips]
        done = call_script(GENERATE, *args, "--model", world / "v", "--num_steps", 3, *adapter)
        assert done.returncode == 0, done.stderr
        rows[name] = rows_of(clips / "made.csv")
    assert fingerprint(world / "v") == before
    assert all(a["sha256"] != b["sha256"] for a, b in zip(rows["plain"], rows["tuned"], strict=True))
    assert "+adapter@" in rows["tuned"][0]["model"]


def test_a_second_round_starts_where_the_first_ended(world):
    for kind in KINDS:
        dpo(world, f"round_1_{kind}", train=kind, learning_rate=1e-2)
        first = world / f"round_1_{kind}"
        dpo(world, f"round_2_{kind}", train=kind, init_adapter=first, learning_rate=0)
        weights = FILES[kind][-1]
        assert adapter_bytes(world, f"round_2_{kind}")[weights] == (first / weights).read_bytes()
        assert history_of(world, f"round_2_{kind}")[-1]["loss"] == pytest.approx(math.log(2), abs=1e-6)


def test_averaged_weights_are_what_is_saved(world):
    """With a decay that keeps the start, the average of a LoRA is nearly its start; the last weights are not."""
    dpo(world, "last", learning_rate=1e-2, num_steps=6)
    dpo(world, "average", learning_rate=1e-2, num_steps=6, ema_decay=0.999)
    name = FILES["lora"][-1]
    last, average = (load_file(world / out / name) for out in ("last", "average"))
    ups = [key for key in last if "lora_B" in key]
    sizes = [sum(weights[key].abs().sum().item() for key in ups) for weights in (last, average)]
    assert 0 < sizes[1] < sizes[0]
    losses = [[row["loss"] for row in history_of(world, out)] for out in ("last", "average")]
    assert losses[0] == losses[1]  # the average does not take part in the training


def test_supervised_fine_tuning_needs_no_losers(world):
    done = dpo(world, "sft", losers=None, loss="sft", num_steps=40, learning_rate=1e-2)
    history = history_of(world, "sft")
    assert history[0].keys() == {"step", "loss", "seconds"}
    assert history[-1]["loss"] < history[0]["loss"]
    assert "7 clips, 40 steps; loss " in done.stderr


def test_the_record_says_what_was_done(world):
    from synthio.files import fingerprint, read_json

    dpo(world, "record", pairs="ranked", scorer=world / "clap", num_steps=10)
    record = read_json(world / "record.json")
    assert record["pairs"] == 7 and record["options"]["pairs"] == "ranked"
    assert record["inputs"][str(world / "losers.csv")] == sha256_file(world / "losers.csv")
    assert record["sha256"] == fingerprint(world / "record")
    tail = history_of(world, "record")[-2:]
    assert record["result"]["accuracy"] == pytest.approx(np.mean([row["accuracy"] for row in tail]))
    assert len(rows_of(world / "scores.csv")) == 14


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"losers": None}, "--loss dpo needs --losers_csv"),
        ({"loss": "sft", "pairs": "ranked"}, "--loss sft knows no losers"),
        ({"losers": "unknown.csv"}, "row 3: source_path"),
        ({"losers": "silent.csv"}, "row 2: the prompt is empty"),
        ({"losers": "none.csv"}, "nothing to prefer the gold clips to"),
        ({"losers": "single.csv", "pairs": "ranked"}, "row 3: ranked pairs need two generations"),
        ({"init_adapter": "/not/there"}, "no adapter_config.json"),
        ({"learning_rate": 1e30, "warmup_steps": 0}, "at step 2; lower --learning_rate"),
        ({"train": "neck"}, "invalid choice: 'neck'"),
        ({"gradient_accumulation": 0}, "outside [1, inf]"),
    ],
    ids=lambda value: next(iter(value.values())) if isinstance(value, dict) else None,
)
def test_errors(world, changes, message):
    rows = rows_of(world / "losers.csv")
    write_rows(world / "unknown.csv", [*rows[:2], rows[2] | {"source_path": "made_0_0.wav"}])
    write_rows(world / "silent.csv", [rows[0], rows[1] | {"prompt": ""}])
    write_rows(world / "none.csv", [], list(rows[0]))
    write_rows(world / "single.csv", rows[:3])
    done = dpo(world, "errors", ok=False, **{"scorer": world / "clap"} | changes)
    assert message in done.stderr
    assert "Traceback" not in done.stderr and not (world / "errors").exists()


def killed_command(world, out, options):
    command = [sys.executable, DPO, "--gold_csv", world / "gold.csv", "--losers_csv", world / "losers.csv"]
    command += ["--output_folder", world / out, "--model", world / "v"]
    return [str(word) for word in command + [part for name, value in options.items() for part in (f"--{name}", value)]]


def test_killed_trainings_go_on_to_the_weights_of_unbroken_ones(world):
    """Every kind at once, each killed after its first checkpoint; nothing is encoded again."""
    common = {"batch_size": 4, "learning_rate": 1e-3, "checkpoint_every": 3, "num_steps": 60, "ema_decay": 0.9}
    choices = {kind: common | {"train": kind} for kind in KINDS}
    for kind, options in choices.items():
        dpo(world, f"whole_{kind}", model="v", **options)
    processes = {}
    for kind, options in choices.items():
        command = killed_command(world, f"cut_{kind}", options)
        processes[kind] = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
    while processes and time.monotonic() < deadline:
        for kind in [kind for kind in processes if (world / f"cut_{kind}_checkpoint.pt").exists()]:
            process = processes.pop(kind)
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        time.sleep(0.01)
    assert not processes
    encoded = {path: path.stat().st_mtime_ns for path in (world / "cache").iterdir()}
    for kind, options in choices.items():
        assert not (world / f"cut_{kind}").exists()
        done = dpo(world, f"cut_{kind}", model="v", **options)
        assert "going on after step" in done.stderr
        assert adapter_bytes(world, f"cut_{kind}") == adapter_bytes(world, f"whole_{kind}")
        assert not (world / f"cut_{kind}_checkpoint.pt").exists()
    assert encoded == {path: path.stat().st_mtime_ns for path in (world / "cache").iterdir()}


# ---- several processes

# Sums in another order, multiplied by beta / 2 and by AdamW's step for small gradients: 1e-5 of the way after 12 steps.
SAME_TRAINING = 1e-3


def same_training(world, found, expected) -> bool:
    """Whether two LoRAs and their histories are those of one training; LoRA's B starts at 0."""
    histories = [history_of(world, out) for out in (found, expected)]
    for a, b in zip(*histories, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=SAME_TRAINING) and a["accuracy"] == b["accuracy"]
    weights = FILES["lora"][-1]
    start = load_file(world / "start" / weights)
    return distance(world / found / weights, world / expected / weights, start) < SAME_TRAINING


@pytest.mark.slow
def test_a_training_goes_on_with_another_number_of_processes(world, monkeypatch):
    """Five pairs a step: three and two in two processes. Killed with two and gone on alone, and the reverse."""
    options = {"batch_size": 3, "gradient_accumulation": 2, "learning_rate": 1e-3, "checkpoint_every": 3}
    options |= {"num_steps": 40, "device": "cpu", "ema_decay": 0.9, "winner_weight": 0.1}
    dpo(world, "start", model="v", **options | {"num_steps": 1, "learning_rate": 0})
    dpo(world, "alone", model="v", **options)
    command = launched(2, *killed_command(world, "together_alone", options)[1:])
    kill_at(command, world / "together_alone_checkpoint.pt")
    assert not (world / "together_alone").exists()
    done = dpo(world, "together_alone", model="v", **options)
    assert "going on after step " in done.stderr
    assert same_training(world, "together_alone", "alone")

    with monkeypatch.context() as patch:
        patch.setattr(load_script(DPO), "open_tracker", lambda *_: Stops(at=8))
        dpo(world, "alone_together", ok=False, model="v", **options)
    assert not (world / "alone_together").exists()
    done = launch(2, *killed_command(world, "alone_together", options)[1:])
    assert done.returncode == 0 and done.stderr.count("going on after step 6\n") == 1, done.stderr
    assert done.stderr.count("14 pairs, 40 steps") == 1 and "Traceback" not in done.stderr
    assert same_training(world, "alone_together", "alone")
    assert not (world / "alone_together_checkpoint.pt").exists()


@pytest.mark.slow
def test_more_processes_than_pairs_of_a_step_change_nothing(world):
    options = {"batch_size": 2, "learning_rate": 1e-3, "num_steps": 4, "device": "cpu"}
    dpo(world, "start", model="v", **options | {"num_steps": 1, "learning_rate": 0})
    dpo(world, "few", model="v", **options)
    done = launch(3, *killed_command(world, "many", options)[1:])
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("a step has 2 pairs: 1 of 3 processes have nothing to do, so fewer are as fast\n") == 1
    assert same_training(world, "many", "few")


class Stops:
    """A tracker that is interrupted."""

    def __init__(self, at: int):
        self.at = at

    def follow(self, history) -> None:
        if len(history) == self.at:
            raise KeyboardInterrupt
