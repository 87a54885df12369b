"""Measuring one bit configuration: accuracy in onnxruntime, and size and speed on the simulated device."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tapc
from tapc import cycles
from tapc.base.cache import digest, tree_digest
from tapc.base.errors import MismatchError
from tapc.base.files import scratch_folder
from tapc.device import device_for
from tapc.device.verify import device_inputs, verify
from tapc.firmware import build_firmware
from tapc.firmware.toolchain import compiler_version
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
        Of one inference, exact.
    cycles : float or None
        Estimated; None where no model of the core is at hand.
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
        run = device_for(target).load(images).run(device_inputs(lowered, codes), layers=1)
        estimated = None
        if cycles.available(target.name):
            model = cycles.estimate(run.image, run.blocks, target.name)
            estimated = sum(cycles.step_cycles(model, lowered, run.instructions_per_step, subject.board))
    verification = verify(lowered, run, codes)
    if verification.mismatch is not None:
        raise MismatchError(f"the firmware is wrong: {verification.mismatch}")
    device = DeviceFigures(
        run.instructions, estimated, images.memory.flash, images.memory.static_ram + run.stack_high_water
    )
    return ConfigurationFigures(accuracy, device)


def code_digest() -> str:
    """Identify the code and the tools that measurements depend on."""
    root = Path(tapc.__file__).parent
    parts = ("base/arithmetic", "quantize", "ir", "operators", "lower", "kernels", "firmware", "device", "cycles")
    return digest([tree_digest(root / part, "*.py") for part in parts], compiler_version())


def configuration_key(subject: Subject, bits: Bits, on_device: bool, code: str) -> str:
    """Identify a measurement by its content."""
    activations = {str(group): width for group, width in bits.activations.items()}
    return digest("configuration", code, subject.digest, bits.weights, activations, on_device)


def bops(subject: Subject, bits: Bits) -> int:
    """Return MACs x weight bits x input activation bits, summed over the layers."""
    return sum(layer.macs * w * a for layer in subject.network.layers for w, a in (bits.pair(layer),))
