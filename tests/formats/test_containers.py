"""Files by their bytes: what is no sound is named, what is cut short or joined is noticed."""

from __future__ import annotations

import os
import struct

import numpy as np
import pytest

from synthio.audio import BadAudio, probe, read_audio
from synthio.formats.containers import read_container
from tests.encoders import encode, id3, join, tone


def bad(path, message):
    with pytest.raises(BadAudio, match=message):
        read_audio(path)


# ---- what is no sound


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (b"", r"the file is empty \(0 bytes\)"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "Git LFS pointer.*git lfs pull"),
        (b"../../.git/annex/objects/Xk/3M/SHA256E-s88244--0f.wav/SHA256E-s88244--0f.wav\n", "git-annex pointer"),
        (b"<!DOCTYPE html>\n<html><body>404 Not Found</body></html>", "HTML page"),
        (b"\xef\xbb\xbf  <HTML><head></head></HTML>", "HTML page"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "XML document"),
        (b"\x89PNG\r\n\x1a\n" + bytes(200), "a picture"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF" + bytes(200), "a picture"),
        (b"GIF89a" + bytes(200), "a picture"),
        (b"RIFF\x10\0\0\0WEBPVP8 " + bytes(200), "a picture"),
        (b"PK\x03\x04" + bytes(200), "an archive"),
        (b"\x1f\x8b\x08" + bytes(200), "an archive"),
        (b"%PDF-1.7\n" + bytes(200), "PDF"),
        (b"\0\x05\x16\x07\0\x02\0\0Mac OS X" + bytes(200), "AppleDouble"),
        (b"MThd\0\0\0\x06" + bytes(200), "MIDI"),
        (b"#EXTM3U\n/etc/passwd\n", "a playlist"),
        (b"path,label\na.wav,dog\n", r"a text, no sound; it begins 'path,label"),
        ("Größe der Töne \x1b".encode()[:15], "a text, no sound; it begins 'Gr\\\\xf6"),
        (bytes(5000), "zeros alone"),
    ],
)
@pytest.mark.parametrize("name", ["x.wav", "x.mp3"])
def test_what_is_no_sound_is_named(tmp_path, data, named, name):
    (tmp_path / name).write_bytes(data)
    bad(tmp_path / name, "unreadable: .*" + named)


# ---- sizes in headers


def set_sizes(path, riff, data):
    """Overwrite the two sizes in a WAV header."""
    raw = bytearray(path.read_bytes())
    at = raw.index(b"data") + 4
    raw[4:8], raw[at : at + 4] = struct.pack("<I", riff), struct.pack("<I", data)
    path.write_bytes(raw)


@pytest.mark.parametrize(
    ("riff", "data"),
    [
        (0xFFFFFFFF, 0xFFFFFFFF),
        (0x7FFFF024, 0x7FFFF000),
        (0, 0xFFFFFFFF),
        (36 + 16000 + 44, 16000 + 44),  # the header counted as sound
        (36 + 16000 + 8, 16000),
        (36 + 16000 - 8, 16000),
        (0, 16000),
        (0, 0),  # a recorder that never came back to the header
        (36, 0),
    ],
)
def test_a_wav_whose_header_is_wrong_is_heard_whole(make_wav, riff, data):
    path = make_wav("a.wav", 0.5, seed=1)
    before, _ = read_audio(path)
    set_sizes(path, riff, data)
    np.testing.assert_array_equal(read_audio(path)[0], before)
    assert probe(path) == (16000, 1, 8000)


def test_a_recorder_that_crashed_behind_filler_chunks(make_wav, tmp_path):
    """Core Audio fills the header up to 4096 bytes, and writes the size of the data last."""
    raw = make_wav("a.wav", 0.5, seed=1).read_bytes()
    filler = 4096 - 8 - 8 - 36
    head = raw[:36] + b"FLLR" + struct.pack("<I", filler) + bytes(filler) + b"data\0\0\0\0"
    path = join(tmp_path / "b.wav", head, raw[44:])
    np.testing.assert_array_equal(read_audio(path)[0], read_audio(tmp_path / "a.wav")[0])


