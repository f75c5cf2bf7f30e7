"""AST as its paper describes it, around any DeiT: what our conversion is compared with.

    .envs/ast/bin/python tests/programs/original_ast.py FOLDER

writes, with timm's DeiT and random weights, a checkpoint in the AST repository's format (checkpoint.pth) and a
safetensors file of inputs and logits for each input length (io.safetensors).
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

CLASSES, BANDS, PATCH = 7, 128, 16
LENGTHS = {"same": 1024, "shorter": 512, "odd": 300, "longer": 1300}  # frames


def grid(frames: int, stride: int) -> tuple[int, int]:
    """Rows and columns of patches (Gong et al. 2021, section 2.1: overlap of 6 at stride 10)."""
    return (BANDS - PATCH) // stride + 1, (frames - PATCH) // stride + 1


class OriginalAst(nn.Module):
    """The network of the AST repository.

    Args:
        deit: a DeiT with two special tokens, by timm's names: cls_token, dist_token, pos_embed, patch_embed.proj,
            blocks, norm, head, head_dist.
        stride: of the patches, in frequency and time.
        frames: input length.
        classes: number of logits.
    """

    def __init__(self, deit: nn.Module, stride: int, frames: int, classes: int):
        super().__init__()
        self.v, self.stride, self.frames = deit, stride, frames
        width = deit.cls_token.shape[-1]
        deit.patch_embed.proj = nn.Conv2d(1, width, PATCH, stride=stride)
        rows, columns = grid(frames, stride)
        deit.pos_embed = nn.Parameter(0.5 * torch.randn(1, 2 + rows * columns, width))
        self.mlp_head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, classes))

    def positions(self, frames: int) -> torch.Tensor:
        """The embedding for another length: its middle columns for a shorter one, stretched for a longer one."""
        special, table = self.v.pos_embed[:, :2], self.v.pos_embed[:, 2:]
        rows, old = grid(self.frames, self.stride)
        new = grid(frames, self.stride)[1]
        table = table.reshape(1, rows, old, -1).permute(0, 3, 1, 2)
        if new < old:
            middle = old // 2
            table = table[:, :, :, middle - new // 2 : middle - new // 2 + new]
        elif new > old:
            table = F.interpolate(table, size=(rows, new), mode="bilinear")
        return torch.cat([special, table.flatten(2).transpose(1, 2)], dim=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Features [B, frames, bands] -> logits [B, classes]."""
        tokens = self.v.patch_embed.proj(x.transpose(1, 2)[:, None]).flatten(2).transpose(1, 2)
        special = [token.expand(len(x), -1, -1) for token in (self.v.cls_token, self.v.dist_token)]
        tokens = torch.cat([*special, tokens], dim=1) + self.positions(x.shape[1])
        for block in self.v.blocks:
            tokens = block(tokens)
        tokens = self.v.norm(tokens)
        return self.mlp_head((tokens[:, 0] + tokens[:, 1]) / 2)


def randomise(model: nn.Module) -> None:
    """Give every norm, bias and token a value of its own: a fresh network has ones and zeros there."""
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1 or name.endswith("_token"):
            parameter.data += 0.2 * torch.randn_like(parameter)


def save(model: OriginalAst, path: Path) -> None:
    """As the repository trains and saves it: inside DataParallel."""
    torch.save(nn.DataParallel(model).state_dict(), path)


@torch.no_grad()
def logits_of(model: OriginalAst, lengths: dict[str, int], seed: int = 1) -> dict[str, torch.Tensor]:
    """Two random inputs of each length, and their logits."""
    generator = torch.Generator().manual_seed(seed)
    inputs = {name: torch.randn(2, frames, BANDS, generator=generator) for name, frames in lengths.items()}
    return {f"input_{k}": v for k, v in inputs.items()} | {f"logits_{k}": model(v) for k, v in inputs.items()}


def import_timm():
    """timm, which imports torchvision.

    That refuses to be imported beside a CPU-only torch, for want of two compiled operators, which AST does not use:
    their names are enough.
    """
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        names = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            names.define(f"{name}() -> ()")
    import timm

    return timm


def main() -> None:
    from safetensors.torch import save_file

    folder = Path(sys.argv[1])
    torch.manual_seed(0)
    deit = import_timm().create_model("deit_tiny_distilled_patch16_224", depth=3)
    model = OriginalAst(deit, 10, LENGTHS["same"], CLASSES).eval()
    randomise(model)
    save(model, folder / "checkpoint.pth")
    save_file(logits_of(model, LENGTHS), folder / "io.safetensors")


if __name__ == "__main__":
    main()
