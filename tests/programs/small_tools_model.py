"""Small models of stable-audio-tools, and how ours compare with the library's own results.

    .envs/stable_audio/bin/python tests/programs/small_tools_model.py make FOLDER
    .envs/stable_audio/bin/python tests/programs/small_tools_model.py compare FOLDER

`make` writes the models; `compare` prints a JSON object of the largest differences, by what was compared.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import math
import sys
from pathlib import Path

import torch
import torch.nn.functional as F

SAMPLE_RATE, FRAMES, HOP = 16000, 40, 512
PROMPTS, SECONDS = ["dog bark loud", "rain"], [1.2, 0.5]
OBJECTIVES = ("v", "rectified_flow", "rf_denoiser")
PREFIX_TOKENS = 5


def config_of(objective: str) -> dict:
    """A config in the manner of Stable Audio Open 1.0; "rf_denoiser" in that of Small. 1.28 s of stereo at 16 kHz."""
    is_small = objective == "rf_denoiser"
    oobleck = {"channels": 8, "c_mults": [1, 2, 4], "strides": [4, 8, 16], "use_snake": True}
    numbers = ["seconds_total"] if is_small else ["seconds_start", "seconds_total"]
    number = {"type": "number", "config": {"min_val": 0, "max_val": 8}}
    t5 = {"t5_model_name": "text_encoder", "max_length": 12}
    dit = {"io_channels": 8, "embed_dim": 128, "depth": 2, "num_heads": 2, "cond_token_dim": 64}
    dit |= {"global_cond_dim": 64 * len(numbers), "transformer_type": "continuous_transformer"}
    dit |= {"attn_kwargs": {"qk_norm": "ln"}} if is_small else {"project_cond_tokens": False}
    return {
        "model_type": "diffusion_cond",
        "sample_size": FRAMES * HOP + 100,
        "sample_rate": SAMPLE_RATE,
        "audio_channels": 2,
        "model": {
            "pretransform": {
                "type": "autoencoder",
                "iterate_batch": True,
                "scale": 1.3,
                "config": {
                    "encoder": {"type": "oobleck", "config": {**oobleck, "in_channels": 2, "latent_dim": 16}},
                    "decoder": {
                        "type": "oobleck",
                        "config": {**oobleck, "out_channels": 2, "latent_dim": 8, "final_tanh": False},
                    },
                    "bottleneck": {"type": "vae"},
                    "latent_dim": 8,
                    "downsampling_ratio": HOP,
                    "io_channels": 2,
                },
            },
            "conditioning": {
                "configs": [{"id": "prompt", "type": "t5", "config": t5}, *({"id": n, **number} for n in numbers)],
                "cond_dim": 64,
            },
            "diffusion": {
                "cross_attention_cond_ids": ["prompt", *numbers],
                "global_cond_ids": numbers,
                "diffusion_objective": objective,
                "type": "dit",
                "config": dit,
            },
            "io_channels": 8,
        },
    }


def save_text_encoder(folder: Path) -> None:
    from transformers import T5Config, T5EncoderModel

    from tests.tiny_models import word_tokenizer

    torch.manual_seed(1)
    T5EncoderModel(T5Config(vocab_size=64, d_model=24, d_kv=8, d_ff=32, num_layers=1, num_heads=2)).save_pretrained(
        folder
    )
    word_tokenizer(12).save_pretrained(folder)


def library_model(config: dict, folder: Path) -> torch.nn.Module:
    """The library's own model of a config, whose T5 lies in a folder; T5 in float32."""
    from stable_audio_tools.models.conditioners import T5Conditioner
    from stable_audio_tools.models.factory import create_model_from_config

    name = str(folder / "text_encoder")
    T5Conditioner.T5_MODELS.append(name)
    T5Conditioner.T5_MODEL_DIMS[name] = 24
    config = copy.deepcopy(config)
    config["model"]["conditioning"]["configs"][0]["config"]["t5_model_name"] = name
    model = create_model_from_config(config).eval()
    model.conditioner.conditioners["prompt"].model.float()
    return model


