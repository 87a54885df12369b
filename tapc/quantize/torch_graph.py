"""The canonical float ONNX graph as a torch module, so that it can be differentiated and trained."""

from collections.abc import Collection, Iterator, Mapping

import onnx
import torch
from torch import Tensor, nn

from tapc.base.errors import DataError, UnsupportedError
from tapc.base.ports import sample_shape, split
from tapc.graph.analysis import Graph
from tapc.graph.layers import layer_weights
from tapc.graph.rules import TorchStep, rule

Weights = Mapping[str, Tensor]


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
        nodes = [node for node in graph.nodes if rule(node).weighted or rule(node).nearest]
        self.layers = tuple(str(node.name) for node in nodes)
        self._index = {name: index for index, name in enumerate(self.layers)}
        self.weight = nn.ParameterList(
            self._nearest(node) if rule(node).nearest else self._constant(node, 1) for node in nodes
        )
        self.bias = nn.ParameterList(self._constant(node, 2) for node in nodes)
        self._steps = {node.output[0]: rule(node).torch(graph, node, dtype) for node in graph.nodes}

    def weights(self) -> dict[str, nn.Parameter]:
        """Return layer name -> weights (outputs, ...), the parameters themselves."""
        return dict(zip(self.layers, self.weight, strict=True))

    def biases(self) -> dict[str, nn.Parameter]:
        """Return layer name -> bias (outputs,), the parameters themselves; zeros where the layer has none."""
        return dict(zip(self.layers, self.bias, strict=True))

    def forward(self, x: Tensor, weights: Weights | None = None, biases: Weights | None = None) -> Tensor:
        """Return the network's one output; `tensors` gives several.

        Parameters
        ----------
        x : Tensor (N, *input_shape[1:])
            In the network's input units and of the module's dtype; rows (N, values) where there are several inputs.
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
            Names of tensors in the graph; its inputs are among them.
        weights, biases : mapping of str to Tensor, optional
            As for `forward`.

        Raises
        ------
        DataError
            Samples of another shape than the network's input, or a name that the graph lacks.
        """
        expected = sample_shape(self.graph.input_ports)
        if tuple(x.shape[1:]) != expected:
            raise DataError(f"samples have shape {tuple(x.shape[1:])}, the network takes {expected}")
        inputs = split(self.graph.input_ports, x)
        missing = set(names) - set(self._steps) - set(inputs)
        if missing:
            raise DataError(f"the graph has no tensor {sorted(missing)[0]!r}")
        kept = {name: value for name, value in inputs.items() if name in names}
        wanted = set(names) - set(kept)
        if wanted:
            for name, value in self._walk(inputs, weights or {}, biases or {}):
                if name in wanted:
                    kept[name] = value
                    if wanted <= set(kept):
                        break
        return kept

    def step(self, output: str) -> TorchStep:
        """Return the function of the node that computes a tensor: its activations in order, then weights and bias."""
        return self._steps[output]

    def _walk(self, inputs: Mapping[str, Tensor], weights: Weights, biases: Weights) -> Iterator[tuple[str, Tensor]]:
        values = dict(inputs)
        uses = {name: len(nodes) for name, nodes in self.graph.consumers.items()}
        for node in self.graph.nodes:
            names, output = self.graph.activations(node), str(node.output[0])
            operands = [values[name] for name in names]
            for name in names:
                uses[name] -= 1
                if not uses[name]:
                    del values[name]
            if rule(node).weighted or rule(node).nearest:
                index = self._index[node.name]
                weight, bias = weights.get(node.name), biases.get(node.name)
                operands.append(self.weight[index] if weight is None else weight)
                operands.append(self.bias[index] if bias is None else bias)
            values[output] = self._steps[output](operands)
            yield output, values[output]

    def _nearest(self, node: onnx.NodeProto) -> nn.Parameter:
        return nn.Parameter(torch.tensor(layer_weights(self.graph, node), dtype=self.dtype))

    def _constant(self, node: onnx.NodeProto, position: int) -> nn.Parameter:
        if rule(node).nearest:
            return nn.Parameter(torch.zeros(len(layer_weights(self.graph, node)), dtype=self.dtype))
        name = node.input[position] if len(node.input) > position else ""
        if not name:
            return nn.Parameter(torch.zeros(self.graph.shape(node.output[0])[1], dtype=self.dtype))
        if name not in self.graph.constants:
            raise UnsupportedError(f"layer {node.name!r}: {name!r} is not constant")
        return nn.Parameter(torch.tensor(self.graph.constants[name], dtype=self.dtype))
