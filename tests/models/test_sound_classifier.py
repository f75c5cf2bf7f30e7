"""Classifiers of transformers that are no AST: small random ones of every kind, saved by the library."""

from __future__ import annotations

import json
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForAudioClassification, WhisperForConditionalGeneration, pipeline

from synthio.audio import read_audio, write_wav
from synthio.classification.saved import load_classifier
from synthio.classification.windows import spans
from synthio.cli import UserError
from synthio.models.sound_classifier import SoundEmbedder, hear, load_extractor, load_sound_classifier, read_own_head
from tests.classification.toy_clips import PITCHES, load_script, options, save_tones
from tests.hub_server import COMMIT, Repo, hub_server
from tests.tiny_classifiers import KINDS, extractor_of, save_tiny_classifier

RATE = 16000
SECONDS = (0.3, 0.517, 1.0, 3.21, 12.0)  # of the test clips
LABELS = sorted(PITCHES)
OFTEN = ("data2vec-audio", "hubert", "sew", "wav2vec2", "wav2vec2-bert", "whisper")
EVERY = [kind if kind in OFTEN else pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Training and validation tones of .4 to .8 s, and test clips of all lengths."""
    folder = tmp_path_factory.mktemp("sounds")
    for seed, (name, clips) in enumerate([("train", 9), ("valid", 6)]):
        save_tones(folder, name, clips, seed)
    rng, rows = np.random.default_rng(5), []
    for i, second in enumerate(SECONDS):
        time_s = np.arange(round(second * RATE)) / RATE
        sound = 0.3 * np.sin(2 * np.pi * list(PITCHES.values())[i % 3] * time_s) + 0.02 * rng.normal(size=len(time_s))
        write_wav(folder / f"test/{i}.wav", sound[None], RATE)
        rows.append((f"test/{i}.wav", LABELS[i % 3]))
    pd.DataFrame(rows, columns=["path", "label"]).to_csv(folder / "test.csv", index=False)
    return folder


def train(monkeypatch, data, out, model, **changes):
    """The script ast/train.py for a few steps; what it writes."""
    few = {"num_steps": 3, "batch_size": 4, "eval_every": 3, "head_init": "probe"}
    words = options(data, out, model=model, **few | changes)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(sys, "argv", ["train.py", *words])
    assert load_script().main() == 0
    return json.loads((out / "scores.json").read_text())


def assert_pipeline_says_the_same(out, splits=("predictions", "valid_predictions")):
    """Each probability of each clip; they differ from clip to clip."""
    listen = pipeline("audio-classification", model=str(out / "model"), top_k=None)
    for name in splits:
        spread = []
        for row in pd.read_csv(out / f"{name}.csv", dtype=str, keep_default_na=False).to_dict("records"):
            found = {said["label"]: said["score"] for said in listen(read_audio(out / row["path"], RATE)[0][0])}
            spread.append([float(row[f"probability_{label}"]) for label in LABELS])
            assert found == pytest.approx(dict(zip(LABELS, spread[-1], strict=True)), abs=1e-4)
        assert np.ptp(spread, axis=0).max() > 0.02


@pytest.mark.parametrize("kind", EVERY)
def test_a_trained_model_says_in_the_pipeline_what_it_said(data, tmp_path, monkeypatch, kind):
    model = save_tiny_classifier(tmp_path / "base", kind, norm="layer" if kind in ("hubert", "wavlm") else "group")
    livelier = {"head_init": "random", "learning_rate": 1e-2, "num_steps": 6}  # and no start to be chosen
    scores = train(monkeypatch, data, tmp_path / "out", model, **livelier)
    assert scores["network"] == type(AutoModelForAudioClassification.from_pretrained(tmp_path / "out/model")).__name__
    assert scores["input"]["feature_extractor"] == type(extractor_of(kind)).__name__
    before, after = (load_sound_classifier(str(tmp_path / part), LABELS, False, 0) for part in ("base", "out/model"))
    start = before.state_dict()
    moved = [name for name, p in after.named_parameters() if "class" not in name and not torch.equal(p, start[name])]
    assert moved and not [name for name in moved if ".feature_extractor." in name], "the convolutions stay"
    assert_pipeline_says_the_same(tmp_path / "out")
    card = (tmp_path / "out/model/README.md").read_text(encoding="utf-8")
    assert f"{scores['network']}, fine-tuned. It hears a clip" in card and "Spectrogram" not in card


RECIPES = {
    "averaged": {"wise_ft_alpha": "auto"},
    "names": {"head_init": "names", "wise_ft_alpha": 0.5, "synthetic_weight": "auto", "class_weights": "true"},
    "mixup": {"mixup": 0.4, "waveform_augment": "chain"},
    "speed": {"waveform_augment": "speed", "input_length": "mean"},
    "supcon": {"supcon": "true"},
    "stages": {"supcon": "true", "supcon_epochs": 1},
    "short": {"max_length_s": 0.25, "multi_label": "true"},
}


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_recipes_of_ast_work(data, tmp_path, monkeypatch, recipe):
    """And the pipeline still says the same; a conformer has a batch norm, which counts its batches."""
    kind = "wav2vec2-conformer" if recipe == "averaged" else "hubert"
    model = save_tiny_classifier(tmp_path / "base", kind, LABELS if recipe == "names" else ())
    scores = train(monkeypatch, data, tmp_path / "out", model, **RECIPES[recipe])
    assert np.isfinite(scores["best_valid"]["loss"])
    assert_pipeline_says_the_same(tmp_path / "out", ("predictions",))


def test_it_learns_and_goes_on_to_the_same_weights(data, tmp_path, monkeypatch):
    """Of a run whose checkpoint was cut after half of its steps, dropout and all."""
    model = save_tiny_classifier(tmp_path / "base", "wav2vec2")
    changes = {"num_steps": 30, "eval_every": 15, "batch_size": 6}

    def start(out, **more):
        words = options(data, out, model=model, **changes | more)
        monkeypatch.setattr(sys, "argv", ["train.py", *words])
        return load_script().main()

    assert start(tmp_path / "whole") == 0
    with monkeypatch.context() as broken, pytest.raises(KeyboardInterrupt):
        step = sys.modules["synthio.classification.training"].train_step

        def stop(*args, **more):
            if args[3] == 20:
                raise KeyboardInterrupt
            return step(*args, **more)

        broken.setattr("synthio.classification.training.train_step", stop)
        start(tmp_path / "cut")
    assert start(tmp_path / "cut") == 0
    whole, cut = (load_file(tmp_path / name / "model/model.safetensors") for name in ("whole", "cut"))
    assert all(torch.equal(whole[name], cut[name]) for name in whole)
    losses = pd.read_csv(tmp_path / "whole/history.csv")["train_loss"].tolist()
    assert losses[-1] < losses[0]


def test_it_is_trained_as_it_is_where_compiling_is_asked_for(data, tmp_path, monkeypatch, capfd):
    model = save_tiny_classifier(tmp_path / "base", "hubert")
    for name, compile_it in (("a", "false"), ("b", "true")):
        train(monkeypatch, data, tmp_path / name, model, compile=compile_it)
    assert f"{model}: is not compiled, for its clips are of many lengths" in capfd.readouterr().err
    weights = [(tmp_path / name / "model/model.safetensors").read_bytes() for name in ("a", "b")]
    assert weights[0] == weights[1]


def test_masking_is_asts_alone(data, tmp_path, monkeypatch):
    model = save_tiny_classifier(tmp_path / "base", "hubert")
    with pytest.raises(UserError, match=r"--spec_augment masks AST's spectrogram, and .*base is no AST; leave it out"):
        train(monkeypatch, data, tmp_path / "out", model, spec_augment="true")


@pytest.mark.parametrize("kind", ["wav2vec2", "whisper"])
def test_the_body_is_found_in_other_networks(tmp_path, kind):
    """That of pretraining, with a quantizer, and Whisper with its decoder; names of weights as older versions wrote."""
    from transformers import AutoModelForPreTraining

    base = save_tiny_classifier(tmp_path / "base", kind)
    config = AutoModel.from_pretrained(base).config
    whole = (WhisperForConditionalGeneration if kind == "whisper" else AutoModelForPreTraining.from_config)(config)
    whole.save_pretrained(tmp_path / "whole")
    extractor_of(kind).save_pretrained(tmp_path / "whole")
    path = tmp_path / "whole/model.safetensors"
    if kind == "wav2vec2":  # the weight norm of torch 1
        old = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
        state = load_file(path)
        for new, name in old.items():
            state = {key.replace(new, name): tensor for key, tensor in state.items()}
        save_file(state, path, metadata={"format": "pt"})
    model = load_sound_classifier(str(tmp_path / "whole"), ["x", "y"], False, seed=1)
    body = model.encoder if kind == "whisper" else model.wav2vec2
    wanted = whole.model.encoder if kind == "whisper" else whole.wav2vec2
    found = body.state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in wanted.state_dict().items())


def test_what_is_missing_is_told(tmp_path):
    save_tiny_classifier(tmp_path / "m", "hubert")
    (tmp_path / "m/preprocessor_config.json").unlink()
    with pytest.raises(UserError, match=r"m': no preprocessor_config.json, which says what it hears; save its feature"):
        load_extractor(str(tmp_path / "m"))
    state = load_file(tmp_path / "m/model.safetensors")
    gone = "encoder.layers.1.attention.k_proj.weight"
    save_file({name: tensor for name, tensor in state.items() if name != gone}, tmp_path / "m/model.safetensors")
    with pytest.raises(
        UserError, match=r"lacks 1 weights of the network: hubert\.encoder\.layers\.1\.attention\.k_pro"
    ):
        load_sound_classifier(str(tmp_path / "m"), ["x", "y"], False, 0)


def test_code_of_its_own_is_never_run(tmp_path):
    """A folder of a known kind is loaded by the library's class; its code would leave a file."""
    save_tiny_classifier(tmp_path / "m", "hubert", LABELS)
    config = json.loads((tmp_path / "m/config.json").read_text())
    config["auto_map"] = {"AutoConfig": "own.Own", "AutoModelForAudioClassification": "own.Own"}
    (tmp_path / "m/config.json").write_text(json.dumps(config))
    (tmp_path / "m/own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Own:\n    pass\n")
    assert load_sound_classifier(str(tmp_path / "m"), ["x"], False, 0).config.model_type == "hubert"
    assert SoundEmbedder(str(tmp_path / "m")).names == LABELS
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("kind", ["hubert", "whisper", "wav2vec2-bert"])
def test_embeddings_are_the_mean_of_the_hidden_states(tmp_path, kind):
    """Of the library's AutoModel; of Whisper, whose input is filled up, over the frames that hear the clip."""
    folder = save_tiny_classifier(tmp_path / "m", kind)
    rng = np.random.default_rng(0)
    clips = [rng.normal(size=(1, round(s * RATE))).astype(np.float32) for s in (0.5, 3.0, 0.5, 12.0)]
    found = SoundEmbedder(str(folder)).embed_audio(clips)
    body, extractor = AutoModel.from_pretrained(folder).eval(), extractor_of(kind)
    body = body.get_encoder() if kind == "whisper" else body

    def mean(waveform):
        with torch.no_grad():
            hidden = body(hear(extractor, waveform)[None]).last_hidden_state[0]
        frames = -(-len(waveform) * len(hidden) // (30 * RATE)) if kind == "whisper" else len(hidden)
        return hidden[:frames].mean(dim=0).numpy()

    for clip, vector in zip(clips[:3], found, strict=False):
        np.testing.assert_allclose(vector, mean(clip[0]), atol=1e-5)
    halves = [mean(clips[3][0, :160000]), mean(clips[3][0, -160000:])]
    np.testing.assert_allclose(found[3], np.mean(halves, axis=0), atol=1e-5)
    alone = SoundEmbedder(str(folder)).embed_audio(clips[2:3])
    np.testing.assert_allclose(alone[0], found[2], atol=1e-6)


def test_a_pretrained_head_is_known_by_its_names(tmp_path):
    """Both layers as one, on the mean of the hidden states: what the network itself says of a clip."""
    folder = str(save_tiny_classifier(tmp_path / "m", "hubert", LABELS))
    clip = np.random.default_rng(0).normal(size=(1, 8000)).astype(np.float32)
    ear, head = SoundEmbedder(folder), read_own_head(folder)
    vector = ear.embed_audio([clip])
    with torch.no_grad():
        said = AutoModelForAudioClassification.from_pretrained(folder).eval()(
            hear(extractor_of("hubert"), clip[0])[None]
        )
    assert head.names == ear.names == LABELS
    np.testing.assert_allclose(ear.name(vector), said.logits.numpy(), atol=1e-5)
    np.testing.assert_allclose(vector @ head.weight.T + head.bias, said.logits.numpy(), atol=1e-5)
    assert read_own_head(str(save_tiny_classifier(tmp_path / "n", "hubert", ["LABEL_0", "LABEL_1"]))) is None
    assert read_own_head(str(save_tiny_classifier(tmp_path / "o", "hubert"))) is None


def test_recordings_are_heard_in_windows(data, tmp_path, monkeypatch):
    """listen.py's windows have the probabilities of the sounds in them."""
    train(monkeypatch, data, tmp_path / "out", save_tiny_classifier(tmp_path / "base", "whisper"))
    classifier = load_classifier(tmp_path / "out")
    assert classifier.labels == LABELS and classifier.rates == (RATE,) and 40 <= classifier.window <= 81
    (span,) = spans(data / "test/2.wav", classifier.rates, classifier.window, classifier.window // 2)
    listen = pipeline("audio-classification", model=str(tmp_path / "out/model"), top_k=None)
    for chances, window in zip(classifier.score(span), span.cut(RATE), strict=True):
        found = {said["label"]: said["score"] for said in listen(window[0])}
        assert found == pytest.approx(dict(zip(LABELS, chances, strict=True)), abs=1e-4)


@pytest.mark.slow
def test_a_revision_of_the_hub_is_what_is_loaded(run_script, tmp_path):
    """With its feature extractor, and offline once it is in the cache; its kind is read from the same revision."""
    files = {path.name: path.read_bytes() for path in save_tiny_classifier(tmp_path / "m", "wavlm").iterdir()}
    load = (
        "import sys; from synthio.models.load import load_embedder; from synthio.models.classifiers import kind_of\n"
        "print(kind_of(sys.argv[1]), load_embedder(sys.argv[1]).sample_rate)"
    )
    known = {"HF_HOME": str(tmp_path / "home"), "HF_TOKEN": "", "HF_HUB_DISABLE_XET": "1"}
    with hub_server({"some/wave": Repo(files, revisions={"main": COMMIT, "v2": "89abcdef" * 5})}) as address:
        done = run_script("-c", load, "some/wave@v2", env=known | {"HF_ENDPOINT": address, "HF_HUB_OFFLINE": "0"})
    assert done.returncode == 0 and done.stdout.split()[-2:] == ["wavlm", "16000"], done.stderr
    assert [path.name for path in (tmp_path / "home").rglob("snapshots/*")] == ["89abcdef" * 5]
    done = run_script("-c", load, "some/wave@v2", env=known | {"HF_HUB_OFFLINE": "1"})
    assert done.returncode == 0 and done.stdout.split()[-2:] == ["wavlm", "16000"], done.stderr
