"""What the proxies look at: weights, activations, and the measured effect of quantizing one layer alone."""

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import numpy_helper

from tapc.base.errors import UnsupportedError
from tapc.graph.analysis import Graph
from tapc.graph.network import Network
from tapc.graph.rules import rule
from tapc.proxy import ProxyContext
from tapc.proxy.columns import Table
from tapc.quantize.calibration import Calibration, HasGraph
from tapc.quantize.derivatives import NetworkDerivatives
from tapc.quantize.runtime import Float, batched, evaluate, session
from tapc.quantize.statistics import statistics
from tapc.quantize.weights import quantize_weights

PROXY_SAMPLES = 16
ERROR_SAMPLES = 32


def proxy_context(
    model: HasGraph,
    network: Network,
    calibration: Calibration,
    x: Float,
    distortion: Mapping[str, Mapping[tuple[int, int], float]],
    low_bits: int,
    seed: int = 0,
) -> ProxyContext:
    """Collect a proxy's inputs.

    Parameters
    ----------
    model : FloatModel
    network : Network
    calibration : Calibration
    x : float32 (N, *input_shape[1:])
        The first 16 serve statistics, the first 32 the measured error.
    distortion : mapping
        From `layer_distortion`.
    low_bits : int
        The lowest weight bits on offer.
    seed : int
        For proxies that draw.
    """
    graph = Graph(model.onnx)
    nodes = {node.name: node for node in graph.nodes}
    weights = {layer.name: graph.constants[nodes[layer.name].input[1]].astype(np.float32) for layer in network.layers}
    sources = {layer.name: nodes[layer.name].input[0] for layer in network.layers}
    results = {layer.name: nodes[layer.name].output[0] for layer in network.layers}
    if not network.layers:
        raise UnsupportedError(
            "the network has no layer with weights (Conv or Gemm): there is nothing to quantize; "
            "compile it together with the network behind it"
        )
    tensors = _tensors(model.onnx, sorted({*sources.values(), *results.values()}), x[:PROXY_SAMPLES])
    activations = {layer: tensors[name] for layer, name in sources.items()}
    outputs = {layer: tensors[name] for layer, name in results.items()}
    probe = np.ascontiguousarray(x[:ERROR_SAMPLES], np.float32)
    logits = without_softmax(model.onnx)
    exact = evaluate(logits, probe, optimized=True)
    power = float(np.square(exact - exact.mean(axis=0)).sum(dtype=np.float64)) or 1.0

    def rounded(layer: str, w_bits: int) -> Float:
        return quantize_weights(weights[layer], w_bits).dequantized().astype(np.float32)

    def output_error(layer: str, w_bits: int) -> float:
        changed = onnx.ModelProto()
        changed.CopyFrom(logits)
        name = nodes[layer].input[1]
        tensor = next(t for t in changed.graph.initializer if t.name == name)
        approximate = rounded(layer, w_bits)
        tensor.CopyFrom(numpy_helper.from_array(approximate, name))
        difference = evaluate(changed, probe, optimized=True) - exact
        return float(np.square(difference).sum(dtype=np.float64)) / power

    def table() -> Table:
        return statistics(model, network, calibration, x, distortion)

    derivatives = NetworkDerivatives(model.onnx, x[:PROXY_SAMPLES], seed)
    return ProxyContext(
        network, weights, activations, output_error, distortion, low_bits, table, derivatives, outputs, seed, rounded
    )


def without_softmax(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the network up to its logits: a softmax saturates, and hides errors where it does."""
    last = next(node for node in model.graph.node if node.output[0] == model.graph.output[0].name)
    if not rule(last).distribution:
        return model
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.graph.node.remove(next(node for node in copy.graph.node if node.output[0] == last.output[0]))
    copy.graph.output[0].name = last.input[0]
    kept = [value for value in copy.graph.value_info if value.name != last.input[0]]
    del copy.graph.value_info[:]
    copy.graph.value_info.extend(kept)
    return copy


def _tensors(model: onnx.ModelProto, names: list[str], x: Float) -> dict[str, Float]:
    """Run the float network and return the named tensors, batch first."""
    exposed = batched(model)
    source = exposed.graph.input[0].name
    del exposed.graph.output[:]
    wanted = [name for name in names if name != source]
    exposed.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted)
    values = session(exposed, optimized=False).run(wanted, {source: np.ascontiguousarray(x, np.float32)})
    return dict(zip(wanted, values, strict=True)) | ({source: x} if source in names else {})
