"""What is slow or paid for, kept by the content of the question, so that nothing is asked twice.

Answers are a JSON Lines file: every one is on disk before the next question is asked. Tensors are safetensors files.
Both carry checksums: what is damaged is told in one line and made again.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from synthio.files import Json, atomic_path, sha256_value

if TYPE_CHECKING:
    import numpy as np

CHECKSUM = "checksum"


def tell_damage(path: Path, what: str) -> None:
    """One line on what is lost and made again."""
    print(f"{path}: {what}", file=sys.stderr, flush=True)


class AnswerCache:
    """A file of answers.

    Args:
        path: the file; it is made with the first answer.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._answers: dict[str, Json] = {}
        if not self.path.is_file():
            return
        # not splitlines(): that also breaks at U+2028 and the like, which an answer may hold
        lines = self.path.read_bytes().decode("utf-8", "replace").split("\n")
        damaged = [line for line in lines if line and not self._take(line)]
        if damaged:
            tell_damage(self.path, f"{len(damaged)} of its lines are damaged; what they answer is asked again")

    def _take(self, line: str) -> bool:
        """Keep the answer of a line, if it is whole. Earlier releases wrote lines without a checksum."""
        try:
            record = json.loads(line)
            key, answer = record["key"], record["answer"]
            is_whole = record.get(CHECKSUM) == _line_checksum(key, answer) or list(record) == ["key", "answer"]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return False
        is_whole = is_whole and isinstance(key, str)
        if is_whole:
            self._answers[key] = answer
        return is_whole

    def get(self, question: Json) -> Json:
        """The answer to a JSON-able question, or None."""
        return self._answers.get(sha256_value(question))

    def put(self, question: Json, answer: Json) -> None:
        """Keep an answer; it is on disk when this returns."""
        key = sha256_value(question)
        self._answers[key] = answer
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # The checksum stands first: what a line lost at its end never makes one of an earlier release of it.
        record = {CHECKSUM: _line_checksum(key, answer), "key": key, "answer": answer}
        line = json.dumps(record, ensure_ascii=False)
        # A cut last line has no newline: the one in front keeps the two apart.
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(f"\n{line}\n" if self._is_cut() else f"{line}\n")
            stream.flush()
            os.fsync(stream.fileno())

    def _is_cut(self) -> bool:
        if not self.path.stat().st_size:
            return False
        with self.path.open("rb") as stream:
            stream.seek(-1, os.SEEK_END)
            return stream.read(1) != b"\n"


def _line_checksum(key: str, answer: Json) -> str:
    return sha256_value([key, answer])[:16]


def write_tensors(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Write arrays by name as a safetensors file with a checksum, atomically."""
    import numpy as np
    from safetensors.numpy import save_file

    whole = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    with atomic_path(path) as temporary:
        save_file(whole, temporary, metadata={CHECKSUM: _tensors_checksum(whole)})


def read_tensors(path: Path) -> dict[str, np.ndarray] | None:
    """What `write_tensors` wrote; None where the file is missing or damaged, which is told in one line."""
    if not path.is_file():
        return None
    try:
        return _read_tensors(path)
    except Exception as error:  # a changed header makes the library fail in many ways
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        tell_damage(path, f"damaged, or of an earlier release ({reason}); what it kept is made again")
        return None


def _read_tensors(path: Path) -> dict[str, np.ndarray]:
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
        noted = (file.metadata() or {}).get(CHECKSUM)
    if noted != _tensors_checksum(tensors):
        raise ValueError("wrong checksum" if noted else "no checksum")
    return tensors


def _tensors_checksum(tensors: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {tensors[name].shape}\n".encode())
        digest.update(tensors[name].tobytes())
    return digest.hexdigest()
