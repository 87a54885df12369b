"""The network as the allocator sees it: quantizable layers, activation tensors and their coupling."""

from dataclasses import dataclass, field
from typing import Literal

WEIGHT_BITS = (2, 4, 8)
"""Widths that kernels read."""
CODED_BITS = (2, 3, 4, 5, 6, 7, 8)
"""Those that a weight coder makes fewer bytes of."""
ACTIVATION_BITS = (4, 8)
WIDE_BITS = 16
"""Of activations that a user asks for, or that are measured to need them: nothing chooses between them and others."""

LayerOp = Literal["conv", "depthwise", "dense"]


@dataclass(frozen=True)
class Layer:
    """A layer with weights.

    Attributes
    ----------
    name : str
        ONNX node name, unique in the network.
    op : {"conv", "depthwise", "dense"}
        Kernel family; `conv` includes grouped convolutions that are not depthwise.
    weight_shape : tuple of int
        OIHW for convolutions, (outputs, inputs) for dense layers.
    macs : int
        Multiply-accumulates per inference, padding included.
    input_group, output_group : int
        Index of the activation group that the layer reads and writes.
    depth : int
        Position among the layers with weights, from 0.
    """

    name: str
    op: LayerOp
    weight_shape: tuple[int, ...]
    macs: int
    input_group: int
    output_group: int
    depth: int

    @property
    def parameters(self) -> int:
        """Number of weights, biases excluded."""
        count = 1
        for extent in self.weight_shape:
            count *= extent
        return count


@dataclass(frozen=True)
class Group:
    """Activation tensors that share one bit width, because an operator joins them or passes them through.

    Attributes
    ----------
    tensors : tuple of str
        Names in the canonical float ONNX.
    interface : bool
        Holds an input or output of the network, or what a normalization, Gelu, Softmax or attention reads or writes;
        those stay at `bits`.
    bits : {8, 16}
        16 where that was decided beforehand; it is an `interface` then. What comes back in the next call has them.
    wide : bool
        All that reads or writes it has kernels for 16 bits.
    outside : bool
        Holds an input that callers give or an output that they read, no state.
    """

    tensors: tuple[str, ...]
    interface: bool
    bits: int = 8
    wide: bool = False
    outside: bool = False


@dataclass(frozen=True)
class Network:
    """Layers in execution order and activation groups."""

    name: str
    layers: tuple[Layer, ...]
    groups: tuple[Group, ...]


@dataclass(frozen=True)
class Bits:
    """A bit assignment.

    Attributes
    ----------
    weights : dict of str to int
        Layer name -> 2, 4 or 8.
    activations : dict of int to int
        Group index -> 4, 8 or 16.
    """

    weights: dict[str, int] = field(default_factory=dict)
    activations: dict[int, int] = field(default_factory=dict)

    def pair(self, layer: Layer) -> tuple[int, int]:
        """Return (weight bits, input activation bits) of a layer, the pair that BOPs count."""
        return self.weights[layer.name], self.activations[layer.input_group]
