"""A plain AST in the format of the original repository."""

from __future__ import annotations

import torch
from torch import nn

from synthio.models import ast_model
from tests.programs import original_ast
from tests.scripts import ROOT

CONVERT = ROOT / "ast/convert.py"


class Attention(nn.Module):
    """Self-attention with one joint layer for query, key and value."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads, self.qkv, self.proj = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        q, k, v = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in self.qkv(x).chunk(3, dim=2))
        weights = (q @ k.transpose(2, 3) / q.shape[3] ** 0.5).softmax(dim=3)
        return self.proj((weights @ v).transpose(1, 2).flatten(2))


class Block(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attn, self.mlp = Attention(width, heads), nn.Module()
        self.mlp.fc1, self.mlp.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp.fc2(nn.functional.gelu(self.mlp.fc1(self.norm2(x))))


class PlainDeit(nn.Module):
    """DeiT with two tokens by timm's names, in plain PyTorch (Touvron et al. 2021)."""

    def __init__(self, width: int = 128, depth: int = 2):
        super().__init__()
        self.cls_token, self.dist_token = (nn.Parameter(torch.randn(1, 1, width)) for _ in range(2))
        self.patch_embed = nn.Module()
        self.blocks = nn.ModuleList(Block(width, width // 64) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.head, self.head_dist = nn.Linear(width, 1000), nn.Linear(width, 1000)


def plain_ast(stride: int = 10, frames: int = 128) -> original_ast.OriginalAst:
    with torch.random.fork_rng():
        torch.manual_seed(stride)
        model = original_ast.OriginalAst(PlainDeit(), stride, frames, original_ast.CLASSES).eval()
        original_ast.randomise(model)
    return model


@torch.no_grad()
def our_logits(name: str, x: torch.Tensor) -> torch.Tensor:
    """Logits of the loaded model with the head it came with, set to the input's length."""
    model = ast_model.load_pretrained_ast(name).eval()
    ast_model.set_input_length(model, x.shape[1])
    return model(x).logits
