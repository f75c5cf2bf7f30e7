"""The script stable-audio-tools/generate.py on tiny models in the real formats."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from tests.rows import rows_of, write_rows
from tests.scripts import load_script
from tests.toy_clips import GENERATE, run, save_models, save_noise


@pytest.fixture
def data(tmp_path):
    """Seven gold clips of noise, with prompts."""
    return save_noise(tmp_path)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Tiny models: flow and v text-to-audio, CLAP."""
    return save_models(tmp_path_factory.mktemp("models"))


def generate(data, model, name="gen", prompts="prompts.csv", ok=True, **options):
    extra = [part for key, value in options.items() for part in (f"--{key}", value)]
    steps = [] if "num_steps" in options else ["--num_steps", 3]
    out = data / name / "generated.csv"
    args = ["--input_csv", data / prompts, "--output_csv", out, "--output_folder", data / name / "wav"]
    done = run(GENERATE, *args, "--model", model, "--batch_size", 2, *steps, *extra, ok=ok)
    return (rows_of(out) if ok else None), done


def finished_clips(folder):
    """Its WAV files; a process that was killed may leave a temporary one, whose name starts with a dot."""
    return sorted(Path(folder).glob("[!.]*.wav"))


def audio_bytes(folder):
    return {path.name: path.read_bytes() for path in finished_clips(folder)}


@pytest.mark.parametrize("model", ["flow", "v"])
def test_generation_gives_a_clip_per_row_with_its_gold_length(models, data, model):
    rows, _ = generate(data, models / model)
    assert [row["prompt"] for row in rows] == [row["prompt"] for row in rows_of(data / "prompts.csv")]
    assert len({row["path"] for row in rows}) == 7
    for i, row in enumerate(rows):
        info = soundfile.info(data / "gen" / row["path"])
        seconds = min(0.5 + 0.3 * i, 1.28)  # the model makes at most 1.28 s
        assert (info.samplerate, info.channels) == (16000, 2 if model == "v" else 1)
        assert info.duration == pytest.approx(seconds, abs=0.001)
        assert float(row["duration_s"]) == pytest.approx(seconds, abs=0.001)
        assert (data / "gen" / row["source_path"]).resolve() == data / f"audio/{i}.wav"


def test_each_sampling_option_changes_the_sound_and_equal_options_do_not(models, data):
    first, _ = generate(data, models / "flow", "a")
    _again, _ = generate(data, models / "flow", "b")
    assert audio_bytes(data / "a/wav") == audio_bytes(data / "b/wav")
    sounds = {tuple(row["sha256"] for row in first)}
    variations = [
        {"num_steps": 5},
        {"cfg_scale": 1},
        {"cfg_rescale": 0.7},
        {"sampler": "heun"},
        {"sampler": "dpmpp_2m"},
        {
            "sampler": "dpmpp_2m_sde",
            "num_steps": 5,
        },  # in three steps it is 3M SDE: the first, from pure noise, tells it nothing
        {"sampler": "dpmpp_3m_sde"},
        {"sampler": "pingpong"},
        {"initialize_audio": "true"},
        {"initialize_audio": "true", "init_noise_level": 0.2},
    ]
    for k, options in enumerate(variations):
        rows, _ = generate(data, models / "flow", f"v{k}", **options)
        sounds.add(tuple(row["sha256"] for row in rows))
    assert len(sounds) == 1 + len(variations)


@pytest.mark.parametrize(
    ("objective", "words", "expected"),
    [
        ("rectified_flow", [], (24, 3.0, "euler")),
        ("rectified_flow", ["--sampler", "heun", "--num_steps", "9"], (9, 3.0, "heun")),
        ("rectified_flow", ["--sampler", "pingpong"], (8, 1.0, "pingpong")),
        ("rectified_flow", ["--sampler", "pingpong", "--cfg_scale", "2"], (8, 2.0, "pingpong")),
        ("v", [], (250, 7.0, "dpmpp_3m_sde")),
        ("v", ["--sampler", "dpmpp_2m", "--cfg_scale", "1"], (250, 1.0, "dpmpp_2m")),
    ],
)
def test_sampling_options_that_suit_the_model(objective, words, expected):
    script = load_script(GENERATE)
    required = ["--input_csv", "x", "--output_csv", "x", "--output_folder", "x"]
    chosen = script.resolve_sampling(script.get_parser().parse_args([*required, *words]), objective)
    assert (chosen["num_steps"], chosen["cfg_scale"], chosen["sampler"]) == expected


@pytest.mark.parametrize(
    ("words", "taken"),
    [
        ([], True),
        (["--num_steps", "24"], False),
        (["--cfg_scale", "1.5"], False),
        (["--sampler", "euler"], False),
        (["--adapter", "prefix"], False),
        (["--adapter", "lora"], True),
        (["--distilled", "false"], False),
        (["--distilled", "true", "--num_steps", "6", "--adapter", "prefix"], True),
    ],
)
def test_weights_for_few_steps_are_taken_unless_something_else_is_asked_for(tmp_path, monkeypatch, words, taken):
    script = load_script(GENERATE)
    required = ["--input_csv", "x", "--output_csv", "x", "--output_folder", "x", "--model", str(tmp_path)]
    args = script.get_parser().parse_args([*required, *words])
    monkeypatch.setattr("synthio.models.adapters.adapter_kind", lambda folder: folder)
    assert script.takes_distilled(args) == (args.distilled == "true")  # there are none
    (tmp_path / "distilled").mkdir()
    assert script.takes_distilled(args) == taken


