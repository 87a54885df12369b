"""Post-training quantization of a float network to a mixed-precision QDQ ONNX."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx

from tapc.base import worker
from tapc.base.errors import DataError, UsageError
from tapc.base.precheck import LEARNED
from tapc.base.progress import Advance, portion
from tapc.graph.analysis import Graph, attribute
from tapc.graph.network import ACTIVATION_BITS, CODED_BITS, WIDE_BITS, Bits, Network
from tapc.graph.rules import nodes_where, rule
from tapc.quantize.activations import ActivationParameters, activation_parameters
from tapc.quantize.calibration import Calibration, HasGraph
from tapc.quantize.export import export_qdq, far_sums
from tapc.quantize.problem import Doubles
from tapc.quantize.rounding import LEARNED_FROM, rounding_method
from tapc.quantize.runtime import Float
from tapc.quantize.walk import Refiner, quantize_layers
from tapc.quantize.weights import QuantizedLayer

_COUPLING = 0.15
"""Share of the progress bar for what comes before the layers."""
WALK_BYTES = 1280 << 20
"""Of the largest tensor, for all samples of the walk."""
SUFFICE = 256
"""Samples where all weights have 8 bits, whose rounding costs next to nothing."""
ENOUGH = 256
"""Samples, up to which images are joined by whole sets of copies of themselves."""


@dataclass(frozen=True)
class QuantizedModel:
    """A quantized network.

    Attributes
    ----------
    onnx : onnx.ModelProto
        Mixed-precision QDQ graph; batch 1, float32 input and output.
    bits : Bits
        The assignment it has.
    activations : dict of str to ActivationParameters
        By tensor name in the float graph.
    layers : dict of str to QuantizedLayer
        Integer weights and biases by node name.
    rounding : dict of str to str
        The method that rounded each layer.
    """

    onnx: onnx.ModelProto
    bits: Bits
    activations: dict[str, ActivationParameters]
    layers: dict[str, QuantizedLayer]
    rounding: dict[str, str]

    @property
    def optimizable(self) -> bool:
        """Whether onnxruntime can run it with graph optimizations: 8-bit activations, no 2-bit weights, no far sums."""
        wide = set(self.bits.activations.values()) <= {8} and 2 not in self.bits.weights.values()
        plain = nodes_where(self.onnx.graph.node, lambda rule: rule.unoptimized)
        return wide and not plain and not far_sums(self.onnx)


def validate_bits(network: Network, bits: Bits) -> None:
    """Raise UsageError where an assignment is incomplete, has an unknown width or changes the interface."""
    for layer in network.layers:
        if bits.weights.get(layer.name) not in CODED_BITS:
            raise UsageError(
                f"layer {layer.name!r} has weight bits {bits.weights.get(layer.name)}; choose one of {CODED_BITS}"
            )
    for index, group in enumerate(network.groups):
        width = bits.activations.get(index)
        if width not in (*ACTIVATION_BITS, WIDE_BITS):
            raise UsageError(
                f"activation group {index} ({group.tensors[0]!r}) has {width} bits; choose one of {ACTIVATION_BITS}"
            )
        if group.interface and width != group.bits:
            raise UsageError(
                f"activation group {index} ({group.tensors[0]!r}) holds an input or output of the network, or what an "
                f"operator with 8-bit kernels only reads or writes; those stay at {group.bits} bits; "
                f"it was given {width}"
            )


def uniform_bits(network: Network, w_bits: int, a_bits: int) -> Bits:
    """Return the assignment of one width for all; interface groups stay as they are."""
    return Bits(
        {layer.name: w_bits for layer in network.layers},
        {index: group.bits if group.interface else a_bits for index, group in enumerate(network.groups)},
    )


def quantize(
    model: HasGraph,
    network: Network,
    bits: Bits,
    calibration: Calibration,
    *,
    x: Float,
    rounding: str = "nearest",
    bias_correction: bool = True,
    rates: Mapping[str, float] | None = None,
    seed: int = 0,
    advance: Advance | None = None,
) -> QuantizedModel:
    """Quantize a network with the given bits and export it.

    Parameters
    ----------
    model : FloatModel
        Canonical float ONNX in `model.onnx`.
    network : Network
        From `tapc.graph.analysis.analyse`.
    bits : Bits
        Weight bits of every layer and activation bits of every group.
    calibration : Calibration
        From `calibrate` on the same model.
    x : float32 (N, *input_shape[1:])
        Calibration samples; the first 64 to 1024 serve bias correction and rounding.
    rounding : str
        A registered rounding method, or "adaround", "block" or "network": learned layer by layer, block by block or
        all layers together, from gptq.
    bias_correction : bool
        Correct the mean shift of every layer's output in its bias.
    rates : mapping of str to float, optional
        Bits that a lossless coder is to need for a code of a layer; rounding "rate" follows them.
    seed : int
        Of what is learned.
    advance : callable, optional
        Told (done, total) as rounding goes on.

    Returns
    -------
    QuantizedModel

    Raises
    ------
    UsageError
        Incomplete or illegal bits, unknown rounding method.
    DataError
        No samples.
    """
    validate_bits(network, bits)
    base = LEARNED_FROM if rounding in LEARNED else rounding
    method = rounding_method(base)
    if len(x) == 0:
        raise DataError("quantization needs calibration samples; give at least one, 256 are usual")
    graph = Graph(model.onnx)
    width = {tensor: bits.activations[i] for i, group in enumerate(network.groups) for tensor in group.tensors}
    parameters = activation_parameters(calibration, width)
    owners = {name: statistics.point.like or name for name, statistics in calibration.tensors.items()}
    before, walking = portion(advance, 0, _COUPLING), portion(advance, _COUPLING if method.compensates else 0, 1)
    refiner, walking = _refiner(graph, network, owners, rounding, seed, walking, pictures=calibration.pictures)
    largest = max(int(np.prod(graph.shape(tensor))) for tensor in width)
    wanted = method.samples if min(bits.weights.values(), default=8) < 8 else min(method.samples, SUFFICE)
    count = max(1, min(wanted, WALK_BYTES // (4 * largest)))
    x = np.ascontiguousarray(x[:count], np.float32)
    if method.compensates and calibration.pictures:
        x = _enough(x, min(count, ENOUGH), seed)
    couplings = _couplings(graph, network, bits, refiner, x, seed, before) if method.compensates else None
    walked = quantize_layers(
        graph,
        {layer.name: layer for layer in network.layers},
        bits,
        parameters,
        x,
        rounding=method,
        bias_correction=bias_correction,
        couplings=couplings,
        rates=rates,
        refiner=refiner,
        advance=walking,
    )
    onnx_model = export_qdq(graph, walked.layers, walked.parameters, owners)
    methods = dict.fromkeys(walked.layers, base) | dict.fromkeys(walked.learned, rounding)
    methods |= {str(node.name): "nearest" for node in graph.nodes if rule(node).nearest}
    return QuantizedModel(onnx_model, bits, walked.parameters, walked.layers, methods)


def _enough(x: Float, wanted: int, seed: int) -> Float:
    """Let every colour picture be followed by mirrored and shifted copies of itself where there are too few.

    Copies stay beside their image, so that neither half of the samples knows the other's.
    """
    copies = wanted // len(x)
    if x.ndim != 4 or x.shape[1] != 3 or copies < 2:
        return x
    import torch

    from tapc.quantize.augment import augmented

    generator = torch.Generator().manual_seed(seed)
    given = torch.from_numpy(x)
    every = [given, *(augmented(given, generator) for _ in range(copies - 1))]
    return torch.stack(every, dim=1).flatten(0, 1).numpy()


def _couplings(
    graph: Graph,
    network: Network,
    bits: Bits,
    refiner: Refiner | None,
    x: Float,
    seed: int,
    advance: Advance | None,
) -> dict[str, Doubles]:
    """Return how errors of the layers and units that rounding at less than 8 bits touches meet at the output."""
    narrow = {name for name, width in bits.weights.items() if width < 8}
    tensors = {
        str(node.output[0])
        for node in graph.nodes
        if node.name in narrow and int(attribute(node, "group", 1)) == 1
    }  # fmt: skip
    if refiner is not None:
        tensors |= {unit.output for unit in refiner.units if narrow & set(unit.layers)} - set(graph.outputs)
    if not tensors:
        return {}
    macs = sum(layer.macs for layer in network.layers)
    found: dict[str, Doubles] = worker.call(
        "tapc.quantize.coupling:couplings", graph, x, sorted(tensors), macs, seed, advance=advance
    )
    return found


def _refiner(
    graph: Graph,
    network: Network,
    owners: dict[str, str],
    rounding: str,
    seed: int,
    advance: Advance | None,
    *,
    pictures: bool,
) -> tuple[Refiner | None, Advance | None]:
    """Return what learns, and whom the walk tells of its progress."""
    if rounding not in LEARNED:
        return None, advance
    if rounding != "adaround" and (len(graph.inputs) > 1 or len(graph.outputs) > 1 or graph.tokens):
        raise UsageError(
            f"--rounding {rounding} learns what leads from one input of values to one output; the network has inputs "
            f"{', '.join(graph.inputs)} and outputs {', '.join(graph.outputs)}: take gptq or adaround"
        )
    from tapc.quantize.incremental import Effort
    from tapc.quantize.refine import NetworkRefiner, TorchRefiner

    if rounding != "network":
        return TorchRefiner(graph, owners, rounding, seed), advance
    effort = Effort.of(sum(layer.macs for layer in network.layers))
    # Layers and steps advance one bar: the layers its first tenth.
    return NetworkRefiner(graph, owners, effort, seed, portion(advance, 0.1, 1), pictures=pictures), portion(
        advance, 0, 0.1
    )
