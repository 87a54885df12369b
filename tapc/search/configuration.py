"""Measuring one bit configuration: its loss in onnxruntime, or size and speed on the simulated device."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import tapc
from tapc import cycles
from tapc.base.cache import digest, tree_digest
from tapc.base.errors import MismatchError
from tapc.base.files import scratch_folder
from tapc.cost.model import CostModel, load_coefficients
from tapc.device.verify import device_inputs, verify
from tapc.firmware import build_firmware
from tapc.firmware.toolchain import compiler_version
from tapc.flow.devices import device_of
from tapc.flow.losses.draw import Drawn
from tapc.flow.losses.facts import LayerFacts
from tapc.flow.losses.measure import Setup, measure
from tapc.flow.losses.table import flat
from tapc.graph.network import Bits
from tapc.lower import lower
from tapc.lower.codes import input_codes
from tapc.quantize import quantize
from tapc.search.networks import Subject


@dataclass(frozen=True)
class DeviceFigures:
    """What a network with given bits needs on the device.

    Attributes
    ----------
    instructions : int
        Of one inference: exact, or predicted where the device does not count them.
    cycles : float or None
        Measured where the device is a board, else estimated; None where no model of the core is at hand.
    flash, ram : int
        Bytes; RAM with the stack's high-water mark.
    """

    instructions: int
    cycles: float | None
    flash: int
    ram: int


def measure_device(subject: Subject, bits: Bits) -> dict[str, Any]:
    """Quantize a network, build its firmware and run one sample, proved against the reference executor.

    Parameters
    ----------
    subject : Subject
    bits : Bits

    Returns
    -------
    dict
        `DeviceFigures` as JSON values.

    Raises
    ------
    MismatchError
        The device differs from the reference.
    BudgetError
        The image does not fit the board.
    """
    quantized = quantize(subject, subject.network, bits, subject.calibration, x=subject.samples)
    target = subject.target
    lowered = lower(quantized.onnx, subject.name, target.requantize, target.isa)
    codes = input_codes(lowered.program, subject.samples[:1])
    with scratch_folder() as folder:
        (folder / "lib").mkdir()
        lowered.library().write(folder / "lib")
        images = build_firmware(folder / "lib", subject.board, target, folder, work=folder / "work")
        device = device_of(target, subject.device, subject.board)
        run = device.load(images).run(device_inputs(lowered, codes), layers=1)
        estimated = None
        if run.timing is not None:
            estimated = float(np.median(run.timing.cycles))
        elif run.instructions is not None and cycles.available(target.name):
            model = cycles.estimate(run.image, run.blocks, target.name)
            estimated = sum(cycles.step_cycles(model, lowered, run.instructions_per_step, subject.board))
    verification = verify(lowered, run, codes)
    if verification.mismatch is not None:
        raise MismatchError(f"the firmware is wrong: {verification.mismatch}")
    counted = run.instructions
    if counted is None:
        counted = round(CostModel(load_coefficients(target.cost)).total_instructions(lowered.steps))
    memory = images.memory
    return asdict(DeviceFigures(counted, estimated, memory.flash, memory.static_ram + run.stack_high_water))


def measure_loss(setup: Setup, drawn: Drawn) -> dict[str, Any]:
    """Return a configuration's row of the loss table, as JSON values."""
    return flat(measure(setup, drawn))


def code_digest() -> str:
    """Identify the code and the tools that measurements depend on."""
    root = Path(tapc.__file__).parent
    parts = ("base/arithmetic", "quantize", "ir", "operators", "lower", "kernels", "firmware", "device", "cycles")
    return digest([tree_digest(root / part, "*.py") for part in parts], compiler_version())


def device_key(subject: Subject, bits: Bits, code: str) -> str:
    """Identify a measurement of the device by its content."""
    activations = {str(group): width for group, width in bits.activations.items()}
    return digest("device", code, subject.digest, bits.weights, activations, subject.device)


def bops(layers: Sequence[LayerFacts], weights: Sequence[int], activations: Sequence[int]) -> int:
    """Return MACs x weight bits x input activation bits, summed over the layers; activations are by group."""
    return sum(layer.macs * w * activations[layer.input_group] for layer, w in zip(layers, weights, strict=True))
