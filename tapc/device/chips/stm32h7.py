"""STM32H7 (RM0399, RM0433): PWR, RCC, QUADSPI, FMC."""

from tapc.device.chips.model import Chip, Defines, Follow, Registers
from tapc.device.chips.stm32 import divided, usart

_CSR1, _D3CR = 0x58024804, 0x58024818
_CR, _CFGR, _D1CFGR, _D2CFGR = 0x58024400, 0x58024410, 0x58024418, 0x5802441C
_PLLCKSELR, _PLLCFGR, _PLL1DIVR = 0x58024428, 0x5802442C, 0x58024430
_QSPI_CCR, _FMC_SDCMR = 0x52005014, 0x52004150
_VOS, _SCALE_1, _READY = 3 << 14, 3 << 14, 1 << 13
_HSI_HZ = 64e6
_MOST_INPUT, _MOST_VCO = 16e6, 960e6


def chip(defines: Defines) -> Chip:
    """Return the chip of a board whose support file is told `defines`."""
    hse = defines["TAPC_HSE_HZ"]

    def clock(read: Registers) -> float:
        if read.get(_CFGR, 0) & 7 != 3:
            return _HSI_HZ
        select, divider = read.get(_PLLCKSELR, 0), read.get(_PLL1DIVR, 0)
        allowed = read.get(_D3CR, 0) & _VOS == _SCALE_1 and select & 3 == 2 and read.get(_PLLCFGR, 0) >> 16 & 1
        step = hse / max(1, select >> 4 & 63)
        vco = step * ((divider & 511) + 1)
        if not allowed or step > _MOST_INPUT or vco > _MOST_VCO:
            return 0.0
        return vco / ((divider >> 9 & 127) + 1) / divided(read.get(_D1CFGR, 0) >> 8 & 15, 8)

    def bus(read: Registers) -> float:
        hpre, ppre2 = read.get(_D1CFGR, 0) & 15, read.get(_D2CFGR, 0) >> 8 & 7
        return clock(read) / divided(hpre, 8) / divided(ppre2, 4)

    uart, brr = usart(defines["TAPC_USART"])
    return Chip(
        uart=uart,
        clock=clock,
        baud=lambda read: bus(read) / max(1, read.get(brr, 0)),
        reset={_CR: 1, _CSR1: _READY, _D3CR: 1 << 14, _PLLCKSELR: 0x02020200, _PLLCFGR: 0x01FF0000},
        follows=(
            Follow(_CR, _CR, 1 << 16, 1),  # HSERDY, HSEON
            Follow(_CR, _CR, 1 << 24, 1),  # PLL1RDY, PLL1ON
            Follow(_CFGR, _CFGR, 7, 3),  # SWS, SW
            Follow(_D3CR, _D3CR, 1 << 14, -1),  # VOSRDY
        ),
        outside={
            "TAPC_QSPI": (_QSPI_CCR, 3 << 26, 3 << 26),  # memory-mapped mode
            "TAPC_SDRAM": (_FMC_SDCMR, 7, 4),  # the mode register is loaded last
        },
    )
