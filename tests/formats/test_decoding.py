"""Decoders: the right length, level and content of every format that is taken."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from synthio.audio import AUDIO_SUFFIXES, BadAudio, probe, read_audio
from synthio.formats.decoding import _open_av, import_av
from tests.encoders import encode, id3, join, tone

# suffix -> (codec of FFmpeg, samples by which a second may be off: frames that fill up the end, and nothing declares
# them; FFmpeg's WMA encoder leaves its last frames out)
BY_FFMPEG = {
    "mp3": ("libmp3lame", 0),
    "mp2": ("mp2", 1152),
    "m4a": ("aac", 0),
    "m4b": ("aac", 0),
    "mp4": ("aac", 0),
    "mov": ("alac", 0),
    "3gp": ("aac", 0),
    "aac": ("aac", 2048),
    "opus": ("libopus", 0),
    "webm": ("libopus", 0),
    "weba": ("libopus", 0),
    "wma": ("wmav2", 6144),
    "mka": ("flac", 0),
    "mkv": ("pcm_s16le", 0),
    "ac3": ("ac3", 1536),
    "wv": ("wavpack", 0),
    "tta": ("tta", 0),
    "amr": ("libopencore_amrnb", 160),
    "voc": ("pcm_s16le", 0),
    "oga": ("flac", 0),
}
FORMS = {"weba": "webm", "m4b": "mp4", "m4a": "mp4", "oga": "ogg", "opus": "ogg", "aac": "adts", "wma": "asf"}
OWN_RATES = {"opus": 48000, "webm": 48000, "weba": 48000, "ac3": 48000, "amr": 8000, "wma": 44100}
BY_SNDFILE = ("wav", "flac", "ogg", "aif", "aiff", "au", "snd", "caf", "w64", "rf64", "wave", "bwf", "aifc", "sph")
FORMATS = {"snd": "AU", "aif": "AIFF", "wave": "WAV", "bwf": "WAV", "aifc": "AIFF", "sph": "NIST"}


@pytest.mark.parametrize("suffix", BY_FFMPEG)
def test_formats_of_ffmpeg(tmp_path, suffix):
    """A second of 440 Hz at -10.5 dB."""
    codec, off = BY_FFMPEG[suffix]
    rate = OWN_RATES.get(suffix, 16000)
    path = encode(tmp_path / f"a.{suffix}", codec, tone(1.0, rate), rate, FORMS.get(suffix))
    audio, found = read_audio(path)
    assert found == rate and abs(audio.shape[1] - rate) <= off
    assert probe(path) == (rate, 1, audio.shape[1])
    middle = audio[0, rate // 4 : 3 * rate // 4]
    assert abs(np.argmax(np.abs(np.fft.rfft(middle))) * 2 - 440) < 3
    assert 20 * np.log10(np.sqrt(2 * np.mean(middle**2))) == pytest.approx(-10.46, abs=2)


@pytest.mark.parametrize("suffix", BY_SNDFILE)
def test_formats_of_libsndfile(tmp_path, suffix):
    import soundfile

    soundfile.write(tmp_path / f"a.{suffix}", tone(1.0), 16000, format=FORMATS.get(suffix))
    audio, rate = read_audio(tmp_path / f"a.{suffix}")
    assert rate == 16000 and audio.shape == (1, 16000)
    if suffix != "ogg":
        assert np.abs(audio[0] - tone(1.0)).max() <= 2.0**-15


def test_every_suffix_is_tried():
    tried = {f".{suffix}" for suffix in (*BY_FFMPEG, *BY_SNDFILE)}
    assert set(AUDIO_SUFFIXES) - tried == {".spx"}  # FFmpeg decodes Speex; nothing here encodes it


def test_the_suffix_does_not_matter(tmp_path):
    encode(tmp_path / "a.m4a", "aac", tone(1.0), 16000).rename(tmp_path / "a.wav")
    assert probe(tmp_path / "a.wav") == (16000, 1, 16000)


@pytest.mark.parametrize("codec", ["pcm_s16le", "pcm_s32le", "pcm_f32le", "pcm_f64le", "pcm_u8"])
def test_ffmpeg_and_libsndfile_hear_the_same_samples(tmp_path, codec):
    """Matroska goes to FFmpeg, WAV to libsndfile; both channels, exactly."""
    both = np.stack([tone(0.5), tone(0.5, freq_hz=700, level=0.9)])
    one, _ = read_audio(encode(tmp_path / "a.mkv", codec, both, 16000), mono=False)
    other, _ = read_audio(encode(tmp_path / "a.wav", codec, both, 16000), mono=False)
    assert one.shape == (2, 8000)
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("vbr", [False, True])
def test_an_mp3_without_header_is_heard_whole(tmp_path, vbr):
    """From pipes and streamers; VBR ones made libsndfile guess a third of the length. With tags at both ends."""
    path = tmp_path / "a.mp3"
    noise = np.random.default_rng(0).uniform(-1, 1, 44100 * 3) * np.repeat([0, 1, 0], 44100)
    encode(path, "libmp3lame", noise, 44100, vbr=vbr, write_xing="0", id3v2_version="0")
    whole = join(tmp_path / "b.mp3", id3(90000), path, b"APETAGEX" + bytes(24), b"TAG" + bytes(125))
    for tried in (path, whole):
        _, _, frames = probe(tried)
        assert 44100 * 3 <= frames <= 44100 * 3 + 3 * 1152
        audio, _ = read_audio(tried)
        loud = np.flatnonzero(np.abs(audio[0]) > 0.1)
        assert loud[0] == pytest.approx(44100, abs=2500) and loud[-1] == pytest.approx(88200, abs=2500)


@pytest.mark.parametrize("part", [0.97, 0.5])
@pytest.mark.parametrize(
    ("suffix", "options"), [("m4a", {"movflags": "faststart"}), ("m4a", {}), ("wv", {}), ("mka", {})]
)
def test_what_is_cut_short_is_refused(tmp_path, suffix, options, part):
    codec = {"m4a": "aac", "wv": "wavpack", "mka": "flac"}[suffix]
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 16000 * 6)
    path = encode(tmp_path / f"a.{suffix}", codec, noise, 16000, FORMS.get(suffix), **options)
    assert probe(path)[2] == 96000
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])
    with pytest.raises(BadAudio, match=r"truncated|unreadable|damaged"):
        read_audio(path)


def test_damage_in_the_middle_is_refused(tmp_path):
    path = encode(tmp_path / "a.aac", "aac", tone(4.0), 16000, "adts")
    raw = bytearray(path.read_bytes())
    middle = raw.index(b"\xff\xf1", len(raw) // 2)
    raw[middle + 7 : middle + 300] = b"\xff" * 293
    path.write_bytes(raw)
    with pytest.raises(BadAudio, match=r"damaged: it cannot be decoded from \d\.\d\d s on"):
        read_audio(path)


def test_a_video_without_sound(tmp_path):
    import av

    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 16
        container.mux(stream.encode(av.VideoFrame(16, 16, "yuv420p")))
        container.mux(stream.encode(None))
    with pytest.raises(BadAudio, match="holds no sound"):
        read_audio(tmp_path / "a.mp4")


def test_ffmpeg_follows_no_playlist(tmp_path):
    """A playlist names other files and addresses. Its first line gives it away; FFmpeg is not asked for it, either."""
    encode(tmp_path / "b.mp3", "libmp3lame", tone(1.0), 16000)
    path = tmp_path / "list.mp3"
    path.write_bytes(b"ffconcat version 1.0\nfile b.mp3\n")
    with pytest.raises(BadAudio, match="a playlist; name the sound itself"):
        read_audio(path)
    with pytest.raises(BadAudio, match="unreadable"), _open_av(str(path)):
        pass


def test_without_pyav_the_reason_and_the_command_are_told(tmp_path, make_wav, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    path = encode_without(tmp_path)
    with pytest.raises(BadAudio, match=r"needs PyAV, which cannot be imported .*python.* -m pip install av$"):
        read_audio(path)
    assert read_audio(make_wav("a.ogg", 0.5))[0].shape == (1, 8000)
    with pytest.raises(BadAudio, match="needs PyAV"):
        import_av()


def encode_without(tmp_path):
    import soundfile

    soundfile.write(tmp_path / "a.mp3", tone(1.0), 16000, format="MP3")
    return tmp_path / "a.mp3"


def test_decoders_print_nothing(tmp_path):
    """libmpg123 and FFmpeg talk of damage on the process's own stderr."""
    path = encode(tmp_path / "a.mp3", "libmp3lame", tone(3.0), 16000, write_xing="0")
    raw = bytearray(path.read_bytes())
    raw[3000:3400] = np.random.default_rng(0).bytes(400)
    path.write_bytes(raw + b"\xff\xfb\x90\x00junk")
    code = "import sys; from synthio.audio import *\ntry: read_audio(sys.argv[1])\nexcept BadAudio: pass"
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    assert done.stderr == "" and done.stdout == ""
