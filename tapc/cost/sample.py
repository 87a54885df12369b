"""Random kernels for the fit of the cost model: one program of many independent operators."""

import numpy as np

import tapc.operators  # noqa: F401 - they bring the samples
from tapc.base.arithmetic import Mode
from tapc.base.isa import Isa
from tapc.ir.program import Program, Step
from tapc.ir.sampling import Sampler, sampled
from tapc.lower.steps import steps_of


def random_steps(
    count: int, mode: Mode, isa: Isa, seed: int, *, largest: int = 12000, group: str = "network", given: bool = False
) -> tuple[Program, tuple[Step, ...]]:
    """Return a program of `count` unrelated operators, for measuring only, and its kernels.

    Parameters
    ----------
    count : int
    mode : Mode
    isa : {"dsp", "mve", "scalar"}
    seed : int
    largest : int
        Most weights of one operator.
    group : str
        Whose operators: see `tapc.ir.sampling`.
    given : bool
        What no operator computes is the program's input; else tokens alone are, and the rest is what memory holds.
    """
    sampler = Sampler(np.random.default_rng(seed), largest, mode)
    start = sampler.tensor((1, 1, 4), 8)
    known = sampled(group)
    shares = np.array([share for share, _ in known])
    while len(sampler.ops) < count:
        known[int(sampler.rng.choice(len(known), p=shares / shares.sum()))][1](sampler)
    computed = {op.output for op in sampler.ops}
    sources = [name for op in sampler.ops for name in op.inputs if name not in computed]
    read = (name for name in sources if given or sampler.tensors[name].tokens)
    inputs = dict.fromkeys((start.name, *read))
    last = (sampler.ops[-1].output,)
    program = Program("samples", mode, sampler.tensors, tuple(sampler.ops), tuple(inputs), last, isa)
    return program, steps_of(program, sampler.schedules)
