"""Unicorn (PyPI): runs the very image that is flashed, at the board's own addresses, clock and UART included."""

import base64
import importlib.util
import json
import math
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from elftools.elf.constants import SH_FLAGS
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from tapc.base.errors import DataError, ToolError
from tapc.base.files import read_regular, scratch_folder
from tapc.base.tool import end, start
from tapc.device.chips import CHIPS, Chip
from tapc.device.choose import register
from tapc.device.dialog import Dialog, Info, Layer
from tapc.device.halves import run_in_halves
from tapc.device.interface import DeviceRun, Images, Progress
from tapc.device.qemu import MOST_BYTES
from tapc.device.speaking import SpeakingDevice, SpeakingImage
from tapc.device.trust import must_confine
from tapc.hardware.board import Region
from tapc.hardware.target import Target

INSTALL = "pip install unicorn"
_MACHINE = Path(__file__).with_name("unicorn_machine.py")
_CORES = {"cortex-m3": "CORTEX_M3", "cortex-m4": "CORTEX_M4", "cortex-m7": "CORTEX_M7", "cortex-m33": "CORTEX_M33"}
_LOCKED_COUNTERS = ("cortex-m7",)  # their DWT takes writes after a key only
_MOST_MEMORY = 8 << 30
_MOST_ANSWER, _MOST_WORDS = 1 << 30, 1 << 16
_GRACE_SECONDS = 10.0
_BAUD, _BAUD_SHARE = 115200, 0.02
_CLOCK_SHARE = 1e-6
_Places = tuple[tuple[int, int], ...]


class Emulator:
    """A line to a microcontroller in a process of its own, which goes on only while it is spoken to.

    Parameters
    ----------
    process : Popen
        With pipes.
    what : str
        The image.
    log : Path
        The process's errors.
    timeout : float
        Seconds after which it is given up.
    """

    def __init__(self, process: "subprocess.Popen[bytes]", what: str, log: Path, timeout: float) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process, self._what, self._log, self._deadline = process, what, log, time.monotonic() + timeout
        self._to, self._from = process.stdin, process.stdout.fileno()
        self._heard, self._rest = b"", b""
        self.counts: list[dict[str, Any]] = []
        """What was counted, in order."""

    def send(self, what: Mapping[str, Any]) -> None:
        """Send a line."""
        try:
            self._to.write(json.dumps(what).encode() + b"\n")
            self._to.flush()
        except OSError as error:
            raise self._ended() from error

    def ask(self, do: str, **what: Any) -> dict[str, Any]:
        """Send a request; return its answer.

        Raises
        ------
        ToolError
            The firmware faulted, or took too long; or the process ended.
        """
        left = max(0.0, self._deadline - time.monotonic())
        self.send({"do": do, "seconds": left, **what})
        parts = [self._rest]
        size = 0
        while b"\n" not in parts[-1]:
            ready = select.select([self._from], [], [], left + _GRACE_SECONDS)[0]
            part = os.read(self._from, 1 << 20) if ready else b""
            if not part or (size := size + len(part)) > _MOST_ANSWER:
                raise self._ended()
            parts.append(part)
        line, _, self._rest = b"".join(parts).partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        if "stopped" in answer:
            raise ToolError(f"{self._what} in Unicorn {answer['stopped']}")
        return answer

    def _ended(self) -> ToolError:
        end(self._process)
        words = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
        why = words[0] if words else "it used too much time or memory, or was ended from outside"
        return ToolError(f"Unicorn ended while it ran {self._what}: {why}")

    def write(self, data: bytes) -> None:
        """Send bytes to the UART, and let the firmware run until it waits for more."""
        answer = self.ask("feed", data=base64.b64encode(data).decode("ascii"))
        self._heard += base64.b64decode(answer["data"])

    def read(self, seconds: float) -> bytes:
        """Return what has come; nothing comes later."""
        heard, self._heard = self._heard, b""
        return heard


