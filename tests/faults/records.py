"""Damaged records, caches, checkpoints, adapters and model folders: noticed, made again, or refused in a line."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from synthio.cache import AnswerCache
from synthio.cli import UserError, quiet_libraries
from synthio.files import write_json, write_text
from tests.faults.trials import Outcome, Silent, Stuck, check_message, judged
from tests.faults_tools import mutate
from tests.scripts import ROOT, call_script

COUNT, LEAST, WAIT_S = 700, 100, 120

STAMP = ROOT / "synthio/pipeline/stamp.py"
Files = Mapping[str, bytes]


def files_of(folder: Path) -> dict[str, bytes]:
    """Relative name -> bytes of all files in a folder."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def restore(files: Files, folder: Path) -> Path:
    """The folder as it was."""
    shutil.rmtree(folder, ignore_errors=True)
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def same(a: Mapping[str, torch.Tensor], b: Mapping[str, torch.Tensor]) -> bool:
    """Whether the tensors are the same, to the bit."""
    return a.keys() == b.keys() and all(a[k].dtype == b[k].dtype and torch.equal(a[k], b[k]) for k in a)


# ---- stamps and records


def make_step(folder: Path) -> tuple[list[str], Files]:
    """A finished step of two clips, with its stamp: the words that ask for it, and its files."""
    shutil.rmtree(folder, ignore_errors=True)
    inputs, out = folder / "in.csv", folder / "out.csv"
    write_text(inputs, "path,label\na.wav,x\nb.wav,y\nc.wav,z\n")
    write_text(folder / "x.py", "")
    for name in "abc":
        (folder / f"{name}.wav").write_bytes(name.encode() * 100)
    words = [
        "--stamp",
        folder / "stamps/x.json",
        "--inputs",
        inputs,
        "--outputs",
        out,
        "--command",
        "py",
        folder / "x.py",
    ]
    do_step(folder)
    ask("check", words)
    write_json(folder / "stamps/x.loaded/note.json", {"code": {}, "libraries": {}})
    ask("write", words)
    return [str(word) for word in words], files_of(folder)


def do_step(folder: Path) -> None:
    """What the step writes."""
    import pandas as pd

    from synthio.manifest import write_manifest

    table = pd.DataFrame({"path": [str(folder / "a.wav"), str(folder / "b.wav")], "label": ["x", "y"]})
    dropped = pd.DataFrame({"path": [str(folder / "c.wav")], "label": ["z"], "reason": ["why"]})
    write_manifest(table, folder / "out.csv", rows_in=3, dropped=dropped)


def ask(action: str, words: list) -> int:
    done = call_script(STAMP, action, *words)
    if done.returncode not in (0, 3):
        check_message(done.stderr.removeprefix("error: "))
        if "Traceback" in done.stderr or done.returncode != 2:
            raise AssertionError(done.stderr[-300:])
    return done.returncode


OUTPUTS = ("out.csv", "out.json", "out.dropped.csv", "a.wav", "in.csv")  # whose damage must be noticed


def stamps(rng: random.Random, folder: Path) -> str:
    """One file of a finished step is damaged, then the step is asked for, made again and asked for again."""
    words, files = finished_step(folder)
    restore(files, folder)
    name = rng.choice([*OUTPUTS, *OUTPUTS, "stamps/x.json", "stamps/x.json", "stamps/folders.json"])
    path = folder / name
    if not path.exists():
        path.write_text("{}")
    how = mutate(path, rng)
    if rng.random() < 0.15:
        path.unlink()
        how = "removed"
    status = ask("check", words)
    if status == 0 and name in OUTPUTS and name != "a.wav":
        raise Silent(f"{name} {how}: up to date")
    if status == 0 and name == "a.wav" and (not path.exists() or path.stat().st_size != 100):
        raise Silent(f"{name} {how}: up to date")
    if status == 2 and name not in ("in.csv", "out.csv"):
        raise Stuck(f"{name} {how}: the step is refused")
    inputs = {one: data for one, data in files.items() if not one.startswith(("out", "stamps"))}
    restore(inputs | files_of_stamps(folder), folder)
    status = ask("check", words)
    if status == 3:
        do_step(folder)
        write_json(folder / "stamps/x.loaded/note.json", {"code": {}, "libraries": {}})
        status = ask("write", words) or ask("check", words)
    if status:
        raise Stuck(f"{name} {how}: made again, and still not up to date")
    return f"stamps: {name} {how}"


def files_of_stamps(folder: Path) -> Files:
    return {f"stamps/{name}": data for name, data in files_of(folder / "stamps").items()}


@cache
def finished_step(folder: Path) -> tuple[list[str], Files]:
    return make_step(folder)


# ---- caches


