"""TFLite files: read, convert, and run in LiteRT for comparison."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tapc.base.errors import DataError, TapcError
from tapc.base.ports import Port, joined, split
from tapc.frontend.boundary import check_file, first_line, printable
from tapc.frontend.given import without_marks
from tapc.frontend.model import Imported, Runner, one_by_one
from tapc.frontend.tflite_complex import without_complex
from tapc.frontend.tflite_convert import converted
from tapc.frontend.tflite_detector import without_post_processing
from tapc.frontend.tflite_given import Collector, Integers, integers
from tapc.frontend.tflite_inline import Inlined, without_loops
from tapc.frontend.tflite_reader import TfliteGraph, initializer, parse, subgraphs
from tapc.frontend.tflite_recurrent import with_states
from tapc.frontend.tflite_tokens import without_negative_tokens
from tapc.frontend.tflite_variables import initial_values, without_variables
from tapc.frontend.verify import onnx_runner


def read_tflite(path: Path) -> Imported:
    """Read a float TFLite file; int8 or float16 weights of an otherwise float network are dequantized.

    Parameters
    ----------
    path : pathlib.Path
        The file.

    Raises
    ------
    DataError
        Unreadable or corrupt file, NaN weights.
    UnsupportedError
        Quantized network, or an operator that tapc does not lower.
    """
    check_file(path)
    try:
        blob = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    graph, detector = without_post_processing(parse(blob, str(path)))
    try:
        once = initializer(blob, graph, str(path))
        known = {} if once is None else initial_values(once.tensors, once.operators)
        graphs = subgraphs(blob, graph, str(path))
        graph = plain = without_variables(graph, known)
        inlined = without_loops(without_negative_tokens(graph), graphs, str(path))
        graph = without_complex(inlined.graph)
        count = len(graph.tensors)
        graph, alike = with_states(graph)
        known_integers = _integers(blob, inlined)
        known_integers |= {new: known_integers[old] for new, old in alike.items() if old in known_integers}
        collector = Collector(known_integers)
        model, states = converted(graph, printable(path.stem), collector)
    except (TapcError, MemoryError):
        raise
    except Exception as error:
        raise DataError(f"{path}: corrupt TFLite file, its shapes do not fit together: {first_line(error)}") from error
    given = collector.given()
    if given is not None:
        origin = f"tflite file {path}, {given.kind}; its real values checked against onnxruntime"
        real = without_marks(model)
        for node in real.graph.node:
            node.name = ""  # layers may share theirs
        run = onnx_runner(real)
        return Imported(printable(path.stem), model, run, origin, channels_last=True, given=given, states=states,
                        detector=detector)  # fmt: skip
    stored = sorted({tensor.type for own in graphs for tensor in own.tensors if tensor.dequantized})
    origin = f"tflite file {path}" + (f", {'/'.join(stored)} weights dequantized to float32" if stored else "")
    if any(own.after >= count for own in graph.variables):
        origin += ", its states as ONNX has them: LiteRT's LSTM keeps them to itself"
        run = onnx_runner(model)
        return Imported(printable(path.stem), model, run, origin, channels_last=True, states=states, detector=detector)
    try:
        blob = float_weights(blob, graphs) if stored else blob
        run = litert_runner(*(one_step(blob, plain) if states or detector else (blob, plain)))
    except ImportError:
        return Imported(
            printable(path.stem),
            model,
            None,
            f"{origin}, not checked: ai-edge-litert is missing (pip install ai-edge-litert)",
            channels_last=True,
            states=states,
            detector=detector,
        )
    origin += ", checked against LiteRT"
    return Imported(printable(path.stem), model, run, origin, channels_last=True, states=states, detector=detector)


def _integers(blob: bytes, inlined: Inlined) -> dict[int, Integers]:
    """Return how the tensors of a graph are quantized, also of those that come from other graphs."""
    found = integers(blob)
    others = {number: integers(blob, number) for number in {number for number, _ in inlined.origins.values()}}
    for index, (number, own) in inlined.origins.items():
        if own in others[number]:
            found[index] = others[number][own]
    return found


def litert_runner(blob: bytes, graph: TfliteGraph) -> Runner:
    """Return a function that runs a TFLite model in LiteRT's own CPU kernels, tensors as in the file.

    Raises
    ------
    ImportError
        ai-edge-litert is not installed.
    DataError
        LiteRT refuses the model.
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    # Without delegates: XNNPACK announces itself on stderr.
    resolver = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    try:
        interpreter = Interpreter(model_content=blob, experimental_op_resolver_type=resolver, num_threads=1)
        interpreter.allocate_tensors()
    except Exception as error:
        raise DataError(f"LiteRT cannot run the model: {first_line(error)}") from error
    inlets = {detail["index"]: detail for detail in interpreter.get_input_details()}
    indices = graph.inputs  # the interpreter lists them in the file's order, as it does the outputs
    ports = tuple(Port(str(index), tuple(map(int, inlets[index]["shape"]))) for index in indices)

    def run(x: NDArray[Any]) -> NDArray[Any]:
        try:
            for name, value in split(ports, x).items():
                inlet = inlets[int(name)]
                interpreter.set_tensor(int(name), np.ascontiguousarray(value, inlet["dtype"]).reshape(inlet["shape"]))
            interpreter.reset_all_variables()
            interpreter.invoke()
        except Exception as error:
            raise DataError(f"LiteRT cannot run the model: {first_line(error)}") from error
        found = [np.array(interpreter.get_tensor(index)) for index in graph.outputs]
        return found[0] if len(found) == 1 else joined([y.reshape(1, -1) for y in found])

    each = one_by_one(run)
    if len(ports) > 1:
        return each
    return lambda x: each(x.reshape(-1, *ports[0].shape))  # networks may have no batch


