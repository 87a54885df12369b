"""Weight and activation layouts: how codes are packed into the words that the kernels read."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.int8]


def weights_per_word(bits: int) -> int:
    """Return how many weights a 32-bit word holds."""
    return 32 // bits


def pair_words(codes: NDArray[Any], bits: int) -> NDArray[np.uint32]:
    """Pack rows of codes so that masking out one field of both half-words gives two consecutive codes.

    Field s of the low half-word is element 2s, field s of the high half-word element 2s + 1: one AND of the shifted
    word (or SXTB16, for bytes) yields a pair for SMLAD.

    Parameters
    ----------
    codes : ndarray of int, shape (..., K)
        Signed codes; K is a multiple of 32 / bits.
    bits : {2, 4, 8}
        Fields are in two's complement.

    Returns
    -------
    ndarray of uint32, shape (..., K * bits / 32)
    """
    per_word = weights_per_word(bits)
    fields = np.asarray(codes).astype(np.int64) & ((1 << bits) - 1)
    fields = fields.reshape(*fields.shape[:-1], -1, per_word // 2, 2).astype(np.uint32)
    shifts = (np.arange(per_word // 2, dtype=np.uint32) * bits)[:, None] + np.array([0, 16], np.uint32)
    words: NDArray[np.uint32] = np.bitwise_or.reduce(np.bitwise_or.reduce(fields << shifts, axis=-1), axis=-1)
    return words


def unpack_pair_words(words: NDArray[np.uint32], bits: int) -> NDArray[np.int8]:
    """Invert `pair_words`."""
    per_word = weights_per_word(bits)
    shifts = (np.arange(per_word // 2, dtype=np.uint32) * bits)[:, None] + np.array([0, 16], np.uint32)
    fields = ((words[..., None, None] >> shifts) & ((1 << bits) - 1)).astype(np.int64)
    fields = fields.reshape(*words.shape[:-1], -1)
    half = 1 << (bits - 1)
    return (((fields + half) & ((1 << bits) - 1)) - half).astype(np.int8)


def linear_words(codes: NDArray[Any], bits: int, *, signed: bool = False) -> NDArray[np.uint32]:
    """Pack a flat array little-endian: element i is field i mod (32 / bits) of word i * bits / 32.

    8-bit or `signed` fields are in two's complement, others have an offset of 2^(bits-1).
    """
    per_word = weights_per_word(bits)
    flat = np.asarray(codes).astype(np.int64).ravel()
    flat = np.pad(flat, (0, -len(flat) % per_word))
    offset = 0 if bits == 8 or signed else 1 << (bits - 1)
    fields = ((flat + offset) & ((1 << bits) - 1)).astype(np.uint32).reshape(-1, per_word)
    words: NDArray[np.uint32] = np.bitwise_or.reduce(fields << (np.arange(per_word, dtype=np.uint32) * bits), axis=-1)
    return words


def unpack_linear_words(words: NDArray[np.uint32], bits: int, count: int, *, signed: bool = False) -> NDArray[np.int8]:
    """Invert `linear_words` for `count` elements."""
    per_word = weights_per_word(bits)
    fields = ((words[:, None] >> (np.arange(per_word, dtype=np.uint32) * bits)) & ((1 << bits) - 1)).astype(np.int64)
    half = 1 << (bits - 1)
    flat = fields.ravel()[:count]
    return (((flat + half) & ((1 << bits) - 1)) - half if bits == 8 or signed else flat - half).astype(np.int8)


def row_bytes(channels: int, bits: int) -> int:
    """Bytes of one pixel's channels: 4-bit pixels are padded to whole bytes."""
    return (channels * bits + 7) // 8


def pack_activations(codes: NDArray[Any], bits: int) -> NDArray[np.uint8]:
    """Pack NHWC codes.

    Parameters
    ----------
    codes : ndarray of int, shape (..., C)
        Signed 8-bit or unsigned 4-bit codes, or tokens.
    bits : {4, 8, 16, 32}

    Returns
    -------
    ndarray of uint8, shape (..., C), (..., ceil(C / 2)), (..., 2 C) or (..., 4 C); the low nibble is the lower channel.
    """
    if bits > 8:
        return np.ascontiguousarray(codes, f"<i{bits // 8}").view(np.uint8)
    data = (np.asarray(codes).astype(np.int64) & ((1 << bits) - 1)).astype(np.uint8)
    if bits == 8:
        return data
    if data.shape[-1] % 2:
        data = np.concatenate([data, np.zeros_like(data[..., :1])], axis=-1)
    return (data[..., 0::2] | (data[..., 1::2] << 4)).astype(np.uint8)


def unpack_activations(data: NDArray[np.uint8], shape: Sequence[int], bits: int) -> NDArray[np.int64]:
    """Invert `pack_activations`: bytes of any leading batch shape to codes of `(..., *shape)`."""
    lead = data.shape[:-1]
    if bits == 8:
        return data.view(np.int8).astype(np.int64).reshape(*lead, *shape)
    if bits > 8:
        return np.ascontiguousarray(data).view(f"<i{bits // 8}").astype(np.int64).reshape(*lead, *shape)
    rows = data.reshape(*lead, *shape[:-1], row_bytes(shape[-1], 4))
    nibbles = np.stack([rows & 15, rows >> 4], axis=-1).reshape(*lead, *shape[:-1], -1)
    return nibbles[..., : shape[-1]].astype(np.int64)
