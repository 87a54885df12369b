"""Small benchmark tables made by hand."""

from collections.abc import Sequence

from tapc.bench.configurations import BenchTable, LayerFacts, Provenance, Row

PROVENANCE = Provenance(
    description="made by hand", command="none", model="tiny", model_sha256="0" * 64, float_correct=90, data="none.npz",
    data_sha256="0" * 64, calibration_samples=1, test_samples=100, seed=0, board="stm32h7", core="cortex-m7",
    compiler="none", tapc="0",
)  # fmt: skip


def layer(name: str, parameters: int, group: int, error: float, w2: float, w4: float, w8: float) -> LayerFacts:
    distortion = {f"w{w}a{a}": d + (0.5 if a == 4 else 0.0) for w, d in ((2, w2), (4, w4), (8, w8)) for a in (4, 8)}
    return LayerFacts(
        name=name, op="conv", parameters=parameters, macs=parameters, input_group=group,
        errors={"2": error, "4": error / 4, "8": error / 16}, distortion=distortion,
    )  # fmt: skip


LAYERS = (layer("a", 400, 0, 3.0, 0.8, 0.2, 0.0), layer("b", 100, 1, 1.0, 0.4, 0.1, 0.04))


def row(weights: str, correct: int, entropy: float, activations: str = "888") -> Row:
    weight_bits = sum(item.parameters * int(bits) for item, bits in zip(LAYERS, weights, strict=True))
    return Row(
        kind="random", weights=weights, activations=activations, correct=correct, onnx_correct=correct,
        cross_entropy=entropy, average_bits=weight_bits / 500, weight_bytes=weight_bits / 8, bops=0, constant_bytes=0,
        constant_bytes_predicted=0, flash_bytes=0, flash_bytes_predicted=0, arena_bytes=0, ram_bytes=0,
        instructions=0, instructions_predicted=0,
    )  # fmt: skip


def table(rows: Sequence[Row], layers: tuple[LayerFacts, ...] = LAYERS, name: str = "tiny") -> BenchTable:
    return BenchTable(network=name, provenance=PROVENANCE, layers=layers, interface=(0, 2), configurations=tuple(rows))
