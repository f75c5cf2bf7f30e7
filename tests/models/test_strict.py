"""A model's folder is loaded whole or refused in one line: damaged folders of every kind, through the loaders."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoTokenizer

from synthio.classification.pool import load_pool
from synthio.cli import UserError
from synthio.filtering.agreement import load as load_classifier
from synthio.models.adapters import FILES, make_trainable, record_of, write_adapter
from synthio.models.ast_model import load_extractor, load_pretrained_ast
from synthio.models.load import load_scorer, load_text_to_audio
from synthio.models.model_ids import auto_source
from synthio.models.strict import load_network, refusing
from tests.classification.toy_clips import save_tiny_ast
from tests.tiny_models import save_clap, save_text_to_audio

LOADERS = {
    "clap": lambda folder: load_scorer(str(folder)),
    "ast": lambda folder: load_pretrained_ast(str(folder)),
    "t2a": lambda folder: load_text_to_audio(str(folder)),
    "classifier": lambda folder: load_classifier(folder, "cpu"),
}
# the part that is damaged; its weights
PARTS = {
    "clap": ("", "model.safetensors"),
    "ast": ("", "model.safetensors"),
    "t2a": ("transformer", "diffusion_pytorch_model.safetensors"),
    "vae": ("vae", "diffusion_pytorch_model.safetensors"),
    "text": ("text_encoder", "model.safetensors"),
    "projection": ("projection_model", "diffusion_pytorch_model.safetensors"),
    "classifier": ("", "model.safetensors"),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    save_clap(folder / "clap")
    save_tiny_ast(folder / "ast")
    save_tiny_ast(folder / "classifier", head=True)
    save_text_to_audio(folder / "t2a")
    return folder


@pytest.fixture
def model_of(models, tmp_path):
    """model_of("vae") -> (folder of a whole model, that of its part, file of the part's weights, what loads it)."""

    def make(part):
        kind = part if part in LOADERS else "t2a"
        folder = shutil.copytree(models / kind, tmp_path / part)
        inner, name = PARTS[part]
        loader = LOADERS[kind]
        return folder, folder / inner, folder / inner / name, lambda: loader(folder)

    return make


def rewrite(path, change) -> None:
    state = load_file(path)
    save_file({name: tensor.clone() for name, tensor in change(state).items()}, path, metadata={"format": "pt"})


def widest(state) -> str:
    return max((name for name in state if "classifier" not in name), key=lambda name: state[name].numel())


CHANGES = {
    "lacks one": (
        lambda state: {k: v for k, v in state.items() if k != widest(state)},
        r"lacks \d weights of the network: ",
    ),
    "all renamed": (lambda state: {f"xx.{name}": tensor for name, tensor in state.items()}, "lacks "),
    "one more": (lambda state: state | {"extra.weight": torch.ones(2)}, r"has no place for: extra\.weight"),
    "another shape": (lambda state: state | {widest(state): torch.ones(3, 2)}, r"of another shape: .* in place of \["),
    "not a number": (lambda state: state | {widest(state): state[widest(state)] * torch.nan}, "hold NaN or infinity"),
    "infinite": (lambda state: state | {widest(state): state[widest(state)] / 0}, "hold NaN or infinity"),
}


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("change", CHANGES)
def test_weights_that_are_not_those_of_the_network_are_refused(model_of, part, change):
    _, _, weights, load = model_of(part)
    how, message = CHANGES[change]
    rewrite(weights, how)
    with pytest.raises(UserError, match=message) as caught:
        load()
    assert str(weights.parent) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("part", PARTS)
def test_a_damaged_file_is_refused_in_one_line(model_of, part):
    folder, inner, weights, load = model_of(part)
    whole = weights.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:5], b"", b"\xff" * 99):
        weights.write_bytes(damaged)
        with pytest.raises(UserError) as caught:
            load()
        assert str(folder) in str(caught.value) and "\n" not in str(caught.value)
    weights.write_bytes(whole)
    config = inner / "config.json"
    for text in ("{", "", "[]", '{"model_type": 7}', "\x00"):
        config.write_text(text)
        with pytest.raises(UserError) as caught:
            load()
        assert str(folder) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("part", PARTS)
def test_pickled_weights_alone_are_refused_and_never_run(model_of, part, tmp_path):
    _, inner, weights, load = model_of(part)

    class Harm:
        def __reduce__(self):
            return (open, (str(tmp_path / "harm"), "w"))

    torch.save({"a": Harm()}, inner / "pytorch_model.bin")
    weights.unlink()
    with pytest.raises(UserError, match=r"pickled alone \(pytorch_model\.bin\)"):
        load()
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    "name", ["tokenizer/tokenizer.json", "tokenizer/tokenizer_config.json", "scheduler/scheduler_config.json"]
)
def test_a_damaged_setting_of_a_pipeline_is_refused(model_of, name):
    folder, _, _, load = model_of("t2a")
    for text in ("{", "", "[]"):
        (folder / name).write_text(text)
        with pytest.raises(UserError) as caught:
            load()
        assert str(folder) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["tokenizer.json", "preprocessor_config.json"])
