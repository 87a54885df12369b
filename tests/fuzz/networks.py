"""ONNX networks with one thing changed: a shape, a type, a name, an attribute, a wire."""

# ruff: noqa: E501

import itertools
from typing import Any

import numpy as np
import onnx
from numpy.random import Generator
from onnx import TensorProto, helper, numpy_helper

from fuzz.structures import HUGE, ODD_TEXT


def network(data: bytes, rng: Generator) -> bytes:
    """Return a network with some of its graph changed."""
    model = onnx.load_model_from_string(data)
    for _ in range(int(rng.integers(1, 3))):
        change = _CHANGES[int(rng.integers(len(_CHANGES)))]
        try:
            change(model, rng)
        except (IndexError, ValueError, OverflowError, UnicodeEncodeError, TypeError):
            continue  # an earlier change left nothing for this one
    return bytes(model.SerializeToString())


def _node(model: Any, rng: Generator) -> Any:
    return model.graph.node[int(rng.integers(len(model.graph.node)))]


def _tensor(model: Any, rng: Generator) -> Any:
    return model.graph.initializer[int(rng.integers(len(model.graph.initializer)))]


def _huge(rng: Generator) -> int:
    return int(HUGE[int(rng.integers(len(HUGE)))])


def _input_extent(model: Any, rng: Generator) -> None:
    dims = model.graph.input[0].type.tensor_type.shape.dim
    dims[int(rng.integers(len(dims)))].dim_value = _huge(rng)


def _input_rank(model: Any, rng: Generator) -> None:
    dims = model.graph.input[0].type.tensor_type.shape.dim
    del dims[int(rng.integers(len(dims)))]


def _input_type(model: Any, rng: Generator) -> None:
    model.graph.input[0].type.tensor_type.elem_type = int(rng.choice([0, 2, 6, 7, 8, 10, 11, 99]))


def _free_extent(model: Any, rng: Generator) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[int(rng.integers(4))].dim_param = str(rng.choice(ODD_TEXT))


def _constant_extent(model: Any, rng: Generator) -> None:
    dims = _tensor(model, rng).dims
    dims[int(rng.integers(len(dims)))] = _huge(rng)


def _constant_type(model: Any, rng: Generator) -> None:
    _tensor(model, rng).data_type = int(rng.choice([0, 6, 7, 8, 10, 14, 16, 17, 99]))


def _constant_values(model: Any, rng: Generator) -> None:
    tensor = _tensor(model, rng)
    values = numpy_helper.to_array(tensor).copy()
    values.reshape(-1)[...] = (
        rng.choice([0, 1e-38, 1e38, np.nan, np.inf, -np.inf]) if values.dtype.kind == "f" else _huge(rng)
    )
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def _constant_cut(model: Any, rng: Generator) -> None:
    tensor = _tensor(model, rng)
    tensor.raw_data = tensor.raw_data[: int(rng.integers(len(tensor.raw_data)))]


def _constant_missing(model: Any, rng: Generator) -> None:
    del model.graph.initializer[int(rng.integers(len(model.graph.initializer)))]


def _external(model: Any, rng: Generator) -> None:
    tensor = _tensor(model, rng)
    place = str(rng.choice(["/etc/passwd", "../net.onnx", "/dev/zero", "net.onnx", "none"]))
    onnx.external_data_helper.set_external_data(tensor, place, offset=int(rng.choice([0, -1, 1 << 60])))
    tensor.ClearField("raw_data")


def _operator(model: Any, rng: Generator) -> None:
    _node(model, rng).op_type = str(
        rng.choice(
            [
                "",
                "Nothing",
                "Loop",
                "If",
                "LSTM",
                "QLinearConv",
                "Softmax",
                "Exp",
                "Add",
                "Conv",
                "Gemm",
                "Reshape",
                "Cast",
            ]
        )
    )


def _domain(model: Any, rng: Generator) -> None:
    _node(model, rng).domain = str(rng.choice(["com.microsoft", "ai.onnx.ml", "[/red]", "tapc"]))


def _attribute(model: Any, rng: Generator) -> None:
    node = _node(model, rng)
    attribute = node.attribute[int(rng.integers(len(node.attribute)))]
    value = _huge(rng) if rng.random() < 0.7 else int(rng.integers(-3, 9))
    if attribute.ints:
        attribute.ints[int(rng.integers(len(attribute.ints)))] = value
    else:
        attribute.i = value


def _attribute_length(model: Any, rng: Generator) -> None:
    node = _node(model, rng)
    attribute = node.attribute[int(rng.integers(len(node.attribute)))]
    if attribute.ints and rng.random() < 0.5:
        attribute.ints.pop()
    else:
        attribute.ints.append(1)


def _attribute_kind(model: Any, rng: Generator) -> None:
    node = _node(model, rng)
    node.attribute[int(rng.integers(len(node.attribute)))].type = int(rng.integers(0, 15))


def _attribute_new(model: Any, rng: Generator) -> None:
    name = str(rng.choice(["group", "auto_pad", "dilations", "kernel_shape", "ceil_mode", "alpha", "transA", "[/red]"]))
    value: Any = (
        rng.choice(["SAME_UPPER", "VALID", "x"])
        if name == "auto_pad"
        else [_huge(rng)]
        if rng.random() < 0.5
        else _huge(rng)
    )
    _node(model, rng).attribute.append(helper.make_attribute(name, str(value) if name == "auto_pad" else value))


