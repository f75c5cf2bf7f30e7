"""A disk without room is named by every writer, whatever its library says of it."""

from __future__ import annotations

import errno
import os

import numpy as np
import pandas as pd
import pytest
import torch

from synthio.audio import write_wav
from synthio.cache import AnswerCache, write_tensors
from synthio.errors import GOES_ON, TROUBLES, trouble
from synthio.files import atomic_folder, atomic_path, write_json
from synthio.manifest import write_table
from tests.faults_tools import small_disk

SIZE = 512 * 1024


def save_checkpoint(path):
    with atomic_path(path) as temporary:
        torch.save({"a": torch.zeros(1 << 20)}, temporary)


def save_picture(path):
    from PIL import Image

    with atomic_path(path) as temporary:
        noise = np.random.default_rng(0).integers(0, 255, (1000, 1000, 3), np.uint8)
        Image.fromarray(noise).save(temporary, "PNG")


def save_folder(path):
    from safetensors.torch import save_file

    with atomic_folder(path) as temporary:
        save_file({"a": torch.zeros(1 << 20)}, temporary / "model.safetensors")


def answer(path):
    cache = AnswerCache(path)
    for i in range(100):
        cache.put(i, "x" * 20_000)


WRITERS = {
    "a.wav": lambda path: write_wav(path, np.zeros((1, 1 << 20), np.float32), 16000),  # libsndfile
    "a.safetensors": lambda path: write_tensors(path, {"a": np.zeros(1 << 20)}),
    "a.pt": save_checkpoint,
    "a.png": save_picture,
    "a.csv": lambda path: write_table(pd.DataFrame({"a": ["x" * 1000] * 2000}), path),
    "a.json": lambda path: write_json(path, ["x" * 1000] * 2000),
    "a.jsonl": answer,
    "a": save_folder,
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk(tmp_path, name):
    with small_disk(tmp_path / "disk", SIZE) as disk:
        with pytest.raises(OSError) as caught:
            WRITERS[name](disk / name)
        assert caught.value.errno in (errno.ENOSPC, errno.EFBIG)
        words = trouble(caught.value)
        assert "the same command then goes on" in words and "\n" not in words
        assert str(disk / name) in words or name == "a.jsonl"
        assert [path.name for path in disk.iterdir()] in ([], ["a.jsonl"])


def test_a_fault_of_ours_is_none_of_the_machine():
    for error in (ValueError("x"), KeyError("a"), RuntimeError("shapes differ"), OSError("words of a library")):
        assert trouble(error) == ""
    assert trouble(MemoryError()).startswith("the memory is used up")
    assert trouble(OSError(errno.ENOMEM, "Cannot allocate memory")).startswith("the memory is used up")
    assert trouble(PermissionError(errno.EACCES, "Permission denied", "/x")).startswith("/x: permission denied; give ")
    assert trouble(OSError(errno.EXDEV, "Invalid cross-device link", "/x")) == (
        "/x: invalid cross-device link; see to it, and the same command then goes on"
    )


@pytest.mark.parametrize("number", TROUBLES)
def test_what_the_system_says_is_told_with_the_file_and_the_mend(number):
    words, mend = TROUBLES[number]
    expected = f"/a/b: {words}; {mend}, and {GOES_ON}"
    assert trouble(OSError(number, os.strerror(number), "/a/b")) == expected


def test_libraries_in_rust_pass_on_the_number_alone():
    error = RuntimeError(f"Error: No space left on device (os error {errno.ENOSPC})")
    assert trouble(error) == f"the disk is full; free some space, and {GOES_ON}"
