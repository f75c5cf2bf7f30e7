"""Audio that can be trusted."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import scipy.signal
import soundfile

from synthio import audio as audio_module
from synthio.audio import (
    BadAudio,
    ContentHash,
    content_hash,
    cut_windows,
    fit_length,
    open_audio,
    peak_db,
    probe,
    read_audio,
    resample,
    write_wav,
)
from synthio.cli import UserError


def test_mono_is_the_mean_and_stereo_is_kept(tmp_path):
    left, right = np.random.default_rng(0).uniform(-0.5, 0.5, (2, 800)).astype(np.float32)
    soundfile.write(tmp_path / "s.wav", np.stack([left, right], 1), 8000, subtype="FLOAT")
    both, rate = read_audio(tmp_path / "s.wav", mono=False)
    assert rate == 8000 and both.shape == (2, 800) and both.dtype == np.float32
    np.testing.assert_array_equal(both, [left, right])
    one, _ = read_audio(tmp_path / "s.wav")
    assert one.shape == (1, 800)
    np.testing.assert_allclose(one[0], (left + right) / 2, atol=1e-7)
    assert probe(tmp_path / "s.wav") == (8000, 2, 800)


@pytest.mark.parametrize(("source", "target"), [(44100, 16000), (8000, 16000), (48000, 44100), (96000, 16000)])
def test_resample_keeps_frequency_and_level(make_wav, source, target):
    """A tone of 1 kHz at -10 dB, against its formula and against scipy's resampler."""
    level = 10 ** (-10 / 20)
    tone, _ = read_audio(make_wav("t.wav", 1.0, sample_rate=source, freq_hz=1000, level=level, subtype="FLOAT"))
    ours, rate = read_audio(make_wav("t.wav", 1.0, sample_rate=source, freq_hz=1000, level=level), sample_rate=target)
    assert rate == target and ours.dtype == np.float32
    assert abs(ours.shape[1] - target) <= 1
    common = np.gcd(source, target)
    theirs = scipy.signal.resample_poly(tone[0].astype(np.float64), target // common, source // common)
    middle = slice(target // 10, -target // 10)
    t = np.arange(ours.shape[1]) / target
    for other in (level * np.sin(2 * np.pi * 1000 * t), theirs[: ours.shape[1]]):
        assert np.abs(ours[0, middle] - other[middle]).max() < 0.01 * level  # 0.086 dB
    rms_db = 20 * np.log10(np.sqrt(np.mean(ours[0, middle] ** 2)) * np.sqrt(2))
    assert abs(rms_db + 10) < 0.1
    spectrum = np.abs(np.fft.rfft(ours[0] * np.hanning(ours.shape[1])))
    assert abs(np.argmax(spectrum) * target / ours.shape[1] - 1000) <= 1.1


def test_resample_removes_what_would_alias(make_wav):
    out, _ = read_audio(make_wav("t.wav", 1.0, sample_rate=44100, freq_hz=12000), sample_rate=16000)
    assert peak_db(out[:, 1600:-1600]) < -90


def test_resample_edges():
    assert resample(np.full((1, 1), 0.5, np.float32), 96000, 8000).shape == (1, 1)
    stereo = np.stack([np.zeros(4410), np.sin(np.arange(4410) / 20)]).astype(np.float32)
    out = resample(stereo, 44100, 16000)
    assert out.shape == (2, 1600) and not out[0].any() and out.flags.c_contiguous
    assert resample(stereo, 16000, 16000) is stereo


def bad(path, message, **options):
    with pytest.raises(BadAudio, match=message) as error:
        read_audio(path, **options)
    assert str(path) not in str(error.value)
    assert isinstance(error.value, UserError)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "aiff", "au", "w64", "rf64", "caf", "mp3"])
@pytest.mark.parametrize("part", [0.97, 0.5])
def test_truncated_files(make_wav, suffix, part):
    path = make_wav(f"a.{suffix}", 2.0, seed=0)
    assert read_audio(path)[0].shape == (1, 32000)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])
    bad(path, r"truncated: \d+ (bytes )?of|unreadable: ")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "unreadable"),
        (b"\x00" * 5000, "unreadable"),
        (b"RIFF", "unreadable"),
        (np.random.default_rng(0).bytes(5000), "unreadable"),
        (b"<html>404 not found</html>" * 50, "unreadable"),
    ],
)
def test_garbage(tmp_path, data, message):
    for name in ("x.wav", "x.flac", "x.ogg", "x.mp3"):
        (tmp_path / name).write_bytes(data)
        bad(tmp_path / name, message)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_finite(make_wav, value):
    bad(make_wav("a.wav", audio=np.array([0.1, value, 0.1]), subtype="FLOAT"), "NaN or infinite")
    assert probe(make_wav("b.wav", audio=np.array([0.1, value, 0.1]), subtype="FLOAT")) == (16000, 1, 3)


