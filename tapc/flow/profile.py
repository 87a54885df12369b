"""Where a finished build spends its time: layers, and the hottest blocks with their disassembly."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tapc import cycles
from tapc.base.picture import save_picture, start_drawing
from tapc.base.progress import Stages
from tapc.cycles.blocks import Block, disassemble, executed_blocks
from tapc.flow.rerun import open_build
from tapc.hardware.board import load_board
from tapc.hardware.target import load_target
from tapc.lower import Lowered
from tapc.lower.codes import random_codes


@dataclass(frozen=True)
class LayerProfile:
    """One kernel call of the network, or all those for the bands of a layer.

    Attributes
    ----------
    name, function : str
        Of the layer, and its kernel's C function, the first band's in patches.
    macs : int
        That run, padding included.
    instructions : int
        Exact, for an input of zeros.
    cycles : float or None
        Estimated, constants read once from flash included; None where no model is at hand.
    share : float
        Of the network's cycles, or of its instructions.
    """

    name: str
    function: str
    macs: int
    instructions: int
    cycles: float | None
    share: float

    @property
    def macs_per_cycle(self) -> float | None:
        """Multiply-accumulates per estimated cycle."""
        return self.macs / self.cycles if self.cycles and self.macs else None


@dataclass(frozen=True)
class Profile:
    """A profile of one inference.

    Attributes
    ----------
    model, board, core : str
    layers : tuple of LayerProfile
    hottest : tuple of Block
        Blocks of the whole run that executed most instructions, hottest first.
    macs, instructions : int
        Sums over the layers.
    cycles : float or None
        The same; None where no model is at hand.
    """

    model: str
    board: str
    core: str
    layers: tuple[LayerProfile, ...]
    hottest: tuple[Block, ...]
    macs: int
    instructions: int
    cycles: float | None


def profile(folder: Path, *, blocks: int = 3, stages: Stages | None = None) -> Profile:
    """Run a build once on zero codes and attribute what it executed.

    Parameters
    ----------
    folder : Path
        A build folder.
    blocks : int
        Hottest blocks to return.
    stages : Stages, optional

    Raises
    ------
    DataError
        The folder holds no finished build.
    ToolError
        QEMU or objdump is missing.
    """
    stages = stages or Stages()
    build = open_build(folder)
    board, target = load_board(build.board), load_target(str(build.report["core"]))
    with stages.stage("lower"):
        network = build.lowered()
        zeros = np.zeros_like(random_codes(network.program, 1, 0))
    with stages.stage("simulate") as advance:
        run = build.run(network, zeros, progress=advance)
    model = None
    if cycles.available(target.name):
        with stages.stage("estimate cycles"):
            model = cycles.estimate(run.image, run.blocks, target.name)
    found = executed_blocks(disassemble(run.image), run.blocks) if model is None else model.blocks
    functions = network.functions
    counts = run.instructions_per_step
    estimated = [None] * len(counts) if model is None else cycles.step_cycles(model, network, counts, board)
    rows = [
        (
            network.steps[own[0]].op.name,
            functions[network.steps[own[0]].spec],
            sum(network.steps[i].op.macs(network.program) for i in own),
            sum(counts[i] for i in own),
            None if model is None else sum(estimated[i] or 0.0 for i in own),
        )
        for own in _layers(network)
    ]
    weights = [count if own is None else own for *_, count, own in rows]
    total = sum(weights)
    layers = tuple(LayerProfile(*row, share=weight / total) for row, weight in zip(rows, weights, strict=True))
    every = None if model is None else sum(layer.cycles or 0.0 for layer in layers)
    kernels = set(functions.values())
    hottest = sorted((b for b in found if b.function in kernels), key=lambda b: -b.total)[:blocks]
    macs = sum(layer.macs for layer in layers)
    return Profile(build.name, build.board, target.name, layers, tuple(hottest), macs, run.instructions or 0, every)


def _layers(network: Lowered) -> list[list[int]]:
    """Return the steps of every kernel call; those of a layer's bands count as one."""
    found: dict[str | int, list[int]] = {}
    for i, step in enumerate(network.steps):
        found.setdefault(step.op.name if step.output in network.program.bands else i, []).append(i)
    return list(found.values())


def plot_profile(p: Profile, path: Path) -> None:
    """Draw cycles (or instructions) per layer as SVG, PNG or PDF; written beside its place and renamed."""
    figure, axes = start_drawing().subplots(figsize=(10, 4), constrained_layout=True)
    places = range(len(p.layers))
    axes.bar([i - 0.2 for i in places], [layer.instructions / 1e6 for layer in p.layers], 0.4, label="instructions",
             color="#30638e")  # fmt: skip
    if p.cycles is not None:
        axes.bar([i + 0.2 for i in places], [(layer.cycles or 0.0) / 1e6 for layer in p.layers], 0.4,
                 label="cycles-estimated", color="#edae49")  # fmt: skip
    axes.set_xticks(places, [layer.name for layer in p.layers], rotation=30, ha="right", fontsize=8)
    axes.set_ylabel("million")
    axes.set_title(f"{p.model} on {p.board} ({p.core}), one inference")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    save_picture(figure, path)
