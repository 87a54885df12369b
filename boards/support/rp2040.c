/* RP2040: 125 MHz from the 12 MHz crystal through PLL_SYS, UART0 on GPIO 0 and 1.
 *
 * Registers: RP2040 Datasheet, 2.14 (resets), 2.15 (clocks), 2.16 (XOSC), 2.18 (PLL), 2.19 (GPIO), 4.2 (UART, a PL011).
 */
#define RESETS 0x4000C000u
#define RESET_IO (1u << 5)
#define RESET_PADS (1u << 8)
#define RESET_PLL_SYS (1u << 12)
#define RESET_UART0 (1u << 22)
#define CLOCKS 0x40008000u
#define IO_BANK0 0x40014000u
#define XOSC 0x40024000u
#define PLL_SYS 0x40028000u
#define PLL_DIVIDER 6u
#define UART0 0x40034000u
#define RING_HZ 6000000u

#include "rp2.h"
