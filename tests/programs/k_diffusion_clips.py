"""Run k-diffusion's samplers with a small v network, in the environment parity:

    .envs/parity/bin/python tests/programs/k_diffusion_clips.py IN.npz OUT.npz

IN has the network's weights, `z` [B, D, L] (standard normal), `seeds` [B] and `num_steps`. OUT has the clips of each
sampler, the sigmas, and the noise that k-diffusion's Brownian trees gave at each step.
"""

from __future__ import annotations

import importlib.util
import sys
import types

import numpy as np
import torch
import torch.nn.functional as F

SIGMA_RANGE = (0.03, 500.0)


def network(weights: dict[str, torch.Tensor], x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """A v network [B, D, L] -> [B, D, L]: two convolutions, with Fourier features of the time between them."""
    angles = t[:, None] * weights["frequencies"]
    features = torch.cat([angles.sin(), angles.cos()], dim=1) @ weights["time"]
    hidden = torch.tanh(F.conv1d(x, weights["first"], padding=1) + features[:, :, None])
    return F.conv1d(hidden, weights["second"], padding=1)


def load_k_diffusion():
    """k_diffusion.sampling and k_diffusion.external, without the package's own __init__.

    That imports image models, CLIP and torchvision. The one import of torchvision that is left, in k_diffusion.utils,
    converts images, which no sampler does.
    """
    package = types.ModuleType("k_diffusion")
    package.__path__ = importlib.util.find_spec("k_diffusion").submodule_search_locations
    transforms = types.ModuleType("torchvision.transforms")
    transforms.functional = None
    sys.modules |= {"k_diffusion": package, "torchvision": types.ModuleType("torchvision")}
    sys.modules["torchvision.transforms"] = transforms
    from k_diffusion import external, sampling

    return sampling, external


def run(given: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Clips of every sampler, [B, D, L] each."""
    sampling, external = load_k_diffusion()
    denoiser = external.VDenoiser(lambda x, t: network(given, x, t))
    sigmas = sampling.get_sigmas_exponential(int(given["num_steps"]), *SIGMA_RANGE)
    x = given["z"] * sigmas[0]
    # Their own range, widened: at its very ends float32 puts sigmas outside, where the trees recurse without end.
    tree = sampling.BrownianTreeNoiseSampler(x, 0.99 * sigmas[-2], 1.01 * sigmas[0], seed=given["seeds"].tolist())
    drawn = []

    def noise(sigma, sigma_next):
        drawn.append(tree(sigma, sigma_next))
        return drawn[-1]

    options = {"disable": True}
    return {
        "dpmpp_3m_sde": sampling.sample_dpmpp_3m_sde(denoiser, x, sigmas, noise_sampler=noise, **options),
        "dpmpp_3m_ode": sampling.sample_dpmpp_3m_sde(denoiser, x, sigmas, eta=0.0, **options),
        "dpmpp_2m": sampling.sample_dpmpp_2m(denoiser, x, sigmas, **options),
        "sigmas": sigmas,
        "noise": torch.stack(drawn),
    }


if __name__ == "__main__":
    with np.load(sys.argv[1], allow_pickle=False) as arrays:
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    with torch.no_grad():
        np.savez(sys.argv[2], **{name: value.numpy() for name, value in run(tensors).items()})
