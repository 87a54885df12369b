"""Weights stored as 8-bit codes with one scale per output channel: 11 million of them take 11 MB."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

SUFFIX = "#scale"


def pack(state: "Mapping[str, Tensor]") -> "dict[str, Tensor]":
    """Store every floating-point tensor of two or more dimensions as int8 codes and a float32 scale per row.

    Parameters
    ----------
    state : mapping of str to Tensor
        A state dict; a weight's first dimension is its output channel.

    Returns
    -------
    dict of str to Tensor
        `NAME` (int8, the same shape) and `NAME#scale` (float32, (channels,)) for each packed tensor; symmetric, the
        largest magnitude of a channel has code 127. Other tensors are kept.
    """
    import torch

    packed: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if tensor.dim() < 2 or not tensor.is_floating_point():
            packed[name] = tensor
            continue
        rows = tensor.detach().float().reshape(len(tensor), -1)
        scale = rows.abs().amax(1).clamp_min(torch.finfo(torch.float32).tiny) / 127
        codes = torch.round(rows / scale[:, None]).clamp(-127, 127).to(torch.int8)
        packed[name] = codes.reshape(tensor.shape).contiguous()
        packed[name + SUFFIX] = scale
    return packed


def unpack(state: "Mapping[str, Tensor]") -> "dict[str, Tensor]":
    """Undo `pack`: codes times scales as float32; a state without scales is returned as it is."""
    result = {}
    for name, tensor in state.items():
        if name.endswith(SUFFIX):
            continue
        scale = state.get(name + SUFFIX)
        result[name] = (
            tensor if scale is None else (tensor.float() * scale.reshape(-1, *[1] * (tensor.dim() - 1))).contiguous()
        )
    return result
