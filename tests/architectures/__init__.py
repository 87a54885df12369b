"""Architectures that people put on microcontrollers, small: name -> (module, shapes of its inputs)."""

from collections.abc import Callable

from torch import nn

from architectures import detection, maps, sequences, tokens

Made = tuple[nn.Module, tuple[tuple[int, ...], ...]]

ARCHITECTURES: dict[str, Callable[[], Made]] = {
    **sequences.ARCHITECTURES,
    **maps.ARCHITECTURES,
    **tokens.ARCHITECTURES,
    **detection.ARCHITECTURES,
}