@dataclass(frozen=True)
class UnicornImage(SpeakingImage):
    """A flashed image.

    Attributes
    ----------
    content : bytes
        The ELF file.
    step : int
        Address of the function that runs one step.
    outputs : tuple of (int, int)
        Address and bytes of each step's output; none where the image does not tell.
    code : tuple of (int, int)
        First and last addresses of what a step may run.
    """

    content: bytes = b""
    step: int = 0
    outputs: tuple[tuple[int, int], ...] = ()
    code: tuple[tuple[int, int], ...] = ()

    def run(
        self, inputs: npt.NDArray[np.int8], *, layers: int = 0, progress: Progress | None = None, period: int = 0
    ) -> DeviceRun:
        """Run all samples, in two emulators where they are many."""
        return run_in_halves(super().run, inputs, layers=layers, progress=progress, period=period)

    def stepped(self, dialog: Dialog, sample: bytes) -> tuple[Layer, ...]:
        """Run a sample step by step, and count."""
        emulator = dialog.channel
        assert isinstance(emulator, Emulator)
        emulator.ask("count", entry=self.step, outputs=self.outputs, code=self.code)
        layers = super().stepped(dialog, sample)
        emulator.counts.append(emulator.ask("counted"))
        return layers

    def measured(
        self, dialog: Dialog, info: Info, inputs: npt.NDArray[np.int8], layers: int, progress: Progress | None,
        period: int = 0,
    ) -> DeviceRun:  # fmt: skip
        """Run all samples; count the first one's instructions, and read the layers of some back."""
        run = super().measured(dialog, info, inputs, layers, progress, period)
        emulator = dialog.channel
        assert isinstance(emulator, Emulator)
        for index, sample in enumerate(inputs[1:layers], 1):
            if period and index % period == 0:
                dialog.reset()
            self.stepped(dialog, sample.tobytes())
        self._check_clock(emulator, info)
        first = emulator.counts[0]
        around = emulator.ask("call", address=self.step, argument=self.steps, back=self._reset, code=self.code)[
            "instructions"
        ]
        counts = tuple(int(count) - around for count in first["steps"])
        read_back = tuple(tuple(map(base64.b64decode, each["outputs"])) for each in emulator.counts[:layers])
        return replace(
            run,
            instructions_per_step=counts,
            instructions=sum(counts),
            blocks=np.array(first["blocks"], np.uint64).reshape(-1, 3),
            layer_outputs=read_back if self.outputs else (),
        )

    @property
    def _reset(self) -> int:
        return int(ELFFile(BytesIO(self.content))["e_entry"]) & ~1

    def _check_clock(self, emulator: Emulator, info: Info) -> None:
        assert isinstance(self.device, UnicornDevice)
        chip = self.device.chip
        registers = {int(address): value for address, value in emulator.ask("registers")["values"].items()}
        found, baud = chip.clock({**chip.reset, **registers}), chip.baud({**chip.reset, **registers})
        if abs(found - info.hz) > info.hz * _CLOCK_SHARE:
            raise ToolError(
                f"the firmware says that {self.board} runs at {info.hz:,} Hz, but by its clock's registers it would "
                f"run at {found:,.0f} Hz (0 where they hold what the chip does not allow)"
            )
        if abs(baud - _BAUD) > _BAUD * _BAUD_SHARE:
            raise ToolError(f"by its registers the UART of {self.board} would run at {baud:,.0f} baud, not {_BAUD}")


