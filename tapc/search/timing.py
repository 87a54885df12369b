"""How long a proxy takes to score ResNet-18 and the allocator to choose its bits, once statistics exist."""

import statistics as middle
import time
from dataclasses import dataclass, replace

import numpy as np

from tapc.allocate import Budgets, solve
from tapc.base.progress import Stages
from tapc.data import Samples
from tapc.flow.decide import with_scores
from tapc.frontend import load
from tapc.hardware.board import load_board
from tapc.hardware.target import load_target
from tapc.proxy import Program
from tapc.proxy.base import normalize
from tapc.proxy.contract import scored
from tapc.proxy.sandbox import Sandbox
from tapc.search.networks import SearchNetwork, prepare
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
        Scoring in a waiting sandbox, the program's parse and check included.
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


def resnet18(board: str, options: SearchOptions) -> SearchNetwork:
    """Prepare ResNet-18 at 224 x 224 with random weights and inputs; times do not depend on them."""
    import torch

    from tapc.zoo.resnet18 import ResNet18

    torch.manual_seed(options.seed)
    model = load(ResNet18().eval(), input_shape=(1, 3, 224, 224))
    x = np.random.default_rng(options.seed).normal(0, 1, (SAMPLES, 3, 224, 224)).astype(np.float32)
    silicon = load_board(board)
    samples = Samples(x, np.zeros(SAMPLES, np.int64), "random")
    return prepare(model, samples, samples, silicon, load_target(silicon.core), options)


def bench_search(
    board: str, *, program: Program = FORMULA, target_bits: float = 3.0, repetitions: int = 21, seed: int = 0,
    stages: Stages | None = None,
) -> SearchTimes:  # fmt: skip
    """Measure a proxy program and the allocator on ResNet-18.

    Parameters
    ----------
    board : str
        Its core's costs enter the allocation; the budget is the average of the bits.
    program : Program
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
        network = resnet18(board, SearchOptions(target_bits=target_bits, seed=seed))
        problem = replace(network.problem, budgets=Budgets(target_bits=target_bits))  # too large for most boards
    pairs: list[tuple[float, float]] = []
    with stages.stage("score + allocate") as advance, Sandbox() as sandbox:
        for i in range(repetitions + 1):
            if i:
                sandbox.protection()  # waits until the next process is locked in
            start = time.perf_counter()
            raw = scored(sandbox, program.code, [network.table], program.inputs)[0]
            middle_time = time.perf_counter()
            scores = normalize(program.name, dict(zip(network.layer_names, raw, strict=True)), network.subject.network)
            solve(with_scores(problem, scores))
            end = time.perf_counter()
            pairs.append(((middle_time - start) * 1e3, (end - middle_time) * 1e3))
            advance(i, repetitions)
    warm = pairs[1:]
    totals = [a + b for a, b in warm]
    return SearchTimes(
        layers=len(network.table),
        repetitions=repetitions,
        first_score=pairs[0][0],
        score=middle.median(a for a, _ in warm),
        allocate=middle.median(b for _, b in warm),
        total=middle.median(totals),
        worst=max(totals),
    )
