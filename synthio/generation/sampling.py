"""Sampling over the `TextToAudio` interface: schedules, guidance, solvers, and noise that belongs to its clip.

A solver is a function `(denoise, x, levels, noise) -> latents`:

* `denoise(x, level)` gives the network's estimates of (data, noise), each [B, D, L], so one solver serves both
  objectives;
* `levels` are the points of the schedule, from the noisiest down to data. Their coefficients are Python floats in
  double precision: alpha of a v model at sigma 500 is .002, of which a time in float32 leaves four digits;
* `noise()` is a fresh standard normal [B, D, L] for the solvers that add noise on the way.

The exponential integrators (DPM-Solver++) work in lambda = log(alpha / sigma), the half log signal-to-noise ratio. In
x / alpha they are the solvers of k-diffusion, whose sigma is sigma / alpha here.

SDE noise is drawn anew at each step from the generator of its clip. A solver visits each step once, and over steps that
do not overlap the increments of a Brownian path are independent normals: so the law is the same as with a Brownian
interval. That would also tie runs of different step counts to one path, which nothing here needs, and costs a
dependency that recurses without end when rounding puts a sigma outside its range. Here there is no range to leave.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from synthio.cli import UserError
from synthio.generation.diffusion import alpha_sigma, solve
from synthio.generation.options import FLOW_ONLY, SAMPLERS
from synthio.models.base import Condition, Objective, TextToAudio

# Stable Audio's noise range for v models: sigma_min .03, sigma_max 500 in x = data + sigma * noise.
V_SIGMA_RANGE = (0.03, 500.0)
# Few-step schedule of distilled flows (Stable Audio Open Small): lambda from -6 to 2, then the ends moved to pure noise
# and to data.
PINGPONG_LAMBDA_RANGE = (-6.0, 2.0)

Estimates = tuple[torch.Tensor, torch.Tensor]
Denoise = Callable[[torch.Tensor, "Level"], Estimates]
Noise = Callable[[], torch.Tensor]
Solver = Callable[[Denoise, torch.Tensor, Sequence["Level"], Noise], torch.Tensor]


@dataclass(frozen=True)
class Level:
    """A point of a schedule: x = alpha * data + sigma * noise at `time`, from 0 (data) to 1 (noise)."""

    time: float
    alpha: float
    sigma: float

    @property
    def half_log_snr(self) -> float:
        """lambda = log(alpha / sigma): -inf at pure noise, inf at data."""
        if self.sigma == 0:
            return math.inf
        return math.log(self.alpha / self.sigma) if self.alpha > 0 else -math.inf


def level_at(objective: Objective, time: float) -> Level:
    """The level of a time, with coefficients in double precision."""
    alpha, sigma = alpha_sigma(objective, torch.tensor(time, dtype=torch.float64))
    return Level(time, float(alpha), float(sigma))


def schedule(
    objective: Objective,
    sampler: str,
    num_steps: int,
    start: float = 1.0,
    noise_range: tuple[float, float] | None = None,
) -> list[Level]:
    """Levels from the time `start` down to data, num_steps + 1 of them, strictly falling (but see below).

    Rectified flow: evenly spaced times, but for "pingpong" evenly spaced lambda. v: evenly spaced log sigma over Stable
    Audio's range (the "exponential" schedule of k-diffusion), then 0.

    Args:
        objective: "v" or "rectified_flow".
        sampler: a name of SAMPLERS.
        num_steps: at least 1.
        start: time of the first level.
        noise_range: the checkpoint's own. v: (sigma_min, sigma_max) in place of Stable Audio's. Rectified flow:
            (lambda_min, lambda_max) of evenly spaced lambda for every sampler; for Euler and pingpong those are
            Stable Audio 3's own levels, of which the second is above a `start` under 1.

    Raises:
        ValueError: num_steps below 1, or start outside (0, 1].
    """
    if num_steps < 1:
        raise ValueError(f"num_steps must be at least 1, got {num_steps}")
    if not 0 < start <= 1:
        raise ValueError(f"the schedule must start in (0, 1], got {start}")
    if objective == "v":
        times = _v_times(num_steps, start, noise_range or V_SIGMA_RANGE)
    elif noise_range and sampler in ("euler", "pingpong"):
        times = _stable_audio_3_times(num_steps, start, noise_range)
    elif noise_range or sampler == "pingpong":
        times = _lambda_times(num_steps, start, noise_range or PINGPONG_LAMBDA_RANGE)
    else:
        times = [start * (1 - k / num_steps) for k in range(num_steps + 1)]
    return [level_at(objective, time) for time in times]


def _v_times(num_steps: int, start: float, sigma_range: tuple[float, float]) -> list[float]:
    low, high = sigma_range
    high = min(high, math.tan(start * math.pi / 2))
    # A start near data may lie under the range: then the steps go on down to half of where they start.
    low = min(low, high / 2)
    ratio = math.log(low / high) / max(1, num_steps - 1)
    return [math.atan(high * math.exp(k * ratio)) * 2 / math.pi for k in range(num_steps)] + [0.0]


def _stable_audio_3_times(num_steps: int, start: float, lambda_range: tuple[float, float]) -> list[float]:
    """lambda falls evenly in t as t goes from `start` to 0, but the ends are `start` and data.

    At t near a `start` under 1 that lambda is noisier than `start` itself: the first step goes up. The checkpoints'
    makers sample like this, so their advice on the noise level to start at holds here too.
    """
    low, high = lambda_range
    ramp = [start * (1 - k / num_steps) for k in range(1, num_steps)]
    return [start, *(1 / (1 + math.exp(high - t * (high - low))) for t in ramp), 0.0]


def _lambda_times(num_steps: int, start: float, lambda_range: tuple[float, float]) -> list[float]:
    high, low = lambda_range
    if start < 1:
        high = max(high, math.log((1 - start) / start))
    low = max(low, high + math.log(2))
    inner = [high + (low - high) * k / num_steps for k in range(1, num_steps)]
    return [start, *(1 / (1 + math.exp(value)) for value in inner), 0.0]


def clip_noise(seeds: Sequence[int], latent_shape: tuple[int, int], device: torch.device | str = "cpu") -> Noise:
    """A source of standard normals [B, D, L]; row b of every draw comes from seeds[b] alone, drawn on the CPU.

    A clip's noise depends on neither its batch, its shard nor the device.
    """
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def draw() -> torch.Tensor:
        return torch.stack([torch.randn(latent_shape, generator=g) for g in generators]).to(device)

    return draw


def guided(
    model: TextToAudio, condition: Condition, cfg_scale: float, cfg_rescale: float = 0.0
) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """The network with classifier-free guidance (Ho and Salimans 2022): u + scale * (c - u); scale 1 = plain.

    cfg_rescale (Lin et al. 2023, section 3.4) brings the standard deviation of each clip's guided output back to that
    of its conditional output: 0 not at all, 1 entirely, between them a mixture.
    """
    if cfg_scale == 1.0:
        return lambda x, t: model.predict(x, t, condition)
    both = Condition.joined([condition.unconditional(), condition])

    def predict(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        without, with_ = model.predict(torch.cat([x, x]), torch.cat([t, t]), both).chunk(2)
        out = without + cfg_scale * (with_ - without)
        if not cfg_rescale:
            return out
        gain = with_.std(dim=(1, 2), keepdim=True) / out.std(dim=(1, 2), keepdim=True)
        return out * (1 + cfg_rescale * (gain - 1))

    return predict


def denoiser(objective: Objective, predict: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> Denoise:
    """Turn a network's output into estimates of (data, noise)."""

    def denoise(x: torch.Tensor, level: Level) -> Estimates:
        t = x.new_full((len(x),), level.time)
        return solve(objective, x, predict(x, t), t)

    return denoise


