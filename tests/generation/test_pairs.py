"""Preference pairs: which clips, how they are cut, and what is kept of them."""

from __future__ import annotations

import shutil

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

from synthio.audio import write_wav
from synthio.cache import read_tensors, write_tensors
from synthio.cli import UserError
from synthio.generation import pairs
from synthio.models.load import load_scorer, load_text_to_audio
from tests.generation.toy import losers_of, save_world
from tests.rows import rows_of, write_rows
from tests.tiny_models import save_stable_audio_3


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Tiny models, gold clips of noise, and tones as their generations."""
    return save_world(tmp_path_factory.mktemp("world"))


def table(*rows):
    return pd.DataFrame(rows, columns=["path", "source_path", "prompt"])


def test_gold_pairs_keep_the_whole_prompt():
    found = pairs.gold_pairs(table(["a1", "a", "Sound of a dog"], ["a2", "a", "Sound of a dog"]))
    assert found == [("a", "a1", "Sound of a dog"), ("a", "a2", "Sound of a dog")]


def test_ranked_pairs_by_hand():
    """Three generations of a, all alike of b, and a second prompt of a, which is ranked for itself."""
    rows = [["a1", "a", "p"], ["b1", "b", "p"], ["a2", "a", "p"], ["a3", "a", "p"], ["b2", "b", "p"]]
    rows += [["a4", "a", "q"], ["a5", "a", "q"]]
    scores = [0.2, 0.5, -0.3, 0.9, 0.5, 0.1, 0.4]
    assert pairs.ranked_pairs(table(*rows), scores, "x.csv") == [("a3", "a2", "p"), ("a5", "a4", "q")]
    with pytest.raises(UserError, match=r"x.csv row 2: ranked pairs need two generations or more of b"):
        pairs.ranked_pairs(table(*rows[:4]), scores[:4], "x.csv")
    with pytest.raises(UserError, match="equal scores"):
        pairs.ranked_pairs(table(*rows), [0.5] * 7, "x.csv")


def test_scores_are_the_models_cosines_and_are_kept_by_content(world, tmp_path):
    scorer, losers = load_scorer(str(world / "clap")), losers_of(world).iloc[:3].copy()
    cache = tmp_path / "scores.csv"
    found = pairs.clap_scores(losers, str(world / "clap"), "cpu", cache)
    for score, path, prompt in zip(found, losers["path"], losers["prompt"], strict=True):
        audio = soundfile.read(path, dtype="float32")[0][None]
        assert score == pytest.approx(float(scorer.embed_audio([audio])[0] @ scorer.embed_text([prompt])[0]), abs=2e-6)
    pairs._write_scores(dict.fromkeys(pairs._read_scores(cache), 0.777), cache)
    assert pairs.clap_scores(losers, str(world / "clap"), "cpu", cache) == [0.777] * 3  # read, not made
    rows = rows_of(cache)
    rows[0]["clap_score"] = "0.888000"
    write_rows(cache, rows)
    assert pairs.clap_scores(losers, str(world / "clap"), "cpu", cache) == [found[0], 0.777, 0.777]  # damaged: made
    cache.write_bytes(b"\xff" + cache.read_bytes())
    assert pairs.clap_scores(losers, str(world / "clap"), "cpu", cache) == found
    shutil.copy(losers["path"].iloc[0], tmp_path / "other name.wav")
    losers["path"] = [str(tmp_path / "other name.wav"), *losers["path"].iloc[[2, 1]]]
    assert pairs.clap_scores(losers, str(world / "clap"), "cpu", cache)[0] == found[0]
    losers["prompt"] = ["distant rain", *losers["prompt"].iloc[1:]]
    assert pairs.clap_scores(losers, str(world / "clap"), "cpu", cache)[0] != found[0]


def test_winner_and_loser_are_cut_alike_and_the_condition_says_the_winners_length(world, tmp_path):
    model = load_text_to_audio(str(world / "v"))
    made = pairs.gold_pairs(losers_of(world))
    made = [*made[:2], *made[6:8], *made[12:]]
    data = pairs.encode_pairs(made, model, "id", tmp_path)
    # two of the gold clips are of one label and both cut to 1.28 s, so they have one condition
    assert len(data) == 6 and len(data.latents) == 3 + 6 and len(data.condition) == 2
    for row in (0, 5):  # 0.5 s, padded; 2.3 s, cut to 1.28 s from its start
        for path, index in zip(made[row][:2], (data.winners[row], data.losers[row]), strict=True):
            audio = torch.from_numpy(soundfile.read(path, dtype="float32")[0])
            expected = model.encode(audio[None, None])[0]
            torch.testing.assert_close(data.latents[index], expected, atol=1e-4, rtol=1e-4)
            assert data.frames[index] == (16 if row == 0 else 40)  # of 512 samples
        expected = model.condition([made[row].prompt], [0.5 if row == 0 else 1.28])
        torch.testing.assert_close(data.condition.rows(data.prompts[row : row + 1]).cross, expected.cross)


def test_the_cache_is_used_and_follows_the_content(world, tmp_path):
    model = load_text_to_audio(str(world / "v"))
    made = pairs.gold_pairs(losers_of(world))[:4]
    first = pairs.encode_pairs(made, model, "id", tmp_path)
    written = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert {path.suffix for path in written} == {".safetensors"}
    for path in written:
        tensors = read_tensors(path)
        write_tensors(path, {n: tensor * (2 if n in ("latents", "cross") else 1) for n, tensor in tensors.items()})
    second = pairs.encode_pairs(made, model, "id", tmp_path)
    torch.testing.assert_close(second.latents, 2 * first.latents)
    torch.testing.assert_close(second.condition.cross, 2 * first.condition.cross)
    assert second.content == first.content
    before = {path: path.read_bytes() for path in written}

    for path in written:  # as a bad disk gives them: made again
        path.write_bytes(path.read_bytes()[:-1] + b"x")
    again = pairs.encode_pairs(made, model, "id", tmp_path)
    torch.testing.assert_close(again.latents, first.latents, rtol=0, atol=0)
    torch.testing.assert_close(again.condition.cross, first.condition.cross, rtol=0, atol=0)
    for path, data in before.items():
        path.write_bytes(data)

    fewer = pairs.encode_pairs(made[1:], model, "id", tmp_path)  # other losers; the gold clips' file serves again
    assert len(list(tmp_path.iterdir())) == len(written) + 1
    torch.testing.assert_close(fewer.latents[:2], 2 * first.latents[:2])
    torch.testing.assert_close(fewer.latents[2:], first.latents[3:], atol=1e-4, rtol=1e-4)
    pairs.encode_pairs(made, model, "another model", tmp_path)
    assert len(list(tmp_path.iterdir())) > len(written) + 1


def test_an_unreadable_clip_is_named(world, tmp_path):
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    model = load_text_to_audio(str(world / "v"))
    with pytest.raises(UserError, match=r"broken.wav: (unreadable|truncated)"):
        pairs.encode_pairs([pairs.Pair(str(tmp_path / "broken.wav"), "", "p")], model, "id", tmp_path)


@pytest.mark.parametrize("level", [1.0, 40.0])
def test_winners_go_the_way_of_the_losers_through_decoder_file_and_encoder(world, tmp_path, level):
    """A generation of the winner's own latents, written and read as a file, is what its decoded copy has to equal."""
    model = load_text_to_audio(str(world / "v"))
    model.vae.decoder.conv2.weight_g.data *= level  # at 40 it is louder than full scale, which a file is turned down to
    pair = pairs.gold_pairs(losers_of(world))[0]
    data = pairs.encode_pairs([pair], model, "id", tmp_path, decode_winners=True)
    audio = torch.from_numpy(soundfile.read(pair.winner, dtype="float32")[0])
    made = model.decode(model.encode(audio[None, None]))[0, :, : len(audio)].numpy()
    assert (np.abs(made).max() > 1) == (level > 1)
    write_wav(tmp_path / "copy.wav", made, 16000)
    expected = pairs.encode_pairs([pairs.Pair(str(tmp_path / "copy.wav"), pair.loser, "p")], model, "id", tmp_path)
    torch.testing.assert_close(data.latents[0], expected.latents[0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(data.latents[1], expected.latents[1])  # the loser has been there already
    plain = pairs.encode_pairs([pair], model, "id", tmp_path)
    assert (plain.latents[0] - data.latents[0]).abs().max() > 1e-2 and plain.content != data.content


def test_clips_of_several_lengths_are_encoded_at_their_own_where_the_model_can(world, tmp_path):
    model = load_text_to_audio(str(save_stable_audio_3(tmp_path / "three")))
    made = [pair for pair in pairs.gold_pairs(losers_of(world)) if pair.winner.endswith(("gold_0.wav", "gold_2.wav"))]
    data = pairs.encode_pairs(made, model, "id", tmp_path)
    assert data.latents.shape[2] == 35  # 1.1 s, the longest of them
    for pair, index in zip(made, data.winners, strict=True):
        audio = pairs.read_clip(pair.winner, 16000, mono=False)
        alone = model.encode(torch.from_numpy(audio)[None])[0]
        frames = int(data.frames[index])
        assert frames == alone.shape[1] == (16 if pair.winner.endswith("gold_0.wav") else 35)
        torch.testing.assert_close(data.latents[index, :, :frames], alone, atol=1e-4, rtol=1e-4)
        assert not data.latents[index, :, frames:].any()
