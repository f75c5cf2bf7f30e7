#!/usr/bin/env python3
"""Distil the generator of the embedded text-to-audio model: few evaluations a clip without guidance, from 24 with it.

    python extras/embedded/distil_generator.py
    python extras/embedded/distil_generator.py --student_steps 4 --steps 3000 --learning_rate 1.5e-4 --init ...

The student is the generator, with its own weights at the start. It learns to go from each of 8 levels to the next in
one evaluation, where the guided teacher takes 3 steps of 2: guidance distillation (Meng et al. 2023) and progressive
distillation (Salimans and Ho 2022) in one, on the teacher's own paths. These are walked once and kept. On a share of
the steps the student starts from where its own step before led, and is to come back to the path: errors of one step
are what the next one sees (the "pushforward" of Brandstetter et al. 2022). With --init and fewer --student_steps, a
student is distilled further.

Needs corpus.py and train_generator.py. Of the corpus it takes captions, and latents for the paths that start from a
clip, as those of `initialize_audio` do. Text encoder, projection and autoencoder stay as they are. Writes the folder
`distilled` beside the teacher's transformer, and how far its clips are from the teacher's.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]

import numpy as np
from training import recipe_parser

from synthio.cli import in_range, pick_device, progress, quiet_libraries, run_main, set_threads

LEVELS = 8  # steps of a path that are kept; the student's are as many, or fewer
TEACHER_STEPS = 3  # for each of them
GUIDANCE = 1.5
PATHS_AT_ONCE = 16
FROM_CLIP = 4  # one batch of paths in so many starts from clips with noise
SEED = 0xD157  # of the paths


def get_parser():
    parser = recipe_parser(__doc__, "text_to_audio", steps=1000, batch_size=16)
    add = parser.add_argument
    add("--paths", type=in_range(int, PATHS_AT_ONCE), default=1632, help="clips that the teacher makes")
    add("--student_steps", type=int, choices=(2, 4, 8), default=8, help="evaluations of the student for a clip")
    add("--init", default="", help="transformer that the student starts from; empty: the teacher's")
    add("--own_share", type=in_range(float, 0, 1), default=0.5, help="share of the steps from the student's own level")
    parser.set_defaults(learning_rate=1e-4)
    return parser


def draw_paths(corpus, number: int, heldout: bool = False) -> dict:
    """Captions, seconds and seeds of a batch of paths, and the clips and the level they start from."""
    rng = np.random.default_rng([SEED, heldout, number])
    rows = rng.choice(corpus.heldout, PATHS_AT_ONCE) if heldout else corpus.balanced_rows(rng, PATHS_AT_ONCE)
    from_clip = number % FROM_CLIP == FROM_CLIP - 1
    return {
        "captions": np.array([corpus.caption(row, rng) for row in rows]),
        "seconds": (corpus.lengths[rows] / 16000).astype(np.float32),
        "seeds": rng.integers(2**31, size=PATHS_AT_ONCE),
        "start": float(rng.uniform(0.3, 0.9)) if from_clip else 1.0,
        "rows": rows if from_clip else np.array([], int),
    }


def in_half(device: str):
    """bfloat16 for the matrix products, where the device is faster in it."""
    import torch

    able = device != "cpu" or torch.cpu._is_avx512_bf16_supported()
    return torch.autocast(torch.device(device).type, torch.bfloat16, enabled=able)


def walk(model, drawn: dict, corpus):
    """The guided teacher's latents at the levels of a path, [B, LEVELS + 1, D, L]."""
    import torch

    from synthio.generation.sampling import clip_noise, denoiser, euler, guided, schedule

    condition = model.condition(list(drawn["captions"]), drawn["seconds"])
    noise = clip_noise(drawn["seeds"].tolist(), model.latent_shape, model.device)
    levels = schedule(model.objective, "euler", LEVELS * TEACHER_STEPS, drawn["start"])
    x = levels[0].sigma * noise()
    if len(drawn["rows"]):
        x += levels[0].alpha * model.encode(torch.from_numpy(corpus.waveforms(drawn["rows"]))[:, None])
    denoise, path = denoiser(model.objective, guided(model, condition, GUIDANCE)), [x]
    with torch.no_grad(), in_half(str(model.device)):
        for first in range(0, LEVELS * TEACHER_STEPS, TEACHER_STEPS):
            x = euler(denoise, x, levels[first : first + TEACHER_STEPS + 1], noise)
            path.append(x)
    return torch.stack(path, dim=1)


def walk_paths(model, corpus, folder: Path, count: int, heldout: bool = False) -> list[Path]:
    """Files with a batch of the teacher's paths each, as many as hold `count`; those that are there stay."""
    from synthio.files import atomic_path

    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{'heldout' if heldout else 'train'}{i:04}.npz" for i in range(count // PATHS_AT_ONCE)]
    for number, file in enumerate(progress(files, "paths: batches")):
        if file.exists():
            continue
        drawn = draw_paths(corpus, number, heldout)
        path = walk(model, drawn, corpus).cpu().numpy().astype(np.float16)
        with atomic_path(file) as temporary, temporary.open("wb") as stream:
            np.savez(stream, path=path, **drawn)
    return files


