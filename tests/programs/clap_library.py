"""Run by the Python of the environment clap: models of laion_clap and msclap, and what the libraries make of clips.

clap_library.py make FOLDER     writes hub/ (a cache of tiny text models), the checkpoints of MODELS (random weights)
                                and theirs.npz: what the libraries themselves say of clips/*.wav and TEXTS
clap_library.py save FOLDER     writes hub/ and the checkpoint tiny.pt alone
clap_library.py hear FOLDER     writes ours.npz: what our scorers say of them, twice, from other random states
clap_library.py load FOLDER FILE    writes loaded.npz: what laion_clap says with the weights of FILE
    clap_library.py refuse FOLDER MODEL...    writes refusals.json: why our scorers refuse each
"""

from __future__ import annotations

import json
import os
import random
import sys
from pathlib import Path

import numpy as np
import torch

TEXTS = ["Sound of a dog bark", "Sound of a siren", "rain, loud and distant!"]
MODELS = {
    "tiny": "tiny.pt",
    "fusion": "fusion.pt",
    "base": "base.pt",
    "ms2022": "ms2022.pth",
    "ms2023": "ms2023.pth",
}
LAION = {"tiny": ("HTSAT-tiny", False), "fusion": ("HTSAT-tiny", True), "base": ("HTSAT-base", False)}
SIZES = {"num_hidden_layers": 1, "num_attention_heads": 12, "intermediate_size": 64}  # width 768 is in both libraries


def hub_folder(hub: Path, name: str) -> Path:
    """Where a hub cache has the files of a model."""
    folder = hub / f"models--{name.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs/main").write_text("0" * 40)
    snapshot = folder / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    return snapshot


def save_byte_tokens(folder: Path, first: list[str], last: list[str]) -> int:
    """vocab.json and merges.txt of a byte-level BPE with special tokens before and after; returns its size."""
    from tokenizers import pre_tokenizers

    words = [*first, *sorted(pre_tokenizers.ByteLevel.alphabet()), "so", "un", *last]
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\ns o\nu n\n")
    return len(words)


def make_hub(hub: Path) -> None:
    """The text models that the libraries ask a hub for, one layer each."""
    from transformers import BertConfig, BertModel, GPT2Config, GPT2Model, RobertaConfig, RobertaModel

    for name in ("roberta-base", "facebook/bart-base"):
        folder = hub_folder(hub, name)
        size = save_byte_tokens(folder, ["<s>", "<pad>", "</s>", "<unk>"], ["<mask>"])
    config = RobertaConfig(
        vocab_size=size, max_position_embeddings=514, type_vocab_size=1, layer_norm_eps=1e-5, **SIZES
    )
    RobertaModel(config).save_pretrained(hub / "models--roberta-base/snapshots" / ("0" * 40))
    folder = hub_folder(hub, "gpt2")
    size = save_byte_tokens(folder, [], ["<|endoftext|>"])  # '!' is number 0, as in GPT-2's
    GPT2Model(GPT2Config(vocab_size=size, n_layer=1, n_head=12, n_inner=64)).save_pretrained(folder)
    folder = hub_folder(hub, "bert-base-uncased")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"sound of a dog bark siren rain , loud and !".split()]
    (folder / "vocab.txt").write_text("\n".join(words))
    BertModel(BertConfig(vocab_size=len(words), **SIZES)).save_pretrained(folder)


def windows_of(folder: Path, sample_rate: int, seconds: float) -> list[np.ndarray]:
    """The fixed mono windows [W, T] of each clip."""
    from synthio.audio import cut_windows, read_audio

    clips = [read_audio(path, sample_rate)[0] for path in sorted((folder / "clips").glob("*.wav"))]
    return [cut_windows(clip, round(seconds * sample_rate))[:, 0] for clip in clips]


def averaged(vectors: list[np.ndarray]) -> np.ndarray:
    """[W, E] of each clip -> unit vectors [N, E]."""
    means = np.stack([(v / np.linalg.norm(v, axis=1, keepdims=True)).mean(axis=0) for v in vectors])
    return means / np.linalg.norm(means, axis=1, keepdims=True)


def unlike_new(module) -> None:
    """Random statistics, norms and scales, so that what is not loaded is seen."""
    for name, tensor in module.state_dict().items():
        if "running_var" in name or ("norm" in name and name.endswith("weight")):
            tensor.mul_(0.5 + torch.rand(tensor.shape))
        elif "running_mean" in name or (name.endswith("bias") and tensor.is_floating_point()):
            tensor.add_(0.05 * torch.randn(tensor.shape))
    for name, parameter in module.named_parameters():
        if name.startswith("logit_scale"):
            parameter.data.fill_(3.0)


def measure_batch_norms(module, forward) -> None:
    """Set the statistics by a pass over data: with random ones, a deep Cnn14 hears all clips alike."""
    for part in module.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.reset_running_stats()
            part.momentum = 1.0
    with torch.no_grad():
        module.train()
        forward()
        module.eval()


