"""The canonical float ONNX graph as a torch module, so that it can be differentiated and trained."""

from collections.abc import Callable, Collection, Iterator, Mapping

import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional

from tapc.base.errors import DataError, UnsupportedError
from tapc.graph.analysis import WEIGHTED, Graph, attribute

Weights = Mapping[str, Tensor]
_Step = Callable[[list[Tensor]], Tensor]


class TorchGraph(nn.Module):
    """A canonical float graph that computes in torch.

    Weights and biases of the layers are parameters. A call may replace some of them by other tensors of the same
    shape, through which gradients then flow: rounded weights, perturbed ones, leaves of their own.

    Parameters
    ----------
    graph : Graph
        Canonical: batch 1, static shapes; the batch extent of the module is free.
    dtype : torch.dtype
        Of parameters and activations; float64 for references.

    Attributes
    ----------
    layers : tuple of str
        Names of the layers with weights, in execution order.

    Raises
    ------
    UnsupportedError
        A graph that is not canonical: weights that are not constant, a transposed Gemm, padding that is not constant.

    Examples
    --------
    >>> module = TorchGraph(Graph(model.onnx))                             # doctest: +SKIP
    >>> y = module(x, weights={"fc": quantized})                           # doctest: +SKIP
    """

    def __init__(self, graph: Graph, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.graph = graph
        self.dtype = dtype
        nodes = [node for node in graph.nodes if node.op_type in WEIGHTED]
        self.layers = tuple(str(node.name) for node in nodes)
        self._index = {name: index for index, name in enumerate(self.layers)}
        self.weight = nn.ParameterList(self._constant(node, 1) for node in nodes)
        self.bias = nn.ParameterList(self._constant(node, 2) for node in nodes)
        self._steps = {node.output[0]: _OPERATORS[node.op_type](self, node) for node in graph.nodes}

    def weights(self) -> dict[str, nn.Parameter]:
        """Return layer name -> weights (outputs, ...), the parameters themselves."""
        return dict(zip(self.layers, self.weight, strict=True))

    def biases(self) -> dict[str, nn.Parameter]:
        """Return layer name -> bias (outputs,), the parameters themselves; zeros where the layer has none."""
        return dict(zip(self.layers, self.bias, strict=True))

    def forward(self, x: Tensor, weights: Weights | None = None, biases: Weights | None = None) -> Tensor:
        """Return the network's output.

        Parameters
        ----------
        x : Tensor (N, *input_shape[1:])
            In the network's input units and of the module's dtype.
        weights, biases : mapping of str to Tensor, optional
            Layer name -> what is used in place of the parameter.

        Returns
        -------
        Tensor (N, *output_shape[1:])

        Raises
        ------
        DataError
            Samples of another shape than the network's input.
        """
        return self.tensors(x, [self.graph.output], weights, biases)[self.graph.output]

    def tensors(
        self, x: Tensor, names: Collection[str], weights: Weights | None = None, biases: Weights | None = None
    ) -> dict[str, Tensor]:
        """Return the named tensors of the graph, batch first; nothing behind the last of them is computed.

        Parameters
        ----------
        x : Tensor (N, *input_shape[1:])
        names : collection of str
            Names of tensors in the graph; its input is one of them.
        weights, biases : mapping of str to Tensor, optional
            As for `forward`.

        Raises
        ------
        DataError
            Samples of another shape than the network's input, or a name that the graph lacks.
        """
        expected = self.graph.shape(self.graph.input)[1:]
        if tuple(x.shape[1:]) != expected:
            raise DataError(f"samples have shape {tuple(x.shape[1:])}, the network takes {expected}")
        missing = set(names) - set(self._steps) - {self.graph.input}
        if missing:
            raise DataError(f"the graph has no tensor {sorted(missing)[0]!r}")
        kept = {self.graph.input: x} if self.graph.input in names else {}
        wanted = set(names) - set(kept)
        if wanted:
            for name, value in self._walk(x, weights or {}, biases or {}):
                if name in wanted:
                    kept[name] = value
                    if wanted <= set(kept):
                        break
        return kept

    def step(self, output: str) -> _Step:
        """Return the function of the node that computes a tensor: its activations in order, then weights and bias."""
        return self._steps[output]

    def _walk(self, x: Tensor, weights: Weights, biases: Weights) -> Iterator[tuple[str, Tensor]]:
        values = {self.graph.input: x}
        uses = {name: len(nodes) for name, nodes in self.graph.consumers.items()}
        for node in self.graph.nodes:
            names, output = self.graph.activations(node), str(node.output[0])
            operands = [values[name] for name in names]
            for name in names:
                uses[name] -= 1
                if not uses[name]:
                    del values[name]
            if node.op_type in WEIGHTED:
                index = self._index[node.name]
                weight, bias = weights.get(node.name), biases.get(node.name)
                operands.append(self.weight[index] if weight is None else weight)
                operands.append(self.bias[index] if bias is None else bias)
            values[output] = self._steps[output](operands)
            yield output, values[output]

    def _constant(self, node: onnx.NodeProto, position: int) -> nn.Parameter:
        name = node.input[position] if len(node.input) > position else ""
        if not name:
            return nn.Parameter(torch.zeros(self.graph.shape(node.output[0])[1], dtype=self.dtype))
        if name not in self.graph.constants:
            raise UnsupportedError(f"layer {node.name!r}: {name!r} is not constant")
        return nn.Parameter(torch.tensor(self.graph.constants[name], dtype=self.dtype))


def _padding(node: onnx.NodeProto) -> tuple[int, int, int, int]:
    """Return a window operator's pads in torch's order: left, right, top, bottom."""
    top, left, bottom, right = attribute(node, "pads", (0, 0, 0, 0))
    return left, right, top, bottom


def _conv(module: TorchGraph, node: onnx.NodeProto) -> _Step:
    stride, groups = tuple(attribute(node, "strides", (1, 1))), int(attribute(node, "group", 1))
    left, right, top, bottom = pads = _padding(node)
    even = (left, top) == (right, bottom)

    def step(operands: list[Tensor]) -> Tensor:
        x, weight, bias = operands
        x = x if even else functional.pad(x, pads)
        return functional.conv2d(x, weight, bias, stride, (top, left) if even else 0, 1, groups)

    return step


def _gemm(module: TorchGraph, node: onnx.NodeProto) -> _Step:
    given = {name: attribute(node, name, default) for name, default in (("transA", 0), ("transB", 0))}
    scales = {name: attribute(node, name, 1.0) for name in ("alpha", "beta")}
    if given != {"transA": 0, "transB": 1} or set(scales.values()) != {1.0}:
        raise UnsupportedError(
            f"node {node.name!r}: a canonical Gemm has transB=1, alpha=beta=1, not {given}, {scales}"
        )
    return lambda operands: functional.linear(*operands)


def _clip(module: TorchGraph, node: onnx.NodeProto) -> _Step:
    low, high = module.graph.bounds(node)
    return lambda operands: operands[0].clamp(low, high)


def _max_pool(module: TorchGraph, node: onnx.NodeProto) -> _Step:
    kernel, stride = attribute(node, "kernel_shape", None), attribute(node, "strides", (1, 1))
    pads = _padding(node)

    def step(operands: list[Tensor]) -> Tensor:
        # torch refuses pads beyond half a window, so the border is made here.
        x = functional.pad(operands[0], pads, value=-torch.inf) if any(pads) else operands[0]
        return functional.max_pool2d(x, tuple(kernel), tuple(stride))

    return step


def _average_pool(module: TorchGraph, node: onnx.NodeProto) -> _Step:
    kernel, stride = attribute(node, "kernel_shape", None), attribute(node, "strides", (1, 1))
    pads, border_counts = _padding(node), bool(attribute(node, "count_include_pad", 0))

    def pool(x: Tensor) -> Tensor:
        return functional.avg_pool2d(functional.pad(x, pads), tuple(kernel), tuple(stride))

    def step(operands: list[Tensor]) -> Tensor:
        x = operands[0]
        return pool(x) if border_counts or not any(pads) else pool(x) / pool(torch.ones_like(x[:1, :1]))

    return step


def _reshape(module: TorchGraph, node: onnx.NodeProto) -> _Step:
    shape = module.graph.shape(node.output[0])[1:]
    return lambda operands: operands[0].reshape(len(operands[0]), *shape)


def _pad(module: TorchGraph, node: onnx.NodeProto) -> _Step:
    mode = attribute(node, "mode", b"constant")
    if mode not in (b"constant", "constant") or (len(node.input) > 3 and node.input[3]):
        raise UnsupportedError(f"node {node.name!r}: a canonical Pad is constant and names no axes")
    pads = module.graph.constants[node.input[1]].tolist()
    value = float(module.graph.constants[node.input[2]].item()) if len(node.input) > 2 and node.input[2] else 0.0
    rank = len(pads) // 2
    # ONNX lists the axes from the first, begins before ends; torch from the last, begin and end together.
    order = [extent for axis in reversed(range(rank)) for extent in (pads[axis], pads[axis + rank])]
    return lambda operands: functional.pad(operands[0], order, value=value)


def _concat(module: TorchGraph, node: onnx.NodeProto) -> _Step:
    axis = int(attribute(node, "axis", 1))
    return lambda operands: torch.cat(operands, axis)


def _softmax(module: TorchGraph, node: onnx.NodeProto) -> _Step:
    axis = int(attribute(node, "axis", -1))
    return lambda operands: operands[0].softmax(axis)


def _add(module: TorchGraph, node: onnx.NodeProto) -> _Step:
    constants = [module.graph.constants[name] for name in node.input if name in module.graph.constants]
    if not constants:
        return lambda operands: operands[0] + operands[-1]
    other = torch.tensor(constants[0], dtype=module.dtype)
    return lambda operands: operands[0] + other


def _layer_normalization(module: TorchGraph, node: onnx.NodeProto) -> _Step:
    weight, bias = (torch.tensor(module.graph.constants[name], dtype=module.dtype) for name in node.input[1:3])
    epsilon = float(attribute(node, "epsilon", 1e-5))
    return lambda operands: functional.layer_norm(operands[0], weight.shape, weight, bias, epsilon)


def _gelu(module: TorchGraph, node: onnx.NodeProto) -> _Step:
    kind = attribute(node, "approximate", b"none")
    approximate = kind.decode() if isinstance(kind, bytes) else str(kind)
    return lambda operands: functional.gelu(operands[0], approximate=approximate)


def _transpose(module: TorchGraph, node: onnx.NodeProto) -> _Step:
    order = tuple(attribute(node, "perm", ()))
    return lambda operands: operands[0].permute(order)


_OPERATORS: dict[str, Callable[[TorchGraph, onnx.NodeProto], _Step]] = {
    "Conv": _conv,
    "Gemm": _gemm,
    "Relu": lambda module, node: lambda operands: operands[0].relu(),
    "Clip": _clip,
    "MaxPool": _max_pool,
    "Flatten": _reshape,
    "Reshape": _reshape,
    "Pad": _pad,
    "Add": _add,
    "LayerNormalization": _layer_normalization,
    "Gelu": _gelu,
    "MatMul": lambda module, node: lambda operands: operands[0] @ operands[-1],
    "Transpose": _transpose,
    "Concat": _concat,
    "AveragePool": _average_pool,
    "GlobalAveragePool": lambda module, node: lambda operands: operands[0].mean((2, 3), keepdim=True),
    "Softmax": _softmax,
}
"""One maker per operator of `tapc.graph.analysis.SUPPORTED`: node -> function of its activations, weights last."""
