"""The same program with other bit widths, for planning and cost only: its numbers mean nothing any more."""

from collections.abc import Mapping
from dataclasses import replace

from tapc.ir.program import Program, Tensor


def with_bits(program: Program, weights: Mapping[str, int], activations: Mapping[str, int]) -> Program:
    """Return a program that plans and costs like one quantized with these bits.

    Parameters
    ----------
    program : Program
    weights : mapping of str to int
        Layer (node) name -> weight bits.
    activations : mapping of str to int
        Tensor name in the float graph -> bits.
    """

    def changed(t: Tensor) -> Tensor:
        bits = activations.get(t.name, t.bits)
        return t if bits == t.bits else replace(t, bits=bits, zero=0)

    tensors = {key: changed(t) for key, t in program.tensors.items()}
    ops = tuple(op.with_bits(program, weights, changed) for op in program.ops)
    return replace(program, tensors=tensors, ops=ops)