@pytest.mark.parametrize(("suffix", "at", "size"), [("aiff", b"COMM", 4), ("w64", b"data", 8), ("au", b".snd", 4)])
def test_other_headers_of_crashed_recorders(make_wav, suffix, at, size):
    """Sizes of 0 in other formats: heard whole, or refused with the reason."""
    path = make_wav(f"a.{suffix}", 1.0, seed=1)
    raw = bytearray(path.read_bytes())
    place = raw.index(at) + {"aiff": 10, "w64": 16, "au": 8}[suffix]
    raw[place : place + size] = bytes(size)
    path.write_bytes(raw)
    if suffix == "au":
        bad(path, "its header says 0 samples, though 32024 bytes follow; mend it")
    else:
        assert probe(path) == (16000, 1, 16000)


def test_other_chunks_are_no_sound(make_wav, tmp_path):
    note = b"LIST" + struct.pack("<I", 26) + b"INFOISFT" + struct.pack("<I", 14) + b"Lavf58.29.100\0"
    raw = make_wav("a.wav", 0.5).read_bytes()
    assert probe(join(tmp_path / "b.wav", raw, note * 400)) == (16000, 1, 8000)
    empty = make_wav("empty.wav", audio=np.zeros(0)).read_bytes()
    bad(join(tmp_path / "c.wav", empty, note), "empty: 0 samples")


def test_tags_behind_a_wav_are_harmless(make_wav, tmp_path):
    raw = make_wav("a.wav", 0.5).read_bytes()
    assert probe(join(tmp_path / "b.wav", raw, id3(90000))) == (16000, 1, 8000)


def test_a_matroska_file_of_unknown_size(tmp_path):
    """Live streams have a segment of size "unknown": eight bytes, all ones but the first seven bits."""
    path = encode(tmp_path / "a.mka", "flac", tone(1.0), 16000)
    raw = bytearray(path.read_bytes())
    place = raw.index(b"\x18\x53\x80\x67") + 4
    raw[place : place + 8] = b"\x01" + b"\xff" * 7
    path.write_bytes(raw)
    assert probe(path) == (16000, 1, 16000)


@pytest.mark.parametrize("suffix", ["wav", "aiff", "au", "caf", "w64", "rf64"])
def test_a_few_bytes_that_are_missing_are_noticed(make_wav, suffix):
    path = make_wav(f"a.{suffix}", 0.5, seed=1)
    path.write_bytes(path.read_bytes()[:-20])
    bad(path, "truncated")


def test_a_wav_that_promises_more_than_it_has(make_wav):
    path = make_wav("a.wav", 0.5)
    set_sizes(path, 36 + 3200000, 3200000)
    bad(path, "truncated: 16044 bytes of the 3200044")


def test_a_wav_that_has_more_than_it_promises(make_wav):
    path = make_wav("a.wav", 2.0, seed=0)
    set_sizes(path, 36 + 16000, 16000)
    bad(path, "declares 16000 bytes of sound, but 48000 more follow")


# ---- joined files


@pytest.mark.parametrize("suffix", ["wav", "flac", "aiff", "caf", "w64", "rf64"])
def test_a_sound_joined_behind_another_is_not_lost_silently(make_wav, tmp_path, suffix):
    one, other = make_wav(f"a.{suffix}", 0.5, seed=0), make_wav(f"b.{suffix}", 0.5, seed=1)
    bad(join(tmp_path / f"c.{suffix}", one, other), "another sound begins behind its end, at byte")


@pytest.mark.parametrize(
    ("suffix", "codec", "form"),
    [
        ("m4a", "aac", "mp4"),
        ("mov", "alac", None),
        ("wma", "wmav2", "asf"),
        ("mka", "flac", None),
        ("webm", "libopus", None),
        ("wv", "wavpack", None),
        ("tta", "tta", None),
        ("voc", "pcm_s16le", None),
    ],
)
def test_what_ffmpeg_would_not_hear_of_joined_files(tmp_path, suffix, codec, form):
    one, other = (encode(tmp_path / f"{i}.{suffix}", codec, tone(1.0 + i), 16000, form) for i in range(2))
    assert probe(one)[2] < probe(other)[2]
    bad(join(tmp_path / f"both.{suffix}", one, other), f"behind its end, at byte {one.stat().st_size}")


