"""A quantized network that can be trained: learned steps (LSQ, arXiv 1902.08153) for weights and activations."""

from collections.abc import Collection
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from tapc.base.ports import split
from tapc.graph.analysis import Graph, quantization_points
from tapc.graph.rules import rule
from tapc.quantize.activations import ActivationParameters
from tapc.quantize.learn import Rounded, fake_quantize
from tapc.quantize.model import QuantizedModel
from tapc.quantize.torch_graph import TorchGraph
from tapc.quantize.weights import QuantizedLayer, QuantizedWeights, code_range, integer_bias, without_bias

_REACH = 0.49


class QuantizedGraph(nn.Module):
    """The network as the integers compute it, with gradients through the rounding.

    Parameters
    ----------
    graph : Graph
        Canonical float graph.
    quantized : QuantizedModel
        Where training starts: latent weights are as near to the float weights as the codes allow.
    """

    def __init__(self, graph: Graph, quantized: QuantizedModel) -> None:
        super().__init__()
        self.graph = graph
        self.module = TorchGraph(graph)
        for parameter in self.module.parameters():
            parameter.requires_grad_(False)
        points = {point.tensor: point for point in quantization_points(graph)}
        self.owners = {name: point.like or name for name, point in points.items()}
        self.given = dict(quantized.activations)
        # The network's input is exact, and a fixed range is what a kernel counts on.
        owned = dict.fromkeys(self.owners.values())
        self.learned = [name for name in owned if points[name].op != "Input" and points[name].fixed is None]
        self.names = list(self.module.layers)
        self.starts = [quantized.layers[name].weights for name in self.names]
        self.latents = nn.ParameterList()
        self.steps = nn.ParameterList()
        self.biases = nn.ParameterList()
        for name, start in zip(self.names, self.starts, strict=True):
            layer = quantized.layers[name]
            steps = torch.from_numpy(start.scales.copy()).reshape(-1, *[1] * (start.values.ndim - 1))
            codes = torch.from_numpy(start.values.astype(np.float32))
            weights = self.module.weights()[name].detach()
            self.latents.append(nn.Parameter((codes + (weights / steps - codes).clamp(-_REACH, _REACH)) * steps))
            self.steps.append(nn.Parameter(steps.log()))
            self.biases.append(nn.Parameter(torch.from_numpy(layer.bias.astype(np.float32) * layer.bias_scales)))
        self.scales = nn.ParameterList(nn.Parameter(torch.tensor(self.given[n].scale).log()) for n in self.learned)

    def weight(self, index: int) -> Tensor:
        """Return a layer's weights as the integers give them."""
        low, high = code_range(self.starts[index].bits)
        step = self.steps[index].exp()
        codes: Tensor = Rounded.apply((self.latents[index] / step).clamp(low, high))  # type: ignore[no-untyped-call]
        result: Tensor = codes * step
        return result

    def forward(self, x: Tensor, output: str) -> Tensor:
        """Return a tensor of the quantized network for inputs (N, ...)."""
        return self.tensors(x, (output,))[output]

    def tensors(self, x: Tensor, names: Collection[str]) -> dict[str, Tensor]:
        """Return tensors of the quantized network for inputs (N, ...), or rows (N, values) of several."""
        scales = dict(zip(self.learned, (scale.exp() for scale in self.scales), strict=True))
        inputs = split(self.graph.input_ports, x)
        values = {name: self._stored(name, value, scales) for name, value in inputs.items()}
        missing = set(names)
        uses = {name: len(nodes) for name, nodes in self.graph.consumers.items()}
        index = 0
        for node in self.graph.nodes:
            read, target = self.graph.activations(node), str(node.output[0])
            operands = [values[name] for name in read]
            for name in read:
                uses[name] -= 1
                if not uses[name] and name not in names:
                    del values[name]
            if rule(node).weighted or rule(node).nearest:
                operands += [self.weight(index), self.biases[index]]
                index += 1
            values[target] = self._stored(target, self.module.step(target)(operands), scales)
            missing.discard(target)
            if not missing:
                break
        return {name: values[name] for name in names}

    def _stored(self, name: str, value: Tensor, scales: dict[str, Tensor]) -> Tensor:
        if name not in self.given:
            return value
        given = self.given[name]
        return fake_quantize(value, given, scales.get(self.owners[name], given.scale))

    def layers(self) -> tuple[dict[str, QuantizedLayer], dict[str, ActivationParameters]]:
        """Return the layers in integers and the activation parameters that go with them."""
        scales = {n: float(np.float32(s.exp().item())) for n, s in zip(self.learned, self.scales, strict=True)}
        parameters = {
            name: replace(given, scale=scales.get(self.owners[name], given.scale)) for name, given in self.given.items()
        }
        sources = {str(node.name): str(node.input[0]) for node in self.graph.nodes if rule(node).weighted}
        result = {}
        for index, (name, start) in enumerate(zip(self.names, self.starts, strict=True)):
            low, high = code_range(start.bits)
            with torch.no_grad():
                step = self.steps[index].exp()
                codes = (self.latents[index] / step).round().clamp(low, high).cpu().numpy().astype(np.int8)
                steps = step.reshape(-1).cpu().numpy().astype(np.float32)
                bias = self.biases[index].detach().cpu().numpy()
            weights = QuantizedWeights(codes, steps, start.bits)
            if name not in sources:  # a recurrent layer, whose biases are those of its input
                result[name] = without_bias(weights)
                continue
            bias_scales = np.float32(parameters[sources[name]].scale) * steps
            result[name] = QuantizedLayer(weights, integer_bias(bias, bias_scales), bias_scales)
        return result, parameters
