"""Runs a twin image in QEMU: outputs of the network and of its steps, instructions per step, stack high-water."""

import shutil
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from tapc.device.plugin import counters_plugin, read_counts
from tapc.errors import BudgetError, DataError, ToolError
from tapc.target import Target

INSTALL = "apt-get install qemu-system-arm"
_MAGIC = b"TAPI"
_FAULT_EXIT = 3
_POLL_SECONDS = 0.1

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class DeviceRun:
    """What one run gave.

    Attributes
    ----------
    outputs : ndarray of int8, shape (samples, output bytes)
        The network's quantized outputs.
    layer_outputs : tuple of tuple of bytes
        For each of the first `layers` samples: the bytes of every step's output, as they lay in the arena.
    instructions_per_step : tuple of int
        Exact instructions of each step of the first sample.
    instructions : int
        Their sum.
    stack_high_water : int
        Bytes of stack that were ever used, start-up and main included.
    blocks : ndarray of uint64, shape (n, 3)
        Address, instructions and executions of every translated block of the whole run.
    """

    outputs: npt.NDArray[np.int8]
    layer_outputs: tuple[tuple[bytes, ...], ...]
    instructions_per_step: tuple[int, ...]
    instructions: int
    stack_high_water: int
    blocks: npt.NDArray[np.uint64]


@dataclass(frozen=True)
class TwinInfo:
    """What a twin image says about itself: sizes of the model, and the addresses between which counting pauses."""

    steps: int
    input_bytes: int
    output_bytes: int
    mark: int
    resume: int


def twin_info(twin: Path) -> TwinInfo:
    """Read a twin image's description from its ELF.

    Raises
    ------
    DataError
        The file is missing, no ELF file, or no twin.
    """
    try:
        with twin.open("rb") as stream:
            image = ELFFile(stream)
            table = image.get_section_by_name(".symtab")
            symbols = {s.name: s for s in table.iter_symbols()} if isinstance(table, SymbolTableSection) else {}
            info = symbols["tapc_twin_info"]
            section = image.get_section(info["st_shndx"])
            offset = info["st_value"] - section["sh_addr"]
            steps, inputs, outputs = struct.unpack_from("<III", section.data(), offset)
            mark, resume = (symbols[name]["st_value"] & ~1 for name in ("tapc_mark", "tapc_mark_end"))
    except (OSError, ELFError, KeyError, struct.error) as error:
        raise DataError(f"{twin} is not a twin image made by tapc: {error}") from error
    return TwinInfo(steps, inputs, outputs, mark, resume)