@pytest.mark.parametrize(("suffix", "codec"), [("ac3", "ac3"), ("aac", "aac"), ("mp2", "mp2")])
def test_what_ffmpeg_hears_of_joined_files(tmp_path, suffix, codec):
    form = "adts" if suffix == "aac" else None
    one, other = (encode(tmp_path / f"{i}.{suffix}", codec, tone(1.0 + i), 16000, form) for i in range(2))
    frames = probe(join(tmp_path / f"both.{suffix}", one, other))[2]
    assert abs(frames - probe(one)[2] - probe(other)[2]) <= 1024


def test_a_sound_of_another_kind_behind_one(make_wav, tmp_path):
    one, other = make_wav("a.wav", 0.5), make_wav("b.flac", 0.5)
    bad(join(tmp_path / "c.wav", one, other), "another sound begins behind its end, at byte 16044")


@pytest.mark.parametrize("codec", ["VORBIS", "OPUS"])
def test_an_ogg_with_a_hole(tmp_path, codec):
    """Decoders leave out a damaged page without a word; a tag behind the last page is harmless."""
    import soundfile

    path = tmp_path / "a.ogg"
    soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, 48000 * 6), 48000, format="OGG", subtype=codec)
    raw = path.read_bytes()
    assert probe(join(path, raw, b"TAG" + bytes(125))) == (48000, 1, 288000)
    pages = [at for at in range(len(raw)) if raw[at : at + 5] == b"OggS\0"]
    bad(join(path, raw[: pages[4]], b"junk" * 50, raw[pages[4] :]), "damaged: no page of Ogg at byte")
    flipped = bytearray(raw)
    flipped[pages[3] + 500] ^= 255
    bad(join(path, bytes(flipped)), f"damaged: the page of Ogg at byte {pages[3]} has another checksum")


@pytest.mark.parametrize("codec", ["VORBIS", "OPUS"])
def test_a_chained_ogg_is_heard_whole(tmp_path, codec):
    import soundfile

    paths = []
    for i, freq_hz in enumerate((300, 500, 700)):
        paths.append(tmp_path / f"{i}.ogg")
        soundfile.write(paths[-1], tone(1.0, 48000, freq_hz), 48000, format="OGG", subtype=codec)
    audio, rate = read_audio(join(tmp_path / "all.ogg", *paths))
    assert rate == 48000 and audio.shape == (1, 144000)
    for i, freq_hz in enumerate((300, 500, 700)):
        middle = audio[0, 48000 * i + 10000 : 48000 * i + 38000]
        assert abs(np.argmax(np.abs(np.fft.rfft(middle))) * 48000 / 28000 - freq_hz) < 2
    soundfile.write(paths[1], tone(1.0, 22050), 22050, format="OGG")
    if codec == "VORBIS":
        bad(join(tmp_path / "all.ogg", *paths), "joined sounds of other rates")


@pytest.mark.parametrize(("codec", "form"), [("VORBIS", None), ("OPUS", None), ("flac", "ogg"), ("libopus", "ogg")])
def test_an_ogg_that_was_cut_between_two_pages(tmp_path, codec, form):
    """All its pages are whole, and decoders call what is left the sound."""
    import soundfile

    path = tmp_path / "a.ogg"
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 48000 * 6)
    if form:
        encode(path, codec, noise, 48000, form)
    else:
        soundfile.write(path, noise, 48000, format="OGG", subtype=codec)
    raw = path.read_bytes()
    assert probe(path) == (48000, 1, 288000)
    pages = [at for at in range(len(raw)) if raw[at : at + 5] == b"OggS\0"]
    for end in pages[3:]:
        bad(
            join(path, raw[:end]), f"truncated: no page of Ogg up to byte {end} is marked as the last; get it again, or"
        )
    bad(join(path, raw[: pages[-1]], raw), f"truncated: no page of Ogg up to byte {pages[-1]} ")
    assert probe(join(path, raw, raw)) == (48000, 1, 576000)


