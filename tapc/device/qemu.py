"""Runs a twin image in QEMU: outputs of the network and of its steps, instructions per step, stack high-water."""

import math
import shutil
import signal
import struct
import subprocess
import sys
import time
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from tapc.base.errors import BudgetError, DataError, ToolError
from tapc.base.files import read_regular, scratch_folder
from tapc.base.tool import end, locked, start
from tapc.device.choose import register
from tapc.device.halves import run_in_halves
from tapc.device.interface import Device, DeviceRun, Images, LoadedImage, Progress
from tapc.device.plugin import counters_plugin, read_counts
from tapc.device.trust import must_confine
from tapc.hardware.board import Bandwidth, Board, Clocks, Region
from tapc.hardware.target import QemuMachine, Target

_MAGIC = b"TAPI"
_FAULT_EXIT = 3
_POLL_SECONDS = 0.1
MOST_BYTES = 64 << 20

SANDBOX = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"
_TWIN, _INPUT = "twin.elf", "input.bin"
_OUTPUT, _LAYERS, _STACK, _COUNTS = "output.bin", "layers.bin", "stack.bin", "counts.bin"
_LOG = "log.txt"
_WRITTEN = (_OUTPUT, _LAYERS, _STACK, _COUNTS)
_STACK_SIZES = struct.Struct("<II")
_MOST_SYMBOLS, _MOST_STEPS = 200_000, 100_000
_MOST_WRITTEN, _MOST_LAYERS = 64 << 20, 256 << 20  # bytes of a file: whatever the run, and for each sample's layers
_MOST_MEMORY = 8 << 30
_LOG_BYTES = 2000
_HARNESS_BYTES = 1 << 18  # more than the twin's own main takes of a memory


@dataclass(frozen=True)
class Emulator:
    """A family of QEMU's machines.

    Attributes
    ----------
    program, package : str
        QEMU's command, and Debian's package that has it.
    elf_machine, instructions : str
        What the images' ELF files say, and what that means.
    bare : tuple of str
        Arguments that leave a machine's own firmware out.
    call : int
        Instructions of a call that reaches far.
    """

    program: str
    package: str
    elf_machine: str
    instructions: str
    bare: tuple[str, ...] = ()
    call: int = 1

    def path(self) -> str:
        """Return where it is.

        Raises
        ------
        ToolError
            It is not installed.
        """
        found = shutil.which(self.program)
        if found is None:
            raise ToolError(f"{self.program} is not installed; install it with: apt-get install {self.package}")
        return found


_ARM = Emulator("qemu-system-arm", "qemu-system-arm", "EM_ARM", "32-bit Arm")
_RISCV = Emulator("qemu-system-riscv32", "qemu-system-misc", "EM_RISCV", "32-bit RISC-V", ("-bios", "none"), call=2)


def emulator(target: Target) -> Emulator:
    """Return which of QEMU's programs runs a core's code."""
    return _RISCV if target.arch.startswith("rv") else _ARM


