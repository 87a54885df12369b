"""nRF51 and nRF52 (nRF51 Reference Manual 3.0, nRF52840 Product Specification 1.7): CLOCK, UART."""

from tapc.device.chips.model import Chip, Defines, Follow, Uart

_START, _STARTED = 0x40000000, 0x40000100
_UART = 0x40002000
_ENABLE, _PSELTXD, _PSELRXD, _BAUDRATE = _UART + 0x500, _UART + 0x50C, _UART + 0x514, _UART + 0x524


def chip(defines: Defines) -> Chip:
    """Return the chip of a board whose support file is told `defines`."""
    pins = ((_PSELTXD, defines["TAPC_TX"]), (_PSELRXD, defines["TAPC_RX"]))
    uart = Uart(
        status=_UART + 0x108,
        received=1,
        sent_at=_UART + 0x11C,
        sent=1,
        data_in=_UART + 0x518,
        data_out=_UART + 0x51C,
        on=((_ENABLE, 15, 4), (_UART, 1, 1), (_UART + 8, 1, 1), *((at, 0xFFFFFFFF, pin) for at, pin in pins)),
    )
    hertz = float(defines["TAPC_CPU_HZ"])  # fixed; the crystal makes it exact
    return Chip(
        uart=uart,
        clock=lambda read: hertz if read.get(_START, 0) & 1 else 0.0,
        baud=lambda read: read.get(_BAUDRATE, 0) * 16e6 / 2**32,
        follows=(Follow(_STARTED, _START, 1, 0),),
    )
