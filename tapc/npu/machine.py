"""A whole image with an NPU, in Unicorn: the driver runs on a Cortex-M33, the executor stands behind the registers.

Unicorn has no Cortex-M55; the driver needs nothing that an M33 lacks.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tapc.base.errors import MismatchError
from tapc.hardware.npu import Npu
from tapc.npu.executor import Executor

_STATUS, _CMD, _QBASE, _QSIZE, _CONFIG, _BASEP = 0x04, 0x08, 0x10, 0x20, 0x28, 0x80
_RUN, _SEEN, _DONE = 1, 2, 0x22
_REGISTERS, _RAM, _MEMORY = 0x1000, 0x20000000, 64 << 20
_ALIGNMENT = 16
_SECONDS = 120
Read = Callable[[int, int], bytes]
"""Address, bytes -> what is there."""


@dataclass(frozen=True)
class Image:
    """A linked image.

    Attributes
    ----------
    segments : dict of int to bytes
        Address -> what is loaded there.
    symbols : dict of str to int
    """

    segments: Mapping[int, bytes]
    symbols: Mapping[str, int]


def run_image(
    image: Image, npu: Npu, base: int, arena: int, inputs: Mapping[int, bytes], outputs: Sequence[tuple[int, int]],
    mark: Callable[[Read], None] | None = None,
) -> tuple[list[bytes], int]:  # fmt: skip
    """Run an image once.

    Parameters
    ----------
    image : Image
        Of flash from 0 and RAM from 0x20000000.
    npu : Npu
        A U55.
    base : int
        Of its registers.
    arena : int
        Address.
    inputs : mapping of int to bytes
        Offset in the arena -> what a program would write there.
    outputs : sequence of (int, int)
        Offsets, and bytes that are read back.
    mark : callable, optional
        Called where the image calls `tapc_mark`, with what reads memory.

    Returns
    -------
    list of bytes
        The outputs.
    int
        How many registers were written.

    Raises
    ------
    MismatchError
        The image says that something went wrong, or does not end.
    """
    import unicorn
    from unicorn import arm_const

    machine = unicorn.Uc(unicorn.UC_ARCH_ARM, unicorn.UC_MODE_THUMB | unicorn.UC_MODE_MCLASS)
    machine.ctl_set_cpu_model(arm_const.UC_CPU_ARM_CORTEX_M33)
    for origin in (0, _RAM):
        machine.mem_map(origin, _MEMORY)
    for address, content in image.segments.items():
        machine.mem_write(address, content)
    for offset, content in inputs.items():
        machine.mem_write(arena + offset, content)

    def reading(address: int, size: int) -> bytes:
        return bytes(machine.mem_read(address, size))

    # What the image has of flash and RAM: the NPU must not reach further.
    flash = [first + len(content) for first, content in image.segments.items() if first < _RAM]
    ends = max(flash), image.symbols["tapc_stack_top"]
    registers: dict[int, int] = {_CONFIG: int(npu.accelerator.rpartition("-")[2]).bit_length() - 1}
    writes = 0

    def read(_machine: Any, offset: int, _size: int, _data: Any) -> int:
        return registers.get(offset, 0)

    def write(_machine: Any, offset: int, _size: int, value: int, _data: Any) -> None:
        nonlocal writes
        writes += 1
        registers[offset] = value
        if offset == _CMD and value & _RUN:
            _execute(machine, registers, npu, ends)
            registers[_STATUS] = _DONE
        elif offset == _CMD and value & _SEEN:
            registers[_STATUS] = 0

    machine.mmio_map(base & -_REGISTERS, _REGISTERS, read, None, write, None)
    result = image.symbols["tapc_result"]
    if mark is not None:
        place = image.symbols["tapc_mark"] & ~1
        machine.hook_add(unicorn.UC_HOOK_CODE, lambda *_: mark(reading), begin=place, end=place)
    machine.hook_add(unicorn.UC_HOOK_INTR, lambda *_: machine.emu_stop())
    stack, start = np.frombuffer(bytes(machine.mem_read(0, 8)), "<u4").tolist()
    machine.reg_write(arm_const.UC_ARM_REG_SP, stack)
    machine.emu_start(start | 1, 0xFFFFFFFF, timeout=_SECONDS * unicorn.UC_SECOND_SCALE)
    code = int(np.frombuffer(bytes(machine.mem_read(result, 4)), "<i4")[0])
    if code != 0:
        raise MismatchError(f"the image's driver returned {code}, not 0")
    return [bytes(machine.mem_read(arena + offset, size)) for offset, size in outputs], writes


def _execute(machine: Any, registers: Mapping[int, int], npu: Npu, ends: tuple[int, int]) -> None:
    """Run the stream that the registers name on the machine's memory."""
    first, size = registers[_QBASE], registers[_QSIZE]
    for name, at in (("stream", first), ("constants", registers[_BASEP]), ("arena", registers[_BASEP + 8])):
        if at % _ALIGNMENT:
            raise MismatchError(f"the image gives the NPU a {name} at 0x{at:08x}, which is no multiple of {_ALIGNMENT}")
    words = np.frombuffer(bytes(machine.mem_read(first, size)), "<u4").tolist()
    bases = {region: registers[_BASEP + 8 * region] for region in range(2)}
    memory: dict[int, NDArray[np.uint8]] = {}
    for (region, start), end in zip(bases.items(), ends, strict=True):
        memory[region] = np.frombuffer(bytes(machine.mem_read(start, end - start)), np.uint8)[None].copy()
    memory[2] = memory[1]
    Executor(npu.outputs_at_once).run(words, memory)
    machine.mem_write(bases[1], memory[1].tobytes())
