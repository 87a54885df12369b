"""Costs per layer and bit pair, for the allocator: the fitted model asked about the very kernels that would run."""

from collections.abc import Callable, Mapping
from typing import Protocol

from tapc.allocate import RamUse
from tapc.cost.model import CostModel
from tapc.cost.patches import fitting
from tapc.graph.network import Bits, Layer, Network
from tapc.ir.program import Program, Step
from tapc.kernels.schedule import Schedule
from tapc.lower.fuse import fuse
from tapc.lower.plan import plan
from tapc.lower.prune import prune
from tapc.lower.rebits import with_bits
from tapc.lower.steps import steps_of


class Forms(Protocol):
    """How layers may be computed."""

    def default(self, step: Step, program: Program) -> Schedule | None:
        """Return the schedule that a layer has unless another is chosen; None for that of its kernel."""

    def smallest(self, step: Step, program: Program) -> Schedule | None:
        """Return the one that its memory is planned with."""

    def others(self, step: Step) -> tuple[Schedule, ...]:
        """Return those that it may have for more flash."""


class NetworkCost:
    """Flash, latency and RAM of a network on a core, as functions of its bits.

    Parameters
    ----------
    program : Program
        The network lowered at any bits, before any rewrite. Other bits may leave a few more or fewer channels alive.
    network : Network
    model : CostModel
    forms : Forms, optional
        By default every kernel has its own schedule.
    latency : callable, optional
        What a step takes; by default its predicted instructions.
    """

    def __init__(
        self,
        program: Program,
        network: Network,
        model: CostModel,
        forms: Forms | None = None,
        latency: Callable[[Step], float] | None = None,
    ) -> None:
        self._program = fuse(prune(program))
        self._network = network
        self._model = model
        self._forms = forms
        self._latency = latency or (lambda step: float(model.instructions(step.spec)))
        self._tensors = {i: group.tensors for i, group in enumerate(network.groups)}
        self._variants: dict[tuple[str, int, int, int], dict[str, Step]] = {}
        self._plans: dict[tuple[object, ...], RamUse] = {}

    def _variant(self, layer: Layer, w_bits: int, a_bits: int, out_bits: int) -> dict[str, Step]:
        """Return the layer by algorithm; "" is the one that it has unless another is chosen."""
        key = (layer.name, w_bits, a_bits, out_bits)
        if key not in self._variants:
            self._variants[key] = self._make_variant(*key)
        return self._variants[key]

    def _make_variant(self, layer: str, w_bits: int, a_bits: int, out_bits: int) -> dict[str, Step]:
        node = next(n for n in self._network.layers if n.name == layer)
        activations = {name: a_bits for name in self._tensors[node.input_group]}
        if node.output_group != node.input_group:
            activations |= {name: out_bits for name in self._tensors[node.output_group]}
        program = with_bits(self._program, {layer: w_bits}, activations)
        op = next(op for op in program.ops if op.weight_bits is not None and op.name == layer)
        alone = program.with_ops((op,))
        (plain, *_) = steps_of(alone)
        (own, *_) = self._scheduled(alone)
        found = {"": own}
        for schedule in () if self._forms is None else self._forms.others(plain):
            (other, *_) = steps_of(alone, {op.name: schedule})
            # Not those for more RAM, which is no part of this choice.
            if getattr(other.spec, "tuned", None) == schedule and not schedule.made:
                found[schedule.way] = other
        return found

    def _scheduled(self, program: Program) -> tuple[Step, ...]:
        steps = steps_of(program)
        if self._forms is None:
            return steps
        given = _given({step.op.name: self._forms.default(step, program) for step in steps})
        return steps_of(program, given) if given else steps

    def _smallest(self, program: Program) -> Mapping[str, Schedule]:
        """Return the schedules that memory is planned with."""
        if self._forms is None:
            return {}
        return _given({step.op.name: self._forms.smallest(step, program) for step in steps_of(program)})

    def algorithms(self, layer: Layer, w_bits: int, a_bits: int, out_bits: int) -> tuple[str, ...]:
        """Return the ways to compute a layer; "" is the one that it has unless another is chosen."""
        return tuple(self._variant(layer, w_bits, a_bits, out_bits))

    def flash_bytes(self, layer: Layer, w_bits: int, a_bits: int, out_bits: int, algorithm: str = "") -> int:
        """Return the exact bytes of a layer's constants."""
        return self._model.constant_bytes(self._variant(layer, w_bits, a_bits, out_bits)[algorithm])

    def code(self, layer: Layer, w_bits: int, a_bits: int, out_bits: int, algorithm: str = "") -> tuple[str, int]:
        """Return a layer's kernel and the predicted bytes of its code; equal kernels are in flash once."""
        spec = self._variant(layer, w_bits, a_bits, out_bits)[algorithm].spec
        return str(spec), self._model.code_bytes(spec)

    def latency(self, layer: Layer, w_bits: int, a_bits: int, out_bits: int, algorithm: str = "") -> float:
        """Return what a layer is predicted to take."""
        return self._latency(self._variant(layer, w_bits, a_bits, out_bits)[algorithm])

    def steps(self, bits: Bits) -> tuple[Program, tuple[Step, ...]]:
        """Return the network as it would run with an assignment."""
        program = self._program_of(bits)
        return program, self._scheduled(program)

    def _program_of(self, bits: Bits) -> Program:
        activations = {name: b for i, b in bits.activations.items() for name in self._tensors[i]}
        return with_bits(self._program, bits.weights, activations)

    def ram(self, groups: Mapping[int, int], limit: int | None = None, most: float | None = None) -> RamUse:
        """Plan the arena for activation bits, and add stack and static variables; plans are kept.

        Parameters
        ----------
        groups : mapping of int to int
        limit : int, optional
            Bytes; where the network takes more, it is computed in patches.
        most : float, optional
            See `fitting`.
        """
        key = (limit, most, *sorted(groups.items()))
        if key not in self._plans:
            self._plans[key] = self._planned(groups, limit, most)
        return self._plans[key]

    def _planned(self, groups: Mapping[int, int], limit: int | None, most: float | None) -> RamUse:
        program = self._program_of(Bits({}, dict(groups)))
        schedules = self._smallest(program)
        layout, how = plan(program, steps_of(program, schedules)), ""
        if limit is not None and layout.size + self.besides_arena > limit:
            found = fitting(program, limit - self.besides_arena, self._model, most=most, schedules=schedules)
            program, layout, how = found.program, found.plan, str(found)
        names = tuple(program.tensors[n].name if n in program.tensors else n for n in layout.peak)
        return RamUse(layout.size + self.besides_arena, names, how)

    @property
    def besides_arena(self) -> int:
        """Bytes of RAM that stack and static variables take."""
        return self._model.coefficients.besides_arena

    def whole(self, bits: Bits) -> tuple[int, int]:
        """Predict (flash bytes, instructions) of the whole image; equal kernels share their code."""
        _, steps = self.steps(bits)
        return self._model.flash(steps), self._model.total_instructions(steps)

    def fixed(self) -> tuple[int, float]:
        """Predict flash bytes and latency of everything that is no layer of its own: runtime, calls, pools."""
        names = {layer.name for layer in self._network.layers}
        steps = self._scheduled(self._program)
        others = [step for step in steps if step.op.name not in names]
        calls = self._model.call_bytes([step for step in steps if step.op.name in names])
        return round(self._model.flash(others) + calls), sum(self._latency(step) for step in others)


def _given(schedules: Mapping[str, Schedule | None]) -> dict[str, Schedule]:
    return {name: schedule for name, schedule in schedules.items() if schedule is not None}
