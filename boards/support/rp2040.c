/* RP2040: 125 MHz from the 12 MHz crystal through PLL_SYS, UART0 on GPIO 0 and 1.
 *
 * Registers: RP2040 Datasheet, 2.14 (resets), 2.15 (clocks), 2.16 (XOSC), 2.18 (PLL), 2.19 (GPIO), 4.2 (UART, a PL011).
 */
#include "support.h"

#define RESETS_CLEAR 0x4000F000u /* atomic clear of RESETS.RESET */
#define RESETS_DONE 0x4000C008u
#define RESET_IO (1u << 5)
#define RESET_PADS (1u << 8)
#define RESET_PLL_SYS (1u << 12)
#define RESET_UART0 (1u << 22)
#define XOSC_CTRL 0x40024000u
#define XOSC_STATUS 0x40024004u
#define XOSC_STARTUP 0x4002400Cu
#define PLL_CS 0x40028000u
#define PLL_FBDIV 0x40028008u
#define PLL_PRIM 0x4002800Cu
#define PLL_PWR_CLEAR 0x4002B004u
#define CLK_REF_CTRL 0x40008030u
#define CLK_SYS_CTRL 0x4000803Cu
#define CLK_SYS_SELECTED 0x40008044u
#define CLK_PERI_CTRL 0x40008048u
#define GPIO0_CTRL 0x40014004u
#define GPIO1_CTRL 0x4001400Cu
#define UART_DR 0x40034000u
#define UART_FR 0x40034018u
#define UART_IBRD 0x40034024u
#define UART_FBRD 0x40034028u
#define UART_LCR_H 0x4003402Cu
#define UART_CR 0x40034030u
#define RX_EMPTY (1u << 4)
#define TX_FULL (1u << 5)
#define RING_HZ 6000000u
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
    TAPC_REGISTER(RESETS_CLEAR) = RESET_PLL_SYS;
    (void)tapc_wait(RESETS_DONE, RESET_PLL_SYS, RESET_PLL_SYS);
    TAPC_REGISTER(PLL_CS) = 1;
    TAPC_REGISTER(PLL_FBDIV) = 125; /* 1500 MHz, divided by 6 and 2 */
    TAPC_REGISTER(PLL_PWR_CLEAR) = 0x21;
    if (!tapc_wait(PLL_CS, 1u << 31, 1u << 31)) {
        TAPC_REGISTER(CLK_SYS_CTRL) = 0;
        return CRYSTAL_HZ;
    }
    TAPC_REGISTER(PLL_PRIM) = 6u << 16 | 2u << 12;
    TAPC_REGISTER(PLL_PWR_CLEAR) = 8;
    TAPC_REGISTER(CLK_SYS_CTRL) = 1;
    return TAPC_CPU_HZ;
}

uint32_t tapc_board_init(void)
{
    const uint32_t hertz = raise_clock();
    const uint32_t wanted = RESET_IO | RESET_PADS | RESET_UART0;
    TAPC_REGISTER(CLK_PERI_CTRL) = 1u << 11; /* from clk_sys */
    TAPC_REGISTER(RESETS_CLEAR) = wanted;
    (void)tapc_wait(RESETS_DONE, wanted, wanted);
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
