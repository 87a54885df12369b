"""Flashed images, spoken to: one class for every board and emulator behind a line."""

from abc import abstractmethod
from contextlib import AbstractContextManager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from tapc.base.errors import BudgetError, DataError, ToolError
from tapc.base.files import read_regular
from tapc.device.channel import Channel
from tapc.device.dialog import Dialog, Info, Layer, check_board
from tapc.device.interface import Device, DeviceRun, Images, LoadedImage, Progress, Timing
from tapc.hardware.board import Board

_SYMBOL = "tapc_speaking_info"
_MOST_BYTES = 64 << 20
_WORDS, _BOARD = 3, 32


@dataclass(frozen=True)
class SpeakingImage(LoadedImage):
    """An image that answers commands.

    Attributes
    ----------
    board, digest : str
        What it says about itself when asked.
    external : tuple of str
        External flash regions that it uses.
    stack_bytes : int
        What its variables leave of the stack's region.
    device : SpeakingDevice
    """

    board: str
    digest: str
    external: tuple[str, ...]
    stack_bytes: int
    device: "SpeakingDevice"

    def run(
        self, inputs: npt.NDArray[np.int8], *, layers: int = 0, progress: Progress | None = None, period: int = 0
    ) -> DeviceRun:
        """Send all samples and read their outputs; of the first one, its layers' checksums as well."""
        self.check_inputs(inputs)
        with self.device.line(self) as channel:
            dialog = Dialog(channel, self.device.timeout)
            dialog.connect()
            info = dialog.info()
            check_board(info, board=self.board, digest=self.digest, where=self.device.name)
            return self.measured(dialog, info, inputs, layers, progress, period)

    def stepped(self, dialog: Dialog, sample: bytes) -> tuple[Layer, ...]:
        """Run a sample step by step."""
        dialog.load(sample)
        return dialog.layers()

    def measured(
        self, dialog: Dialog, info: Info, inputs: npt.NDArray[np.int8], layers: int, progress: Progress | None,
        period: int = 0,
    ) -> DeviceRun:  # fmt: skip
        """Run all samples over a line that stands."""
        outputs: list[npt.NDArray[np.int8]] = []
        cycles: list[int] = []
        stack = 0
        for done, sample in enumerate(inputs):
            if period and done % period == 0:
                dialog.reset()
            dialog.load(sample.tobytes())
            inference = dialog.infer()
            if len(inference.output) != self.output_bytes:
                raise ToolError(f"the board gave {len(inference.output)} output bytes instead of {self.output_bytes}")
            outputs.append(np.frombuffer(inference.output, np.int8))
            cycles += inference.cycles
            stack = max(stack, inference.stack)
            if progress is not None:
                progress(done + 1, len(inputs))
        if period:
            dialog.reset()
        steps = self.stepped(dialog, inputs[0].tobytes())
        if len(steps) != self.steps:
            raise ToolError(f"the board ran {len(steps)} steps instead of {self.steps}")
        if stack >= self.stack_bytes:
            raise BudgetError(f"the stack overflowed: all of its {self.stack_bytes} bytes were used")
        timing = Timing(info.hz, info.rated_hz, info.counter, tuple(cycles), tuple(step.cycles for step in steps))
        return DeviceRun(
            image=self.path,
            outputs=np.stack(outputs),
            layer_outputs=(),
            instructions_per_step=(),
            instructions=None,
            stack_high_water=stack,
            blocks=np.empty((0, 3), np.uint64),
            layer_crcs=tuple(step.crc for step in steps) if layers else (),
            timing=timing if self.device.keeps_time else None,
            device=self.device.source,
        )


@dataclass(frozen=True)
class SpeakingDevice(Device):
    """Whatever runs flashed images: a board, or what plays one."""

    keeps_time = False
    """Its cycles are those of silicon."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What messages call it."""

    @property
    @abstractmethod
    def source(self) -> str:
        """What provenance calls it."""

    @abstractmethod
    def line(self, image: SpeakingImage) -> AbstractContextManager[Channel]:
        """Have it run an image; the line to it."""

    def roomy_board(self) -> Board:
        """Return the board itself."""
        return self.own_board

    @property
    def own_board(self) -> Board:
        """The board that it plays.

        Raises
        ------
        ToolError
            None was named.
        """
        if self.board is None:
            raise ToolError(f"{self.name} runs the images of a board: name one with --board")
        return self.board

    def load(self, images: Images) -> SpeakingImage:
        """Read a build's firmware and what it says about itself."""
        return speaking_image(images.elf, self)


def speaking_image(path: Path, device: SpeakingDevice) -> SpeakingImage:
    """Read an image that speaks.

    Raises
    ------
    DataError
        The file is missing, no ELF file, or firmware that says nothing.
    """
    content = read_regular(path, _MOST_BYTES, "firmware")
    try:
        elf = ELFFile(BytesIO(content))
        table = elf.get_section_by_name(".symtab")
        if not isinstance(table, SymbolTableSection) or not (found := table.get_symbol_by_name(_SYMBOL)):
            raise LookupError
        symbol = found[0]
        section = elf.get_section(symbol["st_shndx"])
        raw = section.data()[symbol["st_value"] - section["sh_addr"] :]
        steps, inputs, outputs = (int.from_bytes(raw[4 * i : 4 * i + 4], "little") for i in range(_WORDS))
        texts = raw[4 * _WORDS : symbol["st_size"]]
        top, limit = (table.get_symbol_by_name(f"tapc_stack_{end}")[0]["st_value"] for end in ("top", "limit"))
        regions = () if device.board is None else device.board.memory
        outside = {f".tapc_{region.name}" for region in regions if region.kind.startswith("external")}
        flashed = (s.name for s in elf.iter_sections() if s["sh_type"] == "SHT_PROGBITS" and s.name in outside)
        external = tuple(name.removeprefix(".tapc_") for name in flashed)
        board, digest = (text.split(b"\0")[0].decode("ascii") for text in (texts[:_BOARD], texts[_BOARD:]))
    except LookupError as error:
        raise DataError(
            f"{path} does not speak: its board's file has no [support], or the memory was too small for it. "
            "It runs in QEMU as a twin (--device qemu)"
        ) from error
    except Exception as error:  # whatever the file holds
        raise DataError(f"{path} is no firmware made by tapc: {error}") from error
    return SpeakingImage(path, steps, inputs, outputs, board, digest, external, top - limit, device)
