/* SiFive FE310-G002: PLL from the 16 MHz crystal, UART0 on GPIO 16 and 17.
 *
 * Registers: FE310-G002 Manual v19p05, chapters 6 (PRCI: clocks), 17 (GPIO), 18 (UART), 19 (SPI). The flash is read at an
 * eighth of the core's clock, 40 MHz, which its plain serial reads (command 03h) allow.
 */
#include "support.h"

#define HFROSCCFG 0x10008000u
#define HFXOSCCFG 0x10008004u
#define PLLCFG 0x10008008u
#define PLLOUTDIV 0x1000800Cu
#define OSC_ENABLE (1u << 30)
#define READY (1u << 31) /* of an oscillator; of the PLL: locked */
#define RING_DEFAULT (4u | 16u << 16)
#define PLL_SELECTED (1u << 16)
#define PLL_FROM_CRYSTAL (1u << 17)
#define PLL_BYPASSED (1u << 18)
#define CRYSTAL_HZ 16000000u
#define RING_HZ 13800000u
/* 8 MHz times F; 384 to 768 MHz, halved */
#define PLL_F (TAPC_CPU_HZ / 4000000u)
#define PLL_SETTING (1u | (PLL_F / 2u - 1u) << 4 | 1u << 10 | PLL_FROM_CRYSTAL)
#define GPIO_IOF_ENABLE 0x10012038u
#define GPIO_IOF_SELECT 0x1001203Cu
#define UART_PINS (1u << 16 | 1u << 17)
#define UART_TXDATA 0x10013000u
#define UART_RXDATA 0x10013004u
#define UART_TXCTRL 0x10013008u
#define UART_RXCTRL 0x1001300Cu
#define UART_DIV 0x10013018u
#define UART_FLAG (1u << 31) /* of the data registers: full, or empty */
#define FLASH_SCKDIV 0x10014000u
#define BAUD(hz) (((hz) + 57600u) / 115200u - 1u)

static uint32_t raise_clock(void)
{
    /* The PLL may run already: leave it first. */
    TAPC_REGISTER(HFROSCCFG) = OSC_ENABLE | RING_DEFAULT;
    if (!tapc_wait(HFROSCCFG, READY, READY)) {
        return RING_HZ;
    }
    TAPC_REGISTER(PLLCFG) &= ~PLL_SELECTED;
    TAPC_REGISTER(FLASH_SCKDIV) = 3; /* the clock / 8 */
    TAPC_REGISTER(HFXOSCCFG) = OSC_ENABLE;
    if (!tapc_wait(HFXOSCCFG, READY, READY)) {
        return RING_HZ;
    }
    TAPC_REGISTER(PLLOUTDIV) = 1u << 8; /* by 1 */
    TAPC_REGISTER(PLLCFG) = PLL_SETTING | PLL_BYPASSED;
    TAPC_REGISTER(PLLCFG) = PLL_SETTING;
    for (volatile uint32_t i = 0; i < 1000; ++i) { /* 100 us, before which the lock says nothing */
    }
    if (!tapc_wait(PLLCFG, READY, READY)) {
        TAPC_REGISTER(PLLCFG) = PLL_SETTING | PLL_BYPASSED | PLL_SELECTED;
        return CRYSTAL_HZ;
    }
    TAPC_REGISTER(PLLCFG) = PLL_SETTING | PLL_SELECTED;
    return TAPC_CPU_HZ;
}

uint32_t tapc_board_init(void)
{
    const uint32_t hertz = raise_clock();
    TAPC_REGISTER(GPIO_IOF_SELECT) &= ~UART_PINS;
    TAPC_REGISTER(GPIO_IOF_ENABLE) |= UART_PINS;
    TAPC_REGISTER(UART_DIV) = hertz == TAPC_CPU_HZ ? BAUD(TAPC_CPU_HZ) : hertz == CRYSTAL_HZ ? BAUD(CRYSTAL_HZ) : BAUD(RING_HZ);
    TAPC_REGISTER(UART_TXCTRL) = 1;
    TAPC_REGISTER(UART_RXCTRL) = 1;
    return hertz;
}

void tapc_serial_put(uint32_t byte)
{
    if (tapc_wait(UART_TXDATA, UART_FLAG, 0)) {
        TAPC_REGISTER(UART_TXDATA) = byte;
    }
}

int32_t tapc_serial_get(void)
{
    const uint32_t word = TAPC_REGISTER(UART_RXDATA);
    return word & UART_FLAG ? -1 : (int32_t)(word & 0xFFu);
}