def one_step(blob: bytes, graph: TfliteGraph) -> tuple[bytes, TfliteGraph]:
    """Return the file with inputs and outputs in place of variables, and its graph with all of them.

    Operators that the graph has no more are left out.

    LiteRT keeps variables where nobody else can write them.

    Raises
    ------
    ImportError
        ai-edge-litert is not installed.
    """
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(blob, 0))
    if all(op.kind != "WHILE" for op in graph.operators):
        model.subgraphs = model.subgraphs[:1]
    model.signatureDefs = None
    own, operators = model.subgraphs[0], []
    for op in graph.operators:
        operators.append(own.operators[op.index])
        operators[-1].inputs = list(op.inputs)
    own.operators = operators
    own.inputs = [*graph.inputs, *(variable.before for variable in graph.variables)]
    own.outputs = [*graph.outputs, *(variable.after for variable in graph.variables)]
    packer = flatbuffers.Builder(len(blob) * 2)
    packer.Finish(model.Pack(packer), b"TFL3")
    return bytes(packer.Output()), replace(graph, inputs=tuple(own.inputs), outputs=tuple(own.outputs))


def float_weights(blob: bytes, graphs: Sequence[TfliteGraph]) -> bytes:
    """Return the file with quantized weights replaced by their float32 values.

    LiteRT computes layers with quantized weights in 8-bit integers, which is not the network that is compiled.

    Raises
    ------
    ImportError
        ai-edge-litert is not installed.
    """
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(blob, 0))
    pairs = (
        pair
        for own, graph in zip(model.subgraphs, graphs, strict=True)
        for pair in zip(own.tensors, graph.tensors, strict=True)
    )
    for tensor, parsed in pairs:
        if not parsed.dequantized or parsed.data is None:
            continue
        tensor.type, tensor.quantization = schema.TensorType.FLOAT32, None
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(parsed.data.astype("<f4").tobytes(), np.uint8)
        tensor.buffer = len(model.buffers)
        model.buffers.append(buffer)
    packer = flatbuffers.Builder(len(blob) * 4)
    packer.Finish(model.Pack(packer), b"TFL3")
    return bytes(packer.Output())
