"""What a sound file is by its bytes: its kind, whether all of it is there, and where another sound is joined behind it.

Decoders hand over what they find, without a word about what is missing. So the bytes are looked at first. Nothing is
decoded here. Of WAV and its like only headers are read; FLAC, Ogg, MP3 and others are searched, for in these a second
sound can begin anywhere.
"""

from __future__ import annotations

import codecs
import io
import math
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from synthio.cli import UserError
from synthio.formats.file_bytes import FileBytes, FileRange
from synthio.formats.frames import HEAD, cut_frame, first_run, frame_bytes

# Every suffix of a file that can be read; what lies in the file is told by its bytes. docs/audio.md names the decoders.
AUDIO_SUFFIXES = tuple(
    ".wav .wave .bwf .rf64 .w64 .flac .ogg .oga .opus .spx .aif .aiff .aifc .au .snd .caf .sph .voc "
    ".mp3 .mp2 .m4a .m4b .mp4 .aac .3gp .amr .wma .webm .weba .mka .mkv .mov .ac3 .wv .tta".split()
)


Parts = tuple[tuple[int, int], ...]  # byte ranges


class BadAudio(UserError):
    """A sound file that must not be used; the message is the reason, without the path."""


@dataclass(frozen=True)
class Container:
    """A file's kind ("" where only a decoder can tell) and the byte range of each sound that is joined in it."""

    kind: str
    parts: Parts

    def sources(self, path: Path) -> Iterator[str | io.BufferedReader]:
        """What decoders open, one after the other: the path, or each part as if it were a file."""
        if len(self.parts) == 1 and self.parts[0][0] == 0:
            yield str(path)
            return
        with path.open("rb") as stream:
            for start, end in self.parts:
                yield io.BufferedReader(FileRange(stream, start, end))


def is_sound_name(path: Path) -> bool:
    """Whether a file's suffix is that of a sound that can be read."""
    return path.suffix.lower() in AUDIO_SUFFIXES


def why_no_file(path: Path) -> str:
    """What is in the place of a file."""
    if path.is_dir():
        return "a folder, no sound file"
    if path.is_symlink() and not path.exists():
        return f"a link to {str(path.readlink())!r}, which leads to no file"
    return "no file, but a pipe, a socket or a device" if path.exists() else "no such file"


def read_container(path: Path) -> Container:
    """Look at a file's bytes.

    Raises:
        BadAudio: there is no such file; it is no sound, but something else that is named; it ends before its header
            says, or goes on behind its end in a way that no decoder follows.
    """
    try:
        if not path.is_file():
            raise BadAudio(why_no_file(path))
        with path.open("rb") as stream:
            found = _look(stream, path.stat().st_size)
        if not found.kind and path.suffix.lower() in (".raw", ".pcm"):
            raise BadAudio("unreadable: samples without a header; give them one (sox -r RATE -c 1 -e signed -b 16 ...)")
        return found
    except (OSError, ValueError) as error:
        if isinstance(error, BadAudio):
            raise
        reason = getattr(error, "strerror", None) or str(error)
        raise BadAudio(f"the file cannot be opened: {reason}") from None


def _look(stream: BinaryIO, size: int) -> Container:
    head = stream.read(_HEAD_BYTES)
    skip = _tag_before_sound(stream, head, size)
    if skip:
        behind = _look(io.BufferedReader(FileRange(stream, skip, size)), size - skip)
        return Container(behind.kind, tuple((start + skip, end + skip) for start, end in behind.parts))
    kind = _kind(head)
    if head.count("\ufffd".encode()) >= _REPLACED:
        raise BadAudio("damaged: it was saved or sent as text, and bytes were replaced; get it again")
    if not kind:
        _refuse_what_is_no_sound(head)
    if kind.startswith("WAV"):
        _check_wav(stream, size)
    elif kind in _DECLARED:
        _check_declared(stream, head, _DECLARED[kind](stream, head), size)
    if kind in _SECOND:
        _refuse_second(kind, FileBytes(stream))
    elif kind == "AMR" or (not kind and frame_bytes(head[:HEAD])):
        _check_last_frame(FileBytes(stream), 0, size)
    return Container(kind, _PARTS[kind](FileBytes(stream)) if kind in _PARTS else ((0, size),))