def test_every_sampler_can_be_chosen():
    from synthio.generation.sampling import SOLVERS

    required, parser = (
        ["--input_csv", "x", "--output_csv", "x", "--output_folder", "x"],
        load_script(GENERATE).get_parser(),
    )
    for name in ("auto", *SOLVERS):
        assert parser.parse_args([*required, "--sampler", name]).sampler == name


@pytest.mark.parametrize("model", ["flow", "v"])
def test_a_clip_is_the_same_alone_and_among_clips_of_other_lengths(models, data, model):
    """To a step of 16 bits; and batches of the same rows give the same bytes.

    A GPU chooses its kernels, and with them the rounding, by the size of the batch: there it is 40 steps.
    """
    steps = 64 if torch.cuda.is_available() else 2
    for name, batch_size in (("all", 7), ("again", 7), ("alone", 1)):
        generate(data, models / model, name, batch_size=batch_size, cfg_rescale=0.5)
    assert audio_bytes(data / "all/wav") == audio_bytes(data / "again/wav")
    together, alone = finished_clips(data / "all/wav"), finished_clips(data / "alone/wav")
    assert [path.name for path in together] == [path.name for path in alone]
    lengths = set()
    for one, other in zip(together, alone, strict=True):
        audio, _ = soundfile.read(one)
        np.testing.assert_allclose(audio, soundfile.read(other)[0], atol=steps / 2**15)
        lengths.add(len(audio))
    assert len(lengths) == 4  # .5, .8 and 1.1 s, and the most that the model makes


def test_fixed_seconds(models, data):
    rows, _ = generate(data, models / "flow", seconds=0.25)
    assert {row["duration_s"] for row in rows} == {"0.250"}


def test_initialize_audio_keeps_the_level_of_the_gold_clip(models, data):
    """The released code divided by 32767 twice and started from near-silence."""
    gold_latents = load_script(GENERATE).gold_latents
    from synthio.models.load import load_text_to_audio

    model = load_text_to_audio(str(models / "flow"))
    latents = gold_latents([{"record": {"path": str(data / "audio/6.wav")}}], model)
    import torch

    audio, _ = soundfile.read(data / "audio/6.wav", dtype="float32")
    expected = model.encode(torch.from_numpy(audio)[None, None, : round(1.28 * 16000)])
    torch.testing.assert_close(latents, expected)


def test_a_rerun_makes_only_the_batches_that_miss_a_clip(models, data):
    rows, _ = generate(data, models / "flow")
    before = audio_bytes(data / "gen/wav")
    (data / "gen" / rows[2]["path"]).unlink()
    (data / "gen" / rows[6]["path"]).write_bytes(b"RIFF")  # a broken file is no finished clip
    rerun, done = generate(data, models / "flow")
    assert "7 clips, 3 of them generated now" in done.stderr  # rows 3-4 and row 7, in batches of two
    assert audio_bytes(data / "gen/wav") == before
    assert rerun == rows


def test_killed_generation_ends_with_the_bytes_of_an_unbroken_run(models, data):
    whole, _ = generate(data, models / "flow", "whole", num_steps=200)
    out = data / "cut"
    command = [sys.executable, GENERATE, "--input_csv", data / "prompts.csv", "--output_csv", out / "generated.csv"]
    command += ["--output_folder", out / "wav", "--model", models / "flow", "--batch_size", "2", "--num_steps", "200"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not finished_clips(out / "wav") and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (out / "generated.csv").exists()
    assert 0 < len(finished_clips(out / "wav")) < 7
    rows, _ = generate(data, models / "flow", "cut", num_steps=200)
    assert audio_bytes(out / "wav") == audio_bytes(data / "whole/wav")
    assert [row["sha256"] for row in rows] == [row["sha256"] for row in whole]


def test_empty_prompts_pass_through(models, data):
    write_rows(data / "none.csv", [], ["path", "label", "prompt", "seed"])
    rows, _ = generate(data, models / "flow", prompts="none.csv")
    assert rows == []


def test_equal_basenames_in_two_folders_do_not_collide(models, data):
    (data / "other").mkdir()
    shutil.copy(data / "audio/1.wav", data / "other/0.wav")
    base = {"label": "a/b: c", "prompt": "x"}
    rows = [base | {"path": "audio/0.wav", "seed": "1"}, base | {"path": "other/0.wav", "seed": "2"}]
    write_rows(data / "same.csv", rows)
    made, _ = generate(data, models / "flow", prompts="same.csv")
    assert len({row["path"] for row in made}) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "/nowhere"}, "no model folder at '/nowhere'"),
        ({"adapter": "/nowhere"}, "no adapter_config.json"),
        ({"prompts": "gold.csv"}, "no column 'prompt', 'seed'"),
        ({"model": "v", "sampler": "pingpong"}, "sampler 'pingpong' is for rectified-flow models"),
        ({"sampler": "plms"}, "invalid choice: 'plms'"),
    ],
)
def test_generation_errors(models, data, options, message):
    options = options | {"model": models / options.get("model", "flow")}
    _, done = generate(data, options.pop("model"), ok=False, **options)
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture
def short_clips(data):
    """Of the seven clips only the first two, of .5 and .8 s: 25 of 40 frames, and 11 that the decoder hears beyond."""
    for name in ("gold", "prompts"):
        write_rows(data / f"{name}.csv", rows_of(data / f"{name}.csv")[:2])
    return data


