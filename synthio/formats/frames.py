"""Sounds of frames that follow each other, and nothing else: MP3, MP2, AAC (ADTS), AC-3, E-AC-3, AMR.

They declare no length, and decoders leave out a frame that was cut, without a word. So its last frame tells of a sound
whether it was cut short. One that was cut between two frames is a shorter sound, and nothing tells so.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from synthio.formats.file_bytes import BLOCK, FileBytes

HEAD = 8  # bytes that tell how long a frame is
_SYNC = re.compile(rb"\xff[\xe0-\xff]|\x0bw")
_RUN = 4  # so many frames of one kind that follow each other are no chance


def cut_frame(data: FileBytes, start: int, end: int) -> int | None:
    """Where the last frame between two places begins, if it is not whole.

    Also None where no frame ends at the end: tags may follow the last one, and look like nothing.
    """
    if data[start : start + 5] == b"#!AMR":
        sizes = _AMR_WB if data[start + 5] == ord("-") else _AMR
        begin, length_of = start + data[start : start + 9].index(b"\n") + 1, lambda head: sizes[head[0] >> 3 & 15]
    else:
        begin, length_of = start, frame_bytes
        if end - start > BLOCK:  # a recorder's night is gigabytes
            begin = first_run(data, end - BLOCK, end)
    while begin < end:
        last, behind = _follow(data, begin, end, length_of)
        if behind > end:
            return last
        if 2 <= end - behind < HEAD and data[behind : behind + 2] == data[last : last + 2]:
            return behind  # too little of it to tell its length
        begin = first_run(data, max(behind, begin + 1), end)
    return None


def _follow(data: FileBytes, at: int, end: int, length_of: Callable[[bytes], int]) -> tuple[int, int]:
    """Where the last of the frames that follow each other from a place on begins, and where it ends."""
    last = at
    while at < end and (length := length_of(data[at : min(end, at + HEAD)])):
        last, at = at, at + length
    return last, at


def first_run(data: FileBytes, start: int, end: int) -> int:
    """Where the first frame begins that others of its kind follow; the end if there is none."""
    for at in data.places(_SYNC, start):
        if at >= end:
            break
        if run_end(data, at, end):
            return at
    return end


def run_end(data: FileBytes, at: int, end: int) -> int:
    """Where the frames end that begin here; 0 if they are fewer than `_RUN`, or of several kinds."""
    kind = data[at : at + 2]
    for _ in range(_RUN):
        length = frame_bytes(data[at : min(end, at + HEAD)]) if data[at : at + 2] == kind else 0
        if not length or at + length > end:
            return 0
        at += length
    return at


def frame_bytes(head: bytes) -> int:
    """The length of a frame by its first 8 bytes; 0 where none begins, or it does not tell."""
    if len(head) < 4:
        return 0
    if head[:2] == b"\x0bw":
        return _ac3_bytes(head) if len(head) > 5 else 0
    if head[0] != 0xFF:
        return 0
    if head[1] & 0xF6 == 0xF0:
        return (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5 if len(head) > 5 and head[2] >> 2 & 15 < 13 else 0
    return _mpeg_bytes(head) if head[1] & 0xE0 == 0xE0 else 0


# ---- tables of the standards: ISO 11172-3 and 13818-3, ETSI TS 102 366, RFC 4867

_MPEG_RATES = (44100, 48000, 32000)  # Hz, of version 1
_KBPS = {  # (version 1, layer)
    (True, 1): tuple(range(32, 449, 32)),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_AC3_KBPS = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640)
_AC3_RATES = (48000, 44100, 32000)
# Bytes by the type of a frame, its own byte included; types that no file has are 0.
_AMR = (13, 14, 16, 18, 20, 21, 27, 32, 6, 0, 0, 0, 0, 0, 0, 1)
_AMR_WB = (18, 24, 33, 37, 41, 47, 51, 59, 61, 6, 0, 0, 0, 0, 1, 1)


def _mpeg_bytes(head: bytes) -> int:
    version, layer, rate, step = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3), head[2] >> 2 & 3, head[2] >> 4
    if version == 1 or layer == 4 or rate == 3 or step in (0, 15):  # a step of 0: free format
        return 0
    bits_per_s = 1000 * _KBPS[version == 3, layer][step - 1]
    hz = _MPEG_RATES[rate] // (1, 2, 4)[(3, 2, 0).index(version)]
    padding = head[2] >> 1 & 1
    if layer == 1:
        return (12 * bits_per_s // hz + padding) * 4
    return (72 if layer == 3 and version != 3 else 144) * bits_per_s // hz + padding


def _ac3_bytes(head: bytes) -> int:
    if head[5] >> 3 > 10:  # E-AC-3
        return 2 * ((head[2] & 7) << 8 | head[3]) + 2
    rate, step = head[4] >> 6, head[4] & 63
    if rate == 3 or step >= 2 * len(_AC3_KBPS):
        return 0
    words = _AC3_KBPS[step // 2] * 96000 // _AC3_RATES[rate]  # of 16 bits, in 1536 samples
    return 2 * (words + (step & 1 if rate == 1 else 0))