def test_no_samples_missing_and_folder(make_wav, tmp_path):
    bad(make_wav("a.wav", audio=np.zeros(0)), "empty: 0 samples")
    bad(tmp_path / "gone.wav", "no such file")
    bad(tmp_path, "a folder, no sound file")
    bad(tmp_path / ("long" * 100), "no such file|File name too long")


def test_too_long_is_refused_before_it_is_decoded(make_wav, monkeypatch):
    path = make_wav("a.flac", 3.0)
    bad(path, "3 s long, more than the 2 s allowed", max_duration_s=2)
    assert read_audio(path, max_duration_s=3)[0].shape[1] == 48000
    monkeypatch.setattr(soundfile.SoundFile, "read", lambda *_, **__: pytest.fail("decoded"))
    bad(path, "more than the 2 s", max_duration_s=2)
    assert audio_module.MAX_DURATION_S >= 60


def test_a_missing_pad_byte_and_a_tail_are_harmless(make_wav):
    path = make_wav("a.wav", 0.5)
    data = path.read_bytes()
    path.write_bytes(data + b"junk behind the sound")
    assert read_audio(path)[0].shape == (1, 8000)


def test_a_flac_of_many_channels_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    """F x C is bounded: 60 kB of zeros would be 1 GB."""
    zeros = np.zeros((192000, 8), np.int16)
    with soundfile.SoundFile(tmp_path / "wide.flac", "w", 192000, 8, subtype="PCM_16") as file:
        for _ in range(160):
            file.write(zeros)
    assert (tmp_path / "wide.flac").stat().st_size < 1 << 20
    monkeypatch.setattr(soundfile.SoundFile, "read", lambda *_, **__: pytest.fail("decoded"))
    bad(tmp_path / "wide.flac", "160 s of 8 channels at 192000 Hz: 246 million samples, more than the 115 million")


def test_a_sound_of_unknown_length_is_bounded_while_it_is_decoded(tmp_path, make_wav):
    path = make_wav("a.flac", 20.0)
    raw = bytearray(path.read_bytes())
    raw[21] &= 0xF0  # the 36 bits of the number of samples in STREAMINFO
    raw[22:26] = bytes(4)
    path.write_bytes(raw)
    assert read_audio(path)[0].shape == (1, 320000) and probe(path) == (16000, 1, 320000)
    bad(path, "s long, more than the 2 s allowed", max_duration_s=2)


def test_memory_that_is_not_there_is_a_reason(make_wav, monkeypatch):
    path = make_wav("a.wav", 0.5)

    def full(*_, **__):
        raise MemoryError

    monkeypatch.setattr(soundfile.SoundFile, "read", full)
    bad(path, "not enough memory")


def test_memory_holds_only_what_is_returned(make_wav):
    """60 s of stereo at 96 kHz: 46 MB of floats, 23 MB as mono; nothing of it while it is only looked through."""
    path = make_wav("a.wav", 60.0, sample_rate=96000, channels=2)
    for read, megabytes in ((lambda: read_audio(path), 23), (lambda: read_audio(path, mono=False), 46)):
        assert peak_megabytes(read) < megabytes + 12
    with open_audio(path) as stream:
        assert peak_megabytes(lambda: sum(block.shape[1] for block in stream.blocks)) < 12


def peak_megabytes(work):
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1] / 1e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("level", "shown"), [(1.5e29, r"\+584 dB"), (32767.0, r"\+90 dB.*divide them by 32768")])
def test_garbage_samples_are_refused_with_their_level(make_wav, level, shown):
    audio = 0.1 * np.sin(np.arange(8000) / 9)
    audio[4000] = level
    bad(make_wav("a.wav", audio=audio, subtype="FLOAT"), shown)
    audio[4000] = 900.0  # +59 dB
    assert peak_db(read_audio(make_wav("b.wav", audio=audio, subtype="FLOAT"))[0]) == pytest.approx(59.08, abs=0.01)


@pytest.mark.parametrize("rate", [1, 1000, 2_000_000])
def test_a_rate_at_which_nothing_is_heard(make_wav, rate):
    bad(make_wav("a.wav", audio=np.ones(50) / 9, sample_rate=rate), f"a sample rate of {rate} Hz")
    assert read_audio(make_wav("b.wav", 0.1, sample_rate=2000))[1] == 2000


