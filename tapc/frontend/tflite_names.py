"""Layer names from the scopes that TensorFlow leaves in tensor names."""

import re
from collections.abc import Iterable, Sequence

_LEAVES = {
    "CONV_2D": ("Conv2D",),
    "DEPTHWISE_CONV_2D": ("depthwise", "DepthwiseConv2dNative"),
    "FULLY_CONNECTED": ("MatMul", "BiasAdd"),
    "ADD": ("add", "AddV2"),
    "AVERAGE_POOL_2D": ("AvgPool",),
    "MAX_POOL_2D": ("MaxPool",),
    "MEAN": ("Mean",),
    "RESHAPE": ("Reshape",),
    "SOFTMAX": ("Softmax",),
    "RELU": ("Relu",),
    "RELU6": ("Relu6",),
    "PAD": ("Pad",),
    "CONCATENATION": ("concat",),
    "WHILE": ("while",),
}


def tensor_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return a name of its own for each tensor: that of the file, where no other tensor has it."""
    found: list[str] = []
    taken: set[str] = set()
    for index, name in enumerate(names):
        free = name or f"tensor_{index}"
        free = f"{free}#{index}" if free in taken else free
        taken.add(free)
        found.append(free)
    return tuple(found)


_MODEL = re.compile(r"(model|functional|sequential|StatefulPartitionedCall)(_\d+)?")


def layer_name(kind: str, tensors: Iterable[str], leaves: tuple[str, ...] = ()) -> str:
    """Return the layer's scope, e.g. `conv2d_1` from `model/conv2d_1/Conv2D`; empty where the names tell none.

    Parameters
    ----------
    kind : str
        TFLite operator.
    tensors : iterable of str
        Names of the operator's weights and output; the converter joins names of fused operators with `;`.
    leaves : tuple of str
        What the results of an operator are called that is not known here.
    """
    for part in (part for name in tensors for part in name.split(";")):
        scopes = part.split("/")
        if scopes[-1] in _LEAVES.get(kind, leaves):
            inner = [re.sub(r"[^\w.-]", "_", scope) for scope in scopes[:-1] if not _MODEL.fullmatch(scope)]
            if inner:
                return ".".join(inner)
    return ""
