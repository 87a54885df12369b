"""tapc-1."""

from collections.abc import Sequence

from tapc.proxy.columns import Row
from tapc.proxy.program import Origin

SUMMARY = "found by `tapc search`: gptq's error of a layer times what it does to the logits, from powers to amplitudes"

COLUMNS = ("kernel_h", "kernel_w", "input_sparsity", "logit_gain", "logit_gain_alike", "gptq_error_2")

ORIGIN = Origin()


def score(layers: Sequence[Row]) -> list[float]:
    """Return the layers' scores."""
    powers = []
    for row in layers:
        cell = {name: float(row[name]) for name in COLUMNS}  # type: ignore[arg-type]
        kernel = max(cell["kernel_h"] * cell["kernel_w"], 1) ** 0.5
        density = 1.0 - cell["input_sparsity"]
        steady = density / (density + kernel / 2)
        gain, alike = max(cell["logit_gain"], 1e-9), max(cell["logit_gain_alike"], 1e-9)
        amplitude = (1 - steady) * gain**0.5 + steady * alike**0.5
        powers.append(max(cell["gptq_error_2"], 1e-9) * amplitude**2 / (1 + gain))
    mean = max(sum(powers) / max(len(powers), 1), 1e-12)
    return [p / (p + mean) ** 0.5 for p in powers]
