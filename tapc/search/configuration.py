"""Measuring one bit configuration: accuracy in onnxruntime, and size and speed on the simulated device."""

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
from tapc.graph.network import Bits
from tapc.lower import lower
from tapc.lower.codes import input_codes
from tapc.quantize import evaluate, quantize, top1
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


@dataclass(frozen=True)
class ConfigurationFigures:
    """Measurements of one configuration; `device` is None where the device was not asked."""

    accuracy: float
    device: DeviceFigures | None

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON values."""
        return asdict(self)

    @staticmethod
    def from_dict(values: dict[str, Any]) -> "ConfigurationFigures":
        """Return figures from what `to_dict` gave."""
        device = values["device"]
        return ConfigurationFigures(float(values["accuracy"]), None if device is None else DeviceFigures(**device))


def measure_configuration(subject: Subject, bits: Bits, on_device: bool) -> ConfigurationFigures:
    """Quantize a network and measure it.

    Parameters
    ----------
    subject : Subject
    bits : Bits
    on_device : bool
        Build the firmware and run one sample in the simulator, proved against the reference executor.

    Raises
    ------
    MismatchError
        The device differs from the reference.
    BudgetError
        The image does not fit the board.
    """
    quantized = quantize(subject, subject.network, bits, subject.calibration, x=subject.samples)
    assert subject.holdout.y is not None
    logits = evaluate(quantized.onnx, subject.holdout, optimized=quantized.optimizable)
    accuracy = top1(logits, subject.holdout.y)
    if not on_device:
        return ConfigurationFigures(accuracy, None)
    target = subject.target
    lowered = lower(quantized.onnx, subject.name, target.requantize, target.isa)
    codes = input_codes(lowered.program, subject.holdout.x[:1])
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
    figures = DeviceFigures(counted, estimated, images.memory.flash, images.memory.static_ram + run.stack_high_water)
    return ConfigurationFigures(accuracy, figures)


def code_digest() -> str:
    """Identify the code and the tools that measurements depend on."""
    root = Path(tapc.__file__).parent
    parts = ("base/arithmetic", "quantize", "ir", "operators", "lower", "kernels", "firmware", "device", "cycles")
    return digest([tree_digest(root / part, "*.py") for part in parts], compiler_version())


def configuration_key(subject: Subject, bits: Bits, on_device: bool, code: str) -> str:
    """Identify a measurement by its content."""
    activations = {str(group): width for group, width in bits.activations.items()}
    return digest("configuration", code, subject.digest, bits.weights, activations, on_device, subject.device)


def bops(subject: Subject, bits: Bits) -> int:
    """Return MACs x weight bits x input activation bits, summed over the layers."""
    return sum(layer.macs * w * a for layer in subject.network.layers for w, a in (bits.pair(layer),))