@pytest.mark.parametrize("between", [b"", id3(5000)])
@pytest.mark.parametrize("options", [("1", "1"), ("0", "1"), ("1", "0"), ("0", "0")])
def test_joined_mp3s_are_heard_whole(tmp_path, between, options):
    """With and without a Xing header (write_xing) in each. Without one, the coder's delay and padding stay."""
    paths = [
        encode(
            tmp_path / f"{i}.mp3", "libmp3lame", tone(1.5, 44100, freq_hz), 44100, write_xing=xing, id3v2_version="0"
        )
        for i, (freq_hz, xing) in enumerate(zip((300, 700), options, strict=True))
    ]
    lengths = [probe(path)[2] for path in paths]
    both = join(tmp_path / "both.mp3", paths[0], between, paths[1])
    rate, _, frames = probe(both)
    assert rate == 44100 and abs(frames - sum(lengths)) <= 1152
    audio, _ = read_audio(both)
    for start, freq_hz in ((10000, 300), (lengths[0] + 10000, 700)):
        middle = audio[0, start : start + 44100]
        assert abs(np.argmax(np.abs(np.fft.rfft(middle))) - freq_hz) < 2
    if options == ("1", "1"):
        assert len(read_container(both).parts) == 2 and frames == 2 * 66150


@pytest.mark.parametrize("part", [0.97, 0.5])
def test_a_truncated_mp3_with_a_header(tmp_path, part):
    path = encode(tmp_path / "a.mp3", "libmp3lame", tone(2.0), 16000)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])
    bad(path, r"truncated: \d+ bytes of the \d+")


@pytest.mark.parametrize("missing", [2000, 300, 40])
@pytest.mark.parametrize(
    ("suffix", "codec"), [("sph", None), ("voc", "pcm_s16le"), ("wma", "wmav2"), ("mp3", "libmp3lame"), ("mp2", "mp2")]
)
def test_what_decoders_do_not_say_is_missing(tmp_path, suffix, codec, missing):
    """By sizes in the header; of MP3 without one, and MP2, by the last frame."""
    path, noise = tmp_path / f"a.{suffix}", np.random.default_rng(0).uniform(-0.5, 0.5, 44100 * 2)
    if codec:
        options = {"write_xing": "0"} if suffix == "mp3" else {}
        encode(path, codec, noise, 44100, "asf" if suffix == "wma" else None, **options)
    else:
        import soundfile

        soundfile.write(path, noise, 44100, format="NIST")
    whole = probe(path)[2]
    assert whole == pytest.approx(88200, abs=4096)
    raw = path.read_bytes()
    path.write_bytes(raw[:-missing])
    bad(path, "truncated: ")
    if suffix.startswith("mp"):
        with pytest.raises(BadAudio) as told:
            read_audio(path)
        path.write_bytes(raw[: int(str(told.value).split("head -c ")[1].split()[0])])
        assert probe(path)[2] == pytest.approx(whole, abs=2 * 1152 + missing * 144)


def test_a_nist_header_that_declares_no_samples(tmp_path):
    import soundfile

    path = tmp_path / "a.sph"
    soundfile.write(path, tone(0.5), 16000, format="NIST")
    raw = path.read_bytes()
    for old, new in ((b"sample_count", b"simple_count"), (b"sample_n_bytes -i", b"sample_n_bytes -s")):
        path.write_bytes(raw.replace(old, new))
        assert read_container(path).kind == "NIST"
    path.write_bytes(raw.replace(b"sample_n_bytes -i 2", b"sample_n_bytes -i x"))
    assert read_container(path).kind == "NIST"


def test_a_first_mp3_that_was_cut_before_another(tmp_path):
    path = encode(tmp_path / "a.mp3", "libmp3lame", tone(1.5), 16000, write_xing="0", id3v2_version="0")
    raw = path.read_bytes()
    bad(
        join(path, raw[:-20], id3(5000), raw),
        r"truncated: its last frame, at byte \d+ of \d+, is not whole; get it again$",
    )


# ---- tags before the sound


def longer(tag: bytes, more: int) -> bytes:
    """An ID3v2 tag that declares more bytes than it has."""
    size = len(tag) - 10 + more
    return tag[:6] + bytes((size >> shift) & 127 for shift in (21, 14, 7, 0)) + tag[10:]


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "aiff", "caf", "w64"])
@pytest.mark.parametrize("tags", [id3(3000), id3(3000) + id3(700)])
def test_a_tag_before_another_sound_than_mp3(make_wav, tmp_path, suffix, tags):
    path = make_wav(f"a.{suffix}", 1.0, seed=1)
    raw = path.read_bytes()
    tagged = join(tmp_path / f"b.{suffix}", tags, raw)
    np.testing.assert_array_equal(read_audio(tagged)[0], read_audio(path)[0])
    bad(join(tagged, tags, raw[:-20]), "truncated|flac decoder lost sync")
    if suffix != "ogg":
        bad(join(tagged, tags, raw, raw), "another sound begins behind its end, at byte")


