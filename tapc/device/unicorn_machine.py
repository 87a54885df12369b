"""A microcontroller in a process of its own, locked in: runs a flashed image in Unicorn, fed by lines of JSON.

Run as a program. The first line describes the machine, each later one is a request; each is answered by one line.
Nothing of tapc but what locks the process in is loaded.
"""

import base64
import json
import os
import sys
import time
from typing import Any

from unicorn import (
    UC_ARCH_ARM,
    UC_HOOK_BLOCK,
    UC_MODE_MCLASS,
    UC_MODE_THUMB,
    UC_PROT_EXEC,
    UC_PROT_READ,
    UC_PROT_WRITE,
    Uc,
    UcError,
    arm_const,
)

from tapc.base import confine

_PERIPHERALS, _PERIPHERALS_BYTES = 0x40000000, 0x20000000
_SYSTEM, _SYSTEM_BYTES = 0xE0000000, 0x00100000
_DEMCR, _TRACE = 0xE000EDFC, 1 << 24
_DWT_CTRL, _DWT_CYCCNT, _DWT_LAR, _KEY = 0xE0001000, 0xE0001004, 0xE0001FB0, 0xC5ACCE55
_RIGHTS = {"r": UC_PROT_READ, "w": UC_PROT_WRITE, "x": UC_PROT_EXEC}
_NOWHERE = 0xFFFFFFFE
_PAGE = 0x1000
_WAITS = 64
"""Looks in a row at an empty UART, with nothing sent between: the firmware waits for a byte."""


class StoppedError(Exception):
    """The machine does not go on; says why and where."""


