"""STM32L4 and L4+ (RM0351, RM0432): RCC, PWR."""

from tapc.device.chips.model import Chip, Defines, Follow, Registers
from tapc.device.chips.stm32 import divided, usart

_CR, _CFGR, _PLLCFGR = 0x40021000, 0x40021008, 0x4002100C
_CR5, _R1MODE = 0x40007080, 1 << 8
_MSI_HZ, _WITHOUT_BOOST, _MOST_VCO = 4e6, 80e6, 344e6


def chip(defines: Defines) -> Chip:
    """Return the chip of a board whose support file is told `defines`."""

    def clock(read: Registers) -> float:
        source, pll = read.get(_CFGR, 0), read.get(_PLLCFGR, 0)
        hertz = _MSI_HZ
        if source & 3 == 3:
            vco = _MSI_HZ / ((pll >> 4 & 7) + 1) * (pll >> 8 & 127)
            hertz = vco / (2 * (pll >> 25 & 3) + 2)
            boosted = not read.get(_CR5, 0) & _R1MODE
            if pll & 3 != 1 or not pll >> 24 & 1 or vco > _MOST_VCO or (hertz > _WITHOUT_BOOST and not boosted):
                return 0.0
        return hertz / divided(source >> 4 & 15, 8)

    uart, brr = usart(defines["TAPC_USART"])
    times = 256 if "TAPC_LPUART" in defines else 1
    return Chip(
        uart=uart,
        clock=clock,
        baud=lambda read: times * clock(read) / max(1, read.get(brr, 0)),
        reset={_CR: 0x63, _PLLCFGR: 0x1000, _CR5: _R1MODE},
        follows=(Follow(_CR, _CR, 1 << 24, 1), Follow(_CFGR, _CFGR, 3, 2)),  # PLLRDY, PLLON; SWS, SW
    )
