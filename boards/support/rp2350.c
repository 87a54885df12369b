/* RP2350: 150 MHz from the 12 MHz crystal through PLL_SYS, UART0 on GPIO 0 and 1, whose pads are cut off after reset.
 *
 * Registers: RP2350 Datasheet, 2.2 (addresses), 7.5 (resets), 8.1 (clocks), 8.2 (XOSC), 8.6 (PLL), 9.11 (GPIO, pads),
 * 12.1 (UART, a PL011). The boot ROM leaves the flash mapped.
 */
#define RESETS 0x40020000u
#define RESET_IO (1u << 6)
#define RESET_PADS (1u << 9)
#define RESET_PLL_SYS (1u << 14)
#define RESET_UART0 (1u << 26)
#define CLOCKS 0x40010000u
#define IO_BANK0 0x40028000u
#define PADS_GPIO0 0x40038004u
#define PADS_GPIO1 0x40038008u
#define PAD_JOINED 0x5Au /* no isolation; input on, 4 mA, pulled up, Schmitt trigger */
#define XOSC 0x40048000u
#define PLL_SYS 0x40050000u
#define PLL_DIVIDER 5u
#define UART0 0x40070000u
#define RING_HZ 11000000u

#include "rp2.h"
