"""Zero padding, taken into the convolution that reads it."""

import onnx_ir as ir

from tapc.frontend.canonical.edit import attribute, content, replace, sole_consumer, source


def fold_pads(graph: ir.Graph) -> None:
    """Merge zero padding of height and width into the Conv that follows."""
    for node in list(graph):
        if node.op_type != "Pad":
            continue
        pads, value = content(source(node, 1)), content(source(node, 2))
        after = sole_consumer(node.outputs[0])
        if (
            pads is None
            or value is None
            or after is None
            or after.op_type != "Conv"
            or after.inputs[0] is not node.outputs[0]
        ):
            continue
        first, last = pads[: len(pads) // 2], pads[len(pads) // 2 :]
        if value.any() or any(first[:2]) or any(last[:2]):
            continue
        inner = attribute(after, "pads", (0, 0, 0, 0))
        total = [int(a + b) for a, b in zip(inner, (*first[2:], *last[2:]), strict=True)]
        after.attributes["pads"] = ir.AttrInt64s("pads", total)
        replace(node, source(node))
