"""What the families of STM32 share."""

from tapc.device.chips.model import Uart


def usart(base: int) -> tuple[Uart, int]:
    """Return a USART or LPUART of the newer kind (RM0432 49.8) and the address of its baud rate register."""
    on = ((base, 0xD, 0xD),)  # UE, RE, TE
    return Uart(base + 0x1C, 1 << 5, base + 0x1C, 1 << 7, base + 0x24, base + 0x28, on), base + 0x0C


def old_usart(base: int) -> tuple[Uart, int]:
    """Return a USART of the older kind (RM0090 30.6), as `usart`."""
    on = ((base + 0x0C, 0x200C, 0x200C),)  # UE, RE, TE
    return Uart(base, 1 << 5, base, 1 << 7, base + 4, base + 4, on), base + 8


def divided(field: int, first: int) -> int:
    """Return what a prescaler's field divides by: by one below `first`, then by 2, 4, 8, 16, 64, 128, 256, 512."""
    return 1 if field < first else (2, 4, 8, 16, 64, 128, 256, 512)[field - first]
