"""Vision transformers with torchvision's module names."""

import torch
from torch import Tensor, nn


class EncoderBlock(nn.Module):
    """Attention and MLP, each behind a normalization and with a shortcut."""

    def __init__(self, dim: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(dim, eps=1e-6)
        self.self_attention = nn.MultiheadAttention(dim, heads, batch_first=True)
        self.ln_2 = nn.LayerNorm(dim, eps=1e-6)
        # Third and last of torchvision's list are dropouts.
        self.mlp = nn.Sequential(
            nn.Linear(dim, hidden), nn.GELU(), nn.Identity(), nn.Linear(hidden, dim), nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        """Compute the block; x is (N, tokens, dim)."""
        y = self.ln_1(x)
        y, _ = self.self_attention(y, y, y, need_weights=False)
        x = x + y
        result: Tensor = x + self.mlp(self.ln_2(x))
        return result


class Encoder(nn.Module):
    """Position embeddings, blocks and the last normalization."""

    def __init__(self, tokens: int, dim: int, depth: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.pos_embedding = nn.Parameter(torch.zeros(1, tokens, dim))
        blocks = {f"encoder_layer_{i}": EncoderBlock(dim, heads, hidden) for i in range(depth)}
        self.layers = nn.Sequential()
        for name, block in blocks.items():
            self.layers.add_module(name, block)
        self.ln = nn.LayerNorm(dim, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the encoder; x is (N, tokens, dim)."""
        result: Tensor = self.ln(self.layers(x + self.pos_embedding))
        return result


class VisionTransformer(nn.Module):
    """ViT-B/16 by default (arXiv 2010.11929).

    Parameters
    ----------
    classes, size, patch, dim, depth, heads, hidden : int
    """

    def __init__(
        self,
        classes: int = 1000,
        size: int = 224,
        patch: int = 16,
        dim: int = 768,
        depth: int = 12,
        heads: int = 12,
        hidden: int = 3072,
    ) -> None:
        super().__init__()
        self.conv_proj = nn.Conv2d(3, dim, patch, patch)
        self.class_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.encoder = Encoder((size // patch) ** 2 + 1, dim, depth, heads, hidden)
        self.heads = nn.Sequential()
        self.heads.add_module("head", nn.Linear(dim, classes))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, classes) for x (N, 3, size, size)."""
        tokens = self.conv_proj(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.class_token.expand(len(x), -1, -1), tokens], 1)
        result: Tensor = self.heads(self.encoder(tokens)[:, 0])
        return result
