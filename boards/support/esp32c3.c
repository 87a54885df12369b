/* Espressif ESP32-C3: watchdogs off, 160 MHz from the PLL, UART0 on GPIO 21 and 20.
 *
 * Registers: ESP32-C3 Technical Reference Manual, chapters on reset and clock (SYSTEM), watchdog timers (TIMG, RTC_CNTL)
 * and the UART controller. The boot ROM leaves the PLL running at 480 MHz, for USB, and all watchdogs on.
 */
#include "support.h"

#define RTC_WDTCONFIG0 0x60008090u
#define RTC_WDTWPROTECT 0x600080A8u
#define RTC_SWD_CONF 0x600080ACu
#define SWD_AUTO_FEED (1u << 31)
#define RTC_SWD_WPROTECT 0x600080B0u
#define SWD_KEY 0x8F1D312Au
#define TIMG_WDTCONFIG0(group) (0x6001F048u + 0x1000u * (group))
#define TIMG_WDTWPROTECT(group) (0x6001F064u + 0x1000u * (group))
#define WDT_UPDATE (1u << 22)
#define WDT_KEY 0x50D83AA1u
#define SYSTEM_CPU_PER_CONF 0x600C0008u
#define PLL_480_BY_3 (1u << 2 | 1u)
#define SYSTEM_SYSCLK_CONF 0x600C0058u
#define SOC_CLK_SEL (3u << 10)
#define SOC_CLK_PLL (1u << 10)
#define UART_FIFO 0x60000000u
#define UART_CLKDIV 0x60000014u
#define UART_STATUS 0x6000001Cu
#define UART_RXFIFO_CNT 0x3FFu
#define UART_TXFIFO_LAST (0x40u << 16) /* half of its 128 bytes */
#define UART_CLK_CONF 0x60000078u
#define UART_FROM_CRYSTAL (3u << 20 | 1u << 22 | 1u << 24 | 1u << 25)
#define UART_ID 0x60000080u
#define UART_UPDATE (1u << 31)
#define CRYSTAL_HZ 40000000u
#define SIXTEENTHS (CRYSTAL_HZ / (115200u / 16u))

uint32_t tapc_board_init(void)
{
    TAPC_REGISTER(RTC_WDTWPROTECT) = WDT_KEY;
    TAPC_REGISTER(RTC_WDTCONFIG0) = 0;
    TAPC_REGISTER(RTC_SWD_WPROTECT) = SWD_KEY;
    TAPC_REGISTER(RTC_SWD_CONF) |= SWD_AUTO_FEED; /* it cannot be turned off */
    for (uint32_t group = 0; group < 2; ++group) {
        TAPC_REGISTER(TIMG_WDTWPROTECT(group)) = WDT_KEY;
        TAPC_REGISTER(TIMG_WDTCONFIG0(group)) = WDT_UPDATE;
    }
    tapc_change(SYSTEM_CPU_PER_CONF, 7u, PLL_480_BY_3);
    tapc_change(SYSTEM_SYSCLK_CONF, SOC_CLK_SEL, SOC_CLK_PLL); /* no flag tells that it was switched */
    TAPC_REGISTER(UART_CLK_CONF) = UART_FROM_CRYSTAL;
    TAPC_REGISTER(UART_CLKDIV) = SIXTEENTHS / 16u | SIXTEENTHS % 16u << 20;
    TAPC_REGISTER(UART_ID) |= UART_UPDATE;
    (void)tapc_wait(UART_ID, UART_UPDATE, 0);
    return TAPC_CPU_HZ;
}

void tapc_serial_put(uint32_t byte)
{
    if (tapc_wait(UART_STATUS, UART_TXFIFO_LAST, 0)) {
        TAPC_REGISTER(UART_FIFO) = byte;
    }
}

int32_t tapc_serial_get(void)
{
    return TAPC_REGISTER(UART_STATUS) & UART_RXFIFO_CNT ? (int32_t)(TAPC_REGISTER(UART_FIFO) & 0xFFu) : -1;
}