def euler(denoise: Denoise, x: torch.Tensor, levels: Sequence[Level], noise: Noise) -> torch.Tensor:
    """Mix the estimates anew for the next level: Euler for a flow, DDIM (eta 0) for v."""
    for now, then in itertools.pairwise(levels):
        data, estimate = denoise(x, now)
        x = then.alpha * data + then.sigma * estimate
    return x


def heun(denoise: Denoise, x: torch.Tensor, levels: Sequence[Level], noise: Noise) -> torch.Tensor:
    """Second-order Heun on a rectified flow, dx/dt = noise - data; the last step is Euler."""
    for now, then in itertools.pairwise(levels):
        data, estimate = denoise(x, now)
        slope, dt = estimate - data, then.time - now.time
        if then.sigma > 0:
            data, estimate = denoise(x + dt * slope, then)
            slope = (slope + estimate - data) / 2
        x = x + dt * slope
    return x


def _differences(data: torch.Tensor, history: Sequence[tuple[torch.Tensor, float]]):
    """Slope of the data estimate along lambda now, and its second divided difference (half the second derivative).

    Args:
        data: the estimate now.
        history: (estimate, step in lambda that followed it) of up to two steps before, oldest first; what it is too
            short for is 0. So is what lies before a step from pure noise, which is infinite.
    """
    slope: torch.Tensor | float = 0.0
    curve: torch.Tensor | float = 0.0
    if history:
        last, h = history[-1]
        slope = (data - last) / h
    if len(history) > 1:
        before, h_before = history[-2]
        curve = (slope - (last - before) / h_before) / (h + h_before)
        slope = slope + h * curve
    return slope, curve


