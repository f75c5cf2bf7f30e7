"""A saved head: what it listens through is found, checked and used."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from synthio.classification.heads import fit_head
from synthio.classification.labels import encode_labels
from synthio.classification.listening import Listener
from synthio.classification.pool import save_pool
from synthio.classification.saved import saved_probabilities, sources
from synthio.classification.tasks import prepare
from synthio.cli import UserError
from synthio.files import fingerprint
from synthio.manifest import LABEL, PATH, read_manifest
from tests.classification.test_experts import shares
from tests.classification.toy_clips import PITCHES, save_named_ast, save_tones
from tests.tiny_models import save_clap

LABELS = sorted(PITCHES)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Tones, an AST that has names for their labels, and a CLAP."""
    folder = tmp_path_factory.mktemp("saved")
    save_named_ast(folder / "ast", LABELS)
    save_clap(folder / "clap")
    for seed, (name, clips) in enumerate([("train", 12), ("valid", 9), ("test", 6)]):
        save_tones(folder, name, clips, seed)
    return folder


@pytest.fixture(scope="module")
def heads(world):
    """(listener, single- and multi-label -> task) of the tones."""
    models = {kind: str(world / kind) for kind in ("ast", "clap")}
    listener = Listener(models, world / "cache", "cpu")
    csvs = {split: world / f"{split}.csv" for split in ("train", "valid")}
    tables = {split: read_manifest(csv) for split, csv in csvs.items()}
    tasks = {}
    for multi_label in (False, True):
        targets = {s: encode_labels(t[LABEL], LABELS, csvs[s], multi_label) for s, t in tables.items()}
        options = {"synthetic_weight": 1.0, "multi_label": multi_label, "seed": 0}
        tasks[multi_label] = prepare(listener, tables, csvs, targets, LABELS, **options).task
    return models, listener, tasks


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("name", ["fusion", "tip_adapter", "own_names", "gold_and_valid"])
def test_a_saved_head_says_what_it_said(world, heads, tmp_path, name, multi_label):
    models, listener, tasks = heads
    pool = fit_head(name, tasks[multi_label])
    save_pool(pool, tmp_path / "model", {"labels": LABELS, "embeddings": sources(pool, models)})
    paths = list(read_manifest(world / "test.csv")[PATH])
    chances, labels = saved_probabilities(tmp_path / "model", paths, tmp_path / "cache")
    logits = pool.logits(listener.hear(paths, "test.csv"))
    expected = 1 / (1 + np.exp(-logits)) if multi_label else shares(logits)
    np.testing.assert_allclose(chances, expected, atol=1e-5)
    assert labels == LABELS and chances.shape == (6, 3)


def test_it_names_only_the_models_that_it_hears_through(heads):
    models, _, tasks = heads
    heard = {"probe_ast": ["ast"], "own_names": ["ast"], "probe": ["ast", "clap"], "zero_shot": ["clap"]}
    for name, kinds in heard.items():
        assert [part["kind"] for part in sources(fit_head(name, tasks[False]), models)] == kinds
    (part,) = sources(fit_head("zero_shot", tasks[False]), models)
    assert part == {"kind": "clap", "model": models["clap"], "sha256": fingerprint(models["clap"])}


def test_a_model_that_moved_or_changed(world, heads, tmp_path):
    models, _, tasks = heads
    moved = {kind: str(shutil.copytree(world / kind, tmp_path / f"old {kind}")) for kind in models}
    pool = fit_head("fusion", tasks[False])
    save_pool(pool, tmp_path / "model", {"labels": LABELS, "embeddings": sources(pool, moved)})
    paths = list(read_manifest(world / "test.csv")[PATH])
    before, _ = saved_probabilities(tmp_path / "model", paths, tmp_path / "cache")
    for kind in moved:
        (tmp_path / f"old {kind}").rename(tmp_path / f"new {kind}")
    with pytest.raises(UserError, match=r"its ast model is not at .*old ast \(any more\); say where it is") as error:
        saved_probabilities(tmp_path / "model", paths, tmp_path / "cache")
    assert "\n" not in str(error.value)
    new = {kind: str(tmp_path / f"new {kind}") for kind in moved}
    again, _ = saved_probabilities(tmp_path / "model", paths, tmp_path / "cache", models=new)
    np.testing.assert_allclose(again, before, atol=1e-6)
    with pytest.raises(UserError, match="its clap model is not at"):
        saved_probabilities(tmp_path / "model", paths, tmp_path / "cache", models=new | {"clap": new["ast"]})


def test_other_folders_are_refused(world, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"labels": LABELS}))
    for folder in (world / "ast", tmp_path):
        with pytest.raises(UserError, match=r"no classifier of ast/heads\.py"):
            saved_probabilities(folder, [], tmp_path)