def randomise(model: torch.nn.Module, seed: int) -> None:
    """Random numbers for what the library starts at zero, and so would change nothing."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.model.parameters():
            if not parameter.any():
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))


def prefix_state() -> dict[str, torch.Tensor]:
    """Prefixes by the names and shapes of Synthio's fork, for the small v model."""
    generator = torch.Generator().manual_seed(5)
    state = {}
    for layer in range(2):
        for kind, width in (("self", 128), ("cross", 64)):
            name = f"model.model.transformer.layers.{layer}.{kind}_attn"
            state[f"{name}.adapter_wte.weight"] = torch.randn(PREFIX_TOKENS, width, generator=generator)
            state[f"{name}.gating_factor"] = 2 * torch.randn(1, 1, 2, 1, generator=generator)
    return state


def lightning(state: dict[str, torch.Tensor]) -> dict:
    """What Lightning saves in training: the averaged weights are the ones to have."""
    wrapped = {f"diffusion.{k}": v + 1 if k.startswith("model.") else v for k, v in state.items()}
    average = {
        k.replace("model.", "diffusion_ema.ema_model.", 1): v for k, v in state.items() if k.startswith("model.")
    }
    counters = {"diffusion_ema.initted": torch.tensor(True), "diffusion_ema.step": torch.tensor(7)}
    return {"epoch": 3, "global_step": 7, "pytorch-lightning_version": "2.1.0", "optimizer_states": [{}]} | {
        "state_dict": wrapped | average | counters
    }


def make(root: Path) -> None:
    """Folders by objective, and for v: a .ckpt (unwrapped), Lightning's, and one with prefixes."""
    from safetensors.torch import save_file

    save_text_encoder(root / "text_encoder")
    for objective in OBJECTIVES:
        config = config_of(objective)
        torch.manual_seed(len(objective))
        model = library_model(config, root)
        randomise(model, 3)
        state = {key: value.contiguous() for key, value in model.state_dict().items()}
        config["model"]["conditioning"]["configs"][0]["config"]["t5_model_name"] = "../text_encoder"
        kinds = [objective] if objective != "v" else ["v", "v_ckpt", "v_lightning", "v_prefixes"]
        for kind in kinds:
            (root / kind).mkdir()
            (root / kind / "model_config.json").write_text(json.dumps(config))
        save_file(state, root / objective / "model.safetensors")
        if objective == "v":
            torch.save({"state_dict": state}, root / "v_ckpt/some name.ckpt")
            torch.save(lightning(state), root / "v_lightning/model.ckpt")
            config["model"]["diffusion"]["config"]["adapter_present"] = True
            (root / "v_prefixes/model_config.json").write_text(json.dumps(config))
            torch.save(lightning(state | prefix_state()), root / "v_prefixes/model.ckpt")


def largest(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).abs().max())


def library_inputs(model: torch.nn.Module) -> dict:
    rows = [{"prompt": p, "seconds_start": 0, "seconds_total": s} for p, s in zip(PROMPTS, SECONDS, strict=True)]
    return model.get_conditioning_inputs(model.conditioner(rows, "cpu"))


def task() -> tuple[torch.Tensor, torch.Tensor]:
    """Noisy latents [2, D, L] and times [2]."""
    generator = torch.Generator().manual_seed(2)
    return torch.randn(2, 8, FRAMES, generator=generator), torch.tensor([0.9, 0.3])


def compare_parts(theirs: torch.nn.Module, ours) -> dict[str, float]:
    """Velocity, encoder and decoder."""
    x, t = task()
    condition = ours.condition(PROMPTS, SECONDS)
    velocity = theirs.model(x, t, **library_inputs(theirs))
    audio = 0.3 * torch.randn(2, 2, FRAMES * HOP, generator=torch.Generator().manual_seed(4))
    torch.manual_seed(6)
    drawn = theirs.pretransform.encode(audio)
    torch.manual_seed(6)
    _, info = theirs.pretransform.model.encode(audio, return_info=True)
    spread = F.softplus(info["pre_bottleneck_latents"].chunk(2, 1)[1]) + 1e-4
    torch.manual_seed(6)
    from_mean = ours.encode(audio) + spread * torch.randn_like(spread) / 1.3
    t5 = theirs.conditioner.conditioners["prompt"]
    exact, t5.__dict__["model"] = t5.model, copy.deepcopy(t5.model).half()
    with_half_t5 = theirs.model(x, t, **library_inputs(theirs))
    t5.__dict__["model"] = exact
    return {
        "velocity": largest(velocity, ours.predict(x, t, condition)),
        "velocity_size": float(velocity.abs().max()),
        "velocity_with_t5_in_half": largest(with_half_t5, velocity),
        "without_condition": largest(velocity, ours.predict(x, t, condition.unconditional())),
        "encode": largest(drawn, from_mean),
        "decode": largest(theirs.pretransform.decode(x), ours.decode(x)),
        "padding": largest(ours.encode(audio[:, :, :9000]), ours.encode(F.pad(audio[:, :, :9000], (0, 20000)))),
    }


