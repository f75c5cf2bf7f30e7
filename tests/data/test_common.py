"""What the readers share: cuts by label and group, and clips that are missing."""

from __future__ import annotations

from collections import Counter

import numpy as np

from synthio.data.common import cut_groups
from tests.data.toy import dropped, us8k_tree, write


def test_a_cut_is_stratified_and_leaves_groups_whole():
    clips = [(label, f"{label}{i // 4}") for label in "abcde" for i in range(80)]
    chosen = cut_groups([[label] for label, _ in clips], [group for _, group in clips], 0.1, seed=3)
    taken = Counter(label for label, group in clips if group in chosen)
    assert taken == dict.fromkeys("abcde", 8)


def test_a_cut_depends_on_its_seed_alone():
    cells, groups = [["a"], ["b"]] * 50, [str(i) for i in range(100)]
    first = cut_groups(cells, groups, 0.2, seed=0)
    assert first == cut_groups(cells, groups, 0.2, seed=0) != cut_groups(cells, groups, 0.2, seed=1)
    back = cut_groups(cells[::-1], groups[::-1], 0.2, seed=0)
    assert first == back and len(first) == 20


def test_a_cut_takes_of_every_label_and_leaves_some():
    """Rare labels, large groups and several labels a clip."""
    cells = [["a"]] * 90 + [["b"]] * 6 + [["c", "a"]] * 2 + [["d"]]
    groups = [f"a{i % 9}" for i in range(90)] + ["b0"] * 3 + ["b1"] * 3 + ["c0", "c1", "d0"]
    chosen = cut_groups(cells, groups, 0.1, seed=0)
    inside = {label for cell, group in zip(cells, groups, strict=True) if group in chosen for label in cell}
    outside = {label for cell, group in zip(cells, groups, strict=True) if group not in chosen for label in cell}
    assert inside == set("abc") and outside == set("abcd")


def test_a_missing_clip_is_named_with_its_row_or_dropped(prepare, tmp_path, make_wavs):
    source = us8k_tree(tmp_path, make_wavs)
    (source / "UrbanSound8K/audio/fold2/102-1-0-2.wav").unlink()
    error = prepare("us8k", source, ok=False)
    assert "UrbanSound8K.csv row 4: no such file: " in error and "fold2/102-1-0-2.wav" in error
    assert "--missing drop" in error
    assert len(prepare("us8k", source, "--missing", "drop")["train"]) == 15
    assert dropped(tmp_path, "train") == [("102-1-0-2.wav", "missing file")]


def test_a_missing_dataset_says_where_to_get_it(prepare, tmp_path):
    for name in ("us8k", "tut2018", "vocalsound", "fsd50k", "gtzan", "medley", "nsynth", "musdb18", "dcase2017"):
        assert f"see {name} --help" in prepare(name, tmp_path, ok=False)


def test_bad_samples_are_not_cut(prepare, tmp_path, make_wav):
    sound = np.full(16000, 0.1)
    sound[9000] = np.nan
    for name in ("a", "b", "c", "d", "e", "f"):
        make_wav(f"kaldi/{name}.wav", audio=sound, subtype="FLOAT")
    write(tmp_path / "kaldi/wav.scp", *(f"{name} {name}.wav" for name in "abcdef"))
    write(tmp_path / "kaldi/segments", *(f"{name}-0 {name} 0 {0.6 if name == 'd' else 0.5}" for name in "abcdef"))
    write(tmp_path / "kaldi/utt2label", *(f"{name}-0 dog" for name in "abcdef"))
    error = prepare("kaldi", tmp_path / "kaldi", ok=False)
    assert "segments row 4: " in error and "NaN" in error
    assert sum(map(len, prepare("kaldi", tmp_path / "kaldi", "--missing", "drop", "--seed", 1).values())) == 5