def dpmpp_2m(
    denoise: Denoise, x: torch.Tensor, levels: Sequence[Level], noise: Noise, eta: float = 0.0
) -> torch.Tensor:
    """DPM-Solver++(2M), Lu et al. 2022 (algorithm 2): the data estimate is carried on to the middle of the step.

    eta 1 is its SDE: see `dpmpp_3m_sde` for the step.
    """
    history: list[tuple[torch.Tensor, float]] = []
    for now, then in itertools.pairwise(levels):
        data, _ = denoise(x, now)
        if then.sigma == 0:
            return data
        h = then.half_log_snr - now.half_log_snr
        ahead = data
        if history:
            slope, _ = _differences(data, history)
            ahead = data + h / 2 * slope
        decay = math.exp(-eta * h) if eta else 1
        x = then.sigma / now.sigma * decay * x - then.alpha * math.expm1(-(1 + eta) * h) * ahead
        if eta:
            x = x + then.sigma * math.sqrt(-math.expm1(-2 * eta * h)) * noise()
        history = [(data, h)]
    return x


def dpmpp_2m_sde(denoise: Denoise, x: torch.Tensor, levels: Sequence[Level], noise: Noise) -> torch.Tensor:
    """DPM-Solver++(2M) SDE, the solver of diffusers' StableAudioPipeline."""
    return dpmpp_2m(denoise, x, levels, noise, eta=1.0)


