"""What every code of a program can be, whatever the input: the reference executor run on intervals.

Most operators are monotone: requantization, clamps, sums, maxima and moves never reverse an order, and a convolution
splits into its positive and its negative weights. So the reference itself, run on the smallest and on the largest
codes, gives exact bounds per element, borders included, in all modes of requantization. Of others nothing is known.
"""

from tapc.ir.channels import Bounds, anything
from tapc.ir.program import Program


def bounds(program: Program) -> dict[str, Bounds]:
    """Bound every tensor of a program before fusion.

    Returns
    -------
    dict of str to Bounds
        By tensor name; the inputs may be anything.
    """
    inputs = {name: program.tensors[name] for name in program.inputs}
    found = {name: anything(x.shape, x.low, x.high) for name, x in inputs.items()}
    for op in program.ops:
        found[op.output] = op.bounds(program, [found[name] for name in op.inputs])
    return found