def test_a_recorder_that_crashed_behind_a_tag(make_wav, tmp_path):
    path = make_wav("a.wav", 1.0, seed=1)
    set_sizes(path, 36, 0)
    assert probe(join(tmp_path / "b.wav", id3(3000), path)) == (16000, 1, 16000)


@pytest.mark.parametrize("more", [100, 2000, 9000, 200000])
def test_a_tag_that_declares_some_of_the_sound(tmp_path, more):
    """Decoders pass over what a tag declares, whatever it is."""
    path = encode(tmp_path / "a.mp3", "libmp3lame", tone(3.0), 16000, write_xing="0", id3v2_version="0")
    tag, raw = id3(3000), path.read_bytes()
    whole = probe(join(path, tag, raw))
    begin = len(tag)
    message = f"damaged: its ID3 tag declares {begin + more} bytes, .*; sound begins at byte {begin}"
    bad(join(path, longer(tag, more), raw), message + rf": take the tag off \(tail -c \+{begin + 1} IN > OUT\)")
    path.write_bytes(path.read_bytes()[begin:])
    assert probe(path) == whole


def test_a_tag_that_is_longer_than_its_file(make_wav, tmp_path):
    bad(
        join(tmp_path / "a.mp3", longer(id3(3000), 9)),
        "its ID3 tag declares 3029 bytes, the file has 3020; get it again",
    )
    bad(join(tmp_path / "a.wav", longer(id3(3000), 99999), make_wav("b.wav", 0.5)), "its ID3 tag declares 103019 bytes")


def test_a_sound_within_a_tag(tmp_path):
    """A general object of ID3 may be an MP3, right up to the end of the tag."""
    path = encode(tmp_path / "a.mp3", "libmp3lame", tone(1.0), 16000, write_xing="0", id3v2_version="0")
    raw = path.read_bytes()
    whole = probe(path)
    assert probe(join(path, longer(id3(3000), len(raw)), raw, raw)) == whole


# ---- what happens to files on their way


def test_a_wav_that_was_sent_as_text(make_wav):
    """Each line feed got a carriage return: the length was right, the samples behind the first were noise."""
    path = make_wav("a.wav", 1.0, seed=0)
    raw = path.read_bytes()
    assert raw.count(b"\n") > 16
    path.write_bytes(raw.replace(b"\n", b"\r\n"))
    bad(path, "damaged: line ends were put in, as if it were text")
    path.write_bytes(raw.decode("utf-8", "replace").encode())
    bad(path, "damaged: it was saved or sent as text, and bytes were replaced")


def test_a_second_chunk_of_samples_is_not_lost_silently(make_wav):
    path = make_wav("a.wav", 0.5, seed=0)
    raw = path.read_bytes()
    path.write_bytes(raw + b"LIST\4\0\0\0INFO" + raw[raw.index(b"data") :])
    bad(path, f"a second chunk of samples begins at byte {len(raw) + 12}")


@pytest.mark.parametrize("name", ["a.raw", "a.PCM"])
def test_samples_without_a_header(tmp_path, name):
    samples = np.random.default_rng(0).integers(-9000, 9000, 16000).astype("<i2")
    samples[0] = 7
    (tmp_path / name).write_bytes(samples.tobytes())
    bad(tmp_path / name, "samples without a header; give them one")
    (tmp_path / "a.wav").write_bytes(samples.tobytes())
    bad(tmp_path / "a.wav", "unknown or damaged format")


def test_what_is_in_the_place_of_a_file(tmp_path):
    (tmp_path / "a.wav").symlink_to("b.wav")
    bad(tmp_path / "a.wav", "a link to 'b.wav', which leads to no file")
    (tmp_path / "b.wav").symlink_to("a.wav")
    bad(tmp_path / "b.wav", "a link to 'a.wav', which leads to no file")
    os.mkfifo(tmp_path / "c.wav")
    bad(tmp_path / "c.wav", "no file, but a pipe, a socket or a device")
    bad(tmp_path, "a folder, no sound file")
