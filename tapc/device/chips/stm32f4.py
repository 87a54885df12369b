"""STM32F4 (RM0090, RM0390): RCC, PWR."""

from tapc.device.chips.model import Chip, Defines, Follow, Registers
from tapc.device.chips.stm32 import divided, old_usart

_CR, _PLLCFGR, _CFGR = 0x40023800, 0x40023804, 0x40023808
_PWR_CR, _PWR_CSR = 0x40007000, 0x40007004
_HSI_HZ, _WITHOUT_OVERDRIVE, _MOST_VCO = 16e6, 168e6, 432e6
_OVERDRIVE = 3 << 16
_FAST_BUS = 0x40010000  # APB2's peripherals begin here


def chip(defines: Defines) -> Chip:
    """Return the chip of a board whose support file is told `defines`."""
    hse = defines["TAPC_HSE_HZ"]

    def clock(read: Registers) -> float:
        source, pll = read.get(_CFGR, 0), read.get(_PLLCFGR, 0)
        hertz = _HSI_HZ
        if source & 3 == 2:
            vco = hse / max(1, pll & 63) * (pll >> 6 & 511)
            hertz = vco / (2 * (pll >> 16 & 3) + 2)
            driven = read.get(_PWR_CR, 0) & _OVERDRIVE == _OVERDRIVE
            if not pll >> 22 & 1 or vco > _MOST_VCO or (hertz > _WITHOUT_OVERDRIVE and not driven):
                return 0.0
        return hertz / divided(source >> 4 & 15, 8)

    def bus(read: Registers) -> float:
        field = read.get(_CFGR, 0) >> (13 if defines["TAPC_USART"] >= _FAST_BUS else 10) & 7
        return clock(read) / divided(field, 4)

    uart, brr = old_usart(defines["TAPC_USART"])
    return Chip(
        uart=uart,
        clock=clock,
        baud=lambda read: bus(read) / max(1, read.get(brr, 0)),
        reset={_CR: 0x83, _PLLCFGR: 0x24003010},
        follows=(
            Follow(_CR, _CR, 1 << 16, 1),  # HSERDY, HSEON
            Follow(_CR, _CR, 1 << 24, 1),  # PLLRDY, PLLON
            Follow(_CFGR, _CFGR, 3, 2),  # SWS, SW
            Follow(_PWR_CSR, _PWR_CR, 3 << 16, 0),  # over-drive ready, switched
        ),
    )
