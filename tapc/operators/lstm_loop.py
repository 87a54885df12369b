"""Finds the steps of an integer LSTM among the operators of a program, and lets a loop compute them.

They follow each other in the graph, as `tapc.operators.wide` computes them one by one. Only steps of the same numbers
become a loop, each of which begins with the states of the one before, and where nothing else reads what lies within.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tapc.base.arithmetic.gates import INPUT_BITS
from tapc.ir.part import Part
from tapc.ir.program import Op, Program, Tensor
from tapc.ir.rewriting import rewrites
from tapc.operators.concat import Concat
from tapc.operators.lstm_steps import LstmSteps, Side
from tapc.operators.move import Move
from tapc.operators.reshape import Reshape
from tapc.operators.wide import Wide, WideDense


@dataclass(frozen=True, eq=False)
class _Found:
    """A step among the operators of a program.

    Attributes
    ----------
    x, before, cell_before, after, cell : str
        The step's input codes, and the states before and after it.
    own : LstmSteps
        With its numbers, and names of the step's tensors.
    ops : list of Op
        That it is made of.
    """

    x: str
    before: str
    cell_before: str
    after: str
    cell: str
    own: LstmSteps
    ops: list[Op]


class _Finder:
    def __init__(self, program: Program) -> None:
        self.program = program
        self.makers = {op.output: op for op in program.ops}
        self.ops: list[Op] = []

    def wide(self, name: str, *works: str) -> Wide:
        """Return the operator of this work that makes a tensor; LookupError where another one does."""
        op = self.makers[name]
        if not isinstance(op, Wide) or op.work not in works:
            raise LookupError(name)
        self.ops.append(op)
        return op

    def gate(self, name: str, work: str) -> tuple[WideDense, WideDense]:
        """Return the dense layers of a gate: that of the input, which is a move of some codes, comes first."""
        total = self.wide(self.wide(name, work).inputs[0], "sum")
        layers = [self.makers[side] for side in total.inputs]
        y = self.program.tensors[total.output]
        first, second = sorted(layers, key=lambda op: not isinstance(self.makers.get(op.inputs[0]), Move))
        if not isinstance(first, WideDense) or not isinstance(second, WideDense) or first.w_bits != 8:
            raise LookupError(name)
        ends, plain = {(op.low, op.high) for op in (total, first, second)}, y.quantization == (2.0**-INPUT_BITS, 0)
        if (
            not plain
            or second.w_bits != 8
            or ends != {(y.low, y.high)}
            or not isinstance(self.makers[first.inputs[0]], Move)
        ):
            raise LookupError(name)
        self.ops += (first, second)
        return first, second

    def step(self, result: Op) -> _Found | None:
        """Return the step that ends with this product; None where it is none."""
        self.ops = []
        try:
            return self._step(result)
        except LookupError:
            return None

    def _sorted(self, op: Wide, *works: str) -> list[str]:
        """Return two operands, that of these works first."""
        return sorted(op.inputs, key=lambda name: not self._is(name, *works))

    def _is(self, name: str, *works: str) -> bool:
        op = self.makers.get(name)
        return isinstance(op, Wide) and op.work in works

    def _step(self, result: Op) -> _Found:
        tensors, mode = self.program.tensors, self.program.mode
        own = self.wide(result.output, "product")
        shown, o = self._sorted(own, "tanh")
        total = self.wide(self.wide(shown, "tanh").inputs[0], "sum")
        added, kept = (self.wide(name, "product") for name in sorted(
            total.inputs, key=lambda name: not any(self._is(part, "tanh") for part in self.makers[name].inputs)
        ))  # fmt: skip
        g, i = self._sorted(added, "tanh")
        f, before = self._sorted(kept, "sigmoid")
        layers = [self.gate(*gate) for gate in ((i, "sigmoid"), (f, "sigmoid"), (g, "tanh"), (o, "sigmoid"))]
        sources = [{pair[side].inputs[0] for pair in layers} for side in range(2)]
        y = tensors[result.output]
        if any(len(names) != 1 for names in sources) or y.bits != 8 or any(
            (op.low, op.high) != (-32768, 32767) for op in (kept, added)
        ):  # fmt: skip
            raise LookupError(result.output)
        (x,), (hidden,) = sources
        left = INPUT_BITS + float(np.log2(tensors[total.output].scale))
        if not left.is_integer() or abs(left) >= 8 or any(tensors[name].bits != 8 for name in (x, hidden)):
            raise LookupError(result.output)
        given, state = (
            Side(*(np.stack([getattr(pair[side], key) for pair in layers]) for key in ("weights", "bias", "ratios")))
            for side in range(2)
        )
        products = np.concatenate([op.ratio(tensors, mode) for op in (kept, added, own)])
        numbers = LstmSteps(
            result.name, (x, hidden, before), result.output, given, state, products,
            (total.low, total.high), int(left), own.low, own.high,
        )  # fmt: skip
        return _Found(x, hidden, before, result.output, total.output, numbers, self.ops)


def _chains(program: Program) -> Iterator[list[_Found]]:
    """Yield steps of the same numbers, each of which begins with the states of the one before."""
    finder = _Finder(program)
    products = (op for op in program.ops if isinstance(op, Wide) and op.work == "product")
    found = [step for op in products if (step := finder.step(op)) is not None]
    after = {(step.before, step.cell_before): step for step in found}
    firsts = [step for step in found if all(step.before != other.after for other in found)]
    for first in firsts:
        chain = [first]
        while (step := after.get((chain[-1].after, chain[-1].cell))) is not None and _alike(program, first, step):
            chain.append(step)
        if len(chain) > 1:
            yield chain


def _alike(program: Program, a: _Found, b: _Found) -> bool:
    tensors, one, other = program.tensors, a.own, b.own
    return (
        one.given.same(other.given) and one.state.same(other.state) and np.array_equal(one.products, other.products)
        and (one.cell, one.left, one.low, one.high) == (other.cell, other.left, other.low, other.high)
        and all(tensors[p].quantization == tensors[q].quantization
                for p, q in ((a.x, b.x), (a.before, a.after), (a.after, b.after), (a.cell_before, b.cell)))
    )  # fmt: skip


@rewrites
def looped(program: Program) -> Program:
    """Compute the steps of an LSTM in a loop, where several follow each other."""
    # One at a time: where the hidden states of one are what another one is given, that one then reads moves of them.
    while (found := next(filter(None, (_looped(program, chain) for chain in _chains(program))), None)) is not None:
        program = found
    return program


def _looped(program: Program, chain: list[_Found]) -> Program | None:
    """Return a program with a loop in place of these steps; None where others need what lies between them."""
    origins = [_origin(program, step.x) for step in chain]
    gone = {id(op) for step in chain for op in step.ops}
    readers = Counter(name for op in program.ops if id(op) not in gone for name in op.inputs)
    readers.update(program.outputs)
    inner = {op.output for step in chain for op in step.ops} - {step.after for step in chain} - {chain[-1].cell}
    if any(readers[name] for name in inner) or len({name for name, _ in origins}) != 1:
        return None
    first, last, source = chain[0], chain[-1], origins[0][0]
    units = first.own.units
    name = first.own.name.removesuffix(".result").removesuffix(".0")
    tensors = dict(program.tensors)

    def tensor(end: str, like: Tensor, shape: tuple[int, int, int]) -> str:
        key = f"{name}.{end}"
        while key in tensors:
            key += "_"
        tensors[key] = replace(like, name=key, shape=shape)
        return key

    whole = np.concatenate([index.reshape(1, 1, -1) for _, index in origins], axis=1)
    codes = tensor("x", tensors[first.x], (1, whole.shape[1], whole.shape[2]))
    dense = tuple(op.name for step in chain for op in step.ops if isinstance(op, WideDense))
    own = replace(first.own, name=name, inputs=(codes, first.before, first.cell_before), dense=dense)
    spec = own.spec(replace(program, tensors=tensors))
    states = tensor("states", tensors[first.after], (1, 1, spec.y.channels))
    made: list[Op] = [
        Move(codes, (source,), codes, whole, whole.size == int(np.prod(tensors[source].shape))),
        replace(own, output=states),
    ]
    names = tuple(step.after for step in chain)
    for op in program.ops:  # all hidden states side by side are there already
        if isinstance(op, Concat) and op.inputs == names and _plain(op, tensors, first.after):
            made.append(Part(op.name, (states,), op.output, 0))
            gone.add(id(op))
            readers.subtract(op.inputs)
    if readers[last.cell]:
        made.append(Part(last.cell, (states,), last.cell, spec.cells))
    for step, key in enumerate(names):
        if readers[key]:
            index = np.arange(step * units, (step + 1) * units, dtype=np.int32).reshape(1, 1, units)
            made.append(Move(key, (states,), key, index, False))
    places = [at for at, op in enumerate(program.ops) if op.output in (source, first.before, first.cell_before)]
    at = max(places, default=-1) + 1
    ops = [*program.ops[:at], *made, *program.ops[at:]]
    return replace(program, tensors=tensors).with_ops(_needed(program, [op for op in ops if id(op) not in gone]))


def _origin(program: Program, name: str) -> tuple[str, NDArray[np.int32]]:
    """Return of which tensor another one's codes are moves, and where each lies there."""
    makers, shape = {op.output: op for op in program.ops}, program.tensors[name].shape
    index = np.arange(np.prod(shape), dtype=np.int64).reshape(1, *shape)
    while isinstance(op := makers.get(name), Move | Reshape):
        name = op.inputs[0]
        places = np.arange(np.prod(program.tensors[name].shape), dtype=np.int64).reshape(
            1, *program.tensors[name].shape
        )
        index = op.reference(program, [places]).reshape(-1)[index]
    return name, index[0].astype(np.int32)


def _needed(program: Program, ops: list[Op]) -> tuple[Op, ...]:
    """Return operators without moves that nobody reads any more."""
    used, found = set(program.outputs), list[Op]()
    for op in reversed(ops):
        if op.output in used or not isinstance(op, Move | Reshape):
            found.append(op)
            used.update(op.inputs)
    return tuple(reversed(found))


def _plain(op: Concat, tensors: Mapping[str, Tensor], part: str) -> bool:
    """Whether codes are put side by side as they are."""
    y, x = tensors[op.output], tensors[part]
    side = y.shape[0] * y.shape[1] * x.shape[2] if op.axis == 3 else x.shape[2]
    ends = (op.low, op.high) == (y.low, y.high)
    return ends and x.quantization == y.quantization and y.bits == 8 and side == x.shape[2]
