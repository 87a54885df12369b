"""Whether the parts of a network on the NPU compute what it says: each on what the reference executor gives it."""

from collections import Counter

import numpy as np

from tapc.base.arithmetic import Ints
from tapc.base.ports import joined
from tapc.ir.program import Op
from tapc.lower.codes import apart
from tapc.lower.reference import execute
from tapc.npu import micro
from tapc.npu.parts import Divided
from tapc.npu.proof import LayerProof, NpuProof, at_a_time, prove


def prove_divided(divided: Divided, outputs_at_once: int, samples: Ints, *, ask_micro: bool) -> tuple[NpuProof, int]:
    """Run every part of a network in the executor of commands, and the whole network in the reference executor.

    What all parts compute of right inputs is right, so that the network is.

    Parameters
    ----------
    divided : Divided
    outputs_at_once : int
        See `tapc.npu.executor.Executor`.
    samples : ndarray of int, shape (N, H, W, C)
        Codes of the input; rows (N, values) of several.
    ask_micro : bool
        Run the parts' files in TFLite-Micro, too.

    Returns
    -------
    NpuProof
        The network's; of an operator of the CPU nothing is compared here.
    int
        Codes of the parts' outputs that TFLite-Micro gives otherwise.
    """
    elements, different = Counter[str](), Counter[str]()
    codes, outputs, otherwise = [], 0, 0
    size = at_a_time(divided.source, len(samples))
    for first in range(0, len(samples), size):
        given = samples[first : first + size]
        inputs = apart(divided.source, divided.source.inputs, given)
        known: dict[str, Ints] = dict(zip(divided.source.inputs, inputs, strict=True))

        def observe(op: Op, values: Ints, known: dict[str, Ints] = known) -> None:
            known[op.output] = values

        codes.append(execute(divided.source, given, observe=observe).reshape(len(given), -1).astype(np.int8))
        for part in divided.parts:
            own = [known[name] for name in part.program.inputs]
            proof = prove(part.program, part.network, part.compiled, part.optimized, outputs_at_once, joined(own))
            outputs += proof.different
            for layer in proof.layers:
                elements[layer.name] += layer.elements
                different[layer.name] += layer.different
            if ask_micro:
                found = micro.outputs(part.network.blob, own, len(part.program.outputs))
                wanted = [known[name].reshape(len(given), -1) for name in part.program.outputs]
                otherwise += int(np.count_nonzero(found != np.concatenate(wanted, axis=1)))
    layers = tuple(LayerProof(op.name, elements[op.name], different[op.name]) for op in divided.source.ops)
    whole = np.concatenate(codes)
    return NpuProof(len(samples), whole.size, outputs, layers, whole), otherwise
