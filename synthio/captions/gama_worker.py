"""GAMA's side of `synthio.captions.gama`: run by the Python of GAMA's own environment, it imports nothing of ours.

    python synthio/captions/gama_worker.py --gama_dir GAMA --checkpoint pytorch_model.bin --instruction "Describe it."

It reads a JSON object a line, {"features": FILE}, and answers each with one line, {"captions": [...]}. FILE is
safetensors with `features` [B, 1024, 128]. The first line that it writes is {"ready": true}, or {"error": reason}.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import signal
import sys
import zipfile
from pathlib import Path
from typing import Any

SOURCES = ("hf-dev-train/transformers-main/src", "peft-main/src")  # of the clone: its own transformers and peft
BASE_MODEL = "Llama-2-7b-chat-hf-qformer"  # the name that the clone's scripts look for beside them
TEMPLATE = "templates/alpaca_short.json"
# They hold numbers that follow from the shapes, so a checkpoint may have them or not.
COMPUTED = ("rotary_emb.inv_freq", "embeddings.position_ids")


class Refused(Exception):
    """What the user has to mend."""


def get_parser():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    path: dict[str, Any] = {"type": lambda text: Path(text).resolve(), "required": True}
    parser.add_argument("--gama_dir", **path, help="clone of the GAMA repository")
    parser.add_argument("--checkpoint", **path, help="state dict, .bin or .safetensors")
    parser.add_argument("--instruction", required=True, help="what GAMA is asked about each clip")
    parser.add_argument("--max_new_tokens", type=int, default=256, help="longest caption")
    parser.add_argument("--device", default="cpu", help="torch device")
    return parser


def import_torchvision():
    """timm imports torchvision, whose compiled part does not load beside a CPU-only torch.

    Its Python part then misses two operators, which GAMA never calls: naming them is enough.
    """
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        import torch

        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        for operator in ("nms", "qnms"):
            torch.library.define(f"torchvision::{operator}", "(Tensor boxes, Tensor scores, float iou) -> Tensor")


def build(folder: Path, dtype):
    """GAMA with its LoRA layers, weights random, and its tokenizer. LoRA as the repository trains it."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM, LlamaTokenizer

    base = folder / BASE_MODEL
    torch.set_default_dtype(dtype)  # 7e9 float32 weights would not fit most machines
    try:
        model = LlamaForCausalLM(LlamaConfig.from_pretrained(base))
    finally:
        torch.set_default_dtype(torch.float32)
    lora = LoraConfig(
        r=8, lora_alpha=16, lora_dropout=0.0, target_modules=["q_proj", "v_proj"], bias="none", task_type="CAUSAL_LM"
    )
    return get_peft_model(model, lora), LlamaTokenizer.from_pretrained(base)


def read_state(path: Path) -> dict:
    """The tensors of a checkpoint. Nothing in it is run."""
    import torch
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        reason = str(error).strip().splitlines()[0]
        raise Refused(
            f"{path} holds more than tensors, so that loading it could run code ({reason}). Where you trust it, load "
            "it with torch.load(..., weights_only=False) and save its state dict with safetensors.torch.save_file"
        ) from None
    except Exception as error:  # which it is depends on where the file is damaged
        raise Refused(f"{path} cannot be read ({error}); was it downloaded whole?") from None


def load_weights(model, path: Path):
    """Fill every parameter from the checkpoint; what is missing, left over or of another shape is refused."""
    state, wanted = read_state(path), model.state_dict()
    problems = [
        ("missing", [key for key in wanted if key not in state]),
        ("unexpected", [key for key in state if key not in wanted]),
        ("of another shape", [key for key in state if key in wanted and state[key].shape != wanted[key].shape]),
    ]
    problems.append(("with NaN or infinity", [key for key in wanted if key in state and not is_finite(state[key])]))
    told = [described(word, [key for key in keys if not key.endswith(COMPUTED)]) for word, keys in problems]
    if any(told):
        raise Refused(f"{path} does not fit GAMA: {'; '.join(filter(None, told))}")
    model.load_state_dict(state, strict=False)


def is_finite(tensor) -> bool:
    """Whether all of it are numbers."""
    return not tensor.is_floating_point() or bool(tensor.isfinite().all())


def described(word: str, keys: list) -> str:
    """'3 keys missing (a, b, ...)', or '' for none."""
    if not keys:
        return ""
    shown = ", ".join(sorted(keys)[:3]) + (", ..." if len(keys) > 3 else "")
    return f"{len(keys)} key{'s' if len(keys) > 1 else ''} {word} ({shown})"


def load(args):
    """(model, tokenizer), ready to answer."""
    import torch

    os.chdir(args.gama_dir)  # where its scripts are run; a folder bert-base-uncased there is taken, not the hub's
    sys.path[0:1] = [str(args.gama_dir / source) for source in SOURCES]  # instead of this file's folder
    import_torchvision()
    from transformers.utils import logging

    logging.set_verbosity_error()  # it warns of every weight that the checkpoint brings only later
    dtype = torch.bfloat16 if args.device.startswith("cuda") else torch.float32
    model, tokenizer = build(args.gama_dir, dtype)
    load_weights(model, args.checkpoint)
    return model.to(args.device, dtype).eval(), tokenizer


def describe(model, tokenizer, prompt: str, features, max_new_tokens: int) -> list:
    """Features [B, 1024, 128] -> captions.

    GAMA's own generation takes sound in its sampling alone; sampling from the one likeliest token is greedy. All
    prompts are the same, so a batch needs no padding, which GAMA's attention mask would not allow for.
    """
    import torch

    ids = tokenizer(prompt, return_tensors="pt").input_ids.to(model.device).expand(len(features), -1)
    with torch.no_grad():
        out = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            audio_input=features.to(model.device, model.dtype),
            do_sample=True,
            top_k=1,
            max_new_tokens=max_new_tokens,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.unk_token_id,
        )
    return tokenizer.batch_decode(out[:, ids.shape[1] :], skip_special_tokens=True)


def answer(stream, **value):
    """One line of JSON."""
    stream.write(json.dumps(value) + "\n")
    stream.flush()


def main() -> int:
    args = get_parser().parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the caller's end ends this one too
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # GAMA prints as it loads
    try:
        model, tokenizer = load(args)
    except (Refused, OSError) as error:
        answer(replies, error=" ".join(str(error).split()))
        return 2
    from safetensors.torch import load_file

    template = json.loads((args.gama_dir / TEMPLATE).read_text(encoding="utf-8"))["prompt_no_input"]
    prompt = template.format(instruction=args.instruction)
    answer(replies, ready=True)
    for line in sys.stdin:
        features = load_file(json.loads(line)["features"])["features"]
        answer(replies, captions=describe(model, tokenizer, prompt, features, args.max_new_tokens))
    return 0


if __name__ == "__main__":
    sys.exit(main())
