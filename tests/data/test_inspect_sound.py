"""What decoding tells of a clip: identity, reasons to refuse it, what is odd."""

from __future__ import annotations

import numpy as np
import pytest

from synthio.audio import content_hash, mix_down, read_audio
from synthio.data import inspect_sound, workers
from synthio.data.inspect_sound import Sound, inspect, inspect_all
from tests.encoders import encode, tone
from tests.running import check_workers_end


def test_a_long_sound_is_hashed_as_a_whole(make_wav, monkeypatch):
    path = make_wav("a.wav", 3.0, channels=2, seed=0)
    monkeypatch.setattr("synthio.formats.decoding.BLOCK", 5001)
    audio, rate = read_audio(path, mono=False)
    assert inspect(str(path)) == Sound(content_hash(mix_down(audio), rate), 3.0, 16000, 2)


def test_channels_that_cancel_are_a_reason_and_no_identity(make_wav, tmp_path):
    left = np.random.default_rng(0).uniform(-0.5, 0.5, 16000)
    exact = inspect(str(make_wav("a.wav", audio=np.stack([left, -left], 1))))
    assert (
        exact.reason == ("the channels cancel: the mono mix is silent; keep one channel, or turn one over")
        and not exact.identity
    )
    rounded = np.stack([left, -0.999 * left])  # 20 log10(.001 / 2) = -66 dB
    near = inspect(str(encode(tmp_path / "b.mkv", "pcm_f32le", rounded, 16000)))
    assert "the mono mix is 66 dB below them" in near.reason
    wide = inspect(str(make_wav("c.wav", audio=np.stack([left, np.roll(left, 9)], 1))))
    assert not wide.reason and not wide.warnings
    half = inspect(str(make_wav("d.wav", audio=np.stack([left, 0 * left], 1))))
    assert not half.reason and half.channels == 2


@pytest.mark.parametrize("value", [0.0, -1 / 128, 0.25])
def test_silence_has_no_identity(make_wav, value):
    """A constant is silence too: 127 in a file of unsigned bytes."""
    sound = inspect(str(make_wav("a.wav", audio=np.full((8000, 2), value))))
    assert sound.silent and sound.identity == "" and len(sound.sha256) == 64
    assert sound.warnings == ("digital silence",) and not sound.reason


def test_what_is_odd_is_told_with_its_value(make_wav):
    assert inspect(str(make_wav("a.wav", 0.05))).warnings == ("0.05 s long, shorter than 0.1 s",)
    one = inspect(str(make_wav("b.wav", audio=np.array([0.5]))))
    assert one.warnings == ("digital silence", "6.25e-05 s long, shorter than 0.1 s") and one.silent
    loud = make_wav("c.wav", audio=20 * tone(1.0) / 0.3, subtype="FLOAT")
    assert inspect(str(loud)).warnings == ("a peak of +26 dB over full scale",)
    assert inspect(str(make_wav("d.wav", 0.1))).warnings == ()


def test_reasons(make_wav, tmp_path):
    assert inspect(str(tmp_path / "gone.wav")) == Sound(reason="no such file")
    garbage = make_wav("a.wav", audio=np.array([0.1, 1.5e29, 0.2]), subtype="FLOAT")
    assert "+584 dB over full scale" in inspect(str(garbage)).reason


@pytest.mark.parametrize("few", [0, 1000])
def test_all_in_order_by_processes_and_by_threads(make_wav, monkeypatch, few):
    monkeypatch.setattr(inspect_sound, "_FEW", few)
    monkeypatch.setattr(inspect_sound, "_CHUNK", 3)
    for module in (inspect_sound, workers):
        monkeypatch.setattr(module, "available_cores", lambda: 2)
    paths = [str(make_wav(f"{i}.wav", 0.1 + i / 100, seed=i)) for i in range(8)]
    sounds = inspect_all([*paths, "/not/there.wav"])
    assert [sound.duration_s for sound in sounds] == [pytest.approx(0.1 + i / 100) for i in range(8)] + [0]
    assert len({sound.sha256 for sound in sounds[:-1]}) == 8 and sounds[-1].reason == "no such file"


def test_workers_end_with_the_stage_that_is_killed(make_wav, tmp_path):
    """SIGKILL leaves no process behind."""
    path = make_wav("a.wav", 30.0, sample_rate=48000)
    code = (
        "from synthio.data import inspect_sound as i, workers as w; i._FEW = 0\n"
        "i.available_cores = w.available_cores = lambda: 2\n"
        f"print('ready', flush=True); i.inspect_all([{str(path)!r}] * 100000)"
    )
    check_workers_end(code, 4)  # the stage, the fork server, its tracker, a worker


def test_floats_below_the_last_step_of_16_bits_are_silence(make_wav):
    """Two such clips had one hash, and were refused as one sound in two sets."""
    for level in (1e-40, 1e-7):
        audio = level * np.random.default_rng(0).normal(size=8000)
        sound = inspect(str(make_wav("a.wav", audio=audio, subtype="FLOAT")))
        assert sound.silent and sound.identity == "" and sound.warnings == ("digital silence",)
