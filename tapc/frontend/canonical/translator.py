"""Walks a source graph in order and writes the canonical one beside it.

Every source tensor is known as elements of a canonical tensor, see `placed`. Operators that move elements change that
knowledge alone; what computes asks for the arrangement that it needs, and a move is written only where the elements
do not lie so already.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from tapc.frontend.canonical.edit import AttributeValue, constant, content, insert_before, operand, shape, unsupported
from tapc.frontend.canonical.moves import write_move
from tapc.frontend.canonical.placed import Groups, Index, Placed, arrange, candidates, is_free

Translate = Callable[["Translator", ir.Node], None]
_known: dict[str, Translate] = {}


def translates(*types: str) -> Callable[[Translate], Translate]:
    """Return a decorator for what translates nodes of these ONNX operators."""

    def add(translate: Translate) -> Translate:
        _known.update(dict.fromkeys(types, translate))
        return translate

    return add


def translated() -> Mapping[str, Translate]:
    """Return ONNX operator -> what translates its nodes."""
    return _known


class Translator:
    """What is known about a source graph while its canonical form is written.

    Parameters
    ----------
    graph : onnx_ir.Graph
        Edited in place: canonical nodes come before those that they are made of.
    opset : int
        Opset of the source.

    Attributes
    ----------
    placed : dict
        Source tensor -> where its elements lie.
    demanded : dict
        Canonical input -> the first arrangement of all its elements that something asked for.
    sources : dict
        Canonical tensor -> the source tensor that it holds.
    asks : bool
        Whether what is arranged now counts as asked for.
    rows : dict
        Canonical weights or bias -> source constant, and the row of it for each of their rows.
    """

    def __init__(self, graph: ir.Graph, opset: int) -> None:
        self.graph, self.opset = graph, opset
        self.placed: dict[ir.Value, Placed] = {}
        self.demanded: dict[ir.Value, Index] = {}
        self.sources: dict[ir.Value, str] = {}
        self.rows: dict[ir.Value, tuple[str, Index]] = {}
        self.deferred: set[ir.Node] = set()
        self.asks = True
        self._inputs: dict[ir.Value, ir.Value] = {}
        self._written: dict[tuple[ir.Value, tuple[int, ...], bytes], ir.Value] = {}

    def of(self, node: ir.Node, index: int = 0) -> Placed:
        """Return an operand that must be an activation."""
        value = operand(node, index)
        found = None if value is None else self.placed.get(value)
        if found is None:
            raise unsupported(node, f"input {index} must be computed from the network's input")
        return found

    def source(self, value: ir.Value, base: ir.Value, index: Index) -> None:
        """Record where an input of the network lies."""
        self.placed[value] = Placed(base, index)
        self._inputs[base] = base

    def emit(
        self, node: ir.Node, op: str, inputs: Sequence[ir.Value | None], attributes: Mapping[str, AttributeValue],
        extents: Sequence[int], name: str | None = None,
    ) -> ir.Value:  # fmt: skip
        """Write a canonical node before `node`; return its output."""
        output = insert_before(node, op, inputs, attributes, extents, (node.name or "") if name is None else name)
        first = next((value for value in inputs if value in self._inputs), None)
        if first is not None and tuple(extents) == shape(first):  # element by element: arranged as the input is
            self._inputs[output] = self._inputs[first]
        return output

    def constant(self, name: str, array: NDArray[np.generic]) -> ir.Value:
        """Add a float32 constant."""
        return constant(self.graph, name, np.ascontiguousarray(array.astype(np.float32)))

    def result(self, node: ir.Node, base: ir.Value, index: NDArray[np.generic], output: int = 0) -> None:
        """Record where a node's output lies; `index` has its elements in order."""
        value = node.outputs[output]
        extents = shape(value)
        placed = Placed(base, np.asarray(index, np.int64).reshape(extents))
        self.placed[value] = placed
        if placed.whole and value.name is not None:
            self.sources.setdefault(base, value.name)

    def arranged(self, node: ir.Node, placed: Placed, wanted: NDArray[np.generic]) -> ir.Value:
        """Return a canonical tensor of these elements, (1, C, H, W) or (1, F); a move is written where it takes one.

        Parameters
        ----------
        node : onnx_ir.Node
            Needs it.
        placed : Placed
        wanted : ndarray of int64, shape (C, H, W) or (F,)
            Elements of `placed.base`.
        """
        index = np.asarray(wanted, np.int64)
        base, extents = placed.base, (1, *index.shape)
        if extents == shape(base) and np.array_equal(index.reshape(-1), np.arange(index.size)):
            return base
        if self.asks and base in self._inputs and placed.whole and index.size == int(np.prod(shape(base))):
            self.demanded.setdefault(self._inputs[base], index)
        key = base, extents, index.tobytes()
        if key not in self._written:
            self._written[key] = write_move(node, base, index)
        return self._written[key]

    def chosen(self, placed: Placed, groups: Sequence[Groups]) -> Groups:
        """Return the first arrangement that is free, or else the first."""
        return next((g for g in groups if is_free(np.asarray(arrange(placed.index, g)), placed.base)), groups[0])

    def natural(self, node: ir.Node, placed: Placed) -> tuple[ir.Value, Index]:
        """Return a canonical tensor of all elements, and where each lies in it, of the source tensor's shape."""
        if placed.whole:
            return placed.base, placed.index
        box = boxed(placed)
        if box is not None:
            return self.arranged(node, placed, box[0]), inverse(box[1], placed.index.shape)
        order = np.arange(placed.index.size, dtype=np.int64).reshape(placed.index.shape)
        if sum(int(extent) != 1 for extent in placed.index.shape) < 2 and order.ndim < 3:
            return self.arranged(node, placed, placed.index.reshape(-1)), order
        groups = self.chosen(placed, candidates(order.shape))
        return self.arranged(node, placed, arrange(placed.index, groups)), inverse(arrange(order, groups), order.shape)

    def fixed(self, node: ir.Node, index: int) -> NDArray[np.generic]:
        """Return an operand that must be constant."""
        array = content(operand(node, index))
        if array is None:
            name = "" if operand(node, index) is None else f" ({node.inputs[index].name!r})"  # type: ignore[union-attr]
            raise unsupported(node, f"input {index}{name} must be constant")
        return array


def boxed(placed: Placed) -> tuple[Index, Index] | None:
    """Return what a tensor takes of a canonical one, in its order, and which element of the tensor each of these is.

    None where that is not the same rows and columns of some of the channels.
    """
    used = np.unique(placed.index)
    if used.size != placed.index.size:
        return None
    axes = [np.unique(part) for part in np.unravel_index(used, shape(placed.base)[1:])]
    if int(np.prod([len(axis) for axis in axes])) != used.size:
        return None
    extents = [len(axis) for axis in axes]
    return used.reshape(extents), np.argsort(placed.index.reshape(-1)).reshape(extents)


def inverse(elements: NDArray[np.generic], extents: Sequence[int]) -> Index:
    """Return where each element of a tensor of this shape lies in an arrangement of all of them."""
    index = np.empty(elements.size, np.int64)
    index[elements.reshape(-1)] = np.arange(elements.size)
    return index.reshape(tuple(extents))
