"""How long a proxy takes to score ResNet-18 and the allocator to choose its bits, once statistics exist."""

import time
from dataclasses import dataclass, replace
from statistics import median

import numpy as np

from tapc.allocate import AllocationProblem, Budgets, solve
from tapc.base.progress import Stages
from tapc.flow.decide import with_scores
from tapc.frontend import load
from tapc.graph.analysis import analyse
from tapc.graph.network import Network
from tapc.hardware.board import load_board
from tapc.hardware.target import load_target
from tapc.proxy import FoundProxy, Program
from tapc.proxy.base import normalize
from tapc.proxy.columns import Table
from tapc.proxy.contract import scored
from tapc.proxy.sandbox import Sandbox
from tapc.quantize import calibrate, layer_distortion
from tapc.quantize.statistics import statistics
from tapc.search.networks import device_problem
from tapc.search.options import SearchOptions

SAMPLES = 2
FORMULA = Program(
    name="norm times entropy",
    reasoning="The example of the TAP paper (arXiv 2512.07419, Table 2), as a program.",
    code="""import math

def score(layers):
    return [
        layer["weight_l2"] * layer["input_entropy"] * math.exp(-layer["index"] / layer["layers"]) for layer in layers
    ]
""",
)


@dataclass(frozen=True)
class SearchTimes:
    """Milliseconds of wall time, medians over the repetitions.

    Attributes
    ----------
    layers, repetitions : int
    first_score : float
        Scoring where the sandbox's process had to be started first.
    score : float
        Scoring; in a waiting sandbox, the program's parse and check included, unless it comes with tapc.
    allocate : float
        Choosing the bits.
    total : float
        Median of the sums.
    worst : float
        Largest sum.
    """

    layers: int
    repetitions: int
    first_score: float
    score: float
    allocate: float
    total: float
    worst: float


def resnet18(board: str, options: SearchOptions) -> tuple[Network, Table, AllocationProblem]:
    """Prepare ResNet-18 at 224 x 224 with random weights and inputs; times do not depend on them."""
    import torch

    from tapc.zoo.resnet18 import ResNet18

    torch.manual_seed(options.seed)
    model = load(ResNet18().eval(), input_shape=(1, 3, 224, 224))
    x = np.random.default_rng(options.seed).normal(0, 1, (SAMPLES, 3, 224, 224)).astype(np.float32)
    silicon = load_board(board)
    network = analyse(model.onnx, model.name)
    calibration = calibrate(model, x, seed=options.seed)
    distortion = layer_distortion(model, network, calibration, x)
    table = statistics(model, network, calibration, x, distortion)
    target = load_target(silicon.core)
    problem = device_problem(model, network, calibration, x, distortion, silicon, target, options)
    return network, table, problem


def bench_search(
    board: str, *, program: Program | FoundProxy = FORMULA, target_bits: float = 3.0, repetitions: int = 21,
    seed: int = 0, stages: Stages | None = None,
) -> SearchTimes:  # fmt: skip
    """Measure a proxy program and the allocator on ResNet-18.

    Parameters
    ----------
    board : str
        Its core's costs enter the allocation; the budget is the average of the bits.
    program : Program or FoundProxy
        One that comes with tapc runs without the sandbox.
    target_bits : float
        Average weight bits.
    repetitions, seed : int
    stages : Stages, optional

    Raises
    ------
    TapcError
        See `prepare`; ContractError where the program is broken.
    """
    stages = stages or Stages()
    with stages.stage("statistics"):
        network, table, problem = resnet18(board, SearchOptions(target_bits=target_bits, seed=seed))
        problem = replace(problem, budgets=Budgets(target_bits=target_bits))  # too large for most boards
    pairs: list[tuple[float, float]] = []
    with stages.stage("score + allocate") as advance, Sandbox() as sandbox:
        for i in range(repetitions + 1):
            if i:
                sandbox.protection()  # waits until the next process is locked in
            start = time.perf_counter()
            if isinstance(program, FoundProxy):
                raw = program.score_table(table)
            else:
                raw = scored(sandbox, program.code, [table], program.inputs)[0]
            middle_time = time.perf_counter()
            names = [layer.name for layer in network.layers]
            scores = normalize(program.name, dict(zip(names, raw, strict=True)), network)
            solve(with_scores(problem, scores))
            end = time.perf_counter()
            pairs.append(((middle_time - start) * 1e3, (end - middle_time) * 1e3))
            advance(i, repetitions)
    warm = pairs[1:]
    totals = [a + b for a, b in warm]
    return SearchTimes(
        layers=len(table),
        repetitions=repetitions,
        first_score=pairs[0][0],
        score=median(a for a, _ in warm),
        allocate=median(b for _, b in warm),
        total=median(totals),
        worst=max(totals),
    )
