"""Rewrites that let a layer do what stands before or behind it, without changing an output bit."""

from dataclasses import replace

import numpy as np

from tapc.ir.program import Op, Program
from tapc.ir.rewriting import rewrites
from tapc.operators.add import Add
from tapc.operators.pool import Pool
from tapc.operators.reshape import Reshape
from tapc.operators.weighted.layer import MaxPool, Residual, Weighted


def _users(program: Program) -> dict[str, list[Op]]:
    users: dict[str, list[Op]] = {}
    for op in program.ops:
        for name in op.inputs:
            users.setdefault(name, []).append(op)
    return users


def _is_dense(op: Op) -> bool:
    return isinstance(op, Weighted) and op.groups == 1 and op.weights.shape[1:3] == (1, 1) and not any(op.pads)


@rewrites
def absorb_flatten(program: Program) -> Program:
    """Turn a dense layer behind a flattening into a convolution with a kernel of the map's size."""
    ops, users = list(program.ops), _users(program)
    for flatten in [op for op in program.ops if isinstance(op, Reshape) and op.order == "to_nchw"]:
        source = program.tensors[flatten.inputs[0]]
        height, width, channels = source.shape
        dense = users.get(flatten.output, [])
        if flatten.output in program.outputs or not dense or not all(_is_dense(op) for op in dense):
            continue
        for op in dense:
            assert isinstance(op, Weighted)
            weights = op.weights.reshape(len(op.bias), channels, height, width).transpose(0, 2, 3, 1)
            weights = np.ascontiguousarray(weights)
            ops[ops.index(op)] = replace(op, weights=weights, inputs=(flatten.inputs[0],))
        ops.remove(flatten)
    return program.with_ops(tuple(ops))


@rewrites
def fuse_residual(program: Program) -> Program:
    """Let the later of an addition's two producers, if a convolution, add before it stores."""
    ops, users = list(program.ops), _users(program)
    for add in [op for op in program.ops if isinstance(op, Add)]:
        producers = [next((op for op in ops if op.output == name), None) for name in add.inputs]
        candidates = [
            op
            for op in producers
            if isinstance(op, Weighted)
            and op.residual is None
            and op.output not in program.outputs
            and len(users[op.output]) == 1
            and not op.depthwise(program.tensors[op.inputs[0]].shape[2])
        ]
        if not candidates or add.inputs[0] == add.inputs[1]:
            continue
        conv = max(candidates, key=ops.index)
        swapped = add.inputs[1] == conv.output
        other = add.inputs[0] if swapped else add.inputs[1]
        residual = Residual(add.name, program.tensors[conv.output], add.low, add.high, swapped)
        ops[ops.index(add)] = replace(conv, inputs=(conv.inputs[0], other), output=add.output, residual=residual)
        ops.remove(conv)
    return program.with_ops(tuple(ops))


@rewrites
def fuse_pool(program: Program) -> Program:
    """Let a convolution's result go through memory by a few lines at a time, where a max-pooling alone reads it."""
    ops, users = list(program.ops), _users(program)
    for pool in [
        op
        for op in program.ops
        if isinstance(op, Pool) and op.op == "max" and not any(op.pads) and op.dilation == (1, 1)
    ]:
        conv = next((op for op in ops if op.output == pool.inputs[0]), None)
        if not isinstance(conv, Weighted) or conv.residual is not None or conv.groups != 1:
            continue
        middle, y = program.tensors[conv.output], program.tensors[pool.output]
        lines = pool.kernel[0] * middle.bytes // middle.shape[0]
        if (
            conv.output in program.outputs
            or len(users[conv.output]) > 1
            or pool.kernel[0] > pool.stride[0]
            or y.bytes + lines >= middle.bytes
        ):
            continue
        fused = MaxPool(pool.name, middle, pool.kernel, pool.stride, pool.low, pool.high)
        ops[ops.index(conv)] = replace(conv, output=pool.output, pool=fused)
        ops.remove(pool)
    return program.with_ops(tuple(ops))
