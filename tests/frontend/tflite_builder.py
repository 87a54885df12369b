"""Write small TFLite files with the schema that LiteRT carries, and run them there."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from tapc.cli import main
from tapc.quantize.runtime import carried

schema = pytest.importorskip("ai_edge_litert.schema_py_generated", reason="needs ai-edge-litert")

_TYPES = {"float32": 0, "float16": 1, "int32": 2, "uint8": 3, "int64": 4, "int16": 7, "int8": 9}


class TfliteBuilder:
    """Collects tensors and operators of one subgraph; tensors are addressed by index."""

    def __init__(self, *shape: int, seed: int = 0, dtype: str = "float32") -> None:
        self.rng = np.random.default_rng(seed)
        self.model = schema.ModelT()
        self.model.version = 3
        self.model.buffers = [schema.BufferT()]
        self.model.operatorCodes = []
        self.graph = schema.SubGraphT()
        self.graph.tensors, self.graph.operators = [], []
        self.input = self.tensor(shape, name="in", dtype=dtype)

    def tensor(self, shape: tuple[int, ...], name: str = "", dtype: str = "float32", buffer: int = 0) -> int:
        tensor = schema.TensorT()
        tensor.name = (name or f"t{len(self.graph.tensors)}").encode()
        tensor.shape, tensor.type, tensor.buffer = list(shape), _TYPES[dtype], buffer
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def constant(self, array: NDArray[Any], name: str = "") -> int:
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8)
        self.model.buffers.append(buffer)
        return self.tensor(array.shape, name, str(array.dtype), len(self.model.buffers) - 1)

    def weights(self, *shape: int, name: str = "") -> int:
        return self.constant(self.rng.normal(0, 0.5, shape).astype(np.float32), name)

    def quantize(self, index: int, scale: NDArray[np.float32], axis: int, zero: int = 0) -> None:
        parameters = schema.QuantizationParametersT()
        parameters.scale, parameters.zeroPoint = list(scale), [zero] * len(scale)
        parameters.quantizedDimension = axis
        self.graph.tensors[index].quantization = parameters

    def operator(
        self, kind: str, inputs: list[int], shape: tuple[int, ...], table: str = "", name: str = "", **options: Any
    ) -> int:
        code = schema.OperatorCodeT()
        code.builtinCode = getattr(schema.BuiltinOperator, kind)
        code.deprecatedBuiltinCode, code.version = min(code.builtinCode, 127), 1
        self.model.operatorCodes.append(code)
        operator = schema.OperatorT()
        operator.opcodeIndex = len(self.model.operatorCodes) - 1
        operator.inputs = inputs
        operator.outputs = [self.tensor(shape, name)]
        if table:
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, table)
            operator.builtinOptions = getattr(schema, f"{table}T")()
            for key, value in options.items():
                assert hasattr(operator.builtinOptions, key)
                setattr(operator.builtinOptions, key, value)
        self.graph.operators.append(operator)
        return int(operator.outputs[0])

    def conv(self, x: int, outputs: int, kernel: tuple[int, int], shape: tuple[int, ...], **options: Any) -> int:
        channels = self.graph.tensors[x].shape[3]
        inputs = [x, self.weights(outputs, *kernel, channels), self.weights(outputs)]
        return self.operator("CONV_2D", inputs, shape, "Conv2DOptions", **{"strideW": 1, "strideH": 1, **options})

    def dense(self, x: int, outputs: int, **options: Any) -> int:
        features = int(np.prod(self.graph.tensors[x].shape))
        inputs = [x, self.weights(outputs, features), self.weights(outputs)]
        return self.operator("FULLY_CONNECTED", inputs, (1, outputs), "FullyConnectedOptions", **options)

    def reshape(self, x: int, *shape: int) -> int:
        return self.operator("RESHAPE", [x, self.constant(np.array(shape, np.int32))], shape, "ReshapeOptions")

    def post_process(self, boxes: int, scores: int, anchors: int, most: int, **options: Any) -> list[int]:
        """Add SSD's post-processing; return its boxes, classes, scores and their number."""
        from flatbuffers import flexbuffers

        code = schema.OperatorCodeT()
        code.builtinCode, code.version = schema.BuiltinOperator.CUSTOM, 1
        code.deprecatedBuiltinCode, code.customCode = code.builtinCode, b"TFLite_Detection_PostProcess"
        self.model.operatorCodes.append(code)
        writer = flexbuffers.Builder()
        with writer.Map():
            for key, value in {"max_detections": most, **options}.items():
                write = {bool: writer.Bool, int: writer.Int, float: writer.Float}[type(value)]
                write(key, value)
        operator = schema.OperatorT()
        operator.opcodeIndex = len(self.model.operatorCodes) - 1
        operator.inputs = [boxes, scores, anchors]
        operator.outputs = [self.tensor(shape) for shape in ((1, most, 4), (1, most), (1, most), (1,))]
        operator.customOptions = np.frombuffer(bytes(writer.Finish()), np.uint8)
        self.graph.operators.append(operator)
        return list(operator.outputs)

    def finish(self, *outputs: int) -> bytes:
        import flatbuffers

        self.graph.inputs, self.graph.outputs = self.graph.inputs or [self.input], list(outputs)
        self.model.subgraphs = [self.graph]
        packer = flatbuffers.Builder(1 << 16)
        packer.Finish(self.model.Pack(packer), b"TFL3")
        return bytes(packer.Output())


def litert(blob: bytes, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Run a TFLite model with LiteRT's reference kernels, NHWC in and out."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(model_content=blob, experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    return np.array(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))


def check_refused(blob: bytes, message: str, folder: Path) -> None:
    """Assert that the command line refuses a file as unsupported, says why, and leaves nothing behind."""
    path = folder / "net.tflite"
    path.write_bytes(blob)
    result = CliRunner().invoke(
        main, ["compile", str(path), "--board", "stm32h7", "--data", "random", "--output", str(folder / "b")]
    )
    assert result.exit_code == 3
    assert message in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr
    assert not (folder / "b").exists()


def check_steps(model: onnx.ModelProto, path: Path, x: NDArray[np.float32], size: int) -> None:
    """Assert that a sequence of inputs gives LiteRT's first outputs, with what both keep between the steps."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    _, found = carried(model, x.reshape(len(x), -1), len(x), optimized=False)
    interpreter = Interpreter(model_path=str(path), experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
    interpreter.allocate_tensors()
    for step, own in zip(x, found, strict=True):
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], step)
        interpreter.invoke()
        expected = interpreter.get_tensor(interpreter.get_output_details()[0]["index"]).reshape(-1)
        np.testing.assert_allclose(own[:size], expected, atol=1e-5)