@register("unicorn")
@dataclass(frozen=True)
class UnicornDevice(SpeakingDevice):
    """Emulates a board's core and what its firmware needs of its chip, in a process that is locked in.

    What a foreign image could do is what a defect of Unicorn let it: it is not run where the kernel cannot keep that
    process from this machine's files.
    """

    @staticmethod
    def obstacle(target: Target) -> str | None:
        """Say which cores there are, and what installs Unicorn."""
        if target.name not in _CORES:
            return f"Unicorn runs {', '.join(_CORES)}, not {target.name}"
        return UnicornDevice.missing()

    @staticmethod
    def missing() -> str | None:
        """Look for the package."""
        found = importlib.util.find_spec("unicorn") is not None
        return None if found else f"Unicorn is not installed; install it with: {INSTALL}"

    @property
    def name(self) -> str:
        """Unicorn."""
        return "Unicorn"

    @property
    def source(self) -> str:
        """Unicorn."""
        return "unicorn"

    @property
    def chip(self) -> Chip:
        """The board's chip.

        Raises
        ------
        ToolError
            It is not known.
        """
        board = self.own_board
        known = None if board.support is None else CHIPS.get(board.support.source)
        if board.support is None or known is None:
            raise ToolError(f"Unicorn runs boards whose support file is one of {', '.join(CHIPS)}, not {board.name}")
        return known({"TAPC_CPU_HZ": board.clocks.cpu_hz, **board.support.defines})

    def load(self, images: Images) -> UnicornImage:
        """Read a build's firmware."""
        plain = super().load(images)
        content = read_regular(images.elf, MOST_BYTES, "firmware")
        try:
            step, outputs, code = _tables(content, plain.steps)
        except Exception as error:  # whatever the file holds
            raise DataError(f"{images.elf} is no firmware made by tapc: {error}") from error
        fields = {name: getattr(plain, name) for name in SpeakingImage.__dataclass_fields__}
        return UnicornImage(**fields, content=content, step=step, outputs=outputs, code=code)

    @contextmanager
    def line(self, image: SpeakingImage) -> Iterator[Emulator]:
        """Start the emulator with an image."""
        assert isinstance(image, UnicornImage)
        required = must_confine(image.path, "an emulator", foreign=self.foreign)
        lock = {
            "parent": os.getpid(),
            "landlock": required,
            "limits": {
                "RLIMIT_CORE": 0,
                "RLIMIT_FSIZE": _MOST_WORDS,
                "RLIMIT_CPU": 2 * math.ceil(self.timeout) + 5,
                "RLIMIT_AS": _MOST_MEMORY,
            },
        }
        with scratch_folder() as folder, (log := folder / "errors.txt").open("wb") as errors:
            process = start(
                [sys.executable, "-P", str(_MACHINE), json.dumps(lock)],
                environment={"PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
            )
            try:
                emulator = Emulator(process, image.path.name, log, self.timeout)
                emulator.send(self._task(image))
                yield emulator
            finally:
                end(process)

    def _task(self, image: UnicornImage) -> dict[str, Any]:
        """Return what the machine is made of."""
        board, chip = self.own_board, self.chip
        elf = ELFFile(BytesIO(image.content))
        regions = board.support.regions if board.support is not None else {}
        outside = [
            (region.origin, region.size, "r" if region.kind == "external_flash" else "rw", chip.outside[macro])
            for name, macro in regions.items()
            if macro in chip.outside and _uses(elf, region := board.region(name))
        ]
        segments = [s for s in elf.iter_segments("PT_LOAD") if s["p_filesz"]]
        return {
            "cpu": _CORES[self.target.name],
            "dwt_locked": self.target.name in _LOCKED_COUNTERS,
            "vectors": board.flash.origin,
            "memory": [(r.origin, r.size, _rights(r)) for r in board.memory if r.kind in ("flash", "ram")],
            "outside": outside,
            "images": [(s["p_paddr"], base64.b64encode(s.data()).decode("ascii")) for s in segments],
            "uart": asdict(chip.uart),
            "reset": {str(address): value for address, value in chip.reset.items()},
            "follows": [(f.register, f.source, f.mask, f.shift) for f in chip.follows],
        }


def _rights(region: Region) -> str:
    code = "x" if "code" in region.holds else ""
    return f"r{code}" if region.kind == "flash" else f"rw{code}"


def _uses(elf: ELFFile, region: Region) -> bool:
    return any(region.origin <= s["sh_addr"] < region.end for s in elf.iter_sections() if s["sh_size"])


def _tables(content: bytes, steps: int) -> tuple[int, _Places, _Places]:
    """Return the address of the function that runs a step, where steps' outputs lie, and the network's code."""
    elf = ELFFile(BytesIO(content))
    table = elf.get_section_by_name(".symtab")
    if not isinstance(table, SymbolTableSection):
        raise ValueError("it has no symbols")
    symbols = {symbol.name: symbol for symbol in table.iter_symbols()}
    arena = elf.get_section_by_name(".tapc_arena")
    prefix = next(
        name.removesuffix("_arena")
        for name, symbol in symbols.items()
        if name.endswith("_arena") and symbol["st_value"] == arena["sh_addr"]
    )
    text, function = elf.get_section_by_name(".text"), symbols[f"{prefix}_step"]
    step = function["st_value"] & ~1
    copied = [s for s in elf.iter_sections() if s.name.startswith(".tapc_") and s["sh_flags"] & SH_FLAGS.SHF_EXECINSTR]
    spans = (step, function["st_size"]), *((s["sh_addr"], s["sh_size"]) for s in (text, *copied))
    code = tuple((start, start + size - 1) for start, size in spans)
    where = symbols.get(f"{prefix}_step_output")
    if where is None:
        return step, (), code
    section = elf.get_section(where["st_shndx"])
    raw = section.data()[where["st_value"] - section["sh_addr"] :][: 8 * steps]
    places = np.frombuffer(raw, "<u4").reshape(steps, 2).tolist()
    return step, tuple((symbols[f"{prefix}_arena"]["st_value"] + offset, size) for offset, size in places), code
