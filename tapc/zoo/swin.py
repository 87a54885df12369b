"""Swin transformers (arXiv 2103.14030) with torchvision's module names."""

import torch
from torch import Tensor, nn
from torch.nn import functional


def _relative_index(window: int) -> Tensor:
    """Return, for each pair of pixels of a window, which bias they have; (window ** 4,)."""
    axis = torch.arange(window)
    places = torch.stack(torch.meshgrid(axis, axis, indexing="ij")).flatten(1)
    shifts = (places[:, :, None] - places[:, None, :]).permute(1, 2, 0) + window - 1
    return (shifts[:, :, 0] * (2 * window - 1) + shifts[:, :, 1]).flatten()


class WindowAttention(nn.Module):
    """Attention within windows, shifted by half a window in every second block."""

    def __init__(self, dim: int, heads: int, window: int, shift: int) -> None:
        super().__init__()
        self.heads, self.window, self.shift = heads, window, shift
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        self.register_buffer("relative_position_index", _relative_index(window))

    def forward(self, x: Tensor) -> Tensor:
        """Attend; x is (N, H, W, dim), its sides are padded to whole windows."""
        n, height, width, dim = x.shape
        w = self.window
        padded = functional.pad(x, (0, 0, 0, -width % w, 0, -height % w))
        rows, columns = padded.shape[1] // w, padded.shape[2] // w
        # A single window has nothing to be shifted into.
        shifts = [0 if w >= extent else self.shift for extent in (padded.shape[1], padded.shape[2])]
        if any(shifts):
            padded = padded.roll((-shifts[0], -shifts[1]), (1, 2))
        tokens = padded.reshape(n, rows, w, columns, w, dim).permute(0, 1, 3, 2, 4, 5).reshape(-1, w * w, dim)
        q, k, v = self.qkv(tokens).reshape(len(tokens), w * w, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
        index = self.get_buffer("relative_position_index")
        bias = self.relative_position_bias_table[index].reshape(w * w, w * w, self.heads).permute(2, 0, 1)
        scores = scores + bias
        if any(shifts):
            mask = self._mask(padded.shape[1], padded.shape[2], shifts).to(x)
            scores = (scores.reshape(n, -1, self.heads, w * w, w * w) + mask[None, :, None]).reshape(scores.shape)
        tokens = self.proj((scores.softmax(-1) @ v).transpose(1, 2).reshape(len(tokens), w * w, dim))
        padded = tokens.reshape(n, rows, columns, w, w, dim).permute(0, 1, 3, 2, 4, 5).reshape(padded.shape)
        if any(shifts):
            padded = padded.roll((shifts[0], shifts[1]), (1, 2))
        result: Tensor = padded[:, :height, :width]
        return result

    def _mask(self, height: int, width: int, shifts: list[int]) -> Tensor:
        """Return what keeps pixels apart that only the shift brought into one window; (windows, w * w, w * w)."""
        w, region = self.window, torch.zeros(height, width)
        count = 0
        for top, bottom in _slices(shifts[0], w):
            for left, right in _slices(shifts[1], w):
                region[top:bottom, left:right] = count
                count += 1
        parts = region.reshape(height // w, w, width // w, w).permute(0, 2, 1, 3).reshape(-1, w * w)
        return (parts[:, None] != parts[:, :, None]).float() * -100.0


def _slices(shift: int, window: int) -> list[tuple[int | None, int | None]]:
    """Return the stretches of an axis that a shift tells apart."""
    if not shift:
        return [(None, None)]
    return [(None, -window), (-window, -shift), (-shift, None)]


class Block(nn.Module):
    """Window attention and MLP, each behind a normalization and with a shortcut."""

    def __init__(self, dim: int, heads: int, window: int, shift: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-5)
        self.attn = WindowAttention(dim, heads, window, shift)
        self.norm2 = nn.LayerNorm(dim, eps=1e-5)
        self.mlp = nn.Sequential(
            nn.Linear(dim, 4 * dim), nn.GELU(), nn.Identity(), nn.Linear(4 * dim, dim), nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        """Compute the block; x is (N, H, W, dim)."""
        x = x + self.attn(self.norm1(x))
        result: Tensor = x + self.mlp(self.norm2(x))
        return result


class PatchMerging(nn.Module):
    """Four pixels become one of twice the channels."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)
        self.norm = nn.LayerNorm(4 * dim, eps=1e-5)

    def forward(self, x: Tensor) -> Tensor:
        """Merge; x is (N, H, W, dim)."""
        x = functional.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
        parts = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        result: Tensor = self.reduction(self.norm(torch.cat(parts, -1)))
        return result


class Permute(nn.Module):
    """Channels last."""

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, H, W, C) for x (N, C, H, W)."""
        return x.permute(0, 2, 3, 1)


class SwinTransformer(nn.Module):
    """Swin-B by default.

    Parameters
    ----------
    classes, dim : int
    depths, heads : tuple of int
        Blocks and heads of each stage.
    window : int
    """

    def __init__(
        self,
        classes: int = 1000,
        dim: int = 128,
        depths: tuple[int, ...] = (2, 2, 18, 2),
        heads: tuple[int, ...] = (4, 8, 16, 32),
        window: int = 7,
    ) -> None:
        super().__init__()
        stages: list[nn.Module] = [nn.Sequential(nn.Conv2d(3, dim, 4, 4), Permute(), nn.LayerNorm(dim, eps=1e-5))]
        for stage, (depth, count) in enumerate(zip(depths, heads, strict=True)):
            width = dim << stage
            shifts = [0 if i % 2 == 0 else window // 2 for i in range(depth)]
            stages.append(nn.Sequential(*(Block(width, count, window, shift) for shift in shifts)))
            if stage < len(depths) - 1:
                stages.append(PatchMerging(width))
        self.features = nn.Sequential(*stages)
        last = dim << (len(depths) - 1)
        self.norm = nn.LayerNorm(last, eps=1e-5)
        self.head = nn.Linear(last, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, classes) for x (N, 3, H, W)."""
        result: Tensor = self.head(self.norm(self.features(x)).mean((1, 2)))
        return result
