#!/usr/bin/env python3
"""Train the generator of the embedded text-to-audio model: StableAudioDiTModel with a small T5, rectified flow.

    python extras/embedded/train_generator.py --cache .scratch/corpus --output weights/text_to_audio

Needs corpus.py and train_autoencoder.py. Latents of the whole corpus are computed once. Writes the whole pipeline
folder and its loss on held-out clips. With --init, the training goes on from weights and tokenizer of such a folder.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]

import numpy as np
from training import recipe_parser

from synthio.cli import pick_device, progress, quiet_libraries, run_main, set_threads

FRAMES = 40  # latent frames of 2048 samples: 5.12 s
MAX_TOKENS = 32
WIDTH = 256  # of the text states and of the attended condition
CONDITION_DROPOUT = 0.1
TIME_SHIFT = 0.5  # mean of the logit of the times


def get_parser():
    parser = recipe_parser(__doc__, "text_to_audio", steps=5000, batch_size=64)
    parser.add_argument("--init", default="", help="text-to-audio folder to go on from; empty: none")
    return parser


def new_parts(latent_channels: int, seed: int):
    """The trained parts, as one ModuleDict: transformer, text_encoder, projection_model."""
    import torch
    from diffusers import StableAudioDiTModel
    from diffusers.pipelines.stable_audio.modeling_stable_audio import StableAudioProjectionModel
    from transformers import T5Config, T5EncoderModel

    torch.manual_seed(seed)
    transformer = StableAudioDiTModel(
        sample_size=FRAMES,
        in_channels=latent_channels,
        out_channels=latent_channels,
        num_layers=6,
        attention_head_dim=64,
        num_attention_heads=3,
        num_key_value_attention_heads=3,
        cross_attention_dim=192,
        cross_attention_input_dim=WIDTH,
        global_states_input_dim=2 * WIDTH,
        time_proj_dim=128,
    )
    text = T5Config(vocab_size=2048, d_model=128, d_kv=32, d_ff=256, num_layers=2, num_heads=4, dropout_rate=0.0)
    projection = StableAudioProjectionModel(text_encoder_dim=128, conditioning_dim=WIDTH, min_value=0, max_value=8)
    return torch.nn.ModuleDict(
        {"transformer": transformer, "text_encoder": T5EncoderModel(text), "projection_model": projection}
    )


def loaded_parts(folder: Path):
    """The trained parts of a text-to-audio folder, as `new_parts` gives them."""
    import torch
    from diffusers import StableAudioDiTModel
    from diffusers.pipelines.stable_audio.modeling_stable_audio import StableAudioProjectionModel
    from transformers import T5EncoderModel

    classes = {
        "transformer": StableAudioDiTModel,
        "text_encoder": T5EncoderModel,
        "projection_model": StableAudioProjectionModel,
    }
    parts = {name: part.from_pretrained(folder / name, torch_dtype=torch.float32) for name, part in classes.items()}
    return torch.nn.ModuleDict(parts).train()


def encode_corpus(corpus, vae_folder: Path, path: Path, device: str):
    """Latents of every clip, float16 [N, D, FRAMES], computed once and kept in `path`."""
    import torch

    from synthio.files import atomic_path
    from synthio.models.mel_autoencoder import MelAutoencoder

    if not path.exists():
        vae = MelAutoencoder.from_pretrained(vae_folder, torch_dtype=torch.float32).eval().to(device)
        shape = (len(corpus.table), vae.config.latent_channels, FRAMES)
        latents = np.zeros(shape, np.float16)
        with torch.no_grad():
            for start in progress(range(0, shape[0], 64), "latents: batches"):
                rows = np.arange(start, min(start + 64, shape[0]))
                audio = torch.from_numpy(corpus.waveforms(rows))[:, None].to(device)
                latents[rows] = vae.encode(audio).latent_dist.mode()[:, :, :FRAMES].cpu().numpy()
        with atomic_path(path) as temporary:
            np.save(temporary, latents)
    return np.load(path)


def condition(parts, ids, mask, seconds):
    """(attended states, global states) exactly as `DiffusersTextToAudio.condition` lays them out."""
    import torch

    states = parts["text_encoder"](ids, attention_mask=mask)[0]
    out = parts["projection_model"](states, torch.zeros_like(seconds), seconds)
    text = out.text_hidden_states * mask.unsqueeze(-1)
    ends = (out.seconds_start_hidden_states, out.seconds_end_hidden_states)
    return torch.cat([text, *ends], dim=1), torch.cat(ends, dim=2)


def flow_batch(latents, captions, seconds, tokenizer, rng):
    """What the loss of a batch needs: latents [B, D, FRAMES], tokens, seconds, dropped prompts, times and noise.

    Times are logit-normal (Esser et al. 2024), moved towards noise: the first principal components of the latents,
    which tell one sound from another, come out of the noise at times of .6 to .8.
    """
    import torch

    count = len(latents)
    tokens = tokenizer(captions, padding="max_length", max_length=MAX_TOKENS, truncation=True, return_tensors="pt")
    return {
        "latents": torch.from_numpy(latents),
        "ids": tokens.input_ids,
        "mask": tokens.attention_mask,
        "seconds": torch.from_numpy(seconds),
        "dropped": torch.from_numpy(rng.random(count) < CONDITION_DROPOUT),
        "t": torch.from_numpy(rng.standard_normal(count, dtype=np.float32) + TIME_SHIFT).sigmoid(),
        "noise": torch.from_numpy(rng.standard_normal(latents.shape, dtype=np.float32)),
    }


def flow_loss(parts, batch, rotary):
    """Rectified-flow loss of a batch of `flow_batch`, [B]."""
    import torch

    from synthio.generation.diffusion import add_noise, squared_errors

    cross, pooled = condition(parts, batch["ids"], batch["mask"], batch["seconds"])
    cross = torch.where(batch["dropped"][:, None, None], 0.0, cross)
    noisy, target = add_noise("rectified_flow", batch["latents"], batch["noise"], batch["t"])
    rotary = tuple(part.to(noisy.device) for part in rotary)
    out = parts["transformer"](
        noisy,
        batch["t"],
        encoder_hidden_states=cross,
        global_hidden_states=pooled,
        rotary_embedding=rotary,
        return_dict=False,
    )[0]
    return squared_errors(out, target)


def main() -> int:
    args = get_parser().parse_args()
    import torch
    from corpus import Corpus, train_tokenizer
    from diffusers import FlowMatchEulerDiscreteScheduler
    from diffusers.models.embeddings import get_1d_rotary_pos_embed
    from training import fit, save_half
    from transformers import AutoTokenizer

    from synthio.files import write_json

    quiet_libraries()
    set_threads()
    corpus = Corpus(args.cache)
    latents = encode_corpus(corpus, args.output / "vae", args.scratch / "latents.npy", pick_device(args.device))
    parts = loaded_parts(Path(args.init)) if args.init else new_parts(latents.shape[1], args.seed)
    if not args.init:
        train_tokenizer(corpus, args.output / "tokenizer", start=False, max_length=MAX_TOKENS)
    tokenizer = AutoTokenizer.from_pretrained(Path(args.init or args.output) / "tokenizer")
    tokenizer.save_pretrained(args.output / "tokenizer")
    FlowMatchEulerDiscreteScheduler().save_pretrained(args.output / "scheduler")
    write_json(args.output / "model_index.json", pipeline_index())
    rotary = get_1d_rotary_pos_embed(32, FRAMES + 1, use_real=True, repeat_interleave_real=False)

    def batch(rows, rng):
        captions = [corpus.caption(row, rng) for row in rows]
        seconds = (corpus.lengths[rows] / 16000).astype(np.float32)
        return flow_batch(latents[rows].astype(np.float32), captions, seconds, tokenizer, rng)

    def batch_of(step: int):
        rng = np.random.default_rng([args.seed, 7, step])
        return batch(corpus.balanced_rows(rng, args.batch_size), rng)

    def loss_of(batch):
        return {"loss": flow_loss(parts, batch, rotary).mean()}

    def export():
        rng = np.random.default_rng(0)
        with torch.no_grad():
            losses = [flow_loss(parts, batch(heldout_rows(corpus, rng, 64), rng), rotary).mean() for _ in range(8)]
        for name, part in parts.items():
            save_half(part, args.output / name)
        metrics = {"heldout_loss": float(np.mean(losses))}
        write_json(args.output / "metrics_generator.json", metrics)
        print(metrics, flush=True)

    fit("generator", parts, batch_of, loss_of, args=args, export=export)
    return 0


def heldout_rows(corpus, rng, count: int):
    """Held-out clips, half procedural and half recorded."""
    made = corpus.table["source"].to_numpy()[corpus.heldout] == "procedural"
    pools = (corpus.heldout[made], corpus.heldout[~made])
    return np.concatenate([rng.choice(pool, count // 2) for pool in pools])


def pipeline_index() -> dict:
    """model_index.json: which class each folder holds."""
    return {
        "_class_name": "StableAudioPipeline",
        "transformer": ["diffusers", "StableAudioDiTModel"],
        "vae": ["synthio.models.mel_autoencoder", "MelAutoencoder"],
        "text_encoder": ["transformers", "T5EncoderModel"],
        "tokenizer": ["transformers", "PreTrainedTokenizerFast"],
        "projection_model": ["stable_audio", "StableAudioProjectionModel"],
        "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
    }


if __name__ == "__main__":
    run_main(main)