def test_a_damaged_setting_of_clap_is_refused(model_of, name):
    folder, _, _, load = model_of("clap")
    (folder / name).write_text("{")
    with pytest.raises(UserError, match="CLAP model"):
        load()


def test_a_damaged_normalisation_is_refused_and_a_missing_one_is_that_of_audioset(model_of):
    folder, _, _, _ = model_of("ast")
    settings = folder / "preprocessor_config.json"
    for text in ("{", '{"mean": "x"}', '{"std": NaN}'):
        settings.write_text(text)
        with pytest.raises(UserError, match=r"preprocessor_config\.json"):
            load_extractor(str(folder))
    settings.unlink()
    assert load_extractor(str(folder)).mean == pytest.approx(-4.2677393)


@pytest.mark.parametrize("kind", FILES)
def test_an_adapter_that_is_not_whole_is_refused(models, tmp_path, kind):
    folder = tmp_path / "adapter"
    write_adapter(make_trainable(load_text_to_audio(str(models / "t2a")), kind), folder)
    weights = folder / FILES[kind][-1]
    whole = weights.read_bytes()
    some = {
        "every second": lambda state: {name: tensor for i, (name, tensor) in enumerate(state.items()) if i % 2},
        "renamed": lambda state: {name.replace("to_q", "to_p").replace("tokens", "t"): v for name, v in state.items()},
        "one more": lambda state: state | {"extra": torch.ones(2)},
        "not a number": lambda state: {name: tensor * torch.nan for name, tensor in state.items()},
    }
    for how in some.values():
        weights.write_bytes(whole)
        rewrite(weights, how)
        with pytest.raises(UserError, match=str(folder)):
            load_text_to_audio(str(models / "t2a"), str(folder))
    for damaged in (whole[:-4], b""):
        weights.write_bytes(damaged)
        with pytest.raises(UserError, match="not a whole safetensors file"):
            load_text_to_audio(str(models / "t2a"), str(folder))
    weights.write_bytes(whole)
    for text in ("{", "[]", '{"kind": []}'):
        (folder / FILES[kind][0]).write_text(text)
        with pytest.raises(UserError, match=str(folder)):
            load_text_to_audio(str(models / "t2a"), str(folder))


def test_an_adapter_that_was_changed_since_its_record_is_refused(models, tmp_path):
    """A changed alpha or a flipped bit of a weight leaves every name and shape as it was."""
    folder = tmp_path / "adapter"
    write_adapter(make_trainable(load_text_to_audio(str(models / "t2a")), "lora"), folder)
    from synthio.files import fingerprint

    record_of(folder).write_text(json.dumps({"sha256": fingerprint(folder)}))
    load_text_to_audio(str(models / "t2a"), str(folder))
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | {"lora_alpha": 2 * config["lora_alpha"]}))
    with pytest.raises(UserError, match=r"is not what adapter\.json beside it says"):
        load_text_to_audio(str(models / "t2a"), str(folder))
    record_of(folder).unlink()
    load_text_to_audio(str(models / "t2a"), str(folder))


def test_a_damaged_head_is_refused(tmp_path):
    from synthio.classification.pool import KIND

    (tmp_path / "config.json").write_text(json.dumps({"kind": KIND, "experts": [{"form": "linear", "weight": 1}]}))
    for data in (b"", b"\x08\x00\x00\x00\x00\x00\x00\x00{}      "):
        (tmp_path / "model.safetensors").write_bytes(data)
        with pytest.raises(UserError, match=r"classifier .* could not be loaded"):
            load_pool(tmp_path)


def test_a_full_disk_and_used_up_memory_are_no_damage():
    for error in (
        OSError(28, "No space left on device", "x"),
        MemoryError(),
        RuntimeError("CUDA out of memory"),
    ):
        with pytest.raises(type(error)), refusing("model", "x"):
            raise error
    with pytest.raises(UserError, match=r"model 'x' could not be loaded \(KeyError: 'a'\)"), refusing("model", "x"):
        raise KeyError("a")


def test_a_model_of_code_of_its_own_is_refused_in_one_line_and_never_run(tmp_path):
    """Nobody is asked either, on a terminal or not; a class of the library's own is loaded in its place."""
    folder = tmp_path / "glap"
    folder.mkdir()
    own = {"model_type": "glap", "auto_map": {"AutoConfig": "own.Config", "AutoModel": "own.Model"}}
    (folder / "config.json").write_text(json.dumps(own))
    (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    save_file({"x": torch.zeros(1)}, folder / "model.safetensors")
    words = {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": ["own.Own", None]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(words))
    message = r"model '.*glap': it needs code of its own \(auto_map\), which is never run; name a model of"
    with pytest.raises(UserError, match=message):
        load_network(AutoModel, folder, "model")
    with pytest.raises(UserError, match=message), refusing("model", folder):
        AutoTokenizer.from_pretrained(**auto_source(str(folder)))
    assert not (tmp_path / "ran").exists()
