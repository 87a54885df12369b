"""tapc-1: what gptq leaves of a layer's error, times what of it survives on the shortest way to the output.

Found by `tapc search` on four small networks that are not in tapc-bench, of 24 candidates that a language model wrote;
a fifth network chose it among the eight fittest (`examples/tapc-1`, docs/search.md#tapc-1). It is g1s3, a crossover of

- g0s1 "path_coherence" (initialization): an error after gptq is neither independent between places nor equal at all
  places. Each layer behind averages the independent part away, so what all places of a channel share decides the more,
  the longer the shortest way to the output is; shortcuts shorten it. Gains saturate, since Relus, softmax and
  normalization bound what an error can do. A power below 1 flattens all, since errors of layers that are rounded
  together mask each other.
- g0s5 "flattened consensus of three readings" (initialization): the gain read channel by channel, and a floor of a
  tenth of the median, since small terms are not protected where everything is rounded.

and adds that much of a dense layer's error at a single place is constant over the samples, which the correction of
biases takes: it is damped by the root of the share that varies. `tapc-1.toml` beside this file is the program as it
was found, with the model's own words; here guards against cells that no statistics table has are left out. All
constants are the model's; none was fitted after the search.
"""

import math
from collections.abc import Sequence
from pathlib import Path

from tapc.proxy.columns import Cell, Row

SUMMARY = "gptq's error times the gain of what is coherent in it, found by tapc search"

PROGRAM = Path(__file__).with_name("tapc-1.toml")

COLUMNS = (
    "op", "first", "output_pixels", "layers_behind", "readers", "gptq_error_2", "output_error_2", "logit_gain",
    "logit_gain_alike", "downstream_gain", "channel_logit_gain", "channel_gptq_error_2", "input_mean", "input_std",
    "channel_output_mean", "channel_output_std",
)  # fmt: skip


def score(layers: Sequence[Row]) -> list[float]:
    """Return a score per layer from a statistics table; see `tapc.proxy.columns`."""
    errors = [_error(row) * _varying(row) for row in layers]
    floor = 0.1 * sorted(errors)[len(errors) // 2] if errors else 0.0
    return [float((error + floor) ** 0.65) for error in errors]


def _error(row: Row) -> float:
    """Return the error of the logits that a layer alone is taken to cause."""
    own = _positive(row["gptq_error_2"], row["output_error_2"])
    apart = _positive(row["logit_gain"], row["downstream_gain"])
    parts = _numbers(row["channel_gptq_error_2"])
    if (total := sum(parts)) > 0:
        mixed = sum(gain * part for gain, part in zip(_numbers(row["channel_logit_gain"]), parts, strict=True)) / total
        if mixed > 0:
            apart = math.sqrt(apart * min(max(mixed, apart / 10), apart * 10))
    alike = max(_number(row["logit_gain_alike"]), apart)
    steps = _number(row["layers_behind"])
    share = 0.6 * steps / (1 + steps)
    gain = math.pow(apart, 1 - share) * math.pow(alike, share) * math.sqrt(min(max(1.0, _number(row["readers"])), 4.0))
    return own * gain / (1 + gain)


def _varying(row: Row) -> float:
    """Return the root of the share of a dense layer's error that differs from sample to sample; 1 for other layers."""
    if row["op"] != "dense" or _number(row["output_pixels"]) > 1 or row["first"]:
        return 1.0
    means, deviations = _numbers(row["channel_output_mean"]), _numbers(row["channel_output_std"])
    sides = (
        (_number(row["input_mean"]) ** 2, _number(row["input_std"]) ** 2),
        (sum(m * m for m in means), sum(s * s for s in deviations)),
    )
    varying = min((variance / (variance + mean) for mean, variance in sides if variance > 0), default=1.0)
    return math.sqrt(max(varying, 0.05))


def _positive(*cells: Cell) -> float:
    return next((value for value in map(_number, cells) if value > 1e-12), 1e-6)


def _number(cell: Cell) -> float:
    assert isinstance(cell, int | float)
    return float(cell)


def _numbers(cell: Cell) -> list[float]:
    assert isinstance(cell, list)
    return cell
