"""Audio LLMs as captioners: small models of every class, with real processors, loaded from their folders."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from synthio.captions.audio_llm import AudioLlm, find_class, read_family
from synthio.captions.load import load_captioner
from synthio.captions.requests import INSTRUCTION, CaptionerOptions
from synthio.cli import UserError
from synthio.manifest import read_table
from tests.scripts import call_script
from tests.tiny_audio_llms import SAVERS

CAPTION = Path(__file__).resolve().parent.parent.parent / "gama_csv_inf.py"
KINDS = sorted(SAVERS)
OPTIONS = CaptionerOptions(device="cpu", max_new_tokens=8)


def sound(seconds: float, freq_hz: float, seed: int = 0) -> np.ndarray:
    """A tone in noise, [1, T] at 16 kHz."""
    t = np.arange(round(seconds * 16000)) / 16000
    noise = 0.02 * np.random.default_rng(seed).standard_normal(len(t))
    return (0.3 * np.sin(2 * np.pi * freq_hz * t) + noise).astype(np.float32)[None]


CLIPS = [sound(0.4, 300, 1), sound(1.7, 1200, 2), sound(1.0, 5000, 3)]


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    """kind -> a folder as it is on the hub."""
    root = tmp_path_factory.mktemp("audio_llms")
    return {kind: save(root / kind) for kind, save in SAVERS.items()}


@pytest.fixture(scope="module")
def captioners(folders) -> dict[str, AudioLlm]:
    """kind -> its captioner."""
    return {kind: load_captioner(str(folder), OPTIONS) for kind, folder in folders.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_a_caption_is_of_its_own_clip_and_knows_nothing_of_the_others(captioners, kind):
    captioner = captioners[kind]
    alone = [captioner.describe([clip])[0] for clip in CLIPS]
    assert len(set(alone)) == len(CLIPS)
    assert captioner.describe(CLIPS) == alone
    assert captioner.describe(CLIPS[::-1]) == alone[::-1]


@pytest.mark.parametrize("kind", KINDS)
def test_a_prompt_of_a_batch_gives_the_logits_that_it_gives_alone(captioners, kind):
    """Prompts of short clips are padded on the left; padding must not shift what the model sees."""
    captioner = captioners[kind]
    settings = {"return_dict_in_generate": True, "output_logits": True, "max_new_tokens": 1, "do_sample": False}
    with torch.no_grad():
        together = captioner.model.generate(**captioner.inputs(CLIPS), **settings).logits[0]
        alone = [captioner.model.generate(**captioner.inputs([clip]), **settings).logits[0] for clip in CLIPS]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["qwen2_audio", "audioflamingo3", "musicflamingo"])
def test_captions_are_those_of_the_library_itself(folders, captioners, kind):
    """The other two processors need torchvision, so there is nothing to compare them with."""
    from transformers import AutoProcessor

    processor = AutoProcessor.from_pretrained(folders[kind])
    words, clip = {"type": "text", "text": INSTRUCTION}, {"type": "audio", "audio": CLIPS[1][0]}
    chat = [{"role": "user", "content": [words, clip] if "flamingo" in kind else [clip, words]}]
    inputs = processor.apply_chat_template(
        chat, tokenize=True, add_generation_prompt=True, return_dict=True, return_tensors="pt"
    )
    out = captioners[kind].model.generate(**inputs, max_new_tokens=8, do_sample=False)
    (text,) = processor.batch_decode(out[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    assert captioners[kind].describe([CLIPS[1]]) == [" ".join(text.split())]


@pytest.mark.parametrize(("kind", "window_s"), [("qwen2_audio", 2), ("qwen2_5_omni", 4)])
def test_what_a_processor_cuts_off_is_not_heard(captioners, kind, window_s):
    start, rest = sound(window_s, 300), sound(1.5, 5000)
    assert captioners[kind].describe([np.concatenate([start, rest], axis=1)]) == captioners[kind].describe([start])


@pytest.mark.parametrize("kind", ["qwen3_omni_moe", "audioflamingo3", "musicflamingo"])
def test_a_clip_longer_than_a_window_is_heard_whole(captioners, kind):
    start, rest = sound(2, 300), sound(1.5, 5000)
    assert captioners[kind].describe([np.concatenate([start, rest], axis=1)]) != captioners[kind].describe([start])


@pytest.mark.parametrize("kind", KINDS)
def test_the_shortest_clips_have_a_caption_too(captioners, kind):
    assert len(captioners[kind].describe([CLIPS[0][:, :1], CLIPS[1]])) == 2


@pytest.mark.parametrize("kind", ["qwen2_5_omni", "qwen3_omni_moe"])
def test_of_an_omni_model_the_thinker_is_loaded_whole(folders, captioners, kind):
    stored = load_file(folders[kind] / "model.safetensors")
    thinker = {name: tensor for name, tensor in stored.items() if name.startswith("thinker.")}
    loaded = captioners[kind].model
    assert sum(tensor.numel() for tensor in thinker.values()) == sum(weight.numel() for weight in loaded.parameters())
    assert torch.equal(thinker["thinker.lm_head.weight"], loaded.lm_head.weight)
    assert any(name.startswith("talker.") for name in stored) == (kind == "qwen2_5_omni")


def test_on_a_cpu_weights_are_float32(captioners):
    assert {captioner.model.dtype for captioner in captioners.values()} == {torch.float32}


# ---- instruction


def test_the_instruction_is_in_the_prompt_once_with_the_sound(captioners):
    prompt = captioners["qwen2_audio"].prompt
    assert prompt.count(INSTRUCTION) == 1 and prompt.index("<|AUDIO|>") < prompt.index(INSTRUCTION)
    flamingo = captioners["audioflamingo3"].prompt
    assert flamingo.index(INSTRUCTION) < flamingo.index("<sound>")


def test_a_model_made_for_captions_gets_no_words(tmp_path):
    folder = SAVERS["qwen3_omni_moe"](tmp_path / "Qwen3-Omni-30B-A3B-Captioner")
    captioner = AudioLlm(str(folder), OPTIONS)
    assert captioner.prompt.startswith("<|im_start|>user\n<|audio_bos|><|AUDIO|><|audio_eos|><|im_end|>\n")
    assert captioner.describe(CLIPS[:1])


def test_audio_flamingo_is_asked_even_where_it_is_made_for_captions(tmp_path):
    folder = SAVERS["musicflamingo"](tmp_path / "audio-flamingo-next-captioner-hf")
    assert INSTRUCTION in AudioLlm(str(folder), OPTIONS).prompt


def test_what_decides_a_caption_is_in_its_key(folders, tmp_path):
    def key(folder: Path, **changed) -> tuple:
        return AudioLlm(str(folder), CaptionerOptions(device="cpu", **changed)).key

    first = folders["qwen2_audio"]
    other = SAVERS["qwen2_audio"](tmp_path / "qwen2_audio", seed=1)
    keys = [key(first), key(first, instruction="Which animal?"), key(first, max_new_tokens=9), key(other)]
    assert len(set(keys)) == 4
    assert key(first, batch_size=2) == key(first)


# ---- what is refused


def test_a_folder_without_one_of_its_weights_is_refused(tmp_path):
    folder = SAVERS["qwen2_audio"](tmp_path / "cut")
    weights = load_file(folder / "model.safetensors")
    weights.pop("audio_tower.conv1.weight")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"lacks 1 weights of the network: model\.audio_tower\.conv1\.weight"):
        AudioLlm(str(folder), OPTIONS)


def test_a_model_of_another_kind_is_named(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(UserError, match="is of the type 'bert', which is none of qwen2_audio, "):
        read_family(str(tmp_path))


def test_what_can_be_no_model_is_refused_at_once(tmp_path):
    with pytest.raises(UserError, match="captioner 'embeded' is not known; use 'embedded', 'gama'"):
        load_captioner("embeded")
    with pytest.raises(UserError, match=r"captioner .* could not be loaded"):
        load_captioner(str(tmp_path))


def test_a_class_that_transformers_lacks_says_what_to_install():
    with pytest.raises(UserError, match=r"has no Qwen9Audio; install a newer one: pip install 'transformers>=9\.1'"):
        find_class("Qwen9Audio", "9.1")


# ---- the script


def test_the_script_captions_each_row_and_goes_on_where_it_stopped(folders, captioners, make_wav, make_manifest):
    from synthio.audio import read_audio

    rows = [(make_wav(f"{k}.wav", 0.4 + 0.3 * k, freq_hz=300 * 3**k, seed=None), "a") for k in range(3)]
    table, output = make_manifest("gold.csv", rows), rows[0][0].parent / "captions.csv"
    words = ["--input_csv", table, "--output_csv", output, "--captioner", folders["qwen2_audio"], "--device", "cpu"]
    words += ["--max_new_tokens", 8, "--batch_size", 2]
    assert call_script(CAPTION, *words).returncode == 0
    wanted = [captioners["qwen2_audio"].describe([read_audio(path, 16000)[0]])[0] for path, _ in rows]
    assert len(set(wanted)) == 3
    assert list(read_table(output)["caption"]) == wanted

    cache = output.with_suffix(".cache.jsonl")
    lines = cache.read_text().splitlines()
    assert len(lines) == 3
    first = {"key": json.loads(lines[0])["key"], "answer": "kept from before"}  # as earlier releases wrote it
    cache.write_text(json.dumps(first) + "\n" + lines[1] + "\n")  # as if stopped after two
    assert call_script(CAPTION, *words).returncode == 0
    assert list(read_table(output)["caption"]) == ["kept from before", *wanted[1:]]

    assert call_script(CAPTION, *words, "--instruction", "Which animal?").returncode == 0
    assert "kept from before" not in list(read_table(output)["caption"])
