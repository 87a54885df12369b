/* RP2040 and RP2350: the 12 MHz crystal through PLL_SYS, UART0 (a PL011) on GPIO 0 and 1. The blocks are the same in both.
 *
 * RESETS, XOSC, PLL_SYS, CLOCKS, IO_BANK0, UART0: their addresses; RESET_IO, RESET_PADS, RESET_PLL_SYS, RESET_UART0: bits of
 * the register of resets; PLL_DIVIDER: of the 1500 MHz, besides 2; PADS_GPIO0, where pads are cut off after reset.
 */
#ifndef TAPC_RP2_H
#define TAPC_RP2_H

#include "support.h"

#define CLEAR 0x3000u /* alias of a register that clears bits */
#define XOSC_CTRL (XOSC + 0x00u)
#define XOSC_STATUS (XOSC + 0x04u)
#define XOSC_STARTUP (XOSC + 0x0Cu)
#define PLL_CS (PLL_SYS + 0x00u)
#define PLL_PWR (PLL_SYS + 0x04u)
#define PLL_FBDIV (PLL_SYS + 0x08u)
#define PLL_PRIM (PLL_SYS + 0x0Cu)
#define CLK_REF_CTRL (CLOCKS + 0x30u)
#define CLK_SYS_CTRL (CLOCKS + 0x3Cu)
#define CLK_PERI_CTRL (CLOCKS + 0x48u)
#define GPIO0_CTRL (IO_BANK0 + 0x04u)
#define GPIO1_CTRL (IO_BANK0 + 0x0Cu)
#define UART_DR (UART0 + 0x00u)
#define UART_FR (UART0 + 0x18u)
#define UART_IBRD (UART0 + 0x24u)
#define UART_FBRD (UART0 + 0x28u)
#define UART_LCR_H (UART0 + 0x2Cu)
#define UART_CR (UART0 + 0x30u)
#define RX_EMPTY (1u << 4)
#define TX_FULL (1u << 5)
#define CRYSTAL_HZ 12000000u
/* Sixty-fourths of the baud rate's divisor of 16. */
#define BAUD(hz) (((hz) * 4u + 57600u) / 115200u)

static uint32_t raise_clock(void)
{
    TAPC_REGISTER(XOSC_STARTUP) = 47;
    TAPC_REGISTER(XOSC_CTRL) = 0xAA0u | 0xFABu << 12;
    if (!tapc_wait(XOSC_STATUS, 1u << 31, 1u << 31)) {
        return RING_HZ;
    }
    TAPC_REGISTER(CLK_REF_CTRL) = 2;
    TAPC_REGISTER(RESETS + CLEAR) = RESET_PLL_SYS;
    (void)tapc_wait(RESETS + 8u, RESET_PLL_SYS, RESET_PLL_SYS);
    TAPC_REGISTER(PLL_CS) = 1;
    TAPC_REGISTER(PLL_FBDIV) = 125; /* 1500 MHz, divided by PLL_DIVIDER and 2 */
    TAPC_REGISTER(PLL_PWR + CLEAR) = 0x21;
    if (!tapc_wait(PLL_CS, 1u << 31, 1u << 31)) {
        TAPC_REGISTER(CLK_SYS_CTRL) = 0;
        return CRYSTAL_HZ;
    }
    TAPC_REGISTER(PLL_PRIM) = PLL_DIVIDER << 16 | 2u << 12;
    TAPC_REGISTER(PLL_PWR + CLEAR) = 8;
    TAPC_REGISTER(CLK_SYS_CTRL) = 1;
    return TAPC_CPU_HZ;
}

uint32_t tapc_board_init(void)
{
    const uint32_t hertz = raise_clock();
    const uint32_t wanted = RESET_IO | RESET_PADS | RESET_UART0;
    TAPC_REGISTER(CLK_PERI_CTRL) = 1u << 11; /* from clk_sys */
    TAPC_REGISTER(RESETS + CLEAR) = wanted;
    (void)tapc_wait(RESETS + 8u, wanted, wanted);
#ifdef PADS_GPIO0
    TAPC_REGISTER(PADS_GPIO0) = PAD_JOINED;
    TAPC_REGISTER(PADS_GPIO1) = PAD_JOINED;
#endif
    TAPC_REGISTER(GPIO0_CTRL) = 2;
    TAPC_REGISTER(GPIO1_CTRL) = 2;
    const uint32_t baud = hertz == TAPC_CPU_HZ ? BAUD(TAPC_CPU_HZ) : hertz == CRYSTAL_HZ ? BAUD(CRYSTAL_HZ) : BAUD(RING_HZ);
    TAPC_REGISTER(UART_IBRD) = baud >> 6;
    TAPC_REGISTER(UART_FBRD) = baud & 63u;
    TAPC_REGISTER(UART_LCR_H) = 0x70; /* 8 bits, FIFO */
    TAPC_REGISTER(UART_CR) = 0x301;
    return hertz;
}

void tapc_serial_put(uint32_t byte)
{
    if (tapc_wait(UART_FR, TX_FULL, 0)) {
        TAPC_REGISTER(UART_DR) = byte;
    }
}

int32_t tapc_serial_get(void)
{
    return TAPC_REGISTER(UART_FR) & RX_EMPTY ? -1 : (int32_t)(TAPC_REGISTER(UART_DR) & 0xFFu);
}

#endif