@register("qemu")
@dataclass(frozen=True)
class QemuDevice(Device):
    """Runs twin images in QEMU, locked in: it can open the files of its run and no other, and start nothing.

    Foreign images are not run where the kernel cannot keep them from this machine's files.
    """

    @staticmethod
    def obstacle(target: Target) -> str | None:
        """Return what is missing in the core's description."""
        return f"target {target.name} names no QEMU machine" if target.qemu is None else None

    @staticmethod
    def missing() -> str | None:
        """Look for QEMU."""
        found = shutil.which(_ARM.program) is not None
        return None if found else f"{_ARM.program} is not installed; install it with: apt-get install {_ARM.package}"

    @property
    def machine(self) -> QemuMachine:
        """What simulates the core.

        Raises
        ------
        ToolError
            There is none.
        """
        if self.target.qemu is None:
            raise ToolError(str(self.obstacle(self.target)))
        return self.target.qemu

    def roomy_board(self) -> Board:
        """Return a board with all of the machine's memory but what the twin's own main takes."""
        machine, fast = self.machine, Bandwidth(bytes_per_cycle=4)

        def region(name: str, kind: str, origin: int, size: int, *holds: str) -> Region:
            values = {"name": name, "kind": kind, "origin": origin, "size": size, "bandwidth": fast, "holds": holds}
            return Region.model_validate(values)

        return Board(
            schema=1,
            name="roomy",
            description="All memory of the simulated machine",
            core=self.target.name,
            clocks=Clocks(cpu_hz=1),
            memory=(
                region("rom", "flash", machine.rom.origin, machine.rom.size - _HARNESS_BYTES, "code", "weights"),
                region("ram", "ram", machine.ram.origin, machine.ram.size - _HARNESS_BYTES, "data", "stack"),
                region("psram", "ram", machine.psram.origin, machine.psram.size, "arena"),
            ),
        )

    def load(self, images: Images) -> "QemuTwin":
        """Read a build's twin image."""
        return self.load_twin(images.twin)

    def load_twin(self, twin: Path) -> "QemuTwin":
        """Read a twin image and what it says about itself.

        Raises
        ------
        DataError
            The file is missing, no ELF file, or no twin.
        """
        content = read_regular(twin, MOST_BYTES, "twin image")
        family = emulator(self.target)
        try:
            elf = ELFFile(BytesIO(content))
            if elf["e_machine"] != family.elf_machine or elf.elfclass != 32 or not elf.little_endian:
                raise ValueError(f"its instructions are not those of {family.instructions}")
            table = elf.get_section_by_name(".symtab")
            if not isinstance(table, SymbolTableSection) or table.num_symbols() > _MOST_SYMBOLS:
                raise ValueError("it has no symbols, or too many")
            symbols = {s.name: s for s in table.iter_symbols()}
            info = symbols["tapc_twin_info"]
            section = elf.get_section(info["st_shndx"])
            offset = info["st_value"] - section["sh_addr"]
            steps, inputs, outputs = struct.unpack_from("<III", section.data(), offset)
            mark, resume = (symbols[name]["st_value"] & ~1 for name in ("tapc_mark", "tapc_mark_end"))
            if not (0 < steps <= _MOST_STEPS and 0 < inputs <= MOST_BYTES and 0 < outputs <= MOST_BYTES):
                raise ValueError(f"it claims {steps} steps, {inputs} input bytes and {outputs} output bytes")
        except Exception as error:  # whatever the file holds
            raise DataError(f"{twin} is not a twin image made by tapc: {error}") from error
        return QemuTwin(twin, steps, inputs, outputs, mark, resume, content, self)


