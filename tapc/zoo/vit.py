"""Vision transformers with timm's module names."""

import torch
from torch import Tensor, nn


class Attention(nn.Module):
    """Multi-head self-attention with one linear layer for queries, keys and values."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.scale = (dim // heads) ** -0.5
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Attend; x is (N, tokens, dim)."""
        n, tokens, dim = x.shape
        q, k, v = self.qkv(x).reshape(n, tokens, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        weights = ((q * self.scale) @ k.transpose(-2, -1)).softmax(-1)
        result: Tensor = self.proj((weights @ v).transpose(1, 2).reshape(n, tokens, dim))
        return result


class Mlp(nn.Module):
    """Two linear layers with GELU between them."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the layers; x is (N, tokens, dim)."""
        result: Tensor = self.fc2(self.act(self.fc1(x)))
        return result


class Block(nn.Module):
    """Attention and MLP, each behind a normalization and with a shortcut."""

    def __init__(self, dim: int, heads: int, ratio: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = Mlp(dim, int(dim * ratio))

    def forward(self, x: Tensor) -> Tensor:
        """Compute the block; x is (N, tokens, dim)."""
        x = x + self.attn(self.norm1(x))
        result: Tensor = x + self.mlp(self.norm2(x))
        return result


class PatchEmbed(nn.Module):
    """Patches of the image as tokens."""

    def __init__(self, patch: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, patch, patch)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, tokens, dim) for x (N, 3, H, W)."""
        result: Tensor = self.proj(x).flatten(2).transpose(1, 2)
        return result


class VisionTransformer(nn.Module):
    """A vision transformer (arXiv 2010.11929; DeiT, arXiv 2012.12877).

    Parameters
    ----------
    size, patch : int
        Sides of the image and of a patch.
    dim, depth, heads : int
    ratio : float
        Width of the MLP over `dim`.
    classes : int
    token : bool
        Classify by a token of its own; by the mean of all otherwise.
    """

    def __init__(
        self,
        size: int = 224,
        patch: int = 16,
        dim: int = 768,
        depth: int = 12,
        heads: int = 12,
        ratio: float = 4.0,
        classes: int = 1000,
        token: bool = True,
    ) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed(patch, dim)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim)) if token else None
        self.pos_embed = nn.Parameter(torch.randn(1, (size // patch) ** 2 + token, dim) * 0.02)
        self.blocks = nn.Sequential(*(Block(dim, heads, ratio) for _ in range(depth)))
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.head = nn.Linear(dim, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, classes) for x (N, 3, size, size)."""
        x = self.patch_embed(x)
        if self.cls_token is not None:
            x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1)
        x = self.norm(self.blocks(x + self.pos_embed))
        result: Tensor = self.head(x.mean(1) if self.cls_token is None else x[:, 0])
        return result


def vit_micro(classes: int = 10) -> VisionTransformer:
    """Return a transformer of a third of a million parameters for 32 x 32 images: 64 tokens of 96."""
    return VisionTransformer(32, 4, 96, 4, 3, 2.0, classes, token=False)
