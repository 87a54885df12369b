"""onnxruntime as the executor of float and QDQ graphs: whole networks in batches, or one node at a time."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from tapc.base.errors import DataError, UnsupportedError
from tapc.base.ports import joined, sample_shape, split, typed
from tapc.data import Samples
from tapc.graph.interface import input_ports
from tapc.graph.rules import nodes_where
from tapc.graph.state import initial_rows, states

THREADS = 2
BATCH_BYTES = 256 << 20
MAX_BATCH = 64

Array = NDArray[Any]
Float = NDArray[np.float32]


def batched(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of a batch-1 model whose batch extent is free.

    Raises
    ------
    UnsupportedError
        A Reshape does not keep the batch as its first extent.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.value_info[:]
    for value in (*copy.graph.input, *copy.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "N"
    targets = {node.input[1]: node.name for node in nodes_where(copy.graph.node, lambda rule: rule.to_shape)}
    for tensor in copy.graph.initializer:
        if tensor.name in targets:
            shape = numpy_helper.to_array(tensor).copy()
            if shape[0] not in (-1, 0, 1):
                raise UnsupportedError(f"node {targets[tensor.name]!r}: reshape to {shape.tolist()} drops the batch")
            shape[0] = 0 if shape[0] == 1 else shape[0]
            tensor.CopyFrom(numpy_helper.from_array(shape, tensor.name))
    return copy


def session(model: onnx.ModelProto, *, optimized: bool, arena: bool = True) -> Any:
    """Return an onnxruntime CPU session.

    Parameters
    ----------
    model : onnx.ModelProto
    optimized : bool
        Let onnxruntime rewrite the graph.
    arena : bool
        Keep freed memory for the next run; not for many sessions that live side by side.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.enable_cpu_mem_arena = arena
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Keep INT8 activations as they are. The rewrite to UINT8 misses tensors with several readers, whose layers then
    # run in float, and its kernels saturate sums of two products to 16 bits on x86 CPUs without VNNI.
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    level = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimized else level.ORT_DISABLE_ALL
    blob, providers = model.SerializeToString(), ["CPUExecutionProvider"]
    try:
        return onnxruntime.InferenceSession(blob, options, providers=providers)
    except Exception:  # its errors have no common base
        if not optimized:
            raise
    # The last level, which changes layouts, breaks Resize with axes.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    return onnxruntime.InferenceSession(blob, options, providers=providers)