def answers(rng: random.Random, folder: Path) -> str:
    """The file of replies."""
    path = folder / "answers.jsonl"
    path.unlink(missing_ok=True)
    true = {k: f"answer {k} ünï {k * 7}" for k in range(6)}
    for k, text in true.items():
        AnswerCache(path).put(["q", k], text)
    how = mutate(path, rng)
    found = AnswerCache(path)
    for k, text in true.items():
        if found.get(["q", k]) not in (None, text):
            raise Silent(f"answers {how}: {found.get(['q', k])!r} in place of {text!r}")
    found.put(["new"], "more")
    if AnswerCache(path).get(["new"]) != "more":
        raise Silent(f"answers {how}: a new answer was lost")
    return f"answers: {how}"


def embeddings(rng: random.Random, folder: Path) -> str:
    """Vectors of clips."""
    from synthio.classification.embeddings import EmbeddingCache

    held = EmbeddingCache(folder, "clap", "a/model")
    held.path.unlink(missing_ok=True)
    true = {bytes([k] * 32).hex(): np.full(8, k + 0.5, np.float32) for k in range(5)}
    held.vectors = dict(true)
    held.save()
    how = mutate(held.path, rng)
    for key, vector in EmbeddingCache(folder, "clap", "a/model").vectors.items():
        if key not in true or not np.array_equal(vector, true[key]):
            raise Silent(f"embeddings {how}: another vector")
    return f"embeddings: {how}"


def latents(rng: random.Random, folder: Path) -> str:
    """What preference training keeps of clips and prompts."""
    from synthio.generation.pairs import cached

    path = folder / "latents.safetensors"
    path.unlink(missing_ok=True)
    true = {"latents": torch.arange(24.0).reshape(2, 3, 4), "seconds": torch.tensor([1.0, 2.0])}
    cached(path, lambda: true)
    how = mutate(path, rng)
    for _ in range(2):
        if not same(cached(path, lambda: true), true):
            raise Silent(f"latents {how}: other tensors")
    return f"latents: {how}"


# ---- checkpoints


def small_network(value: float) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    network = torch.nn.Linear(3, 2)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(value)
    return network, torch.optim.AdamW(network.parameters(), lr=0.1)