# ---- what it is

_HEAD_BYTES = 512
_REPLACED = 4  # signs of that in the head are no chance
_W64_GUID = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00"
_ASF_GUID = b"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9\x00\xaa\x00\x62\xce\x6c"
_ASF_DATA_GUID = b"\x36\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9\x00\xaa\x00\x62\xce\x6c"
_KINDS = (
    (rb"RIFF.{4}WAVE.{0,64}?fmt .{4}[\x50\x55]\0", "WAV of MPEG"),  # which libsndfile reads as it reads MP3
    (rb"RIFF.{4}WAVE|RIFX.{4}WAVE", "WAV"),
    (rb"RF64.{4}WAVE", "RF64"),
    (re.escape(_W64_GUID), "W64"),
    (rb"FORM.{4}AIF[FC]", "AIFF"),
    (rb"\.snd|dns\.", "AU"),
    (rb"caff", "CAF"),
    (rb"fLaC", "FLAC"),
    (rb"OggS", "OGG"),
    (rb"NIST_1A\n", "NIST"),
    (rb"ID3|\xff[\xe2\xe3\xf2\xf3\xfa\xfb]", "MPEG"),
    (rb"#!AMR", "AMR"),
    (rb".{4}ftyp(?!hei|mif|avi)", "MP4"),
    (re.escape(_ASF_GUID), "ASF"),
    (rb"wvpk", "WavPack"),
    (rb"TTA1", "TTA"),
    (rb"Creative Voice File", "VOC"),
    (rb"\x1aE\xdf\xa3", "Matroska"),
)
_NO_SOUNDS = (
    (rb"version https://git-lfs", "a Git LFS pointer, not the sound; get it with `git lfs pull`"),
    (rb"[./\w]*/annex/objects/", "a git-annex pointer, not the sound; get it with `git annex get`"),
    (rb"(?:\xef\xbb\xbf)?\s*<(?:!doctype\s+html|html|head|body|script|!--)", "an HTML page, no sound; get it again"),
    (rb"(?:\xef\xbb\xbf)?\s*<(?:\?xml|svg|error)", "an XML document, no sound; get it again"),
    (
        rb"\x89PNG|\xff\xd8\xff|GIF8|BM.{4}\0{4}|RIFF.{4}WEBP|II\*\0|MM\0\*|.{4}ftyp(?:hei|mif|avif)",
        "a picture, no sound",
    ),
    (rb"PK\x03\x04|PK\x05\x06|\x1f\x8b|7z\xbc\xaf|Rar!|BZh|\xfd7zXZ|\x28\xb5\x2f\xfd", "an archive; unpack it"),
    (rb".{257}ustar", "an archive; unpack it"),
    (rb"\0\x05\x16[\0\x07]", "notes of macOS on another file (AppleDouble), no sound; remove it"),
    (rb"%PDF", "a PDF document, no sound"),
    (rb"MThd", "a MIDI file: notes, no sound; render it first"),
    (rb"#EXTM3U|\[playlist\]|ffconcat", "a playlist; name the sound itself"),
    (rb"\x93NUMPY|\x89HDF|SQLite format 3|bplist00|\x7fELF|MZ", "data of a program, no sound"),
)


def _kind(head: bytes) -> str:
    """The kind by the first bytes; "" if they are not known."""
    return next((kind for pattern, kind in _KINDS if re.match(pattern, head, re.DOTALL)), "")