class Machine:
    """The core, its memories and what stands behind its registers.

    Parameters
    ----------
    task : dict
        As `tapc.device.unicorn` writes it.
    """

    def __init__(self, task: dict[str, Any]) -> None:
        self._uc = Uc(UC_ARCH_ARM, UC_MODE_THUMB | UC_MODE_MCLASS)
        self._uc.ctl_set_cpu_model(getattr(arm_const, f"UC_CPU_ARM_{task['cpu']}"))
        self._uart: dict[str, Any] = task["uart"]
        self._dma: Any = self._uart["dma"]
        self._armed = False  # its DMA waits for a byte
        self._registers: dict[int, int] = {int(address): value for address, value in task["reset"].items()}
        self._follows: dict[int, list[tuple[int, int, int]]] = {}
        for register, source, mask, shift in task["follows"]:
            self._follows.setdefault(register, []).append((source, mask, shift))
        self._locked = bool(task["dwt_locked"])
        self._outside = list(task["outside"])
        self._images = [(address, base64.b64decode(data)) for address, data in task["images"]]
        self._received, self._sent = bytearray(), bytearray()
        self._polls, self._idle = 0, False
        self._due: list[list[Any]] = []
        self._uc.mmio_map(_PERIPHERALS, _PERIPHERALS_BYTES, self._read_low, None, self._write_low, None)
        self._uc.mmio_map(_SYSTEM, _SYSTEM_BYTES, self._read_high, None, self._write_high, None)
        for origin, size, rights in task["memory"]:
            self._map(origin, size, rights)
        self._hooks: list[int] = []
        self._entry = self._return = -1
        self._step = 0
        self._began, self._read_back = 0, ""
        self._executed: dict[int, int] = {}
        self._marked: dict[int, int] = {}
        self._lengths: dict[int, int] = {}
        self._idle_cycles = 0
        stack, start = (int.from_bytes(self._uc.mem_read(task["vectors"] + 4 * i, 4), "little") for i in range(2))
        self._uc.reg_write(arm_const.UC_ARM_REG_SP, stack)
        self._pc = start | 1

    def _map(self, origin: int, size: int, rights: str) -> None:
        self._uc.mem_map(origin, -(-size // _PAGE) * _PAGE, sum(_RIGHTS[right] for right in rights))
        for address, data in self._images:
            if origin <= address < origin + size:
                self._uc.mem_write(address, data)

    # Registers

    def _read_low(self, uc: Uc, offset: int, size: int, data: object) -> int:
        return self._part(_PERIPHERALS + offset, size)

    def _read_high(self, uc: Uc, offset: int, size: int, data: object) -> int:
        return self._part(_SYSTEM + offset, size)

    def _part(self, address: int, size: int) -> int:
        return self.register(address & ~3) >> 8 * (address & 3) & (1 << 8 * size) - 1

    def register(self, address: int) -> int:
        """Read a register as the core does, with all that reading does."""
        uart = self._uart
        if self._dma is not None and address == uart["status"]:
            return self._stored()
        if self._dma is None and address in (uart["status"], uart["sent_at"]):
            return self._status(address)
        if self._dma is None and address == uart["data_in"] and self._received:
            self._polls = 0
            return self._received.pop(0)
        if address == _DWT_CYCCNT:
            return self._cycles()
        value = self._registers.get(address, 0)
        for source, mask, shift in self._follows.get(address, ()):
            found = self._registers.get(source, 0) & mask
            value = value & ~(mask << shift if shift >= 0 else mask >> -shift)
            value |= found << shift if shift >= 0 else found >> -shift
        return value

    def _status(self, address: int) -> int:
        uart, on = self._uart, self._uart_on()
        value = 0
        if address == uart["sent_at"] and on:
            value |= uart["sent"]
        if address == uart["status"]:
            if self._received and on:
                value |= uart["received"]
            else:
                self._polls += 1
                if self._polls >= _WAITS:
                    self._idle = True
                    self._uc.emu_stop()
        return value

    def _stored(self) -> int:
        """Store a byte that came where the UART's DMA was told to, once it was told; say whether one lies there."""
        uart, registers = self._uart, self._registers
        if not registers.get(uart["status"], 0) and self._armed and self._received and self._uart_on():
            self._uc.mem_write(registers[self._dma["pointer_in"]], bytes([self._received.pop(0)]))
            self._armed, registers[uart["status"]] = False, uart["received"]
        self._polls = 0 if registers.get(uart["status"], 0) else self._polls + 1
        if self._polls >= _WAITS:
            self._idle = True
            self._uc.emu_stop()
        return registers.get(uart["status"], 0)

    def _fetched(self) -> None:
        """Send the bytes that the UART's DMA is pointed to."""
        pointer, count = (self._registers.get(self._dma[name], 0) for name in ("pointer_out", "count_out"))
        if self._uart_on():
            self._sent += self._uc.mem_read(pointer, count)
            self._registers[self._uart["sent_at"]] = self._uart["sent"]

    def _uart_on(self) -> bool:
        return all(self._registers.get(register, 0) & mask == value for register, mask, value in self._uart["on"])

    def _write_low(self, uc: Uc, offset: int, size: int, value: int, data: object) -> None:
        self._store(_PERIPHERALS + offset, size, value)

    def _write_high(self, uc: Uc, offset: int, size: int, value: int, data: object) -> None:
        self._store(_SYSTEM + offset, size, value)

    def _store(self, address: int, size: int, value: int) -> None:
        register, shift = address & ~3, 8 * (address & 3)
        mask = (1 << 8 * size) - 1 << shift
        value = self._registers.get(register, 0) & ~mask | value << shift & mask
        if register == self._uart["data_out"]:
            self._polls = 0
            if self._dma is not None:
                self._fetched()
            elif self._uart_on():
                self._sent.append(value & 0xFF)
            return
        if self._dma is not None and register == self._uart["data_in"]:
            self._armed = True
        if register == _DWT_LAR:
            self._locked = self._locked and value != _KEY
        if register == _DWT_CTRL and self._locked:
            return
        self._registers[register] = value
        for region in list(self._outside):
            where, bits, wanted = region[3]
            if register == where and value & bits == wanted:
                self._outside.remove(region)
                self._due.append(region)
                self._uc.emu_stop()  # memory is mapped between two runs

    # Counting

    def _cycles(self) -> int:
        if not (self._registers.get(_DEMCR, 0) & _TRACE and self._registers.get(_DWT_CTRL, 0) & 1):
            return 0
        if not self._hooks:
            self._idle_cycles += 1000  # it moves, no more
        return (self._idle_cycles + self._count()) & 0xFFFFFFFF

    def _count(self) -> int:
        lengths = self._lengths
        return sum(
            times * lengths[address] for blocks in (self._executed, self._marked) for address, times in blocks.items()
        )

    def _length(self, address: int, size: int) -> int:
        code, at, count = bytes(self._uc.mem_read(address, size)), 0, 0
        while at < size:
            # Armv7-M, A5.1: an instruction's first halfword says whether there is a second.
            at += 4 if code[at + 1] >> 3 in (0b11101, 0b11110, 0b11111) else 2
            count += 1
        return count

    def _block(self, uc: Uc, address: int, size: int, data: object) -> None:
        try:
            self._executed[address] += 1
        except KeyError:
            self._new_block(address, size)

    def _new_block(self, address: int, size: int) -> None:
        before = 0
        if address in (self._entry, self._return):
            before = self._count()
        if address not in self._lengths:
            self._lengths[address] = self._length(address, size)
        if address == self._entry:
            self._step = self._uc.reg_read(arm_const.UC_ARM_REG_R0)
            back = self._uc.reg_read(arm_const.UC_ARM_REG_LR) & ~1
            if back != self._return:  # nothing was translated there since counting began
                self._return = back
                self._watch(back, back)
            if self._return in self._executed:
                self._marked[self._return] = self._executed.pop(self._return)
            self._began = before
        elif address == self._return:
            self._steps.append(before - self._began)
            if self._step < len(self._outputs):
                place, size = self._outputs[self._step]
                self._arena.append(base64.b64encode(self._uc.mem_read(place, size)).decode("ascii"))
        if address in (self._entry, self._return):
            self._marked[address] = self._marked.get(address, 0) + 1
        else:
            self._executed[address] = 1

    # Requests

    def count(self, request: dict[str, Any]) -> dict[str, Any]:
        """Start counting: instructions of each call of a function, and memory after each.

        `entry`: the function's address; its argument is a step's number. `outputs`: address and bytes for each step.
        `code`: first and last addresses of what is counted; what lies elsewhere runs at full speed.
        """
        self._entry, self._outputs = request["entry"], request["outputs"]
        self._return = -1
        self._steps: list[int] = []
        self._arena: list[str] = []
        self._executed, self._marked = {}, {}
        for first, last in request["code"]:
            self._watch(first, last)
        self._uc.ctl_flush_tb()
        return {}

    def _watch(self, first: int, last: int) -> None:
        self._hooks.append(self._uc.hook_add(UC_HOOK_BLOCK, self._block, None, first, last))

    def counted(self, request: dict[str, Any]) -> dict[str, Any]:
        """End counting and return what was counted.

        `steps`: instructions; `outputs`: what was read back; `blocks`: address, instructions, executions.
        """
        self._idle_cycles += self._count()
        executed = {**self._executed, **self._marked}
        blocks = [(address, self._lengths[address], times) for address, times in sorted(executed.items()) if times]
        self._executed, self._marked = {}, {}
        for hook in self._hooks:
            self._uc.hook_del(hook)
        self._hooks.clear()
        self._uc.ctl_flush_tb()
        return {"steps": self._steps, "outputs": self._arena, "blocks": blocks}

    def feed(self, request: dict[str, Any]) -> dict[str, Any]:
        """Receive `data` on the UART, run until the firmware waits for more; `data` is what it sent.

        Raises
        ------
        StoppedError
            It faulted, or did not wait within `seconds`.
        """
        self._received += base64.b64decode(request["data"])
        end = time.monotonic() + request["seconds"]
        self._idle, self._polls = False, 0
        while not self._idle:
            left = end - time.monotonic()
            if left <= 0:
                raise StoppedError(f"was stopped after {request['seconds']:g} s at {self._place()}")
            try:
                self._uc.emu_start(self._pc, _NOWHERE, timeout=int(left * 1e6) + 1)
            except UcError as error:
                raise StoppedError(f"faulted at {self._place()}: {error}") from error
            self._pc = self._uc.reg_read(arm_const.UC_ARM_REG_PC) | 1
            for origin, size, rights, _ in self._due:
                self._map(origin, size, rights)
            self._due.clear()
        sent, self._sent = bytes(self._sent), bytearray()
        return {"data": base64.b64encode(sent).decode("ascii")}

    def call(self, request: dict[str, Any]) -> dict[str, Any]:
        """Count the `instructions` of a function that returns at once: its `address`, the `argument`."""
        context = self._uc.context_save()
        self.count({"entry": -1, "outputs": [], "code": request["code"]})
        back = request["back"]
        self._uc.reg_write(arm_const.UC_ARM_REG_R0, request["argument"])
        self._uc.reg_write(arm_const.UC_ARM_REG_LR, back | 1)
        try:
            self._uc.emu_start(request["address"] | 1, back, timeout=1_000_000)
        except UcError as error:
            raise StoppedError(f"faulted at {self._place()}: {error}") from error
        blocks = self.counted({})["blocks"]
        self._uc.context_restore(context)
        return {"instructions": sum(length * times for address, length, times in blocks if address != back)}

    def registers(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the `values` of the registers that were written, as they were written."""
        return {"values": {str(address): value for address, value in self._registers.items()}}

    def _place(self) -> str:
        pc, lr = (self._uc.reg_read(getattr(arm_const, f"UC_ARM_REG_{name}")) for name in ("PC", "LR"))
        return f"PC 0x{pc:08X}, called from 0x{lr:08X}"


def main() -> None:
    """Lock this process in and serve."""
    lock = json.loads(sys.argv[1])
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # nothing else prints among the answers
    lines = sys.stdin.buffer
    machine = Machine(json.loads(lines.readline()))  # loads the rest of Unicorn; nothing of the image runs
    try:
        if sys.platform == "linux":
            confine.end_with_parent()
            if os.getppid() != lock["parent"]:
                os._exit(confine.REFUSED)
            _ = confine.own_spaces(user=False) or confine.own_spaces()
            confine.no_new_privileges()
            confine.limit(lock["limits"])
            if confine.restrict_files({}) == 0 and lock["landlock"]:
                raise OSError("no Landlock")
    except OSError as error:
        os.write(2, f"cannot lock the process in: {error}\n".encode(errors="replace"))
        os._exit(confine.REFUSED)
    known = {work.__name__: work for work in (machine.feed, machine.count, machine.counted, machine.call)}
    known["registers"] = machine.registers
    for line in lines:
        request = json.loads(line)
        try:
            answer = known[request["do"]](request)
        except StoppedError as stop:
            answer = {"stopped": str(stop)}
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()


if __name__ == "__main__":
    main()
