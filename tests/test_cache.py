"""What is kept comes back as it was, or is made again: nothing damaged is ever taken."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest

from synthio.cache import AnswerCache, read_tensors, write_tensors
from tests.faults_tools import mutate

TENSORS = {
    "latents": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "seconds": np.array([0.5, 1.25]),
    "sha256": np.arange(32, dtype=np.uint8),
}


def test_tensors_come_back_as_they_were(tmp_path):
    assert read_tensors(tmp_path / "a.safetensors") is None
    write_tensors(tmp_path / "a.safetensors", TENSORS)
    found = read_tensors(tmp_path / "a.safetensors")
    assert list(found) == sorted(TENSORS)
    for name, tensor in found.items():
        assert tensor.dtype == TENSORS[name].dtype and np.array_equal(tensor, TENSORS[name])


def test_no_damaged_tensors_are_taken(tmp_path, capsys):
    path, rng = tmp_path / "a.safetensors", random.Random(0)
    write_tensors(path, TENSORS)
    whole = path.read_bytes()
    taken = 0
    for _ in range(600):
        path.write_bytes(whole)
        mutate(path, rng)
        found = read_tensors(path)
        told = capsys.readouterr().err
        if found is None:
            assert told.startswith(f"{path}: damaged") and told.count("\n") == 1
            continue
        taken += 1  # what changed is none of the tensors: a blank of the header, a word that nobody reads
        assert told == "" and found.keys() == TENSORS.keys()
        assert all(np.array_equal(found[name], TENSORS[name]) for name in found)
    assert taken < 30


def test_no_damaged_answer_is_taken(tmp_path, capsys):
    path, rng = tmp_path / "a.jsonl", random.Random(0)
    answers = {f"question {k}": f"a dog barks {k} times, then \u2028 rain" for k in range(4)}
    answers["dict"] = {"a": [1, None]}
    for question, answer in answers.items():
        AnswerCache(path).put(question, answer)
    whole, lost = path.read_bytes(), 0
    for _ in range(600):
        path.write_bytes(whole)
        mutate(path, rng)
        cache = AnswerCache(path)
        told = capsys.readouterr().err
        found = {question: cache.get(question) for question in answers}
        missing = [question for question, answer in found.items() if answer is None]
        assert all(found[question] == answers[question] for question in answers if question not in missing)
        lost += bool(missing)
        # a cut can fall between two lines: nothing is left that could tell
        assert not missing or told.count("\n") == 1 or whole.startswith(path.read_bytes())
    assert lost > 400


def test_answers_of_an_earlier_release_are_read(tmp_path, capsys):
    path = tmp_path / "a.jsonl"
    AnswerCache(path).put("q", "answer")
    record = json.loads(path.read_text())
    del record["checksum"]
    path.write_text(json.dumps(record) + "\n")
    assert AnswerCache(path).get("q") == "answer" and capsys.readouterr().err == ""
    path.write_text(json.dumps(record | {"checksun": "0"}) + "\n")  # the word itself is damaged
    assert AnswerCache(path).get("q") is None


@pytest.mark.parametrize("text", ["[]", '{"key": []}', '{"key": [], "answer": 1}', "7", "null"])
def test_a_line_that_is_no_answer_is_passed_over(tmp_path, capsys, text):
    path = tmp_path / "a.jsonl"
    path.write_text(text + "\n")
    cache = AnswerCache(path)
    assert capsys.readouterr().err == f"{path}: 1 of its lines are damaged; what they answer is asked again\n"
    cache.put("q", 1)
    assert AnswerCache(path).get("q") == 1


def test_answers_are_kept_and_a_cut_line_is_asked_again(tmp_path):
    path = tmp_path / "cache.jsonl"
    AnswerCache(path).put(["q", 1], "one")
    AnswerCache(path).put(["q", 2], {"two": 2})
    assert [AnswerCache(path).get(["q", k]) for k in (1, 2, 3)] == ["one", {"two": 2}, None]
    path.write_text(path.read_text()[:-9])  # a kill in the middle of a write
    cut = AnswerCache(path)
    assert [cut.get(["q", k]) for k in (1, 2)] == ["one", None]
    cut.put(["q", 2], "again")
    assert [AnswerCache(path).get(["q", k]) for k in (1, 2)] == ["one", "again"]