@dataclass(frozen=True)
class QemuTwin(LoadedImage):
    """A twin image.

    Attributes
    ----------
    mark, resume : int
        The addresses between which counting pauses.
    content : bytes
        The file's.
    device : QemuDevice
    """

    mark: int
    resume: int
    content: bytes = field(repr=False)
    device: QemuDevice

    def run(
        self, inputs: npt.NDArray[np.int8], *, layers: int = 0, progress: Progress | None = None, period: int = 0
    ) -> DeviceRun:
        """Run all samples, in two simulators where they are many."""
        return run_in_halves(self.run_once, inputs, layers=layers, progress=progress, period=period)

    def run_once(
        self, inputs: npt.NDArray[np.int8], *, layers: int = 0, progress: Progress | None = None, period: int = 0
    ) -> DeviceRun:
        """Run all samples in one simulator; arguments and errors are those of `run`."""
        required = must_confine(self.path, "a simulated program", foreign=self.device.foreign)
        self.check_inputs(inputs)
        layers = min(layers, len(inputs))
        with scratch_folder() as folder:
            header = _MAGIC + struct.pack("<III", len(inputs), layers, period or len(inputs))
            (folder / _TWIN).write_bytes(self.content)
            (folder / _INPUT).write_bytes(header + np.ascontiguousarray(inputs).tobytes())
            for name in _WRITTEN:
                (folder / name).touch()
            most = _MOST_WRITTEN + len(inputs) * self.output_bytes + layers * _MOST_LAYERS
            self._simulate(self._command(folder, most, required), folder, len(inputs), most, progress)
            return self._results(folder, len(inputs), layers)

    def _command(self, folder: Path, most: int, required: bool) -> list[str]:
        family = emulator(self.device.target)
        machine = self.device.machine.machine
        plugin = counters_plugin()
        name = str(plugin).replace(",", ",,")
        arguments = f"mark=0x{self.mark:x},resume=0x{self.resume:x},marks={self.steps + 1},out={_COUNTS}"
        # fmt: off
        command = [
            family.path(), "-M", machine, *family.bare, "-nodefaults", "-no-user-config", "-nic", "none",
            "-display", "none", "-serial", "null", "-monitor", "none", "-semihosting-config", "enable=on,target=native",
            "-plugin", f"{name},{arguments}", "-kernel", _TWIN,
        ]
        # fmt: on
        if sys.platform == "linux":
            command += ["-sandbox", SANDBOX]
        timeout = self.device.timeout
        return locked(
            command,
            readable=(plugin, folder / _TWIN, folder / _INPUT),
            writable=[folder / name for name in _WRITTEN],
            limits={"RLIMIT_FSIZE": most, "RLIMIT_CPU": 2 * math.ceil(timeout) + 5, "RLIMIT_AS": _MOST_MEMORY},
            required=required,
        )

    def _simulate(self, command: list[str], folder: Path, samples: int, most: int, progress: Progress | None) -> None:
        log, output, timeout = folder / _LOG, folder / _OUTPUT, self.device.timeout
        deadline = time.monotonic() + timeout
        with log.open("wb") as stream:
            process = start(command, folder=folder, environment={}, stdout=stream, stderr=stream)
            try:
                while True:
                    try:
                        code = process.wait(_POLL_SECONDS)
                        break
                    except subprocess.TimeoutExpired:
                        done = min(output.stat().st_size // self.output_bytes, samples)
                    if time.monotonic() > deadline:
                        raise ToolError(
                            f"QEMU was stopped after {timeout:g} s with {done} of {samples} samples done; "
                            "run fewer samples"
                        )
                    # QEMU's processor thread blocks the signal of the limit, and the firmware would go on.
                    if any((folder / name).stat().st_size >= most for name in (*_WRITTEN, _LOG)):
                        raise ToolError("the firmware in QEMU wrote more than its results, and was stopped")
                    if progress is not None:
                        progress(done, samples)
            finally:
                end(process)
        if code != 0:
            raise ToolError(f"{_ending(code)}: {_last_words(log) or 'no message'}")
        if progress is not None:
            progress(samples, samples)

    def _results(self, folder: Path, samples: int, layers: int) -> DeviceRun:
        raw = (folder / _OUTPUT).read_bytes()
        if len(raw) != samples * self.output_bytes:
            raise ToolError(f"QEMU returned {len(raw)} output bytes instead of {samples} x {self.output_bytes}")
        stack = (folder / _STACK).read_bytes()
        if len(stack) != _STACK_SIZES.size:
            raise ToolError(f"QEMU returned {len(stack)} bytes about the stack instead of {_STACK_SIZES.size}")
        used, available = _STACK_SIZES.unpack(stack)
        if used >= available:
            raise BudgetError(f"the stack overflowed: all of its {available} bytes were used")
        counts = read_counts(folder / _COUNTS)
        per_step = _per_step(counts.marks, self.steps, emulator(self.device.target).call)
        return DeviceRun(
            image=self.path,
            outputs=np.frombuffer(raw, np.int8).reshape(samples, self.output_bytes),
            layer_outputs=_layer_outputs((folder / _LAYERS).read_bytes(), self.steps, layers),
            instructions_per_step=per_step,
            instructions=sum(per_step),
            stack_high_water=used,
            blocks=counts.blocks,
        )


def _ending(code: int) -> str:
    if code == _FAULT_EXIT:
        return "the firmware faulted in QEMU"
    if code == -signal.SIGSYS:
        return "the firmware in QEMU asked this machine for something that no twin of tapc needs, and was stopped"
    if code in (-signal.SIGXCPU, -signal.SIGKILL):
        return "QEMU was killed: it used too much processor time, or was ended from outside"
    return f"QEMU failed with exit code {code}"


def _last_words(log: Path) -> str:
    with log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - _LOG_BYTES))
        lines = stream.read().decode("utf-8", "replace").splitlines()
    return "\n".join(line for line in lines if "has no peer" not in line).strip()


def _per_step(marks: tuple[int, ...], steps: int, call: int) -> tuple[int, ...]:
    if len(marks) != 2 * (steps + 1):
        raise ToolError(f"the firmware marked {len(marks) // 2} step boundaries instead of {steps + 1}")
    # From leaving one mark to entering the next, less the call that entered it.
    return tuple(marks[2 * step + 2] - marks[2 * step + 1] - call for step in range(steps))


def _layer_outputs(raw: bytes, steps: int, samples: int) -> tuple[tuple[bytes, ...], ...]:
    outputs, position = [], 0
    for _ in range(samples):
        sample = []
        for _ in range(steps):
            if position + 4 > len(raw):
                raise ToolError(f"QEMU returned layer outputs that end after {len(raw)} bytes")
            (count,) = struct.unpack_from("<I", raw, position)
            sample.append(raw[position + 4 : position + 4 + count])
            position += 4 + count
        outputs.append(tuple(sample))
    if position != len(raw):
        raise ToolError(f"QEMU returned {len(raw)} bytes of layer outputs instead of {position}")
    return tuple(outputs)