def compare_short(theirs: torch.nn.Module, ours) -> dict[str, float]:
    """Network, encoder and decoder at half of the frames, called by hand; `ours` stays so short."""
    frames = FRAMES // 2
    ours.set_frames(frames)
    x, t = task()
    x = x[:, :, :frames]
    audio = 0.3 * torch.randn(2, 2, FRAMES * HOP, generator=torch.Generator().manual_seed(4))
    encoded = theirs.pretransform.model.encode(audio[:, :, : frames * HOP], skip_bottleneck=True).chunk(2, dim=1)[0]
    velocity = ours.predict(x, t, ours.condition(PROMPTS, SECONDS))
    return {
        "short_velocity": largest(theirs.model(x, t, **library_inputs(theirs)), velocity),
        "short_encode": largest(encoded / theirs.pretransform.scale, ours.encode(audio)),
        "short_decode": largest(theirs.pretransform.decode(x), ours.decode(x)),
        "short_seconds": ours.max_seconds,
    }


def compare_recomputation(model: str) -> dict[str, object]:
    """Gradients with activations that are kept and that are computed again, and passes through the blocks."""
    from synthio.models.adapters import make_trainable
    from synthio.models.load import load_text_to_audio

    x, t = task()
    gradients, passes = [], []
    for again in (False, True):
        ours = load_text_to_audio(model)
        if again:
            ours.recompute_activations()
        calls: list[int] = []
        for block in ours.module.transformer.layers:
            block.register_forward_pre_hook(lambda *_, calls=calls: calls.append(1))
        trainable = make_trainable(ours, "lora", lora_rank=2)
        ours.predict(x, t, ours.condition(PROMPTS, SECONDS)).square().mean().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in trainable.parameters.values()]))
        passes.append(len(calls))
    return {"gradient": largest(*gradients), "size": float(gradients[0].abs().max()), "passes": passes}


class KeptNoise:
    """In place of k-diffusion's Brownian tree, whose own range its sigmas leave: fresh noise that is kept."""

    drawn: list[torch.Tensor]

    def __init__(self, x, *args, **kwargs):
        KeptNoise.drawn = []
        self.shape, self.generator = x.shape, torch.Generator().manual_seed(11)

    def __call__(self, sigma, sigma_next):
        KeptNoise.drawn.append(torch.randn(self.shape, generator=self.generator))
        return KeptNoise.drawn[-1]


def library_latents(theirs, sampler: str, steps: int, cfg_scale: float, **options) -> torch.Tensor:
    """What the library's own function generates, before decoding."""
    from stable_audio_tools.inference.generation import generate_diffusion_cond

    rows = [{"prompt": p, "seconds_start": 0, "seconds_total": s} for p, s in zip(PROMPTS, SECONDS, strict=True)]
    return generate_diffusion_cond(
        theirs, steps=steps, cfg_scale=cfg_scale, conditioning=rows, batch_size=2, sample_size=FRAMES * HOP, seed=8,
        device="cpu", sampler_type=sampler, return_latents=True, **options,
    )  # fmt: skip


def compare_v_samples(theirs, ours) -> dict[str, float]:
    """DPM-Solver++ 3M SDE from noise, and from init latents at k-diffusion's sigma 20."""
    import k_diffusion
    from stable_audio_tools.inference.sampling import sample_k

    from synthio.generation import sampling

    k_diffusion.sampling.BrownianTreeNoiseSampler = KeptNoise
    denoise = sampling.denoiser("v", sampling.guided(ours, ours.condition(PROMPTS, SECONDS), 4.0))
    torch.manual_seed(8)
    z = torch.randn(2, 8, FRAMES)

    def solve(start: float, init: torch.Tensor) -> torch.Tensor:
        drawn, levels = iter(KeptNoise.drawn), sampling.schedule("v", "dpmpp_3m_sde", 25, start)
        return sampling.dpmpp_3m_sde(denoise, levels[0].sigma * z + levels[0].alpha * init, levels, lambda: next(drawn))

    expected = library_latents(theirs, "dpmpp-3m-sde", 25, 4.0, sigma_min=0.03, sigma_max=500)
    found = {"samples": largest(expected, solve(1.0, torch.zeros_like(z))), "samples_size": float(expected.abs().max())}
    init = task()[0]
    expected = sample_k(theirs.model, z, init, 25, "dpmpp-3m-sde", 0.03, 20, device="cpu", cfg_scale=4.0,
                        batch_cfg=True, **library_inputs(theirs))  # fmt: skip
    return found | {"samples_from_init": largest(expected, solve(math.atan(20) * 2 / math.pi, init))}