def laion_says(model, folder: Path) -> dict[str, np.ndarray]:
    """Vectors of clips and texts, and the scale, by the library."""
    clips = averaged([model.get_audio_embedding_from_data(w) for w in windows_of(folder, 48000, 10)])
    scale = model.model.logit_scale_a.exp().item()
    return {"audio": clips, "text": model.get_text_embedding(TEXTS), "scale": np.array(scale)}


def save_laion(folder: Path, name: str):
    """A checkpoint as training writes it, except that one is bare; returns the library's model."""
    import laion_clap

    encoder, fusion = LAION[name]
    model = laion_clap.CLAP_Module(enable_fusion=fusion, device="cpu", amodel=encoder)
    unlike_new(model.model)
    state = model.model.state_dict() | {"text_branch.embeddings.position_ids": torch.arange(514)[None]}
    content = state
    if name != "base":
        content = {"epoch": 7, "name": name, "state_dict": {f"module.{k}": v for k, v in state.items()}}
        content |= {"best": np.float64(0.5), "optimizer": {"state": {}, "param_groups": [{"lr": 1e-4}]}}
    torch.save(content, folder / MODELS[name])
    return model


def make_laion(folder: Path, name: str) -> dict[str, np.ndarray]:
    """What the library says with a checkpoint that its own loader has read."""
    model = save_laion(folder, name)
    model.load_ckpt(folder / MODELS[name], verbose=False)
    return laion_says(model, folder)


def make_msclap(folder: Path, version: str) -> dict[str, np.ndarray]:
    """A checkpoint as it is published: the library's model, which takes random weights where a file has none."""
    from msclap import CLAP

    path = folder / f"ms{version}.pth"
    torch.save({"model": {}}, path)
    wrapper = CLAP(path, version=version)
    windows = windows_of(folder, wrapper.args.sampling_rate, wrapper.args.duration)
    unlike_new(wrapper.clap)
    measure_batch_norms(wrapper.clap, lambda: wrapper.clap.audio_encoder(torch.from_numpy(np.concatenate(windows))))
    torch.save({"model": wrapper.clap.state_dict()}, path)
    vectors = averaged([wrapper._get_audio_embeddings(torch.from_numpy(w)[:, None]).numpy() for w in windows])
    text = averaged([wrapper.get_text_embeddings([text]).numpy() for text in TEXTS])
    scores = wrapper.compute_similarity(torch.from_numpy(vectors), torch.from_numpy(text)).detach().numpy()
    return {"audio": vectors, "text": text, "scale": np.array((scores / (vectors @ text.T)).mean())}


def make(folder: Path) -> None:
    torch.manual_seed(0)
    make_hub(folder / "hub")
    found = {name: make_laion(folder, name) for name in LAION}
    found |= {f"ms{version}": make_msclap(folder, version) for version in ("2022", "2023")}
    os.link(folder / "ms2023.pth", hub_folder(folder / "hub", "microsoft/msclap") / "CLAP_weights_2023.pth")
    np.savez(folder / "theirs.npz", **{f"{m}_{part}": v for m, parts in found.items() for part, v in parts.items()})


def save(folder: Path) -> None:
    torch.manual_seed(0)
    make_hub(folder / "hub")
    save_laion(folder, "tiny")


def hear(folder: Path) -> None:
    from synthio.audio import read_audio
    from synthio.models.load import load_scorer

    out = {}
    for name, file in MODELS.items():
        scorer = load_scorer(str(folder / file))
        paths = sorted((folder / "clips").glob("*.wav"))
        clips = [read_audio(path, scorer.sample_rate)[0] for path in paths]
        for seed in (0, 1):
            random.seed(seed), np.random.seed(seed), torch.manual_seed(seed)  # noqa: NPY002
            out[f"{name}_audio{seed}"] = scorer.embed_audio(clips)
        out[f"{name}_text"] = scorer.embed_text(TEXTS)
        out[f"{name}_scale"] = np.array(scorer.logit_scale)
    np.savez(folder / "ours.npz", **out)


def load(folder: Path, file: str) -> None:
    import laion_clap

    model = laion_clap.CLAP_Module(enable_fusion=False, device="cpu", amodel="HTSAT-tiny")
    model.load_ckpt(file, verbose=False)
    np.savez(folder / "loaded.npz", **laion_says(model, folder))


def refuse(folder: Path, *models: str) -> None:
    from synthio.cli import UserError
    from synthio.models.load import load_scorer

    reasons = []
    for model in models:
        try:
            load_scorer(model)
        except UserError as error:
            reasons.append(str(error))
    (folder / "refusals.json").write_text(json.dumps(reasons))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    work = Path(sys.argv[2])
    os.environ |= {"HF_HUB_CACHE": str(work / "hub"), "HF_HUB_OFFLINE": "1"}
    {"make": make, "save": save, "hear": hear, "load": load, "refuse": refuse}[sys.argv[1]](work, *sys.argv[3:])
