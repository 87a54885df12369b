"""Write int8 TFLite files with variables, as streaming networks have them."""

from dataclasses import dataclass, field

import numpy as np

from frontend.tflite_builder import TfliteBuilder, schema
from tflite_micro_files import Int8Builder, Quantization

_RESOURCE = 13


@dataclass
class VariablesBuilder:
    """A network, of int8 or float32, whose variables begin with constants.

    Attributes
    ----------
    net : TfliteBuilder
    """

    net: TfliteBuilder
    initial: dict[str, np.ndarray] = field(default_factory=dict)
    scales: dict[str, Quantization] = field(default_factory=dict)

    def _operator(self, graph, kind: str, inputs: list[int], outputs: list[int], options: object = None) -> None:  # type: ignore[no-untyped-def]
        code = schema.OperatorCodeT()
        code.builtinCode = getattr(schema.BuiltinOperator, kind)
        code.deprecatedBuiltinCode, code.version = min(code.builtinCode, 127), 1
        self.net.model.operatorCodes.append(code)
        operator = schema.OperatorT()
        operator.opcodeIndex = len(self.net.model.operatorCodes) - 1
        operator.inputs, operator.outputs = inputs, outputs
        if options is not None:
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
            operator.builtinOptions = options
        graph.operators.append(operator)

    def _handle(self, graph, name: str) -> int:  # type: ignore[no-untyped-def]
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type, tensor.buffer = name.encode(), [], _RESOURCE, 0
        graph.tensors.append(tensor)
        options = schema.VarHandleOptionsT()
        options.container, options.sharedName = b"", name.encode()
        self._operator(graph, "VAR_HANDLE", [], [len(graph.tensors) - 1], options)
        return len(graph.tensors) - 1

    def variable(self, name: str, initial: np.ndarray, q: Quantization | None = None) -> int:
        """Add a variable of these codes or values at first; return its handle."""
        self.initial[name] = initial
        if q is not None:
            self.scales[name] = q
        return self._handle(self.net.graph, name)

    def read(self, handle: int) -> int:
        name = self.net.graph.tensors[handle].name.decode()
        result = self._scaled(self.net.tensor(self.initial[name].shape, dtype=str(self.initial[name].dtype)), name)
        self._operator(self.net.graph, "READ_VARIABLE", [handle], [result])
        return result

    def _scaled(self, index: int, name: str) -> int:
        if name in self.scales:
            self.net.quantize(index, np.array([self.scales[name].scale], np.float32), 0, self.scales[name].zero)
        return index

    def assign(self, handle: int, value: int) -> None:
        self._operator(self.net.graph, "ASSIGN_VARIABLE", [handle, value], [])

    def finish(self, *outputs: int) -> bytes:
        import flatbuffers

        once = schema.SubGraphT()
        once.tensors, once.operators, once.inputs, once.outputs = [], [], [], []
        for name, codes in self.initial.items():
            handle = self._handle(once, name)
            index = self.net.constant(codes)
            once.tensors.append(self.net.graph.tensors[self._scaled(index, name)])
            self._operator(once, "ASSIGN_VARIABLE", [handle, len(once.tensors) - 1], [])
        options = schema.CallOnceOptionsT()
        options.initSubgraphIndex = 1
        self._operator(self.net.graph, "CALL_ONCE", [], [], options)
        self.net.graph.operators.insert(0, self.net.graph.operators.pop())
        self.net.finish(*outputs)
        self.net.model.subgraphs = [self.net.graph, once]
        packer = flatbuffers.Builder(1 << 16)
        packer.Finish(self.net.model.Pack(packer), b"TFL3")
        return bytes(packer.Output())


def streaming(initial: np.random.Generator | None = None, channels: int = 4, frames: int = 5) -> bytes:
    """Return two streaming layers: windows that move on by a frame, one of them read again after it was assigned."""
    q, wide = Quantization(0.05, 3), Quantization(0.2, -20)
    b = VariablesBuilder(Int8Builder(1, 1, 1, channels, quantization=q))

    def begun(name: str, shape: tuple[int, ...], q: Quantization) -> int:
        codes = np.full(shape, q.zero) if initial is None else initial.integers(-128, 128, shape)
        return b.variable(name, codes.astype(np.int8), q)

    def moved(handle: int, x: int, length: int, q: Quantization) -> int:
        past, shape = b.read(handle), (1, length, 1, channels)
        whole = b.net.node("CONCATENATION", [past, x], shape, q, "ConcatenationOptions", axis=1)
        ends = [b.net.constant(np.array(v, np.int32)) for v in ([0, 1, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1])]
        masks = {"beginMask": 13, "endMask": 15}
        rest = (1, length - 1, 1, channels)
        b.assign(handle, b.net.node("STRIDED_SLICE", [whole, *ends], rest, q, "StridedSliceOptions", **masks))
        return whole

    first, second = begun("a/states", (1, frames - 1, 1, channels), q), begun("b/states", (1, 2, 1, channels), wide)
    whole = moved(first, b.net.input, frames, q)
    weights = b.net.rng.integers(-127, 128, (1, frames, 1, channels)).astype(np.int8)
    scales = b.net.rng.uniform(0.001, 0.01, channels).astype(np.float32)
    own = {"strideW": 1, "strideH": 1, "padding": 1, "depthMultiplier": 1}
    made = b.net.layer("DEPTHWISE_CONV_2D", whole, weights, scales, 3, (1, 1, 1, channels), wide,
                       "DepthwiseConv2DOptions", **own)  # fmt: skip
    later = moved(second, made, 3, wide)
    weights = b.net.rng.integers(-127, 128, (3, 3, 1, channels)).astype(np.int8)
    scales = b.net.rng.uniform(0.001, 0.01, 3).astype(np.float32)
    own = {"strideW": 1, "strideH": 1, "padding": 1, "fusedActivationFunction": 1}
    y = b.net.layer("CONV_2D", later, weights, scales, 0, (1, 1, 1, 3), Quantization(0.3, -100), "Conv2DOptions", **own)
    again = b.read(second)  # what was assigned just now
    axes = b.net.constant(np.array([1, 2], np.int32))
    options = {"keepDims": False}
    mean = b.net.node("MEAN", [again, axes], (1, channels), Quantization(0.1, 0), "ReducerOptions", **options)
    flat = b.net.node("RESHAPE", [y, b.net.constant(np.array([1, 3], np.int32))], (1, 3), Quantization(0.3, -100),
                      "ReshapeOptions")  # fmt: skip
    return b.finish(b.net.node("CONCATENATION", [flat, b.net.node("QUANTIZE", [mean], (1, channels),
                    Quantization(0.3, -100))], (1, 3 + channels), Quantization(0.3, -100), "ConcatenationOptions",
                    axis=1))  # fmt: skip


def averaging(initial: np.ndarray) -> bytes:
    """Return a float network that mixes its input with what it gave before, (1, F), and gives a layer of that."""
    b = VariablesBuilder(TfliteBuilder(*initial.shape))
    handle = b.variable("mean", initial.astype(np.float32))
    total = b.net.operator("ADD", [b.net.input, b.read(handle)], initial.shape, "AddOptions")
    half = b.net.constant(np.float32([[0.5]]))
    mixed = b.net.operator("MUL", [total, half], initial.shape, "MulOptions")
    b.assign(handle, mixed)
    return b.finish(b.net.dense(mixed, 3))
