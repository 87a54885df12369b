"""Older opsets and onnxruntime's own operators, written as standard operators are today."""

from collections.abc import Callable, Iterator

import numpy as np
import onnx
from onnx import helper, numpy_helper, version_converter

from tapc.base.errors import UnsupportedError
from tapc.frontend.boundary import first_line
from tapc.frontend.onnx_checks import OLDEST_OPSET, STANDARD, default_opset

_TARGET = 21
_LATER = "tapc.later"
_SINCE_LAYER_NORM = 17
_BROADCAST = ("Add", "Sub", "Mul", "Div", "Pow", "PRelu")
_DROPPED = ("consumed_inputs", "is_test", "broadcast", "axis", "spatial")
Nodes = Iterator[onnx.NodeProto]


def modern(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model in operators of opset 7 or newer, without those of onnxruntime that standard ones can say.

    Parameters
    ----------
    model : onnx.ModelProto
        Left as it is.

    Raises
    ------
    UnsupportedError
        It cannot be brought there.
    """
    opset = default_opset(model)
    if opset is not None and opset < OLDEST_OPSET:
        model = _raised(model, opset)
        opset = OLDEST_OPSET
    return _standard(_one_sided(model), opset or _TARGET)


def _one_sided(model: onnx.ModelProto) -> onnx.ModelProto:
    """Write what STFT is unless it says otherwise, since onnx infers the shape of a two-sided one there."""

    def silent(node: onnx.NodeProto) -> bool:
        return node.op_type == "STFT" and all(item.name != "onesided" for item in node.attribute)

    if not any(map(silent, model.graph.node)):
        return model
    copy = _copied(model)
    for node in filter(silent, copy.graph.node):
        node.attribute.append(helper.make_attribute("onesided", 1))
    del copy.graph.value_info[:]
    return copy


def _copied(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def _with_opset(model: onnx.ModelProto, opset: int) -> None:
    others = [entry for entry in model.opset_import if entry.domain not in (*STANDARD, "com.microsoft")]
    entries = [helper.make_opsetid("", opset), *(helper.make_opsetid(e.domain, e.version) for e in others)]
    del model.opset_import[:]
    model.opset_import.extend(entries)


def _raised(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """Rewrite what changed before opset 7: shapes as attributes, broadcasting along a named axis."""
    copy = _copied(model)
    inferred = onnx.shape_inference.infer_shapes(copy).graph
    known = [v for v in (*inferred.input, *inferred.value_info) if v.type.tensor_type.HasField("shape")]
    ranks = {v.name: len(v.type.tensor_type.shape.dim) for v in known}
    ranks |= {tensor.name: len(tensor.dims) for tensor in copy.graph.initializer}
    nodes = []
    for node in copy.graph.node:
        given = {item.name: helper.get_attribute_value(item) for item in node.attribute}
        if node.op_type == "Constant":
            ranks[node.output[0]] = len(given["value"].dims)
        elif node.op_type == "Reshape" and "shape" in given:
            ranks[node.output[0]] = len(given["shape"])
            name = f"{node.output[0]}.shape"
            copy.graph.initializer.append(numpy_helper.from_array(np.array(given["shape"], np.int64), name))
            node.input.append(name)
            del node.attribute[:]
        elif node.op_type in _BROADCAST and "axis" in given and len(node.input) == 2:
            missing = ranks.get(node.input[0], 0) - given["axis"] - ranks.get(node.input[1], 0)
            if missing > 0:
                name = f"{node.output[0]}.operand"
                axes = list(range(ranks[node.input[1]], ranks[node.input[1]] + missing))
                nodes.append(helper.make_node("Unsqueeze", [node.input[1]], [name], axes=axes))
                node.input[1] = name
        elif node.op_type in ("Upsample", "RNN", "GRU", "LSTM") or (node.op_type == "Pad" and "paddings" in given):
            raise UnsupportedError(
                f"opset {opset}, in which {node.op_type} means something else; {OLDEST_OPSET} is the oldest that is "
                "read: export the model again"
            )
        if node.op_type in (*_BROADCAST, "Gemm", "BatchNormalization", "Dropout"):
            kept = [item for item in node.attribute if item.name not in _DROPPED]
            del node.attribute[:]
            node.attribute.extend(kept)
        if node.input and node.output:  # others keep the axes of what they read
            ranks.setdefault(node.output[0], ranks.get(node.input[0], 0))
        nodes.append(node)
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    del copy.graph.value_info[:]
    _with_opset(copy, OLDEST_OPSET)
    copy.ir_version = max(copy.ir_version, 8)  # the first had no initializers besides the inputs
    return copy


def _standard(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """Rewrite onnxruntime's operators, and LayerNormalization where it came before its opset."""
    own = [node for node in model.graph.node if node.domain == "com.microsoft" and node.op_type in _OWN]
    early = [
        node
        for node in model.graph.node
        if node.domain in STANDARD and node.op_type == "LayerNormalization" and opset < _SINCE_LAYER_NORM
    ]
    if not own and not early:
        return model
    copy = _copied(model)
    nodes: list[onnx.NodeProto] = []
    for node in copy.graph.node:
        if node.domain == "com.microsoft" and node.op_type in _OWN:
            nodes += _OWN[node.op_type](node)
        else:
            if node.op_type == "LayerNormalization" and node.domain in STANDARD and opset < _SINCE_LAYER_NORM:
                node.domain = _LATER
            nodes.append(node)
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    _with_opset(copy, opset)
    copy.opset_import.append(helper.make_opsetid(_LATER, 1))
    try:
        raised = version_converter.convert_version(copy, _TARGET)
    except Exception as error:
        names = sorted({node.op_type for node in own})
        raise UnsupportedError(
            f"operators of onnxruntime ({', '.join(names) or 'LayerNormalization'}) at opset {opset} cannot be brought "
            f"to opset {_TARGET}: {first_line(error)}; export the model without onnxruntime's optimizations"
        ) from error
    for node in raised.graph.node:
        if node.domain == _LATER:
            node.domain = ""
    _with_opset(raised, _TARGET)
    kept = [entry for entry in raised.opset_import if entry.domain != _LATER]
    del raised.opset_import[:]
    raised.opset_import.extend(kept)
    return raised


def _later(op: str, inputs: list[str], output: str, name: str, **attributes: object) -> onnx.NodeProto:
    return helper.make_node(op, inputs, [output], name=name, domain=_LATER, **attributes)


def _attributes(node: onnx.NodeProto) -> dict[str, object]:
    return {item.name: helper.get_attribute_value(item) for item in node.attribute}


def _gelu(node: onnx.NodeProto) -> Nodes:
    """Gelu, FastGelu and BiasGelu, the latter two with a bias."""
    value = node.input[0]
    if len(node.input) > 1 and node.input[1]:
        value = f"{node.output[0]}.biased"
        yield _later("Add", list(node.input[:2]), value, f"{node.name}.bias")
    how = "tanh" if node.op_type == "FastGelu" else "none"
    yield _later("Gelu", [value], node.output[0], node.name, approximate=how)


def _quick_gelu(node: onnx.NodeProto) -> Nodes:
    """QuickGelu: x * sigmoid(alpha x)."""
    alpha, stem = float(_attributes(node).get("alpha", 1.702)), node.output[0]  # type: ignore[arg-type]
    factor = helper.make_tensor(f"{stem}.alpha", onnx.TensorProto.FLOAT, (), [alpha])
    yield helper.make_node("Constant", [], [f"{stem}.alpha"], domain=_LATER, value=factor)
    yield _later("Mul", [node.input[0], f"{stem}.alpha"], f"{stem}.scaled", f"{node.name}.alpha")
    yield _later("Sigmoid", [f"{stem}.scaled"], f"{stem}.gate", f"{node.name}.sigmoid")
    yield _later("Mul", [node.input[0], f"{stem}.gate"], stem, node.name)


def _fused_layer(node: onnx.NodeProto) -> Nodes:
    """FusedConv and FusedGemm: a layer and the activation behind it."""
    given, stem = _attributes(node), node.output[0]
    own = {key: value for key, value in given.items() if not key.startswith("activation")}
    activation = given.get("activation", b"")
    kind = activation.decode() if isinstance(activation, bytes) else str(activation)
    if len(node.input) > 3:
        raise UnsupportedError(f"node {node.name!r}: {node.op_type} with a sum in it is not supported")
    yield _later(
        node.op_type.removeprefix("Fused"), list(node.input), f"{stem}.plain" if kind else stem, node.name, **own
    )
    if not kind:
        return
    if kind in ("Relu", "Sigmoid", "Tanh"):
        yield _later(kind, [f"{stem}.plain"], stem, f"{node.name}.{kind.lower()}")
    elif kind == "LeakyRelu":
        alpha = given.get("activation_alpha", 0.01)
        alpha = alpha if isinstance(alpha, float) else given["activation_params"][0]  # type: ignore[index]
        yield _later(kind, [f"{stem}.plain"], stem, f"{node.name}.relu", alpha=alpha)
    elif kind == "Clip":
        for end, bound in zip(("min", "max"), given["activation_params"], strict=True):  # type: ignore[call-overload]
            value = helper.make_tensor(f"{stem}.{end}", onnx.TensorProto.FLOAT, (), [bound])
            yield helper.make_node("Constant", [], [f"{stem}.{end}"], domain=_LATER, value=value)
        yield _later("Clip", [f"{stem}.plain", f"{stem}.min", f"{stem}.max"], stem, f"{node.name}.clip")
    else:
        raise UnsupportedError(f"node {node.name!r}: {node.op_type} with the activation {kind} is not supported")


def _skip_layer_norm(node: onnx.NodeProto) -> Nodes:
    """SkipLayerNormalization: a sum of two or three operands, normalized."""
    x, skip, gamma, beta, bias = [*node.input, "", ""][:5]
    stem = node.output[0]
    value = node.output[3] if len(node.output) > 3 and node.output[3] else f"{stem}.sum"
    yield _later("Add", [x, skip], value if not bias else f"{stem}.joined", f"{node.name}.add")
    if bias:
        yield _later("Add", [f"{stem}.joined", bias], value, f"{node.name}.bias")
    epsilon = _attributes(node).get("epsilon", 1e-12)
    inputs = [value, gamma, *([beta] if beta else [])]
    yield _later("LayerNormalization", inputs, stem, node.name, axis=-1, epsilon=epsilon)


_OWN: dict[str, Callable[[onnx.NodeProto], Nodes]] = {
    "Gelu": _gelu,
    "FastGelu": _gelu,
    "BiasGelu": _gelu,
    "QuickGelu": _quick_gelu,
    "FusedConv": _fused_layer,
    "FusedGemm": _fused_layer,
    "SkipLayerNormalization": _skip_layer_norm,
}
