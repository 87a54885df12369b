"""Images changed in ways that leave their class as it is."""

import torch
from torch import Tensor
from torch.nn import functional

_SHIFT = 8


def augmented(x: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror half of the images (N, C, H, W) and shift all by up to an eighth of their sides."""
    n, _, height, width = x.shape
    flip = torch.rand(n, generator=generator) < 0.5
    x = torch.where(flip.to(x.device)[:, None, None, None], x.flip(3), x)
    border = min(max(1, min(height, width) // _SHIFT), height - 1, width - 1)
    padded = functional.pad(x, [border] * 4, mode="reflect")
    top, left = torch.randint(0, 2 * border + 1, (2, n), generator=generator)
    rows = (top[:, None] + torch.arange(height))[:, None, :, None]
    columns = (left[:, None] + torch.arange(width))[:, None, None, :]
    return padded[torch.arange(n)[:, None, None, None], torch.arange(x.shape[1])[None, :, None, None], rows, columns]