def compare_flow_samples(theirs, ours) -> dict[str, float]:
    """Euler over the library's schedule with guidance, and eight pingpong steps without."""
    from synthio.generation import sampling

    condition, levels = ours.condition(PROMPTS, SECONDS), sampling.schedule("rectified_flow", "pingpong", 8)
    guided = sampling.denoiser("rectified_flow", sampling.guided(ours, condition, 4.0))
    plain = sampling.denoiser("rectified_flow", sampling.guided(ours, condition, 1.0))
    torch.manual_seed(8)
    z = torch.randn(2, 8, FRAMES)
    pingpong = sampling.pingpong(plain, z, levels, lambda: torch.randn_like(z))
    expected = library_latents(theirs, "euler", 8, 4.0)
    return {
        "samples": largest(expected, sampling.euler(guided, z, levels, lambda: z)),
        "samples_size": float(expected.abs().max()),
        "pingpong": largest(library_latents(theirs, "pingpong", 8, 1.0), pingpong),
    }


def prefixed_attention(layer, prefixes: dict[str, torch.Tensor], name: str):
    """The forward pass of an attention layer with a prefix, written out from its formula."""
    from stable_audio_tools.models.transformer import apply_rotary_pos_emb

    tokens, gate = prefixes[f"{name}.adapter_wte.weight"], prefixes[f"{name}.gating_factor"].reshape(1, 2, 1, 1)

    def heads(x):
        x = x.unflatten(-1, (-1, 64)).transpose(-2, -3)
        return x if x.shape[-3] == 2 else x.expand(*x.shape[:-3], 2, *x.shape[-2:])

    def attend(q, k, v):
        return (q @ k.transpose(-1, -2) / 8).softmax(-1) @ v

    def forward(x, context=None, rotary_pos_emb=None, **_):
        if context is None:
            q, k, v = map(heads, layer.to_qkv(x).chunk(3, -1))
            prefix_k, prefix_v = map(heads, layer.to_qkv(tokens).chunk(3, -1)[1:])
            q, k = (apply_rotary_pos_emb(part, rotary_pos_emb[0]) for part in (q, k))
        else:
            q, (k, v) = heads(layer.to_q(x)), map(heads, layer.to_kv(context).chunk(2, -1))
            prefix_k, prefix_v = map(heads, layer.to_kv(tokens).chunk(2, -1))
        out = attend(q, k, v) + gate * attend(q, prefix_k, prefix_v)
        return layer.to_out(out.transpose(1, 2).flatten(2))

    return forward


def compare_prefixes(theirs, ours) -> dict[str, float]:
    x, t = task()
    without = theirs.model(x, t, **library_inputs(theirs))
    for i, block in enumerate(theirs.model.model.transformer.layers):
        for kind in ("self_attn", "cross_attn"):
            layer = getattr(block, kind)
            layer.forward = prefixed_attention(layer, prefix_state(), f"model.model.transformer.layers.{i}.{kind}")
    with_ = theirs.model(x, t, **library_inputs(theirs))
    condition = ours.condition(PROMPTS, SECONDS)
    with ours.module.disable_adapter():
        disabled = ours.predict(x, t, condition)
    return {
        "velocity": largest(with_, ours.predict(x, t, condition)),
        "effect": largest(with_, without),
        "disabled": largest(disabled, without),
    }