def _begins_sound(data: bytes) -> bool:
    """Whether another file begins here. Two bytes of an MPEG frame are too few to tell."""
    return any(re.match(pattern, data, re.DOTALL) for pattern, kind in _KINDS if kind != "MPEG")


def _id3_size(head: bytes) -> int:
    """Bytes of an ID3v2 tag; 0 where there is none."""
    if len(head) < 10 or head[:3] != b"ID3" or max(head[6:10]) > 127:
        return 0
    return 10 + (head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]) + (10 if head[5] & 16 else 0)


def _tag_before_sound(stream: BinaryIO, head: bytes, size: int) -> int:
    """Bytes of the ID3v2 tags that stand before a sound which is no MP3, and by whose decoders they are not expected.

    Raises:
        BadAudio: a tag ends behind the end of the file, or within a frame of sound: decoders pass over all of it.
    """
    skip, behind = 0, head
    while length := _id3_size(behind):
        _check_tag(FileBytes(stream), skip, skip + length)
        skip += length
        stream.seek(skip)
        behind = stream.read(_HEAD_BYTES)
    return skip if skip and _begins_sound(behind) else 0


def _check_tag(data: FileBytes, start: int, end: int) -> None:
    sound = first_run(data, start + 10, len(data))
    mend = f"; sound begins at byte {sound}: take the tag off (tail -c +{sound + 1} IN > OUT)"
    if end > len(data):
        known = mend if sound < len(data) else "; get it again"
        raise BadAudio(f"damaged: its ID3 tag declares {end - start} bytes, the file has {len(data)}{known}")
    at = sound
    while at < end and (length := frame_bytes(data[at : at + HEAD])):
        at += length
    if sound < end < at:  # a tag may hold a sound, but that ends where the tag does, or before
        raise BadAudio(f"damaged: its ID3 tag declares {end - start} bytes, and sound is among them{mend}")


def _refuse_what_is_no_sound(head: bytes) -> None:
    """Name what people find in place of a sound: failed downloads, pointers, pictures."""
    if not head:
        raise BadAudio("unreadable: the file is empty (0 bytes)")
    for pattern, what in _NO_SOUNDS:
        if re.match(pattern, head, re.DOTALL | re.IGNORECASE):
            raise BadAudio(f"unreadable: {what}")
    if not head.strip(b"\0"):
        raise BadAudio("unreadable: it begins with zeros alone (an unfinished download or copy?)")
    text = codecs.getincrementaldecoder("utf-8")("replace").decode(head)
    if len(head) >= 8 and all(c.isprintable() or c in "\r\n\t\ufeff" for c in text) and "\ufffd" not in text:
        raise BadAudio(f"unreadable: a text, no sound; it begins {text[:20]!a}")


# ---- whether all of it is there

# From here on a 32-bit size says "unknown": ffmpeg writes 0xFFFFFFFF to a pipe, SoX 0x7FFFF000 and the header's length.
_UNKNOWN_SIZE = 0x7FFFF000
_PAD, _CHUNK_HEAD, _AU_HEAD, _ID3V1 = 1, 8, 24, 128  # bytes that writers count, though they are not there
_TAIL = 4096  # bytes behind the sound in which players keep tags


def _truncated(size: int, declared: int) -> BadAudio:
    return BadAudio(f"truncated: {size} bytes of the {declared} its header declares")


def _joined(at: int) -> BadAudio:
    return BadAudio(f"another sound begins behind its end, at byte {at} (files joined?); split them")


def _check_wav(stream: BinaryIO, size: int) -> None:
    """Compare the data chunk with the file. That chunk holds the sound; the outer size is often wrong."""
    found = _wav_data(stream, size)
    if found is None:
        return
    start, length = found
    if length >= _UNKNOWN_SIZE or length == 0:
        return
    # recorders add their header's length to the size of the data
    if start + length - size > _PAD and start + length - size not in (_CHUNK_HEAD, start - _CHUNK_HEAD, start):
        raise _truncated(size, start + length)
    _check_tail(stream, start + length + length % 2, size, length)