class Paths:
    """Paths read back: what the student learns from.

    Attributes:
        path: float16 [N, LEVELS + 1, D, L].
        start: [N].
        cross, pooled: of the conditions, [N, S, E] and [N, 1, G].
    """

    def __init__(self, model, files: list[Path]):
        import torch

        parts = [dict(np.load(file)) for file in files]
        self.path = torch.from_numpy(np.concatenate([part["path"] for part in parts]))
        self.start = torch.from_numpy(np.repeat([part["start"] for part in parts], PATHS_AT_ONCE)).float()
        conditions = [model.condition(list(part["captions"]), part["seconds"]) for part in parts]
        self.cross = torch.cat([condition.cross.cpu() for condition in conditions])
        self.pooled = torch.cat([condition.pooled.cpu() for condition in conditions])

    def step_batch(self, rng: np.random.Generator, count: int, steps: int, own_share: float) -> dict:
        """Random ones of `steps` steps: latents before, at and after, the three times, which are of its own level.

        The first step of a path has none before; there the student starts from the path.
        """
        import torch

        rows, at = rng.integers(len(self.path), size=count), rng.integers(steps, size=count)
        own = (rng.random(count) < own_share) & (at > 0)
        places = np.stack([np.maximum(at - 1, 0), at, at + 1]) * (LEVELS // steps)
        times = self.start[rows] * (1 - torch.from_numpy(places).float() / LEVELS)
        latents = torch.stack([self.path[rows, place] for place in places]).float()
        states = {"cross": self.cross[rows], "pooled": self.pooled[rows]}
        return states | {"latents": latents, "times": times, "own": torch.from_numpy(own)}


def velocity(model, x, t, cross, pooled):
    """The student's mean velocity over the step from time t."""
    from synthio.models.base import Condition

    with in_half(str(x.device)):
        return model.predict(x, t, Condition(cross, pooled))


def step_loss(model, batch: dict):
    """Mean squared error of the velocity that leads from a level to the path's next one."""
    import torch

    (before, x, after), (t_before, t, t_after), own = batch["latents"], batch["times"], batch["own"]
    cross, pooled = batch["cross"], batch["pooled"]
    if own.any():
        with torch.no_grad():
            slope = velocity(model, before[own], t_before[own], cross[own], pooled[own])
        x = x.clone()
        x[own] = before[own] + (t - t_before)[own, None, None] * slope
    target = (after - x) / (t_after - t)[:, None, None]
    return (velocity(model, x, t, cross, pooled) - target).square().mean()


def distance(model, paths: Paths, steps: int) -> dict[str, float]:
    """How far the student's clips of `steps` steps are from the teacher's: root mean square over that of the latents.

    By what the paths start from: noise alone, or a clip with noise.
    """
    import torch

    from synthio.generation.sampling import denoiser, euler, guided, schedule
    from synthio.models.base import Condition

    squares: dict[str, list[torch.Tensor]] = {"noise": [], "clip": []}
    for start in paths.start.unique():
        rows = paths.start == start
        predict = guided(model, Condition(paths.cross[rows], paths.pooled[rows]), 1.0)
        with torch.no_grad():
            levels = schedule(model.objective, "euler", steps, float(start))
            made = euler(denoiser(model.objective, predict), paths.path[rows, 0].float(), levels, None)
        wanted = paths.path[rows, -1].float()
        error = (made - wanted).square().mean() / wanted.square().mean()
        squares["noise" if start == 1 else "clip"].append(error)
    return {
        f"distance_from_{kind}": float(torch.stack(found).mean().sqrt()) for kind, found in squares.items() if found
    }


def main() -> int:
    args = get_parser().parse_args()
    import torch
    from corpus import Corpus
    from training import fit, save_half

    from synthio.files import fingerprint, write_json
    from synthio.models.load import load_text_to_audio

    quiet_libraries()
    set_threads()
    corpus = Corpus(args.cache)
    model = load_text_to_audio(str(args.output), device=pick_device(args.device))
    folder = args.scratch / f"paths_{fingerprint(args.output / 'transformer')[:12]}"
    train = walk_paths(model, corpus, folder, args.paths)
    heldout = walk_paths(model, corpus, folder, FROM_CLIP * PATHS_AT_ONCE, heldout=True)
    paths, others = Paths(model, train), Paths(model, heldout)
    if args.init:
        model.module.load_state_dict(type(model.module).from_pretrained(args.init).float().state_dict())
    student = model.module.train().requires_grad_(True)

    def batch_of(step: int):
        rng = np.random.default_rng([args.seed, 8, step])
        return paths.step_batch(rng, args.batch_size, args.student_steps, args.own_share)

    def loss_of(batch):
        return {"loss": step_loss(model, batch)}

    def export():
        model.device = torch.device("cpu")
        save_half(student, args.output / "distilled")
        metrics = distance(model, others, args.student_steps)
        sampling = {"sampler": "euler", "num_steps": args.student_steps, "cfg_scale": 1.0}
        write_json(args.output / "distilled/sampling.json", sampling)
        write_json(args.output / "metrics_distillation.json", metrics)
        print(metrics, flush=True)

    fit(f"distilled_{args.student_steps}", student, batch_of, loss_of, args=args, export=export, warmup=40)
    return 0


if __name__ == "__main__":
    run_main(main)