def dpmpp_3m_sde(
    denoise: Denoise, x: torch.Tensor, levels: Sequence[Level], noise: Noise, eta: float = 1.0
) -> torch.Tensor:
    """DPM-Solver++(3M) SDE, the solver of Stable Audio and of the paper; eta 0 is its noiseless form.

    For a data estimate that runs along a parabola, data + slope * s + curve * s^2 at lambda + s, and H = (1 + eta) h,
    the step is

        x' = sigma'/sigma e^(-eta h) x + alpha' ((1 - e^-H) data + phi_2 h slope - 2 phi_3 h^2 curve)
             + sigma' sqrt(1 - e^(-2 eta h)) noise,     phi_2 = (e^-H - 1) / H + 1,     phi_3 = phi_2 / H - 1/2.

    The published solver, k-diffusion's and diffusers' alike, has phi_3 in place of 2 phi_3. That leaves it of second
    order, with about a third of the error of 2M (eta 0, Gaussian data); 2 phi_3 would make it third. It is kept: the
    paper and Stable Audio sampled with it.
    """
    history: list[tuple[torch.Tensor, float]] = []
    for now, then in itertools.pairwise(levels):
        data, _ = denoise(x, now)
        if then.sigma == 0:
            return data
        h = then.half_log_snr - now.half_log_snr
        both = (1 + eta) * h
        x = then.sigma / now.sigma * (math.exp(-eta * h) if eta else 1) * x - then.alpha * math.expm1(-both) * data
        if history:
            slope, curve = _differences(data, history)
            phi_2 = math.expm1(-both) / both + 1
            phi_3 = phi_2 / both - 0.5
            x = x + then.alpha * (phi_2 * h * slope - phi_3 * h**2 * curve)
        if eta:
            x = x + then.sigma * math.sqrt(-math.expm1(-2 * eta * h)) * noise()
        history = [*history[-1:], (data, h)]
    return x


def pingpong(denoise: Denoise, x: torch.Tensor, levels: Sequence[Level], noise: Noise) -> torch.Tensor:
    """Jump to the data estimate and back to the next level with fresh noise: for few-step distilled flows (ARC)."""
    for now, then in itertools.pairwise(levels):
        x, _ = denoise(x, now)
        if then.sigma > 0:
            x = then.alpha * x + then.sigma * noise()
    return x


SOLVERS: dict[str, Solver] = {name: globals()[name] for name in SAMPLERS}


def check_sampler(sampler: str, objective: Objective) -> None:
    """Refuse a sampler that is unknown, or is not for models of this objective."""
    if sampler not in SAMPLERS:
        raise UserError(f"unknown sampler '{sampler}'; choose from {', '.join(SAMPLERS)}")
    if objective == "v" and sampler in FLOW_ONLY:
        raise UserError(
            f"sampler '{sampler}' is for rectified-flow models, and this one is a v model; use dpmpp_3m_sde or dpmpp_2m"
        )


@torch.no_grad()
def sample(
    model: TextToAudio,
    condition: Condition,
    seeds: Sequence[int],
    *,
    num_steps: int,
    cfg_scale: float,
    sampler: str,
    cfg_rescale: float = 0.0,
    init_latents: torch.Tensor | None = None,
    init_noise_level: float = 1.0,
    num_frames: int | None = None,
) -> torch.Tensor:
    """Draw one clip per seed.

    Args:
        model: any backend.
        condition: B rows, each with its own prompt and length.
        seeds: B seeds; clip b depends on seeds[b] and row b of the other arguments only.
        num_steps: network evaluations (heun: twice as many, less one).
        cfg_scale: guidance; 1 is none.
        sampler: a name of SAMPLERS.
        cfg_rescale: see `guided`.
        init_latents: [B, D, L] latents of the sound that each clip starts from, instead of pure noise.
        init_noise_level: the time to start at with `init_latents`: near 0 keeps the sound, 1 forgets it.
        num_frames: latent frames L of every clip; None: the model's.

    Returns:
        Latents [B, D, L].

    Raises:
        ValueError: the sampler is not for this model, or the arguments differ in their number of clips.
    """
    check_sampler(sampler, model.objective)
    if len(condition) != len(seeds) or (init_latents is not None and len(init_latents) != len(seeds)):
        raise ValueError("condition, seeds and init_latents must have one row for each clip")
    depth, length = model.latent_shape
    noise = clip_noise(seeds, (depth, num_frames or length), model.device)
    start = 1.0 if init_latents is None else init_noise_level
    levels = schedule(model.objective, sampler, num_steps, start, model.noise_range)
    x = levels[0].sigma * noise()
    if init_latents is not None:
        x = x + levels[0].alpha * init_latents
    predict = guided(model, condition, cfg_scale, cfg_rescale)
    return SOLVERS[sampler](denoiser(model.objective, predict), x, levels, noise)