def compare_adapter(model: str, kind: str, folder: Path) -> dict[str, float]:
    """A new adapter changes nothing, a step of training does, and what is saved is what is loaded."""
    from synthio.models.adapters import make_trainable, write_adapter
    from synthio.models.load import load_text_to_audio

    x, t = task()
    ours = load_text_to_audio(model)
    condition = ours.condition(PROMPTS, SECONDS).dropped(torch.tensor([True, False]))
    with torch.no_grad():
        before = ours.predict(x, t, condition)
    trainable = make_trainable(ours, kind, lora_rank=2, prefix_tokens=PREFIX_TOKENS)
    with torch.no_grad():
        start = ours.predict(x, t, condition)
    optimizer = torch.optim.AdamW(trainable.parameters.values(), lr=0.01)
    for _ in range(2):
        optimizer.zero_grad()
        ours.predict(x, t, condition).square().mean().backward()
        optimizer.step()
    with torch.no_grad():
        after = ours.predict(x, t, condition)
        with trainable.reference():
            reference = ours.predict(x, t, condition)
        write_adapter(trainable, folder)
        loaded = load_text_to_audio(model, str(folder)).predict(x, t, condition)
    return {
        "start": largest(before, start),
        "effect": largest(before, after),
        "reference": largest(before, reference),
        "loaded": largest(after, loaded),
    }


def compare_precision(exact, half) -> dict[str, float]:
    """The velocity under autocast against that in float32, and the size of the latter."""
    x, t = task()
    with torch.no_grad():
        velocities = [model.predict(x, t, model.condition(PROMPTS, SECONDS)) for model in (exact, half)]
    return {"velocity": largest(*velocities), "size": float(velocities[0].std())}


def compare(root: Path) -> dict[str, dict]:
    from synthio.models.load import load_text_to_audio
    from synthio.models.tools_checkpoint import find_model

    found = {}
    for name in ("v", "v_ckpt", "v_lightning", "rectified_flow", "rf_denoiser"):
        objective = name.partition("_")[0] if name.startswith("v") else name
        theirs = library_model(config_of(objective), root)
        theirs.load_state_dict(library_state(root / objective / "model.safetensors"))
        ours = load_text_to_audio(str(root / name))
        samples = compare_v_samples if objective == "v" else compare_flow_samples
        with torch.no_grad():
            found[name] = compare_parts(theirs, ours) | (samples(theirs, ours) if name == objective else {})
            found[name] |= compare_short(theirs, load_text_to_audio(str(root / name)))
        found[name] |= {"objective": ours.objective, "distilled": ours.distilled, "name": ours.name}
        found[name] |= {"shape": list(ours.latent_shape), "max_seconds": ours.max_seconds, "channels": ours.channels}
        if name == "v":
            found["again"] = compare_recomputation(str(root / name))
            found["bfloat16"] = compare_precision(ours, load_text_to_audio(str(root / name), dtype="bfloat16"))
            ours = load_text_to_audio(str(root / "v_prefixes" / "model.ckpt"))
            with torch.no_grad():
                found["prefixes"] = compare_prefixes(theirs, ours)
    for model in ("v", "v_prefixes", "rf_denoiser"):
        for kind in ("lora", "prefix", "all"):
            path = str(find_model(str(root / model)).checkpoint)
            found[f"{model} {kind}"] = compare_adapter(path, kind, root / f"adapter_{model}_{kind}")
    return found


def library_state(path: Path) -> dict[str, torch.Tensor]:
    from stable_audio_tools.models.utils import load_ckpt_state_dict

    return load_ckpt_state_dict(str(path))


def published(configs: dict) -> dict[str, dict[str, int]]:
    """Parameters of configs at full size, on the meta device; their T5, of which no weight counts, is a small one."""
    from stable_audio_tools.models.factory import create_model_from_config

    from synthio.models.tools_prefix import ToolsPrefixModel

    counts = {}
    for name, config in configs.items():
        config["model"]["conditioning"]["configs"] = [
            part for part in config["model"]["conditioning"]["configs"] if part["type"] != "t5"
        ]
        prefixed = config["model"]["diffusion"]["config"].pop("adapter_present", False)
        with torch.device("meta"):
            model = create_model_from_config(config)
        count = {"dit": model.model, "autoencoder": model.pretransform, "conditioner": model.conditioner}
        counts[name] = {part: sum(p.numel() for p in module.parameters()) for part, module in count.items()}
        if prefixed:
            module = ToolsPrefixModel(model.model.model, 20, gate="linear")
            counts[name]["prefixes"] = sum(p.numel() for p in module.prefixes.parameters())
    return counts


def main(action: str, argument: str) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        if action == "make":
            make(Path(argument))
        result = {"compare": compare, "published": lambda path: published(json.loads(path.read_text()))}.get(action)
        found = result(Path(argument)) if result else {}
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
