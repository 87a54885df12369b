"""nRF5340's application core (nRF5340 Product Specification 1.3.1): CLOCK, and a UART that moves bytes by DMA."""

from tapc.device.chips.model import Chip, Defines, Dma, Follow, Registers, Uart

_START, _STARTED, _CONTROL = 0x50005000, 0x50005100, 0x50005558
_UART = 0x50008000
_ENABLE, _PSELTXD, _PSELRXD, _BAUDRATE = _UART + 0x500, _UART + 0x50C, _UART + 0x514, _UART + 0x524


def chip(defines: Defines) -> Chip:
    """Return the chip of a board whose support file is told `defines`."""
    pins = ((_PSELTXD, defines["TAPC_TX"]), (_PSELRXD, defines["TAPC_RX"]))
    uart = Uart(
        status=_UART + 0x110,
        received=1,
        sent_at=_UART + 0x120,
        sent=1,
        data_in=_UART,
        data_out=_UART + 0x008,
        on=((_ENABLE, 15, 8), *((at, 0xFFFFFFFF, pin) for at, pin in pins)),
        dma=Dma(pointer_in=_UART + 0x534, pointer_out=_UART + 0x544, count_out=_UART + 0x548),
    )

    def clock(read: Registers) -> float:
        return 128e6 / (1 + (read.get(_CONTROL, 0) & 1)) if read.get(_START, 0) & 1 else 0.0

    return Chip(
        uart=uart,
        clock=clock,
        baud=lambda read: read.get(_BAUDRATE, 0) * 16e6 / 2**32,
        reset={_CONTROL: 1},  # by two
        follows=(Follow(_STARTED, _START, 1, 0),),
    )
