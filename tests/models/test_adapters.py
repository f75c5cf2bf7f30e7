"""What is trained on a transformer: gated prefixes against their formula, and every kind's folder and reference."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from synthio.cli import UserError
from synthio.files import temporary_name
from synthio.models.adapters import FILES, adapter_kind, check_output, make_trainable, write_adapter
from synthio.models.load import load_text_to_audio
from tests.models.toy import random, tiny_transformer
from tests.tiny_models import save_text_to_audio

KINDS = ["lora", "prefix", "all"]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Folders of tiny models: both objectives, and a flow model of twice the width."""
    folder = tmp_path_factory.mktemp("models")
    save_text_to_audio(folder / "rectified_flow")
    save_text_to_audio(folder / "v", "v")
    shutil.copytree(folder / "rectified_flow", folder / "wide")
    tiny_transformer(heads=4, kv_heads=4).save_pretrained(folder / "wide/transformer")
    return folder


def model_output(model):
    condition = model.condition(["dog bark", "rain"], [1.0, 0.5])
    return model.predict(random(2, 16, 40), torch.tensor([0.2, 0.9]), condition)


def disturb(trainable):
    """Move every trained weight away from where it starts."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in trainable.parameters.values():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)


# ---- every kind


@pytest.mark.parametrize("objective", ["rectified_flow", "v"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_reference_stays_the_model_without_its_adapter(models, kind, objective):
    model = load_text_to_audio(str(models / objective))
    base = model_output(model)
    trainable = make_trainable(model, kind)
    assert torch.equal(model_output(model), base)
    disturb(trainable)
    moved = model_output(model)
    assert (moved - base).abs().max() > 1e-3
    with trainable.reference():
        assert torch.equal(model_output(model), base)
    assert torch.equal(model_output(model), moved)


@pytest.mark.parametrize("kind", KINDS)
def test_a_written_adapter_comes_back_to_the_last_bit(models, tmp_path, kind):
    model = load_text_to_audio(str(models / "v"))
    trainable = make_trainable(model, kind)
    disturb(trainable)
    write_adapter(trainable, tmp_path / "adapter")
    assert {path.name for path in (tmp_path / "adapter").iterdir()} == set(FILES[kind])
    assert adapter_kind(tmp_path / "adapter") == kind
    again = load_text_to_audio(str(models / "v"), str(tmp_path / "adapter"))
    assert torch.equal(model_output(again), model_output(model))
    texts = [path.read_text() for path in (tmp_path / "adapter").glob("*.json")]
    assert not any(str(models) in text for text in texts), "the folder says where the model lay"


@pytest.mark.parametrize("kind", KINDS)
def test_going_on_from_an_adapter_makes_it_the_reference(models, tmp_path, kind):
    model = load_text_to_audio(str(models / "v"))
    disturb(first := make_trainable(model, kind))
    write_adapter(first, tmp_path / "first")
    model = load_text_to_audio(str(models / "v"), str(tmp_path / "first"))
    start = model_output(model)
    second = make_trainable(model, kind, adapter=str(tmp_path / "first"))
    assert second.parameters.keys() == first.parameters.keys()
    disturb(second)
    assert not torch.equal(model_output(model), start)
    with second.reference():
        assert torch.equal(model_output(model), start)


def test_what_is_trained(models):
    trained = {}
    for kind in KINDS:
        model = load_text_to_audio(str(models / "v"))
        trained[kind] = make_trainable(model, kind, lora_rank=3, prefix_tokens=5)
        asked = {name for name, p in model.module.named_parameters() if p.requires_grad}
        assert asked == set(trained[kind].parameters)
    shapes = {kind: [tuple(p.shape) for p in trained[kind].parameters.values()] for kind in KINDS}
    assert len(shapes["lora"]) == 2 * 2 * 4 * 2  # blocks, layers, projections, A and B
    assert all(3 in shape for shape in shapes["lora"])
    assert shapes["prefix"] == [(5, 32), (2,)] * 4
    assert "time_proj.weight" not in trained["all"].parameters  # constants
    assert len(shapes["all"]) == len(list(trained["all"].module.parameters())) - 1


@pytest.mark.parametrize("kind", ["lora", "prefix"])
def test_the_seed_decides_a_new_adapter_and_the_global_generator_stays(models, kind):
    def first(seed):
        model = load_text_to_audio(str(models / "v"))
        before = torch.get_rng_state()
        weight = next(iter(make_trainable(model, kind, seed=seed).parameters.values()))
        assert torch.equal(torch.get_rng_state(), before)
        return weight

    assert torch.equal(first(0), first(0))
    assert not torch.equal(first(0), first(1))


@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_of_another_model_or_without_weights_is_refused(models, tmp_path, kind):
    folder = tmp_path / "adapter"
    write_adapter(make_trainable(load_text_to_audio(str(models / "v")), kind), folder)
    with pytest.raises(UserError, match="does not fit the model"):
        load_text_to_audio(str(models / "wide"), str(folder))
    (folder / FILES[kind][-1]).unlink()
    with pytest.raises(UserError, match=rf"'{kind}' adapter lacks .*safetensors"):
        load_text_to_audio(str(models / "v"), str(folder))


def test_adapter_folders_that_are_none(models, tmp_path):
    with pytest.raises(UserError, match=r"no adapter_config.json and no synthio_adapter.json"):
        adapter_kind(tmp_path)
    (tmp_path / "synthio_adapter.json").write_text(json.dumps({"kind": "soft prompt"}))
    with pytest.raises(UserError, match="kind 'soft prompt' is none of lora, prefix, all"):
        adapter_kind(tmp_path)
    write_adapter(make_trainable(load_text_to_audio(str(models / "v")), "lora"), tmp_path / "lora")
    with pytest.raises(UserError, match="is a 'lora' adapter, but 'prefix' is to be trained"):
        make_trainable(load_text_to_audio(str(models / "v")), "prefix", adapter=str(tmp_path / "lora"))


def test_another_kind_takes_the_place_of_an_adapter_and_of_nothing_else(models, tmp_path):
    folder = tmp_path / "adapter"
    write_adapter(make_trainable(load_text_to_audio(str(models / "v")), "all"), folder)
    (folder / "notes.txt").write_text("mine")
    check_output(folder)
    write_adapter(make_trainable(load_text_to_audio(str(models / "v")), "prefix"), folder)
    assert {path.name for path in folder.iterdir()} == {*FILES["prefix"], "notes.txt"}
    check_output(tmp_path / "new")
    with pytest.raises(UserError, match="holds files, but no adapter"):
        check_output(models / "v/transformer")


def test_what_a_kill_left_of_a_commit_is_no_reason_to_refuse(tmp_path):
    """The first name is of 0.1.0; a kill between two commits leaves one like it, and nothing else."""
    folder = tmp_path / "adapter"
    folder.mkdir()
    for name in (".adapter_config.1.tmp.json", temporary_name(folder / "adapter_config.json").name):
        (folder / name).touch()
    check_output(folder)
    (folder / "thesis.txt").touch()
    with pytest.raises(UserError, match="holds files, but no adapter"):
        check_output(folder)
