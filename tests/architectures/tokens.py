"""Transformers."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class Attention(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads, self.qkv, self.proj = heads, nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        n, t, c = x.shape
        q, k, v = self.qkv(x).reshape(n, t, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        y = functional.scaled_dot_product_attention(q, k, v)
        return self.proj(y.transpose(1, 2).reshape(n, t, c))


class Block(nn.Module):
    def __init__(self, dim: int, attention: nn.Module, *, first: bool) -> None:
        super().__init__()
        self.first = first
        self.norm1, self.norm2, self.attention = nn.LayerNorm(dim), nn.LayerNorm(dim), attention
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        if self.first:
            x = x + self.attention(self.norm1(x))
            return x + self.mlp(self.norm2(x))
        x = self.norm1(x + self.attention(x))
        return self.norm2(x + self.mlp(x))


class KeywordTransformer(nn.Module):
    """KWT (Berg et al., arXiv 2104.00769): a token per time step and one for the class, normalized afterwards."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(10, 16)
        self.cls, self.place = nn.Parameter(torch.randn(1, 1, 16)), nn.Parameter(torch.randn(1, 13, 16))
        self.blocks = nn.Sequential(*(Block(16, Attention(16, 2), first=False) for _ in range(2)))
        self.head = nn.Linear(16, 12)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        x = torch.cat([self.cls.expand(len(x), -1, -1), x], 1) + self.place
        return self.head(self.blocks(x)[:, 0])


class ClassTokenVit(nn.Module):
    """A vision transformer with a class token."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 16, 4, 4)
        self.cls, self.place = nn.Parameter(torch.randn(1, 1, 16)), nn.Parameter(torch.randn(1, 17, 16))
        self.blocks = nn.Sequential(*(Block(16, Attention(16, 4), first=True) for _ in range(2)))
        self.norm, self.head = nn.LayerNorm(16), nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(len(x), -1, -1), x], 1) + self.place
        return self.head(self.norm(self.blocks(x))[:, 0])


class MultiheadVit(nn.Module):
    """torch's own MultiheadAttention, and the mean of the tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.norm = nn.Conv2d(3, 16, 4, 4), nn.LayerNorm(16)
        self.attention, self.head = nn.MultiheadAttention(16, 2, batch_first=True), nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        y = self.norm(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return self.head(x.mean(1))


class WindowAttention(nn.Module):
    """Swin (Liu et al., arXiv 2103.14030): attention within shifted windows, with a bias for relative places."""

    def __init__(self, dim: int, heads: int, side: int, window: int, shift: int) -> None:
        super().__init__()
        self.heads, self.side, self.window, self.shift = heads, side, window, shift
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.bias = nn.Parameter(torch.randn(1, heads, window**2, window**2))
        places = torch.arange(side)
        region = (places >= side - window).int() + (places >= side - shift).int()
        grid = (3 * region[:, None] + region[None, :]).view(side // window, window, side // window, window)
        grid = grid.transpose(1, 2).reshape(-1, window**2)
        mask = (grid[:, None] != grid[:, :, None]).float() * -100.0
        self.register_buffer("mask", mask[:, None] if shift else torch.zeros(1, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        n, t, c = x.shape
        s, w = self.side, self.window
        x = x.view(n, s, s, c)
        if self.shift:
            x = torch.roll(x, (-self.shift, -self.shift), (1, 2))
        x = x.view(n, s // w, w, s // w, w, c).transpose(2, 3).reshape(-1, w * w, c)
        q, k, v = self.qkv(x).reshape(len(x), w * w, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-2, -1) * (c // self.heads) ** -0.5 + self.bias
        if self.shift:
            scores = scores + self.mask
        x = self.proj((scores.softmax(-1) @ v).transpose(1, 2).reshape(-1, w * w, c))
        x = x.view(n, s // w, s // w, w, w, c).transpose(2, 3).reshape(n, s, s, c)
        if self.shift:
            x = torch.roll(x, (self.shift, self.shift), (1, 2))
        return x.view(n, t, c)


class Swin(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 12, 4, 4)
        self.blocks = nn.Sequential(
            Block(12, WindowAttention(12, 2, 8, 4, 0), first=True),
            Block(12, WindowAttention(12, 2, 8, 4, 2), first=True),
        )
        self.norm, self.reduce, self.head = nn.LayerNorm(48), nn.Linear(48, 24, bias=False), nn.Linear(24, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.patch(x).flatten(2).transpose(1, 2))
        x = x.view(len(x), 8, 8, 12)
        parts = [x[:, i::2, j::2] for j in (0, 1) for i in (0, 1)]
        return self.head(self.reduce(self.norm(torch.cat(parts, -1))).mean((1, 2)))


class Pooled(nn.Module):
    """Tokens are pooled by an attention of their own, as compact transformers do (arXiv 2104.05704)."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.block = nn.Conv1d(4, 12, 4, 4), Block(12, Attention(12, 3), first=True)
        self.pool, self.head = nn.Linear(12, 1), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block(self.embed(x).transpose(1, 2))
        return self.head((self.pool(x).softmax(1).transpose(1, 2) @ x).squeeze(1))


ARCHITECTURES: dict[str, Any] = {
    "kwt": lambda: (KeywordTransformer(), ((1, 12, 10),)),
    "class-token vit": lambda: (ClassTokenVit(), ((1, 3, 16, 16),)),
    "multihead attention": lambda: (MultiheadVit(), ((1, 3, 16, 16),)),
    "swin": lambda: (Swin(), ((1, 3, 32, 32),)),
    "pooling by attention": lambda: (Pooled(), ((1, 4, 32),)),
}