def test_latents_are_as_long_as_the_longest_gold_clip(models, short_clips):
    data = short_clips
    auto, done = generate(data, models / "v", "auto")
    assert "latents of 1.15 s, of v's 1.28" in done.stderr
    assert json.loads((data / "auto/generated.json").read_text())["latent_seconds"] == 1.152
    whole, done = generate(data, models / "v", "whole", latent_seconds="model")
    assert "latents of" not in done.stderr
    again, _ = generate(data, models / "v", "again", latent_seconds=1.28)  # no other length, no other file
    assert audio_bytes(data / "whole/wav") == audio_bytes(data / "again/wav")
    asked, _ = generate(data, models / "v", "asked", latent_seconds=0.8)
    names = [{Path(row["path"]).name for row in rows} for rows in (auto, whole, asked)]
    assert not set.intersection(*names[:2]) and not set.intersection(*names[1:])
    for rows in (auto, whole, asked):
        assert [row["duration_s"] for row in rows] == ["0.500", "0.800"]
        assert len({row["sha256"] for row in rows} & {row["sha256"] for row in again}) == 2 * (rows is whole)
    _, done = generate(data, models / "v", "none", ok=False, latent_seconds=0.6)
    assert "error: latent_seconds 0.6 is less than the longest clip, 0.80 s" in done.stderr


def test_a_shard_of_short_clips_has_the_latents_of_the_whole_run(models, short_clips):
    """In stage 6 the whole table tells; in 8 only the gold clips know of the longest one."""
    data = short_clips
    whole, _ = generate(data, models / "v", batch_size=1)
    write_rows(data / "shard.csv", rows_of(data / "prompts.csv")[:1])
    for option in ({"whole_csv": data / "prompts.csv"}, {"gold_csv": data / "gold.csv"}):
        (row,), _ = generate(data, models / "v", next(iter(option)), "shard.csv", batch_size=1, **option)
        assert Path(row["path"]).name == Path(whole[0]["path"]).name and row["sha256"] == whole[0]["sha256"]
    (row,), _ = generate(data, models / "v", "alone", "shard.csv", batch_size=1)
    assert Path(row["path"]).name != Path(whole[0]["path"]).name


def test_the_text_encoder_leaves_the_device_before_clips_are_sampled(models, data, monkeypatch):
    """And what it says of a clip does not depend on how many batches are conditioned at once."""
    from synthio.models.diffusers_audio import DiffusersTextToAudio
    from synthio.models.pipeline_model import PipelineModel

    said = []
    move, predict = PipelineModel.move, DiffusersTextToAudio.predict
    monkeypatch.setattr(PipelineModel, "move", lambda *a: (said.append(f"{a[1]} {a[2]!s}"), move(*a))[1])
    monkeypatch.setattr(DiffusersTextToAudio, "predict", lambda *a: (said.append("predict"), predict(*a))[1])
    generate(data, models / "flow", num_steps=1)
    assert said == ["text cpu", "text cpu", *["predict"] * 4]
    first = audio_bytes(data / "gen/wav")
    said.clear()
    monkeypatch.setattr(load_script(GENERATE), "CONDITIONED_AT_ONCE", 3)
    generate(data, models / "flow", "other", num_steps=1)
    assert said == ["text cpu", "text cpu", *["predict"] * 3, "text cpu", "text cpu", "predict"]
    assert audio_bytes(data / "other/wav") == first


def test_many_clips_are_spread_over_folders_in_every_shard_alike(models, data, monkeypatch):
    """A shard asks how many rows the whole table has; the bytes are those of one folder."""
    plain, _ = generate(data, models / "flow")
    monkeypatch.setattr(load_script(GENERATE), "MOST_IN_A_FOLDER", 6)
    rows = rows_of(data / "prompts.csv")
    write_rows(data / "shard.csv", rows[:2])
    spread, _ = generate(data, models / "flow", "spread", "shard.csv", whole_csv=data / "prompts.csv")
    for one, other in zip(plain[:2], spread, strict=True):
        name = Path(one["path"]).name
        assert other["path"] == f"wav/{name.removesuffix('.wav')[-16:][:2]}/{name}"
        assert (data / "gen" / one["path"]).read_bytes() == (data / "spread" / other["path"]).read_bytes()
    alone, _ = generate(data, models / "flow", "alone", "shard.csv")
    assert [Path(row["path"]).parent.name for row in alone] == ["wav", "wav"]
