"""What `tapc npu` tells about a network."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tapc.npu.vela import VERSION


@dataclass(frozen=True)
class NpuLayer:
    """An operator of the network.

    Attributes
    ----------
    name, op : str
    w_bits : int or None
    weight_bytes : int
        Coded; on the CPU, all of its constants.
    cycles : int
        Vela's estimate of the NPU's; on the CPU, the core's cost model's of its own.
    compared : int
        Codes that were compared with the reference executor; 0 where it is computed together with another one.
    where : {"npu", "cpu"}
    reason : str
        Why it is on the CPU; empty on the NPU.
    """

    name: str
    op: str
    w_bits: int | None
    weight_bytes: int
    cycles: int
    compared: int
    where: str = "npu"
    reason: str = ""


@dataclass(frozen=True)
class OnNpu:
    """A network on an NPU, or on an NPU and its CPU.

    Attributes
    ----------
    model, board, accelerator : str
    folder : Path
        Holds the optimized file, vela's configuration and these figures.
    file : str
        The optimized TFLite file; empty where there is none.
    file_bytes : int
        Of it: what the flash holds where the NPU computes all of the network.
    cycles : int
        Of an inference on the NPU, by vela's performance model.
    milliseconds : float
        Of an inference, NPU and CPU at their clocks.
    sram, flash, weight_bytes : int
        Bytes: activations, constants and commands of NPU and CPU, coded weights.
    samples : int
    exact : bool or None
        No code of an output or a layer differs from the reference executor's; None where nothing was executed.
    tflite_micro : int or None
        Output codes that TFLite-Micro gave alike; None where it was not asked.
    proof : str
        What was proved, in words.
    send : str
        Command that sends the file to the board; empty where there is none.
    layers : tuple of NpuLayer
    average_bits : float or None
        Of the weights; None where a build has them.
    predicted_bytes, predicted_cycles : int or None
        When the widths were chosen.
    metric : str
        What the samples measure; "none" where they measure nothing.
    scores : dict of str to dict of str to float
        "float" and "npu" -> figures of the metric.
    image_samples : int
        Of which a whole image with the driver gave the outputs in Unicorn.
    parts : int
        In how many the NPU computes the network.
    cpu_cycles : int
        Of an inference on the CPU beside the NPU, by the core's cost model.
    cpu_milliseconds : float
        At the CPU's clock.
    """

    model: str
    board: str
    accelerator: str
    folder: Path
    file: str
    file_bytes: int
    cycles: int
    milliseconds: float
    sram: int
    flash: int
    weight_bytes: int
    samples: int
    exact: bool | None
    tflite_micro: int | None
    proof: str
    send: str
    layers: tuple[NpuLayer, ...]
    average_bits: float | None = None
    predicted_bytes: int | None = None
    predicted_cycles: int | None = None
    metric: str = "none"
    scores: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    image_samples: int = 0
    parts: int = 1
    cpu_cycles: int = 0
    cpu_milliseconds: float = 0.0


def figures(result: OnNpu) -> dict[str, object]:
    """Return the figures for JSON."""
    origins = {"cycles": f"estimated(vela {VERSION})", "sram": f"vela {VERSION}", "flash": f"vela {VERSION}"}
    if result.cpu_cycles:
        origins |= {"cpu_cycles": "predicted(cost model)", "sram": "plan", "flash": "commands and constants"}
    return asdict(result) | {"folder": str(result.folder), "provenance": origins}