def _wiring(model: Any, rng: Generator) -> None:
    node, other = _node(model, rng), _node(model, rng)
    node.input[int(rng.integers(len(node.input)))] = str(
        rng.choice([other.output[0], "", "x", "nothing", *other.input])
    )


def _output(model: Any, rng: Generator) -> None:
    node = _node(model, rng)
    node.output[0] = str(rng.choice(["x", "", node.input[0], _node(model, rng).output[0]]))


def _node_missing(model: Any, rng: Generator) -> None:
    del model.graph.node[int(rng.integers(len(model.graph.node)))]


def _node_twice(model: Any, rng: Generator) -> None:
    model.graph.node.append(_node(model, rng))


def _names(model: Any, rng: Generator) -> None:
    odd = str(rng.choice(ODD_TEXT))
    node = _node(model, rng)
    match int(rng.integers(4)):
        case 0:
            node.name = odd
        case 1:
            model.graph.name = odd
        case 2:
            model.producer_name = odd
        case 3:
            old, node.output[0] = node.output[0], odd
            for reader in (*model.graph.node, *model.graph.output):
                if hasattr(reader, "input"):
                    for i, name in enumerate(reader.input):
                        reader.input[i] = odd if name == old else name
                elif reader.name == old:
                    reader.name = odd


def _outputs(model: Any, rng: Generator) -> None:
    if rng.random() < 0.5:
        model.graph.output.append(helper.make_tensor_value_info(_node(model, rng).output[0], 1, None))
    else:
        del model.graph.output[:]


def _inputs(model: Any, rng: Generator) -> None:
    model.graph.input.append(helper.make_tensor_value_info(str(rng.choice(["z", "x", "c.weight"])), 1, [1, 3]))


def _versions(model: Any, rng: Generator) -> None:
    model.ir_version = int(rng.choice([0, 1, 3, 11, 99]))
    model.opset_import[0].version = int(rng.choice([-1, 0, 1, 6, 7, 13, 99, 1 << 40]))


def _many(model: Any, rng: Generator) -> None:
    """Append a long row of one operator."""
    x = model.graph.output[0].name
    for i in range(int(rng.choice([30, 300]))):
        kind = str(rng.choice(["Relu", "Identity"]))
        model.graph.node.append(helper.make_node(kind, [x], [f"more{i}"], name=f"more{i}"))
        x = f"more{i}"
    model.graph.output[0].name = x


def _doubled(model: Any, rng: Generator) -> None:
    """Concatenate a tensor with itself again and again."""
    x = model.graph.output[0].name
    for i in range(int(rng.choice([10, 22, 40]))):
        model.graph.node.append(helper.make_node("Concat", [x, x], [f"twice{i}"], axis=1, name=f"twice{i}"))
        x = f"twice{i}"
    model.graph.output[0].name = x
    model.graph.output[0].type.tensor_type.ClearField("shape")


def _functions(model: Any, rng: Generator) -> None:
    """Call local functions that call others ten times each."""
    opset = [helper.make_opsetid("", 21), helper.make_opsetid("f", 1)]
    depth = int(rng.choice([2, 12]))
    for level in range(depth):
        kind, domain = (f"F{level + 1}", "f") if level + 1 < depth else ("Relu", "")
        names = ["x", *(f"v{i}" for i in range(9)), "y"]
        nodes = [helper.make_node(kind, [a], [b], domain=domain) for a, b in itertools.pairwise(names)]
        model.functions.append(helper.make_function("f", f"F{level}", ["x"], ["y"], nodes, opset))
    model.opset_import.append(helper.make_opsetid("f", 1))
    model.graph.node.append(helper.make_node("F0", [model.graph.output[0].name], ["deep"], domain="f"))
    model.graph.output[0].name = "deep"


def _clip(model: Any, rng: Generator) -> None:
    low, high = rng.choice([-1e30, 0, 1, 1e30, np.nan], 2)
    for name, value in (("low", low), ("high", high)):
        model.graph.initializer.append(numpy_helper.from_array(np.float32(value), f"bound.{name}"))
    model.graph.node.append(helper.make_node("Clip", [model.graph.output[0].name, "bound.low", "bound.high"], ["cut"]))
    model.graph.output[0].name = "cut"


def _reshape(model: Any, rng: Generator) -> None:
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.INT64:
            values = rng.choice([0, -1, 1, 64, 1 << 40, -5], int(rng.integers(0, 5))).astype(np.int64)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


_CHANGES = (
    _input_extent, _input_rank, _input_type, _free_extent, _constant_extent, _constant_type, _constant_values, _constant_cut,
    _constant_missing, _external, _operator, _domain, _attribute, _attribute, _attribute, _attribute_length, _attribute_kind,
    _attribute_new, _wiring, _wiring, _output, _node_missing, _node_twice, _names, _outputs, _inputs, _versions, _many, _doubled,
    _functions, _clip, _reshape,
)  # fmt: skip
