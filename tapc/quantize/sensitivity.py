"""What the proxies look at: weights, activations, and the measured effect of quantizing one layer alone."""

from collections.abc import Mapping

import numpy as np
import onnx

from tapc.base.errors import UnsupportedError
from tapc.graph.analysis import Graph
from tapc.graph.layers import layer_weights, with_weights
from tapc.graph.network import Network
from tapc.graph.rules import rule
from tapc.proxy import ProxyContext
from tapc.proxy.columns import Table
from tapc.quantize.calibration import Calibration, HasGraph
from tapc.quantize.derivatives import NetworkDerivatives
from tapc.quantize.losses import OutputLoss
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
    weights = {layer.name: layer_weights(graph, nodes[layer.name]) for layer in network.layers}
    results = {layer.name: nodes[layer.name].output[0] for layer in network.layers}
    # Tokens are no values: of a table its result stands for what it reads; a recurrent layer reads its own.
    own = {layer.name for layer in network.layers if rule(nodes[layer.name]).nearest}
    sources = {name: result if name in own else nodes[name].input[0] for name, result in results.items()}
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
    loss = OutputLoss(Graph(logits).output_ports, evaluate(logits, probe, optimized=True))

    def rounded(layer: str, w_bits: int) -> Float:
        return quantize_weights(weights[layer], w_bits).dequantized().astype(np.float32)

    def output_error(layer: str, w_bits: int) -> float:
        return loss(evaluate(with_weights(logits, nodes[layer], rounded(layer, w_bits)), probe, optimized=True))

    def table() -> Table:
        return statistics(model, network, calibration, x, distortion)

    derivatives = NetworkDerivatives(model.onnx, x[:PROXY_SAMPLES], seed)
    return ProxyContext(
        network, weights, activations, output_error, distortion, low_bits, table, derivatives, outputs, seed, rounded
    )


def without_softmax(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the network up to its scores: a softmax saturates, and hides errors where it does; so does an ArgMax."""
    graph = Graph(model)
    scores = list(dict.fromkeys(graph.scores(name) for name in graph.outputs))
    if scores == list(graph.outputs):
        return model
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.output[:]
    info = onnx.helper.make_tensor_value_info
    copy.graph.output.extend(info(name, onnx.TensorProto.FLOAT, graph.shape(name)) for name in scores)
    wanted = set(scores)
    for node in reversed(graph.nodes):
        if wanted.intersection(node.output):
            wanted.update(node.input)
        else:
            copy.graph.node.remove(node)
    kept = [value for value in copy.graph.value_info if value.name in wanted.difference(scores)]
    del copy.graph.value_info[:]
    copy.graph.value_info.extend(kept)
    return copy


def _tensors(model: onnx.ModelProto, names: list[str], x: Float) -> dict[str, Float]:
    """Run the float network and return the named tensors, batch first."""
    exposed = batched(model)
    del exposed.graph.output[:]
    given = Graph(model).feed(x)
    wanted = [name for name in names if name not in given]
    exposed.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted)
    values = session(exposed, optimized=False).run(wanted, given)
    return dict(zip(wanted, values, strict=True)) | {name: value for name, value in given.items() if name in names}