@dataclass(frozen=True)
class QemuRunner:
    """Runs twin images in QEMU.

    Attributes
    ----------
    timeout : float
        Seconds after which a run is given up.
    """

    timeout: float = 900.0

    def run(
        self,
        twin: Path,
        target: Target,
        inputs: npt.NDArray[np.int8],
        *,
        layers: int = 0,
        progress: Progress | None = None,
    ) -> DeviceRun:
        """Run all samples in one simulator run.

        Parameters
        ----------
        twin : Path
            Twin image from `build_firmware`.
        target : Target
            The core that it was built for.
        inputs : ndarray of int8, shape (samples, input bytes)
            Quantized inputs, NHWC, row major; at least one.
        layers : int
            For how many samples, from the first, every step's output is read back.
        progress : callable, optional
            Called with (samples done, samples) while the simulator runs.

        Raises
        ------
        ToolError
            QEMU or the host's C compiler is missing, or the simulation failed, faulted or took too long.
        BudgetError
            The stack overflowed.
        DataError
            The inputs' shape or type is not the model's, or the image is no twin.
        """
        twin = twin.resolve()
        info = twin_info(twin)
        if inputs.dtype != np.int8 or inputs.ndim != 2 or inputs.shape[1] != info.input_bytes or not len(inputs):
            raise DataError(
                f"the model takes int8 inputs of shape (samples, {info.input_bytes}), "
                f"but got {inputs.dtype} of shape {inputs.shape}"
            )
        layers = min(layers, len(inputs))
        with tempfile.TemporaryDirectory(prefix="tapc-qemu-") as scratch:
            folder = Path(scratch)
            header = _MAGIC + struct.pack("<II", len(inputs), layers)
            (folder / "input.bin").write_bytes(header + np.ascontiguousarray(inputs).tobytes())
            command = self._command(twin, target, info)
            self._simulate(command, folder, len(inputs), info.output_bytes, progress)
            return _results(folder, info, len(inputs), layers)

    def _command(self, twin: Path, target: Target, info: TwinInfo) -> list[str]:
        qemu = shutil.which("qemu-system-arm")
        if qemu is None:
            raise ToolError(f"qemu-system-arm is not installed; install it with: {INSTALL}")
        if target.qemu is None:
            raise ToolError(f"target {target.name} names no QEMU machine")
        plugin = str(counters_plugin()).replace(",", ",,")
        arguments = f"mark=0x{info.mark:x},resume=0x{info.resume:x},marks={info.steps + 1},out=counts.bin"
        # fmt: off
        return [
            qemu, "-M", target.qemu.machine, "-display", "none", "-serial", "null", "-monitor", "none",
            "-semihosting-config", "enable=on,target=native", "-plugin", f"{plugin},{arguments}", "-kernel", str(twin),
        ]
        # fmt: on

    def _simulate(
        self, command: list[str], folder: Path, samples: int, output_bytes: int, progress: Progress | None
    ) -> None:
        log, output = folder / "log.txt", folder / "output.bin"
        deadline = time.monotonic() + self.timeout
        with log.open("wb") as stream:
            process = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream)
            try:
                while True:
                    try:
                        code = process.wait(_POLL_SECONDS)
                        break
                    except subprocess.TimeoutExpired:
                        done = (output.stat().st_size if output.exists() else 0) // output_bytes
                    if time.monotonic() > deadline:
                        raise ToolError(
                            f"QEMU was stopped after {self.timeout:g} s with {done} of {samples} samples done; "
                            "run fewer samples"
                        )
                    if progress is not None:
                        progress(done, samples)
            finally:
                if process.poll() is None:
                    process.kill()
                    process.wait()
        if code != 0:
            what = "the firmware faulted in QEMU" if code == _FAULT_EXIT else f"QEMU failed with exit code {code}"
            raise ToolError(f"{what}: {log.read_text(errors='replace').strip()[-2000:] or 'no message'}")
        if progress is not None:
            progress(samples, samples)


def _results(folder: Path, info: TwinInfo, samples: int, layers: int) -> DeviceRun:
    raw = (folder / "output.bin").read_bytes()
    if len(raw) != samples * info.output_bytes:
        raise ToolError(f"QEMU returned {len(raw)} output bytes instead of {samples} x {info.output_bytes}")
    used, available = struct.unpack("<II", (folder / "stack.bin").read_bytes())
    if used >= available:
        raise BudgetError(f"the stack overflowed: all of its {available} bytes were used")
    counts = read_counts(folder / "counts.bin")
    per_step = _per_step(counts.marks, info.steps)
    return DeviceRun(
        outputs=np.frombuffer(raw, np.int8).reshape(samples, info.output_bytes),
        layer_outputs=_layer_outputs((folder / "layers.bin").read_bytes(), info.steps, layers),
        instructions_per_step=per_step,
        instructions=sum(per_step),
        stack_high_water=used,
        blocks=counts.blocks,
    )


def _per_step(marks: tuple[int, ...], steps: int) -> tuple[int, ...]:
    if len(marks) != 2 * (steps + 1):
        raise ToolError(f"the firmware marked {len(marks) // 2} step boundaries instead of {steps + 1}")
    # From leaving one mark to entering the next, less the branch that entered it.
    return tuple(marks[2 * step + 2] - marks[2 * step + 1] - 1 for step in range(steps))


def _layer_outputs(raw: bytes, steps: int, samples: int) -> tuple[tuple[bytes, ...], ...]:
    outputs, position = [], 0
    for _ in range(samples):
        sample = []
        for _ in range(steps):
            (count,) = struct.unpack_from("<I", raw, position)
            sample.append(raw[position + 4 : position + 4 + count])
            position += 4 + count
        outputs.append(tuple(sample))
    if position != len(raw):
        raise ToolError(f"QEMU returned {len(raw)} bytes of layer outputs instead of {position}")
    return tuple(outputs)
