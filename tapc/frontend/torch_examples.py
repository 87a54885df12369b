"""Examples of what a torch module takes, made of the shapes that a user gives."""

import contextlib
import io
import logging
import operator
import warnings
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any

from tapc.base.errors import UsageError
from tapc.frontend.boundary import check_elements

if TYPE_CHECKING:
    import torch
    from torch import nn


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Keep the exporters' warnings, log lines and prints off the terminal."""
    previous = logging.root.manager.disable
    sink = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink):
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
        try:
            yield
        finally:
            logging.disable(previous)


def shapes_of(shape: Any) -> list[Any]:
    """Return the shape, or the example, of each input."""
    several = isinstance(shape, (tuple, list)) and any(
        hasattr(one, "shape") or isinstance(one, (tuple, list)) for one in shape
    )
    return list(shape) if several else [shape]


def examples_of(shapes: dict[str, Any], origin: str, states: Collection[str]) -> "list[torch.Tensor]":
    """Return an example of each input."""
    import torch

    found = []
    for name, one in shapes.items():
        kind = getattr(one, "dtype", torch.float32)
        tokens = isinstance(kind, torch.dtype) and not kind.is_floating_point
        extents = getattr(one, "shape", one)
        full = tuple(map(int, extents)) if name in states else _full_shape(extents, origin)
        found.append(torch.zeros(full, dtype=kind if tokens else torch.float32))
    return found


def taken(module: "nn.Module", examples: "list[torch.Tensor]", shapes: list[Any]) -> "list[torch.Tensor]":
    """Return examples without an axis in front of a batch of 1 where the module takes those alone, as 1-D layers do."""
    import torch

    def runs(given: "list[torch.Tensor]") -> bool:
        try:
            with silence(), torch.no_grad():
                module(*given)
        except Exception:  # the user's code, which export shows
            return False
        return True

    written = [tuple(getattr(one, "shape", one)) for one in shapes]
    others = [
        example[0] if len(own) == 3 and own[0] == 1 and example.dim() == 4 else example
        for example, own in zip(examples, written, strict=True)
    ]
    changed = any(one is not other for one, other in zip(examples, others, strict=True))
    return others if changed and not runs(examples) and runs(others) else examples


def _full_shape(shape: Any, origin: str) -> tuple[int, ...]:
    """Return an input shape with batch 1; UsageError for anything that is none."""
    try:
        extents = tuple(operator.index(extent) for extent in shape)
    except TypeError:
        extents = ()
    full = (1, *(extents if len(extents) in (1, 3) else extents[1:]))
    if len(full) not in (2, 4) or min(full) < 1:
        raise UsageError(f"{origin}: {shape!r} is no input shape; give (1, C, H, W) or (1, features), all positive")
    check_elements("input", full)
    return full
