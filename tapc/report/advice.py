"""Warnings about a result that a person may not expect."""

import numpy as np
from numpy.typing import NDArray

from tapc.base.options import Options
from tapc.data import Samples
from tapc.data.figures import confidence
from tapc.data.metrics import LEAST_SQNR, Metric, measure
from tapc.hardware.board import Board
from tapc.report.schema import Accuracy

LOSS = 5.0  # percentage points
FEWEST = 50  # samples that such a loss is told from chance with
AGREEMENT = 80.0  # percent of samples with the float network's class
CONFIDENT = 15.0  # percentage points by which a network may be surer than it is right
DOUBTFUL = 30.0  # the same, where the user said what the units are
EXPLAINED = 0.5  # R2 from which the units of a regression's inputs must be right


def advice(
    options: Options, board: Board, accuracy: Accuracy, trained: bool = False, kept: bool = False
) -> tuple[str, ...]:
    """Return warnings.

    Parameters
    ----------
    options : Options
    board : Board
    accuracy : Accuracy
    trained : bool
        The quantized network was trained.
    kept : bool
        It has the quantization that its file gives.
    """
    found = []
    capacity = board.flash_bytes(not options.no_external)
    if options.flash is not None and options.flash > capacity:
        found.append(f"--flash asks for {options.flash:,} bytes, {board.name} has {capacity:,}: those were the budget")
    more = "train longer (--epochs) or at a lower --rate, with more samples, " if trained else ""
    more += (
        "allow more bits (--target-bits, --wbits, --flash), keep the ends at 8 bits (--pin both), or try another "
        "--proxy"
    )
    if kept:
        more = "the file's own quantization was kept, --requantize lets tapc choose it"
    a = accuracy
    if a.float32 is not None and a.device is not None and a.samples >= FEWEST and a.float32 - a.device > LOSS:
        found.append(f"accuracy fell from {a.float32:.1f} % (float) to {a.device:.1f} % on the device: {more}")
    for key, name in (("r2", "R2"), ("auc", "AUC")):
        exact, device = (a.scores.get(executor, {}).get(key) for executor in ("float", "device"))
        if a.float32 is None and exact is not None and device is not None and exact - device > LOSS / 100:
            found.append(f"{name} fell from {exact:.3f} (float) to {device:.3f} on the device: {more}")
    if a.sqnr_db is not None and a.sqnr_db < LEAST_SQNR:
        found.append(
            f"device and float outputs have little to do with each other: signal to noise is {a.sqnr_db:.1f} dB (below "
            f"{LEAST_SQNR:g}): {more}"
        )
    if a.float_agreement is not None and a.samples >= FEWEST and a.float_agreement < AGREEMENT:
        found.append(
            f"device and float network name the same class on {a.float_agreement:.1f} % of the samples only: {more}"
        )
    return tuple(found)


def doubts(test: Samples, metric: Metric, logits: NDArray[np.float32] | None) -> tuple[str, ...]:
    """Return warnings where the samples' units are probably not those that the network was trained with.

    Parameters
    ----------
    test : Samples
    metric : Metric
    logits : float32 (N, ...) or None
        Of the float network on these samples; None where it did not run.
    """
    raw = test.whole and test.units.identity and not test.units.given and test.raw is not None
    unsure = None
    if logits is not None and metric.classes and not metric.index and test.y is not None and len(test.x) >= FEWEST:
        share = measure(metric, logits, test).share or 0.0
        sure = confidence(metric.own(logits), metric.certain)
        unsure = sure - share
        if unsure > DOUBTFUL and not raw:
            return (
                f"the float network itself is right on {share:.1f} % of the samples, and as sure as if it were right "
                f"on {sure:.1f} %: check the inputs' units (--pixel-scale, --mean, --std), the order of channels and "
                "classes",
            )
    if not raw or (unsure is not None and unsure <= CONFIDENT):
        return ()
    if logits is not None and metric.name == "regression":
        r2 = measure(metric, logits, test).values.get("r2")
        if r2 is not None and r2 > EXPLAINED:
            return ()
    low, high = test.raw or (0.0, 0.0)
    known = "" if unsure is None else f"; the float network is right {unsure:.0f} points more seldom than it is sure"
    return (
        f"the samples are integers from {low:g} to {high:g} and enter the network as they are{known}: where it was "
        "trained with other units, say so (--pixel-scale 0.00392157 for pixels as 0..1, --mean, --std), else "
        "--pixel-scale 1",
    )