def test_content_hash(make_wav, tmp_path):
    audio, rate = read_audio(make_wav("a.wav", 0.5, seed=3))
    soundfile.write(tmp_path / "b.flac", audio.T, rate, subtype="PCM_16")
    soundfile.write(tmp_path / "c.wav", audio.T, rate, subtype="FLOAT")
    digest = content_hash(audio, rate)
    assert digest == content_hash(*read_audio(tmp_path / "b.flac")) == content_hash(*read_audio(tmp_path / "c.wav"))
    assert digest != content_hash(audio, 8000)
    assert digest != content_hash(audio[:, :-1], rate)
    assert digest != content_hash(np.repeat(audio, 2, 0), rate)
    parts = ContentHash(rate, 1)
    for start in range(0, audio.shape[1], 999):
        parts.update(audio[:, start : start + 999])
    assert parts.hexdigest() == digest
    assert content_hash(np.full((1, 4), 5.0), rate) == content_hash(np.full((1, 4), 1.0), rate)  # no wrap-around


@pytest.mark.parametrize("length", [1, 3, 10, 11, 20, 25, 30, 101])
def test_windows_cover_every_sample(length):
    audio = np.stack([np.arange(length), -np.arange(length)]).astype(np.float32)
    windows = cut_windows(audio, 10)
    assert windows.shape == (max(1, -(-length // 10)), 2, 10)
    assert set(windows[:, 0].ravel()) == set(audio[0])
    np.testing.assert_array_equal(windows[:, 1], -windows[:, 0])
    if length >= 10:
        np.testing.assert_array_equal(windows[-1, 0], audio[0, -10:])
        assert all((np.diff(window[0]) == 1).all() for window in windows)
    else:
        np.testing.assert_array_equal(windows[0, 0], np.arange(10) % length)


def test_fit_length_and_peak():
    audio = np.ones((2, 5), np.float32)
    assert fit_length(audio, 3).shape == (2, 3)
    assert fit_length(audio, 7).sum() == 10 and fit_length(audio, 7).shape == (2, 7)
    assert peak_db(audio * 0.5) == pytest.approx(-6.0206, abs=1e-3)
    assert peak_db(np.zeros((1, 4))) == float("-inf") == peak_db(np.zeros((1, 0)))


def test_a_16_bit_round_trip_is_exact(tmp_path):
    """Every 16-bit value, from two channels, read and written twice."""
    pcm = np.arange(-32768, 32768, dtype=np.int16).reshape(2, -1)
    soundfile.write(tmp_path / "a.wav", pcm.T, 16000, subtype="PCM_16")
    audio, rate = read_audio(tmp_path / "a.wav", mono=False)
    write_wav(tmp_path / "b.wav", audio, rate)
    written, _ = soundfile.read(tmp_path / "b.wav", dtype="int16")
    np.testing.assert_array_equal(written.T, pcm)
    assert content_hash(audio, rate) == content_hash(*read_audio(tmp_path / "b.wav", mono=False))


def test_write_wav_is_within_half_a_step_and_keeps_the_level(tmp_path):
    audio = np.random.default_rng(0).uniform(-0.99, 0.99, (1, 5000)).astype(np.float32)
    write_wav(tmp_path / "new/a.wav", audio, 22050)
    back, rate = read_audio(tmp_path / "new/a.wav")
    assert rate == 22050 and np.abs(back - audio).max() <= 0.5001 / 32768
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.wav"]
    write_wav(tmp_path / "again.wav", audio, 22050)
    assert (tmp_path / "again.wav").read_bytes() == (tmp_path / "new/a.wav").read_bytes()


def test_too_loud_is_turned_down_not_clipped(tmp_path):
    t = np.arange(16000) / 16000
    write_wav(tmp_path / "a.wav", 3 * np.sin(2 * np.pi * 100 * t)[None], 16000)
    back, _ = read_audio(tmp_path / "a.wav")
    assert np.abs(back[0] - np.sin(2 * np.pi * 100 * t)).max() < 5e-5  # clipping would differ by up to 0.6
    write_wav(tmp_path / "full.wav", np.array([[1.0, -1.0]]), 16000)
    pcm, _ = soundfile.read(tmp_path / "full.wav", dtype="int16")
    assert pcm.tolist() == [32767, -32768]


def test_silence_stays_silence(tmp_path):
    write_wav(tmp_path / "a.wav", np.zeros((1, 800), np.float32), 16000)
    back, _ = read_audio(tmp_path / "a.wav", sample_rate=8000)
    assert back.shape == (1, 400) and not back.any()


@pytest.mark.parametrize("audio", [np.array([[0.1, np.nan]]), np.array([[np.inf]]), np.zeros((1, 0)), np.zeros(5)])
def test_write_wav_refuses(tmp_path, audio):
    with pytest.raises(ValueError, match=r"a\.wav"):
        write_wav(tmp_path / "a.wav", audio, 16000)
    assert list(tmp_path.iterdir()) == []


def test_a_sample_too_much_is_said_to_be_more(make_wav):
    bad(
        make_wav("a.wav", audio=np.zeros(4001), sample_rate=2000),
        r"2\.0005 s long, more than the 2 s",
        max_duration_s=2,
    )