def batches(x: Array, bytes_per_sample: int) -> Iterator[Array]:
    """Yield slices of x (N, ...) whose intermediate results stay within `BATCH_BYTES`."""
    size = max(1, min(MAX_BATCH, BATCH_BYTES // max(1, bytes_per_sample)))
    for start in range(0, len(x), size):
        yield x[start : start + size]


def evaluate(onnx_model: onnx.ModelProto, samples: Samples | Float, *, optimized: bool) -> Float:
    """Run a network, float or QDQ, over samples in onnxruntime.

    Parameters
    ----------
    onnx_model : onnx.ModelProto
        Batch 1.
    samples : Samples or float32 (N, ...)
        In the network's input units; rows (N, values) where there are several inputs.
    optimized : bool
        Let onnxruntime fuse QDQ into its integer kernels. INT2 weights and sub-byte activations need False.

    Returns
    -------
    float32 (N, ...)
        The network's output per sample; rows (N, values) where there are several outputs. What is kept between calls
        is what the samples say; of `Samples` in sequences, what the network itself kept.

    Raises
    ------
    DataError
        No samples, or samples of another shape than the network's input.
    """
    x = samples.x if isinstance(samples, Samples) else samples
    ports = input_ports(onnx_model)
    expected = sample_shape(ports)
    if len(x) == 0:
        raise DataError("no samples to evaluate; give a data set with at least one sample")
    if x.shape[1:] != expected:
        raise DataError(f"samples have shape {x.shape[1:]}, the network takes {expected}")
    if isinstance(samples, Samples) and samples.steps and states(onnx_model):
        return carried(onnx_model, x, samples.steps, optimized=optimized)[1]
    runner = session(batched(onnx_model), optimized=optimized)
    per_sample = 64 * int(np.prod(expected)) * 4
    return np.concatenate(
        [joined(runner.run(None, typed(ports, split(ports, part)))) for part in batches(x, per_sample)]
    )


def carried(onnx_model: onnx.ModelProto, x: Float, steps: int, *, optimized: bool) -> tuple[Float, Float]:
    """Run a network with states over sequences.

    Parameters
    ----------
    onnx_model : onnx.ModelProto
    x : float32 (N, ...)
        What is given with every call, one sequence after the other, or rows (N, values) of all inputs, of which the
        states count for nothing.
    steps : int
        Of a sequence.
    optimized : bool

    Returns
    -------
    float32 (N, values)
        All inputs, the states as the network left them.
    float32 (N, values)
        All outputs.
    """
    ports, first = input_ports(onnx_model), initial_rows(onnx_model, len(x) // steps)
    free = sum(port.size for port in ports) - first.shape[1]
    given = x.reshape(len(x) // steps, steps, -1)[:, :, :free]
    runner, found = session(batched(onnx_model), optimized=optimized), []
    most = max(1, min(MAX_BATCH, BATCH_BYTES // (256 * (free + first.shape[1]))))
    for start in range(0, len(given), most):
        state, inputs, outputs = first[start : start + most], [], []
        for step in range(steps):
            inputs.append(np.concatenate([given[start : start + most, step], state], axis=1, dtype=np.float32))
            values = runner.run(None, typed(ports, split(ports, inputs[-1])))
            outputs.append(joined([np.asarray(value, np.float32) for value in values]))
            state = outputs[-1][:, -first.shape[1] :]
        found.append((np.stack(inputs, axis=1), np.stack(outputs, axis=1)))
    rows, results = (np.concatenate(parts).reshape(len(x), -1) for parts in zip(*found, strict=True))
    return rows, results


def top1(logits: NDArray[np.floating[Any]], y: NDArray[np.integer[Any]]) -> float:
    """Return the share of samples, 0..1, whose largest output (N, classes) is the label (N,); ties go to the first."""
    if len(logits) != len(y) or len(y) == 0:
        raise DataError(f"{len(logits)} outputs against {len(y)} labels; accuracy needs as many, and at least one")
    return float(np.mean(logits.reshape(len(logits), -1).argmax(axis=1) == y))


class NodeRunner:
    """Evaluates single float nodes on batches; weights and biases are arguments, so that one session serves all."""

    def __init__(self, opset: int) -> None:
        self._opset = opset
        self._sessions: dict[str, tuple[Any, list[str]]] = {}
        self._alike: dict[bytes, Any] = {}

    def __call__(self, node: onnx.NodeProto, operands: list[Array]) -> Float:
        """Return the node's output for operands given in the order of its non-empty inputs."""
        key = node.output[0]
        if key not in self._sessions:
            self._sessions[key] = self._session(node, operands)
        runner, names = self._sessions[key]
        result: Float = runner.run(None, dict(zip(names, operands, strict=True)))[0]
        return result

    def _session(self, node: onnx.NodeProto, operands: list[Array]) -> tuple[Any, list[str]]:
        """Return a session, the one of another node that differs in names alone, and what it calls the operands."""
        # An operand that is read twice (x + x) is one graph input.
        places = {name: f"x{place}" for place, name in enumerate(dict.fromkeys(node.input)) if name}
        alone = onnx.NodeProto()
        alone.CopyFrom(node)
        alone.name = ""
        alone.input[:] = [places.get(name, "") for name in node.input]
        alone.output[0] = "y"
        names = [name for name in alone.input if name]
        # Lists of integers are shapes and the like, whose number some operators must know.
        inputs = {
            name: helper.make_tensor_value_info(
                name,
                helper.np_dtype_to_tensor_dtype(operand.dtype),
                list(operand.shape) if operand.ndim == 1 and operand.dtype.kind == "i" else [None] * operand.ndim,
            )
            for name, operand in zip(names, operands, strict=True)
        }
        graph = helper.make_graph([alone], "node", list(inputs.values()), [helper.make_empty_tensor_value_info("y")])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self._opset)], ir_version=10)
        blob = model.SerializeToString(deterministic=True)
        if blob not in self._alike:
            self._alike[blob] = session(model, optimized=False, arena=False)
        return self._alike[blob], names
