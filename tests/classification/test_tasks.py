"""From manifests to a task."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from synthio.classification.labels import encode_labels
from synthio.classification.listening import Listener
from synthio.classification.tasks import groups_of, prepare, renumbered, sources_of, weigh
from synthio.classification.weighting import TOTALS
from synthio.cli import AUTO
from synthio.manifest import LABEL, read_manifest
from tests.classification.toy import make_task
from tests.classification.toy_clips import PITCHES, add_mislabelled, save_named_ast, save_tones
from tests.tiny_models import save_clap

LABELS = sorted(PITCHES)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """12 tones, then 24 synthetic ones whose labels are wrong; an AST that knows one label by name."""
    folder = tmp_path_factory.mktemp("tasks")
    save_named_ast(folder / "ast", ["rain", "Hund, laut", "dog"])
    save_clap(folder / "clap")
    for seed, (name, clips) in enumerate([("train", 12), ("valid", 30)]):
        save_tones(folder, name, clips, seed)
    mixed = pd.read_csv(add_mislabelled(folder, 24, 7), dtype=str, keep_default_na=False)
    mixed["source_path"] = mixed["source_path"].replace("x.wav", "train/3.wav")
    mixed.to_csv(folder / "mixed.csv", index=False)
    return folder


def prepared(world, weight):
    csvs = {"train": world / "mixed.csv", "valid": world / "valid.csv"}
    tables = {split: read_manifest(csv) for split, csv in csvs.items()}
    targets = {split: encode_labels(table[LABEL], LABELS, csvs[split], False) for split, table in tables.items()}
    listener = Listener({kind: str(world / kind) for kind in ("ast", "clap")}, world / "cache", "cpu")
    options = {"synthetic_weight": weight, "multi_label": False, "seed": 5}
    return prepare(listener, tables, csvs, targets, LABELS, **options), targets


def test_a_task_has_what_the_manifests_and_models_say(world):
    found, targets = prepared(world, 0.5)
    task = found.task
    assert found.plain.synthetic_weight == 0.5 and found.plain.choice == []
    assert found.of("fusion").task is found.of("probe").task is task, "equal weights are one task"
    assert {kind: len(x[0]) for kind, x in task.train.items()} == {"ast": 32, "clap": 16, "ast_logits": 3}
    assert {len(x) for x in task.train.values()} == {36}
    assert task.valid["ast"].shape == (30, 32)
    np.testing.assert_array_equal(task.targets, targets["train"])
    assert task.sources.tolist() == [*range(12), *[3] * 24] and task.real.tolist() == list(range(12))
    assert task.rates.sum() == pytest.approx(12) and task.rates[-1] == pytest.approx(task.rates[0] / 2)
    assert task.texts.shape == (3, 16) and task.groups is None and task.seed == 5
    assert task.members.any(axis=1).tolist() == [False, True, False] and task.names_labels


def test_clips_that_are_worth_nothing_are_no_part_of_it(world, capsys):
    """Wrong labels: auto finds out, and no head has them among its keys or its scaling."""
    found, targets = prepared(world, AUTO)
    for weighed in (found.plain, found.informed):
        assert weighed.synthetic_weight == 0 and len(weighed.choice) == 1 + len(TOTALS)
    assert capsys.readouterr().err.count("a synthetic clip comes 0 times as often") == 2
    assert found.task.train["clap"].shape == (12, 16) and len(found.task.real) == 12
    np.testing.assert_array_equal(found.task.targets, targets["train"][:12])
    np.testing.assert_allclose(found.task.rates, 1)


def test_a_head_that_knows_the_labels_has_no_use_for_clips_that_teach_them():
    """Good clips help a probe of few; beside names that are right already they are worth nothing."""
    task = make_task(clips=6, valid=60, synthetic=60, seed=1)
    synthetic = np.arange(66) >= 6
    assert weigh(task, synthetic, AUTO, is_informed=False).synthetic_weight > 0
    said = {"ast_logits": np.pad(20 * task.valid_targets, ((0, 0), (0, 2)))}
    knowing = replace(task, valid=task.valid | said)
    found = weigh(knowing, synthetic, AUTO, is_informed=True)
    assert found.synthetic_weight == 0 and len(found.task.targets) == 6 and found.choice[0]["valid_score"] == 1
    assert weigh(knowing, synthetic, AUTO, is_informed=False).synthetic_weight > 0


def test_sources_and_groups_follow_the_clips_that_stay():
    """A clip between two others goes; what was made from the last one is still from it."""
    task = make_task(clips=3, valid=2)
    task = replace(task, sources=np.array([0, -1, 2]), groups=np.array(["a", "b", "c", "v", "w"]))
    found = weigh(task, np.array([False, True, False]), 0.0, is_informed=False).task
    assert found.sources.tolist() == [0, 1] and found.groups.tolist() == ["a", "c", "v", "w"]
    assert renumbered(np.array([0, -1, 0, 3, 1]), np.array([True, False, True, True, True])).tolist() == [0, 0, 2, -1]


def test_the_clip_that_each_was_made_from():
    """By its path; a clip that is not among the training clips, as of only synthetic ones, is -1."""
    table = pd.DataFrame({"path": ["/a", "/b", "/c", "/d"], "source_path": ["", "/a", "/z", "/b"]})
    assert sources_of(table).tolist() == [0, 0, -1, 1]
    assert sources_of(table[["path"]]).tolist() == [0, 1, 2, 3]
    assert sources_of(table[1:]).tolist() == [-1, -1, 0]


def test_groups_of_several_tables():
    train, valid = pd.DataFrame({"group": ["a", "", "b"]}), pd.DataFrame({"group": ["", "a"]})
    groups = groups_of(train, valid)
    assert groups[0] == groups[4] == "a" and len(set(groups)) == 4  # a clip without one is its own
    assert groups_of(pd.DataFrame({"group": ["", ""]})) is None
    assert len(set(groups_of(train, pd.DataFrame({"path": ["x", "y"]})))) == 5
    assert groups_of(pd.DataFrame({"path": ["x"]})) is None
