"""Chips, by the support file of their boards: one file each."""

from collections.abc import Callable

from tapc.device.chips import nrf5, nrf53, stm32f4, stm32h7, stm32l4
from tapc.device.chips.model import Chip, Defines

CHIPS: dict[str, Callable[[Defines], Chip]] = {
    "nrf5.c": nrf5.chip,
    "nrf53.c": nrf53.chip,
    "stm32f4.c": stm32f4.chip,
    "stm32h7.c": stm32h7.chip,
    "stm32l4.c": stm32l4.chip,
}

__all__ = ["CHIPS", "Chip", "Defines"]