def train_a_step(network: torch.nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    network(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def checkpoints(rng: random.Random, folder: Path) -> str:
    """What a training goes on from: as it was, or begun anew."""
    from synthio.training.loop import Checkpoint, State

    network, optimizer = small_network(1.0)
    trained, row = train_a_step(network, optimizer), {"step": 0, "loss": 1.0, "seconds": 0.1}
    checkpoint = Checkpoint(folder / "checkpoint.pt", "key")
    checkpoint.save(State(1, [row]), {"network": network, "optimizer": optimizer})
    how = mutate(checkpoint.path, rng)
    other, fresh = small_network(2.0)
    begun, state = {name: tensor.clone() for name, tensor in other.state_dict().items()}, State()
    checkpoint.load(state, {"network": other, "optimizer": fresh})
    if not same(other.state_dict(), trained if state.step == 1 else begun) or state.history != [row][: state.step]:
        raise Silent(f"checkpoint {how}: other weights at step {state.step}")
    return f"checkpoint: {how}, step {state.step}"


# ---- adapters and models


def damage_tensors(path: Path, rng: random.Random) -> str:
    """A tensor is missing, has another name, shape or type, or holds no number."""
    tensors = load_file(path)
    name = rng.choice(sorted(tensors))
    how = rng.choice(["missing", "renamed", "all renamed", "reshaped", "grown", "nan", "infinite", "half missing"])
    if how == "missing":
        del tensors[name]
    elif how == "half missing":
        tensors = dict(sorted(tensors.items())[::2])
    elif how == "renamed":
        tensors[name + "x"] = tensors.pop(name)
    elif how == "all renamed":
        tensors = {f"xx.{key}": tensor for key, tensor in tensors.items()}
    elif how == "reshaped":
        tensors[name] = tensors[name].reshape(-1)[:-1].clone() if tensors[name].numel() > 1 else torch.zeros(3)
    elif how == "grown":
        tensors[name] = torch.cat([tensors[name].reshape(-1)] * 2)
    else:
        full = torch.full_like(tensors[name].float(), float("nan" if how == "nan" else "inf"))
        tensors[name] = full.to(tensors[name].dtype) if tensors[name].is_floating_point() else full
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, path, metadata={"format": "pt"})
    return f"{name} {how}"


def damage_json(path: Path, rng: random.Random) -> str:
    """A key is missing, or holds a value of another type."""
    record = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(record, dict) or not record:
        return mutate(path, rng)
    key = rng.choice(sorted(record))
    value = rng.choice([None, "x", -1, [], {}, 1e30, True, "missing"])
    if value == "missing":
        del record[key]
    else:
        record[key] = value
    path.write_text(json.dumps(record), encoding="utf-8")
    return f"{key} = {value!r}"


def damage_file(path: Path, rng: random.Random) -> str:
    """The file is cut, emptied, gone, or noise at its start."""
    data = path.read_bytes()
    how = rng.choice(["cut", "emptied", "gone", "noise", "a folder"])
    if how == "cut":
        path.write_bytes(data[: rng.randrange(len(data))])
    elif how == "emptied":
        path.write_bytes(b"")
    elif how == "noise":
        path.write_bytes(rng.randbytes(64) + data[64:])
    else:
        path.unlink()
        if how == "a folder":
            path.mkdir()
    return how


def damage_folder(folder: Path, rng: random.Random) -> str:
    """Damage one file of a model; what was done."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    path = rng.choice(files + [p for p in files if p.suffix == ".safetensors"] * len(files))
    if path.suffix == ".safetensors" and rng.random() < 0.7:
        how = damage_tensors(path, rng)
    elif path.suffix == ".json" and rng.random() < 0.6:
        how = damage_json(path, rng)
    else:
        how = damage_file(path, rng)
    return f"{path.relative_to(folder)} {how}"


def loaded_weights(kind: str, folder: Path) -> dict[str, torch.Tensor]:
    """Load a model as the stages do; the weights of all its networks."""
    from synthio.models.ast_model import load_ast
    from synthio.models.load import load_scorer, load_text_to_audio

    if kind == "ast":
        return load_ast(str(folder), ["a", "b", "c"], 100, False, 0).state_dict()
    if kind == "clap":
        model = load_scorer(str(folder))
    elif kind in ADAPTERS:
        model = load_text_to_audio(str(folder.parent / "models/t2a"), str(folder))
    else:
        model = load_text_to_audio(str(folder))
    parts = {name: part for name, part in vars(model).items() if isinstance(part, torch.nn.Module)}
    return {f"{name}.{key}": tensor for name, part in parts.items() for key, tensor in part.state_dict().items()}


ADAPTERS = ("lora", "prefix", "all")


@cache
def model_files(shared: Path) -> dict[str, Files]:
    """Tiny models and adapters: kind -> files."""
    from synthio.models.adapters import make_trainable, write_adapter
    from synthio.models.load import load_text_to_audio
    from tests.classification.toy_clips import save_tiny_ast
    from tests.tiny_models import save_clap, save_text_to_audio

    quiet_libraries()
    models = shared / "models"
    made = {
        "t2a": save_text_to_audio(models / "t2a"),
        "clap": save_clap(models / "clap"),
        "ast": save_tiny_ast(models / "ast"),
    }
    for kind in ADAPTERS:
        trainable = make_trainable(load_text_to_audio(str(models / "t2a")), kind)
        with torch.no_grad():
            for parameter in trainable.parameters.values():
                parameter += 0.01
        write_adapter(trainable, models / kind)
        made[kind] = models / kind
    return {kind: files_of(folder) for kind, folder in made.items()}


@cache
def true_weights(kind: str, folder: Path) -> dict[str, torch.Tensor]:
    files = model_files(folder)[kind]
    return {
        name: t.clone() for name, t in loaded_weights(kind, restore(files, folder / kind)).items() if not is_new(name)
    }


def is_new(name: str) -> bool:
    """A head that is made for the labels at hand."""
    return "classifier" in name


def models(rng: random.Random, folder: Path) -> str:
    """A model or an adapter: loaded as it was, or refused by name."""
    kind = rng.choice(["clap", "ast", "t2a", *ADAPTERS])
    true = true_weights(kind, folder)
    damaged = restore(model_files(folder)[kind], folder / kind)
    how = damage_folder(damaged, rng)
    what = f"{kind}: {how}"
    try:
        found = loaded_weights(kind, damaged)
    except UserError as error:
        check_message(str(error))
        if str(damaged) not in str(error):
            raise Silent(f"{what}: a refusal that does not name the folder: {error}") from None
        return f"{what}: {error}"
    except Exception as error:
        raise type("Broken", (Exception,), {})(f"{what}: {type(error).__name__}: {error}") from error
    found = {name: tensor for name, tensor in found.items() if not is_new(name)}
    is_weights = ".safetensors" in how
    if is_weights and not same(found, true):
        raise Silent(f"{what}: loaded with other weights")
    return f"{what}: loaded as it was"


def trials(numbers: Iterable[int], seed: int, folder: Path, shared: Path) -> Iterator[Outcome]:
    kinds: list[Callable[[random.Random, Path], str]] = [
        stamps,
        answers,
        embeddings,
        latents,
        checkpoints,
        models,
        models,
    ]

    def trial(rng: random.Random) -> str:
        kind = rng.choice(kinds)
        (folder / kind.__name__).mkdir(parents=True, exist_ok=True)
        return kind(rng, folder / kind.__name__)

    return judged(numbers, seed, "records", trial, ())
