"""The network's inputs and outputs: how the elements of the source's lie in the canonical ones."""

import json
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from tapc.base.ports import LAYOUT, Port
from tapc.base.strides import strided
from tapc.frontend.canonical.edit import shape
from tapc.frontend.canonical.placed import Groups, Index, Placed, arrange, candidates, is_free
from tapc.frontend.canonical.translator import Translator, inverse


def arrangement(extents: Sequence[int], *, channels_last: bool) -> Index:
    """Return the usual arrangement of an input of this shape: (C, H, W) or (F,), elements of the source."""
    order = np.arange(int(np.prod(extents)), dtype=np.int64).reshape(tuple(extents))
    if len(extents) < 3 and sum(extent != 1 for extent in extents) < 2:
        return order.reshape(-1)
    if len(extents) == 4 and extents[0] == 1:
        return np.asarray(arrange(order, ((3,), (1,), (2,)) if channels_last else ((1,), (2,), (3,))))
    return np.asarray(arrange(order, candidates(extents)[0]))


def place_input(t: Translator, value: ir.Value, elements: Index) -> ir.Value:
    """Put an input's canonical tensor beside it."""
    base = ir.Value(name=value.name, shape=ir.Shape((1, *elements.shape)), type=value.type)
    t.source(value, base, inverse(elements, shape(value)))
    return base


def describe(name: str, source: Sequence[int], elements: Index) -> Port:
    """Return an input or output whose canonical tensor has these elements of the source tensor."""
    extents, loops = (1, *elements.shape), strided(elements.reshape(-1))
    assert loops is not None, name
    alike = extents == tuple(source) and np.array_equal(elements.reshape(-1), np.arange(elements.size))
    return Port(name, extents) if alike else Port(name, extents, source=tuple(source), loops=loops)


def layouts(ports: Sequence[Port]) -> dict[str, str]:
    """Return what a canonical graph says of ports that are arranged in another way than in the source."""
    return {
        f"{LAYOUT}{port.name}": json.dumps({"shape": port.source, "loops": port.loops}) for port in ports if port.source
    }


def place_output(t: Translator, node: ir.Node, placed: Placed, *, channels_last: bool) -> tuple[ir.Value, Index]:
    """Return the canonical tensor of an output and which of the output's elements it has.

    Maps (1, C, H, W), or (1, H, W, C) where they lie so, stay maps; others are stored in the source's own order.
    """
    extents = placed.index.shape
    elements = np.arange(placed.index.size, dtype=np.int64).reshape(extents)
    if len(extents) == 4 and extents[0] == 1:
        choices: list[Groups] = [((1,), (2,), (3,)), ((3,), (1,), (2,))]
        groups = t.chosen(placed, choices[::-1] if channels_last else choices)
    elif sum(extent != 1 for extent in extents) < 2:
        return t.arranged(node, placed, placed.index.reshape(-1)), elements.reshape(-1)
    else:
        rest = tuple(range(len(extents) - 1))
        options: list[Groups] = [((len(extents) - 1,), rest[:cut], rest[cut:]) for cut in range(len(rest) + 1)]
        groups = next((g for g in options if _lies(placed, g)), options[0])
    return t.arranged(node, placed, arrange(placed.index, groups)), np.asarray(arrange(elements, groups))


def _lies(placed: Placed, groups: Groups) -> bool:
    """Whether a tensor lies in this arrangement, its extents included."""
    wanted = np.asarray(arrange(placed.index, groups))
    return (1, *wanted.shape) == shape(placed.base) and is_free(wanted, placed.base)
