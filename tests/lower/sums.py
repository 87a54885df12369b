"""A quantized addition as ONNX."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def qdq_sum(a: float, b: float, y: float) -> onnx.ModelProto:
    """Make x, rescaled to two scales, added up and clipped, all with zero point 0."""
    scales = {"x": 1.0, "a": a, "b": b, "y": y}
    values = {f"{name}_scale": np.float32(scale) for name, scale in scales.items()}
    values |= {"zero": np.int8(0), "low": np.float32(0), "high": np.float32(100 * y)}

    def pair(source: str, name: str, target: str) -> list[onnx.NodeProto]:
        inputs = [f"{name}_scale", "zero"]
        return [
            helper.make_node("QuantizeLinear", [source, *inputs], [f"{name}_codes"], name=f"{name}_quantize"),
            helper.make_node("DequantizeLinear", [f"{name}_codes", *inputs], [target], name=f"{name}_dequantize"),
        ]

    nodes = [
        *pair("x", "x", "x_value"), *pair("x_value", "a", "a_value"), *pair("x_value", "b", "b_value"),
        helper.make_node("Add", ["a_value", "b_value"], ["sum"], name="add"),
        helper.make_node("Clip", ["sum", "low", "high"], ["clipped"], name="clip"),
        *pair("clipped", "y", "y"),
    ]  # fmt: skip
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, 3, 2, 2)) for name in "xy"]
    constants = [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()]
    graph = helper.make_graph(nodes, "sum", ends[:1], ends[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
