"""What start-up copies to fast memories: hot code to instruction memory, hot constants and the arena to data memory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from tapc.hardware.board import Board, Content, Region
from tapc.ir.program import Program, Step
from tapc.kernels.spec import KernelSpec
from tapc.lower.place import Placed, knapsack, own_bytes, sharing, summed


@dataclass(frozen=True)
class Fast:
    """What lies in fast memories while the network runs.

    Attributes
    ----------
    functions : dict of KernelSpec to str
        Kernel -> region that its code is copied to.
    constants : dict of int to str
        Step -> region that its constants are copied to.
    arena : str or None
        Region of the activations, where it is not the board's usual one.
    saved : float
        Predicted cycles of reading that it saves in an inference, at the memories' peak bandwidths.
    """

    functions: Mapping[KernelSpec, str] = field(default_factory=dict)
    constants: Mapping[int, str] = field(default_factory=dict)
    arena: str | None = None
    saved: float = 0.0

    def __bool__(self) -> bool:
        return bool(self.functions or self.constants or self.arena)


def fast_region(board: Board, content: Content, than: Region) -> Region | None:
    """Return the fastest internal RAM that may hold something, where it is read faster than another memory."""
    hz = board.clocks.cpu_hz
    found = [region for region in board.memory if region.kind == "ram" and content in region.holds]
    best = max(found, key=lambda region: region.bandwidth.at(hz), default=None)
    return best if best is not None and best.bandwidth.at(hz) > than.bandwidth.at(hz) else None


def choose_fast(
    steps: Sequence[Step],
    program: Program,
    placed: Sequence[Placed],
    board: Board,
    code: Mapping[KernelSpec, int],
    arena: int,
    room: Mapping[str, int],
    most: int | None = None,
) -> Fast:
    """Choose what is copied to which memory so that reading takes the fewest cycles: knapsacks, solved exactly.

    An inference reads a kernel's code once for each of its calls (its loops run from the cache, or the flash's
    buffers), constants as often as `placed` says, and of the arena every step's inputs and output.

    Parameters
    ----------
    steps : sequence of Step
    program : Program
    placed : sequence of Placed
        Where the constants of each step are.
    board : Board
    code : mapping of KernelSpec to int
        Bytes of each kernel.
    arena : int
        Bytes of the activations.
    room : mapping of str to int
        Region -> bytes that are free in it.
    most : int, optional
        Bytes that copies may take of all memories; code has them first.
    """
    hz = board.clocks.cpu_hz

    def gain(count: int, slow: Region, fast: Region) -> float:
        return count / slow.bandwidth.at(hz) - count / fast.bandwidth.at(hz)

    found, saved = Fast(), 0.0
    instruction = fast_region(board, "code", board.flash)
    if instruction is not None and (specs := list(dict.fromkeys(step.spec for step in steps))):
        calls = {spec: sum(step.spec == spec for step in steps) for spec in specs}
        gains = [gain(code[spec] * calls[spec], board.flash, instruction) for spec in specs]
        free = room.get(instruction.name, 0)
        chosen = _chosen(gains, [code[spec] for spec in specs], free if most is None else min(free, most))
        found = replace(
            found, functions={spec: instruction.name for spec, own in zip(specs, chosen, strict=True) if own}
        )
        saved += sum(own for own, taken in zip(gains, chosen, strict=True) if taken)
    weights = fast_region(board, "weights", board.flash)
    activations = fast_region(board, "arena", board.arena_region) if board.arena_region.kind == "ram" else None
    leaders = sharing(steps)
    items: list[
        tuple[int | None, int, float]
    ] = []  # first of the steps that share constants, or the arena; bytes, gain
    if weights is not None:
        gains = [gain(own.fetched, board.region(own.region), weights) for own in placed]
        saves = summed(gains, leaders)
        items += [
            (leader, int(size), saves[leader]) for leader, size in summed(own_bytes(steps), leaders).items() if size
        ]
    if activations is not None and (weights is None or weights == activations):
        touched = sum(program.tensors[name].bytes for step in steps for name in (*step.inputs, step.output))
        items.append((None, arena, gain(touched, board.arena_region, activations)))
    where = weights or activations
    if where is None or not items:
        return replace(found, saved=saved)
    free = room.get(where.name, 0)
    if most is not None:
        free = min(free, max(0, most - sum(code[spec] for spec in found.functions)))
    chosen = _chosen([own for _, _, own in items], [size for _, size, _ in items], free)
    taken = [item for item, own in zip(items, chosen, strict=True) if own]
    copied = {index for index, _, _ in taken if index is not None}
    return replace(
        found,
        constants={index: where.name for index, leader in enumerate(leaders) if leader in copied},
        arena=where.name if any(index is None for index, _, _ in taken) else None,
        saved=saved + sum(own for _, _, own in taken),
    )


def _chosen(gains: list[float], sizes: list[int], room: int) -> list[bool]:
    if room <= 0:
        return [False] * len(gains)
    return knapsack(gains, sizes, room, sum(sizes))


def moved(placed: Sequence[Placed], fast: Fast, board: Board) -> tuple[Placed, ...]:
    """Return where the constants of each step are read from once start-up has copied them."""
    hz = board.clocks.cpu_hz

    def at(index: int, own: Placed) -> Placed:
        if index not in fast.constants:
            return own
        region = board.region(fast.constants[index])
        return replace(own, region=region.name, stalls=own.fetched / region.bandwidth.at(hz))

    return tuple(at(index, own) for index, own in enumerate(placed))
