"""Costs per layer and bit pair, for the allocator: the fitted model asked about the very kernels that would run."""

from collections.abc import Mapping

from tapc.allocate import RamUse
from tapc.cost.model import CostModel
from tapc.graph.network import Bits, Layer, Network
from tapc.ir.program import Program, Step
from tapc.lower.fuse import fuse
from tapc.lower.plan import plan
from tapc.lower.prune import prune
from tapc.lower.rebits import with_bits
from tapc.lower.steps import steps_of


class NetworkCost:
    """Flash, latency and RAM of a network on a core, as functions of its bits.

    Parameters
    ----------
    program : Program
        The network lowered at any bits, before any rewrite. Other bits may leave a few more or fewer channels alive.
    network : Network
    model : CostModel
    """

    def __init__(self, program: Program, network: Network, model: CostModel) -> None:
        self._program = fuse(prune(program))
        self._network = network
        self._model = model
        self._tensors = {i: group.tensors for i, group in enumerate(network.groups)}
        self._variants: dict[tuple[str, int, int, int], Step] = {}
        self._plans: dict[tuple[tuple[int, int], ...], RamUse] = {}

    def _variant(self, layer: str, w_bits: int, a_bits: int, out_bits: int) -> Step:
        key = (layer, w_bits, a_bits, out_bits)
        if key not in self._variants:
            self._variants[key] = self._make_variant(*key)
        return self._variants[key]

    def _make_variant(self, layer: str, w_bits: int, a_bits: int, out_bits: int) -> Step:
        node = next(n for n in self._network.layers if n.name == layer)
        activations = {name: a_bits for name in self._tensors[node.input_group]}
        if node.output_group != node.input_group:
            activations |= {name: out_bits for name in self._tensors[node.output_group]}
        program = with_bits(self._program, {layer: w_bits}, activations)
        op = next(op for op in program.ops if op.weight_bits is not None and op.name == layer)
        return steps_of(program.with_ops((op,)))[0]

    def flash_bytes(self, layer: Layer, w_bits: int, a_bits: int, out_bits: int) -> int:
        """Return the exact bytes of a layer's constants."""
        return self._model.constant_bytes(self._variant(layer.name, w_bits, a_bits, out_bits))

    def code(self, layer: Layer, w_bits: int, a_bits: int, out_bits: int) -> tuple[str, int]:
        """Return a layer's kernel and the predicted bytes of its code; equal kernels are in flash once."""
        spec = self._variant(layer.name, w_bits, a_bits, out_bits).spec
        return str(spec), self._model.code_bytes(spec)

    def latency(self, layer: Layer, w_bits: int, a_bits: int, out_bits: int) -> float:
        """Return the predicted instructions of a layer."""
        return float(self._model.instructions(self._variant(layer.name, w_bits, a_bits, out_bits).spec))

    def steps(self, bits: Bits) -> tuple[Program, tuple[Step, ...]]:
        """Return the network as it would run with an assignment."""
        activations = {name: b for i, b in bits.activations.items() for name in self._tensors[i]}
        program = with_bits(self._program, bits.weights, activations)
        return program, steps_of(program)

    def ram(self, groups: Mapping[int, int]) -> RamUse:
        """Plan the arena for activation bits, and add stack and static variables; plans are kept."""
        key = tuple(sorted(groups.items()))
        if key not in self._plans:
            self._plans[key] = self._planned(groups)
        return self._plans[key]

    def _planned(self, groups: Mapping[int, int]) -> RamUse:
        program, steps = self.steps(Bits({}, dict(groups)))
        layout = plan(program, steps)
        names = tuple(program.tensors[n].name if n in program.tensors else n for n in layout.peak)
        return RamUse(layout.size + self.besides_arena, names)

    @property
    def besides_arena(self) -> int:
        """Bytes of RAM that stack and static variables take."""
        return self._model.coefficients.besides_arena

    def whole(self, bits: Bits) -> tuple[int, int]:
        """Predict (flash bytes, instructions) of the whole image; equal kernels share their code."""
        _, steps = self.steps(bits)
        return self._model.flash(steps), self._model.total_instructions(steps)

    def fixed(self) -> tuple[int, int]:
        """Predict (flash bytes, instructions) of everything that is no layer of its own: runtime, calls, pools."""
        names = {layer.name for layer in self._network.layers}
        steps = steps_of(self._program)
        others = [step for step in steps if step.op.name not in names]
        calls = self._model.call_bytes([step for step in steps if step.op.name in names])
        return round(self._model.flash(others) + calls), self._model.total_instructions(others)