def _wav_data(stream: BinaryIO, size: int) -> tuple[int, int] | None:
    """(first byte, declared length) of a RIFF file's data chunk; None where there is none."""
    at = 12
    stream.seek(0)
    order = ">" if stream.read(4) == b"RIFX" else "<"
    while at + 8 <= size:
        stream.seek(at)
        name, length = struct.unpack(f"{order}4sI", stream.read(8))
        if name == b"data":
            return at + 8, length
        at += 8 + length + length % 2
    return None


def unsaid_bytes(stream: BinaryIO, kind: str) -> int:
    """Bytes that may be sound, of a file whose header says that it has no samples: in a WAV, no other chunk."""
    size = stream.seek(0, 2)
    if kind != "WAV":
        return size if size > _TAIL else 0
    found = _wav_data(stream, size)
    return 0 if found is None or _is_chunks(stream, found[0], size) else size - found[0]


def _is_chunks(stream: BinaryIO, at: int, size: int) -> bool:
    """Whether named chunks, or nothing, go on from here to the end of the file."""
    while at + 8 <= size:
        stream.seek(at)
        name, length = struct.unpack("<4sI", stream.read(8))
        if not re.fullmatch(rb"[ -~]{4}", name):
            return False
        at += 8 + length + length % 2
    return at - 1 <= size <= at + 1


