"""A small GAMA of the repository's own classes, made by the Python of its environment:

    .envs/gama/bin/python tests/programs/gama_small.py make CLONE FOLDER
    .envs/gama/bin/python tests/programs/gama_small.py caption FOLDER FEATURES.safetensors INSTRUCTION NUM_TOKENS

`make` fills FOLDER with links to the clone, and what its scripts look for beside them: a Llama of one layer, a BERT of
two, a tokenizer, and pytorch_model.bin. `caption` prints a caption for each row of FEATURES as a JSON list, by running
the whole model once for each token: no cache, no batch, nothing of ours but how the model is built.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from synthio.captions.gama_worker import BASE_MODEL, SOURCES, TEMPLATE, build, import_torchvision

# widths are fixed in the repository's code, so only depth and vocabulary can be small
LLAMA = {
    "hidden_size": 4096,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 32,
    "num_key_value_heads": 1,
    "max_position_embeddings": 512,
    "pretraining_tp": 1,
    "rope_scaling": None,
}
BERT = {"num_hidden_layers": 2, "intermediate_size": 64, "vocab_size": 5}


def use_clone(folder: Path) -> None:
    """Take transformers and peft from the clone, and names such as bert-base-uncased from `folder`."""
    sys.path[0:0] = [str(folder / source) for source in SOURCES]
    os.chdir(folder)
    import_torchvision()


def save_bert(folder: Path) -> None:
    from transformers import BertConfig, BertLMHeadModel, BertTokenizer

    folder.mkdir()
    (folder / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n")
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    BertLMHeadModel(BertConfig(**BERT, is_decoder=True)).save_pretrained(folder)


def save_llama(folder: Path) -> None:
    """Configuration and tokenizer; the weights are in the checkpoint."""
    import sentencepiece
    from transformers import LlamaConfig

    folder.mkdir()
    sentences = [chr(97 + k % 26) * 3 + " sound " + chr(97 + k % 7) for k in range(200)]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences),
        model_prefix=str(folder / "tokenizer"),
        vocab_size=320,
        model_type="bpe",
        byte_fallback=True,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    processor = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "LlamaTokenizer"}')
    LlamaConfig(vocab_size=processor.get_piece_size(), **LLAMA).save_pretrained(folder)


def make(clone: Path, folder: Path) -> None:
    import torch

    folder.mkdir()
    for entry in clone.iterdir():
        (folder / entry.name).symlink_to(entry)
    use_clone(folder)
    torch.manual_seed(0)
    save_bert(folder / "bert-base-uncased")
    save_llama(folder / BASE_MODEL)
    model, _ = build(folder, torch.float32)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name or "audio_proj" in name:
                weight.normal_(std=0.1)  # so that LoRA does something, and sounds differ
    torch.save(model.state_dict(), folder / "pytorch_model.bin")


def caption(folder: Path, features: Path, instruction: str, num_tokens: int) -> list[str]:
    import torch
    from safetensors.torch import load_file

    use_clone(folder)
    model, tokenizer = build(folder, torch.float32)
    model.load_state_dict(torch.load(folder / "pytorch_model.bin", weights_only=True))
    model.eval()
    prompt = json.loads(Path(TEMPLATE).read_text())["prompt_no_input"].format(instruction=instruction)
    captions = []
    for sound in load_file(features)["features"]:
        ids = start = tokenizer(prompt, return_tensors="pt").input_ids
        for _ in range(num_tokens):
            with torch.no_grad():
                logits = model.base_model.model(input_ids=ids, audio_input=sound[None]).logits
            ids = torch.cat([ids, logits[:, -1:].argmax(dim=-1)], dim=1)
        captions.append(tokenizer.decode(ids[0, start.shape[1] :], skip_special_tokens=True))
    return captions


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(Path(sys.argv[2]).resolve(), Path(sys.argv[3]).resolve())
    else:
        replies = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)  # GAMA prints as it loads
        print(json.dumps(caption(Path(sys.argv[2]).resolve(), *sys.argv[3:5], int(sys.argv[5]))), file=replies)
