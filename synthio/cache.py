"""Answers of slow or paid models, kept by the content of the question, so that none is asked twice.

A JSON Lines file: every answer is on disk before the next question is asked. A line that was cut by a kill is
passed over.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from synthio.files import Json, sha256_value


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
        for line in self.path.read_text(encoding="utf-8", errors="replace").split("\n"):
            try:
                record = json.loads(line)
                self._answers[record["key"]] = record["answer"]
            except (ValueError, KeyError, TypeError):
                continue  # cut by a kill: it is asked again

    def get(self, question: Json) -> Json:
        """The answer to a JSON-able question, or None."""
        return self._answers.get(sha256_value(question))

    def put(self, question: Json, answer: Json) -> None:
        """Keep an answer; it is on disk when this returns."""
        key = sha256_value(question)
        self._answers[key] = answer
        self.path.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps({"key": key, "answer": answer}, ensure_ascii=False)
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