def _check_tail(stream: BinaryIO, at: int, size: int, length: int) -> None:
    """Refuse a WAV behind whose data more sound follows: joined files, or a header that was not brought up to date."""
    stream.seek(at)
    tail = stream.read(_TAIL)
    if _begins_sound(tail):
        raise _joined(at)
    _refuse_second_data(stream, at, size)
    if tail and _has_line_ends_of_text(stream):
        raise BadAudio("damaged: line ends were put in, as if it were text (FTP in ASCII mode?); get it again")
    if size - at <= max(_TAIL, length // 10) or not tail.strip(b"\0"):
        return
    is_tag = re.match(rb"ID3|TAG|APETAGEX|LYRICS", tail)
    if not is_tag and not any(_is_chunks(stream, start, size) for start in (at, at - length % 2)):
        raise BadAudio(
            f"its header declares {length} bytes of sound, but {size - at} more follow; mend it "
            "(sox --ignore-length in.wav out.wav)"
        )


def _refuse_second_data(stream: BinaryIO, at: int, size: int) -> None:
    """Refuse a WAV with another chunk of samples behind its first, which decoders do not hear."""
    while at + 8 <= size:
        stream.seek(at)
        name, length = struct.unpack("<4sI", stream.read(8))
        if name == b"data" and length:
            raise BadAudio(
                f"a second chunk of samples begins at byte {at}, and the first alone can be heard; join them"
            )
        if not re.fullmatch(rb"[ -~]{4}", name):
            return
        at += 8 + length + length % 2


def _has_line_ends_of_text(stream: BinaryIO) -> bool:
    """Whether each of many line feeds has a carriage return before it, as no sound has by chance."""
    stream.seek(0)
    data = stream.read(1 << 20)
    feeds = data.count(b"\n")
    return feeds >= 16 and data.count(b"\r\n") == feeds


def _check_declared(stream: BinaryIO, head: bytes, declared: int, size: int) -> None:
    """Compare where a file must end by its header with where it does; 0: it does not say."""
    if declared - size > _PAD and declared - size not in (_CHUNK_HEAD, _AU_HEAD):
        raise _truncated(size, declared)
    stream.seek(declared)
    if declared and _begins_sound(stream.read(_HEAD_BYTES)):
        raise _joined(declared)


def _outer_size(form: str, at: int, before: int) -> Callable[[BinaryIO, bytes], int]:
    """Reads a size that stands at byte `at` of the head; `before` bytes are not counted by it."""

    def read(stream: BinaryIO, head: bytes) -> int:
        if len(head) < at + struct.calcsize(form):
            return 0
        (size,) = struct.unpack_from(form, head, at)
        unknown = size == 0 or (struct.calcsize(form) == 4 and size >= _UNKNOWN_SIZE) or size >= 1 << 62
        return 0 if unknown else before + size

    return read


def _au_size(stream: BinaryIO, head: bytes) -> int:
    """The header's own size, and that of the data."""
    before, size = struct.unpack(">II" if head[:4] == b".snd" else "<II", head[4:12].ljust(8, b"\0"))
    return 0 if size == 0 or size >= _UNKNOWN_SIZE else before + size


def _nist_size(stream: BinaryIO, head: bytes) -> int:
    """The header's length, and the samples that it declares; 0 where they are compressed."""
    fields = dict(re.findall(rb"^(\w+) -\w+ (\S+)", head, re.MULTILINE))
    header = head[8:16].strip()
    factors = [fields.get(name, b"") for name in (b"sample_count", b"channel_count", b"sample_n_bytes")]
    if b"," in fields.get(b"sample_coding", b"") or not all(number.isdigit() for number in (header, *factors)):
        return 0
    return int(header) + math.prod(map(int, factors))


def _voc_size(stream: BinaryIO, head: bytes) -> int:
    """Where the last block of a VOC file ends; 0 where a block's size is unknown (0)."""
    at, total = int.from_bytes(head[20:22], "little"), stream.seek(0, 2)
    while at + 4 <= total:
        stream.seek(at)
        kind, *size = stream.read(4)
        if kind == 0:
            return at + 1
        if kind > 9:  # no block
            return at
        length = int.from_bytes(bytes(size), "little")
        if not length:
            return 0
        at += 4 + length
    return at


def _asf_size(stream: BinaryIO, head: bytes) -> int:
    """Where the data of an ASF file ends: behind the header. Editors of tags leave other sizes as they were."""
    at = int.from_bytes(head[16:24], "little")
    stream.seek(at)
    data = stream.read(24)
    size = int.from_bytes(data[16:24], "little") if data[:16] == _ASF_DATA_GUID else 0
    return at + size if 50 < size < 1 << 62 else 0  # 50: its own head, of a stream that was never finished


def _caf_size(stream: BinaryIO, head: bytes) -> int:
    """Where the last chunk of a CAF file ends; 0 where a chunk's size is unknown (-1)."""
    end, total = 8, stream.seek(0, 2)
    while end + 12 <= total:
        stream.seek(end)
        name, size = struct.unpack(">4sq", stream.read(12))
        if size < 0 or not re.fullmatch(rb"[ -~]{4}", name):
            return 0
        if name[:4] == b"caff":  # of a file that was joined behind this one
            return end
        end += 12 + size
    return end


def _mp4_size(stream: BinaryIO, head: bytes) -> int:
    """Where the last box of an MP4 file ends; 0 where the last one goes on to the end of the file."""
    at, total = 0, stream.seek(0, 2)
    while at + 16 <= total:
        stream.seek(at)
        size, name, long_size = struct.unpack(">I4sQ", stream.read(16))
        size = long_size if size == 1 else size
        if size == 0:
            return 0
        if size < 8 or not re.fullmatch(rb"[ -~\xa9]{4}", name) or (at and name == b"ftyp"):
            break  # what follows is no box, or another file
        at += size
    return at


def _matroska_size(stream: BinaryIO, head: bytes) -> int:
    """Where the segment of a Matroska or WebM file ends, which follows the EBML header; 0: unknown (a live stream)."""
    at, size = _ebml_number(head, 4)
    at += size
    if head[at : at + 4] != b"\x18\x53\x80\x67":
        return 0
    start, size = _ebml_number(head, at + 4)
    return 0 if size < 0 else start + size


def _ebml_number(data: bytes, at: int) -> tuple[int, int]:
    """(where it ends, value) of a number of 1 to 8 bytes (RFC 8794); -1: unknown."""
    first = data[at] if at < len(data) else 0
    length = 9 - first.bit_length()
    if length > 8:
        return at + 1, -1
    bits = 7 * length
    value = int.from_bytes(data[at : at + length], "big") & ((1 << bits) - 1)
    return at + length, -1 if value == (1 << bits) - 1 else value


_DECLARED: dict[str, Callable[[BinaryIO, bytes], int]] = {
    "RF64": _outer_size("<Q", 20, 8),
    "W64": _outer_size("<Q", 16, 0),
    "AIFF": _outer_size(">I", 4, 8),
    "AU": _au_size,
    "CAF": _caf_size,
    "MP4": _mp4_size,
    "Matroska": _matroska_size,
    "NIST": _nist_size,
    "VOC": _voc_size,
    "ASF": _asf_size,
}


# ---- sounds joined in one file


# The header of a second sound, in formats whose decoders stop at the end of the first.
_SECOND = {
    "FLAC": rb"fLaC[\0\x80]\0\0\x22",
    "ASF": re.escape(_ASF_GUID),
    "WavPack": rb"wvpk.{12}\0{4}.{5}[\x08-\x0f\x18-\x1f\x28-\x2f\x38-\x3f]",  # a first block, at sample 0
    "TTA": rb"TTA1[\1-\3]\0",
}


def _refuse_second(kind: str, data: FileBytes) -> None:
    """Refuse a file that may hold one sound alone, and holds another."""
    headers = data.places(re.compile(_SECOND[kind], re.DOTALL))
    next(headers, None)
    second = next(headers, None)
    if second is not None:
        raise _joined(second)


def _ogg_parts(data: FileBytes) -> Parts:
    """The links of a chained Ogg file. A page is a header of 27 bytes, the table of segment sizes, the segments.

    Pages that begin a stream stand together at the start of a link. Behind the last page there may be tags.

    Raises:
        BadAudio: the last page ends behind the end of the file, or no page of a stream is marked as its last; bytes
            that are no page lie between two, or a page is damaged: decoders leave it out.
    """
    at, starts, beginning, unended = 0, [0], True, set[bytes]()
    while data[at : at + 4] == b"OggS":
        if at + 27 > len(data) or at + 27 + data[at + 26] > len(data):
            raise _truncated(len(data), at + 27 + (data[at + 26] if at + 27 <= len(data) else 1))
        begins, ends, stream = data[at + 5] & 2, data[at + 5] & 4, data[at + 14 : at + 18]
        if begins and not beginning:
            starts.append(at)
            _refuse_unended(unended, at)
        unended = (unended | {stream} if begins else unended) - ({stream} if ends else set())
        beginning = bool(begins)
        table = at + 27
        end = table + data[at + 26] + sum(data[table : table + data[at + 26]])
        if end <= len(data) and not _is_page_whole(data[at:end]):
            raise BadAudio(f"damaged: the page of Ogg at byte {at} has another checksum than it says")
        at = end
    if at > len(data):
        raise _truncated(len(data), at)
    if any(True for _ in data.places(re.compile(rb"OggS\0"), at)):
        raise BadAudio(f"damaged: no page of Ogg at byte {at}, but others behind it")
    _refuse_unended(unended, at)
    return _ranges(starts, len(data))


def _refuse_unended(streams: set[bytes], at: int) -> None:
    """Refuse streams without a last page, as encoders mark it (RFC 3533)."""
    if streams:
        raise BadAudio(
            f"truncated: no page of Ogg up to byte {at} is marked as the last; get it again, or, if it is whole, "
            "write it anew (ffmpeg -i IN -c copy OUT)"
        )


_TURNED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def _is_page_whole(page: bytes) -> bool:
    """Compare a page with its checksum (RFC 3533): a CRC-32 of zlib's polynomial, from the highest bit on, and from 0.

    zlib goes from the lowest bit on, so bytes go in, and the sum comes out, turned around.
    """
    turned = (page[:22] + bytes(4) + page[26:]).translate(_TURNED)
    crc = zlib.crc32(turned, 0xFFFFFFFF) ^ 0xFFFFFFFF
    return crc.to_bytes(4, "big").translate(_TURNED) == page[22:26]


def _mpeg_parts(data: FileBytes) -> Parts:
    """The sounds of MP3 files that were joined: each begins with a tag or with a frame that holds a Xing header.

    Decoders take the first header for that of the whole.

    Raises:
        BadAudio: a sound ends before its Xing header says, or within a frame.
    """
    ends = _tags(data)
    headers = dict(_xing_headers(data))
    own = {at for at in headers for end in ends.values() if 0 <= at - end <= _TAIL}
    begins = sorted({*(ends.keys() - set(ends.values())), *(headers.keys() - own)})
    starts = [0, *(begins if _is_frame(data, 0) and 0 not in begins else begins[1:])]
    parts = _ranges(starts, len(data))
    for at, length in headers.items():
        end = next(end for start, end in parts if start <= at < end)
        if length > end - at + _ID3V1:
            raise _truncated(end - at, length)
    for start, end in parts:
        while start in ends:
            start = ends[start]
        _check_last_frame(data, start, end, can_leave_out=len(parts) == 1 and not headers)
    return parts


def _check_last_frame(data: FileBytes, start: int, end: int, can_leave_out: bool = True) -> None:
    at = cut_frame(data, start, end)
    if at is not None:
        out = f", or leave that frame out (head -c {at} IN > OUT)" if can_leave_out else ""
        raise BadAudio(f"truncated: its last frame, at byte {at} of {end}, is not whole; get it again{out}")


def _tags(data: FileBytes) -> dict[int, int]:
    """Start -> end of the ID3v2 tags of an MP3 file: at its start, before a frame, or before another tag."""
    found = {at: at + _id3_size(data[at : at + 10]) for at in data.places(re.compile(rb"ID3[\x02-\x04]"))}
    return {at: end for at, end in found.items() if at == 0 or end in found or _is_frame(data, end)}


def _xing_headers(data: FileBytes) -> Iterator[tuple[int, int]]:
    """(start of the frame, bytes it declares from there on or 0) of each Xing or Info header of an MP3 file."""
    for name in data.places(re.compile(rb"Xing|Info")):
        for side in (32, 17, 9):  # side information of MPEG-1 stereo, mono or MPEG-2 stereo, MPEG-2 mono
            at = name - 4 - side
            if at >= 0 and _is_frame(data, at) and _side_bytes(data[at : at + 4]) == side:
                flags = int.from_bytes(data[name + 4 : name + 8], "big")
                length = name + (12 if flags & 1 else 8)
                yield at, int.from_bytes(data[length : length + 4], "big") if flags & 2 else 0


def _is_frame(data: FileBytes, at: int) -> bool:
    """Whether the header of an MPEG frame of layer 3 stands here."""
    head = data[at : at + 4]
    return (
        len(head) == 4
        and head[0] == 0xFF
        and head[1] & 0xE6 == 0xE2
        and head[1] & 0x18 != 0x08
        and head[2] >> 4 not in (0, 15)
        and head[2] & 0x0C != 0x0C
    )


def _side_bytes(head: bytes) -> int:
    mpeg1, mono = head[1] & 0x18 == 0x18, head[3] >> 6 == 3
    return (17 if mono else 32) if mpeg1 else (9 if mono else 17)


def _ranges(starts: list[int], end: int) -> Parts:
    return tuple(zip(starts, [*starts[1:], end], strict=True))


_PARTS: dict[str, Callable[[FileBytes], Parts]] = {"OGG": _ogg_parts, "MPEG": _mpeg_parts}
