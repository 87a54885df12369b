"""Branches (If) whose condition is known before anything runs: what is taken becomes part of the graph."""

import onnx_ir as ir

from tapc.base.errors import UnsupportedError
from tapc.frontend.canonical.edit import content


def inline_branches(graph: ir.Graph) -> bool:
    """Put the nodes of the branch that is taken in the place of each If with a constant condition.

    Parameters
    ----------
    graph : onnx_ir.Graph
        Edited in place. Branches within branches follow when this is done again.

    Returns
    -------
    bool
        Whether there was such an If.
    """
    found = False
    for node in list(graph):
        if node.domain or node.op_type != "If" or not node.inputs or node.inputs[0] is None:
            continue
        condition = content(node.inputs[0])
        if condition is None or condition.size != 1:
            continue
        _inline(graph, node, node.attributes["then_branch" if condition.reshape(-1)[0] else "else_branch"].as_graph())
        found = True
    return found


def check_branches(graph: ir.Graph) -> None:
    """Raise UnsupportedError where a condition is left that only a run tells."""
    for node in graph:
        if node.op_type == "If":
            raise UnsupportedError(
                f"node {node.name or str(node.outputs[0].name)!r}: control flow (If) whose condition is computed is "
                "not supported; give an input that chooses the branch its value (--constant INPUT=VALUE), or export "
                "the model with fixed shapes, by tracing"
            )


def _inline(graph: ir.Graph, node: ir.Node, branch: ir.Graph) -> None:
    taken = {str(value.name) for other in graph for value in other.outputs} | {str(v.name) for v in graph.inputs}
    taken |= set(graph.initializers)
    stem = node.name or str(node.outputs[0].name)

    def unique(name: str | None) -> str:
        return str(name) if name not in taken else f"{stem}.{name}"

    for value in list(branch.initializers.values()):
        branch.initializers.pop(str(value.name))
        value.name = unique(value.name)
        graph.initializers[value.name] = value
    inner, results = list(branch), list(branch.outputs)
    branch.outputs.clear()
    branch.remove(inner)
    for own in inner:
        for value in own.outputs:
            value.name, value.shape = unique(value.name), None  # stated, or inferred of both branches
    graph.insert_before(node, inner)
    for before, result in zip(list(node.outputs), results, strict=True):
        # A branch may hand on a value from outside.
        handed = ir.node("Identity", [result])
        graph.insert_before(node, handed)
        name, before.name = before.name, f"{before.name}.chosen"
        handed.outputs[0].name = name
        before.replace_all_uses_with(handed.outputs[0], replace_graph_outputs=True)
        handed.outputs[0].shape = None
    graph.remove(node, safe=True)
