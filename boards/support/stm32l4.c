/* STM32L4 and L4+: PLL from the 4 MHz MSI, flash wait states and caches, a USART or LPUART.
 *
 * Registers: RM0351 (L475) and RM0432 (L4R5), chapters FLASH, PWR, RCC. Above 80 MHz (L4+) the regulator's boost is
 * turned on and the bus runs at half speed while the clock is switched (RM0432 6.2.3, 5.1.8).
 *
 * TAPC_USART; TAPC_UART_ENABLE, TAPC_UART_BIT: its clock's register and bit; TAPC_LPUART: its baud rate divides 256
 * times the clock; TAPC_GPIO, TAPC_TX, TAPC_RX, TAPC_AF: its pins; TAPC_VDDIO2: port G has a supply of its own.
 */
#include "stm32_gpio.h"
#include "stm32_usart.h"

#define FLASH_ACR 0x40022000u
#define FLASH_CACHES 0x700u
#define PWR_CR2 0x40007004u
#define PWR_CR2_IOSV (1u << 9)
#define PWR_CR5 0x40007080u
#define PWR_CR5_R1MODE (1u << 8)
#define RCC_CR 0x40021000u
#define RCC_CFGR 0x40021008u
#define RCC_PLLCFGR 0x4002100Cu
#define RCC_AHB2ENR 0x4002104Cu
#define RCC_APB1ENR1 0x40021058u
#define PWREN (1u << 28)
#define PLLON (1u << 24)
#define PLLRDY (1u << 25)
#define PLL_N (TAPC_CPU_HZ / 2000000u) /* 4 MHz x N / 2 */
#define RESET_HZ 4000000u
#define WAIT_STATES (TAPC_CPU_HZ > 80000000u ? 5u : 4u)
#ifdef TAPC_LPUART
#define BAUD(hz) ((uint32_t)((256ull * (hz) + 57600u) / 115200u))
#else
#define BAUD(hz) (((hz) + 57600u) / 115200u)
#endif

static uint32_t raise_clock(void)
{
    TAPC_REGISTER(RCC_APB1ENR1) |= PWREN;
    if (TAPC_CPU_HZ > 80000000u) {
        TAPC_REGISTER(PWR_CR5) &= ~PWR_CR5_R1MODE;
    }
    TAPC_REGISTER(RCC_PLLCFGR) = 1u | PLL_N << 8 | 1u << 24; /* MSI, N, output R = 2 enabled */
    TAPC_REGISTER(RCC_CR) |= PLLON;
    if (!tapc_wait(RCC_CR, PLLRDY, PLLRDY)) {
        return RESET_HZ;
    }
    TAPC_REGISTER(FLASH_ACR) = FLASH_CACHES | WAIT_STATES;
    (void)tapc_wait(FLASH_ACR, 15u, WAIT_STATES);
    if (TAPC_CPU_HZ > 80000000u) {
        tapc_change(RCC_CFGR, 15u << 4, 8u << 4);
    }
    tapc_change(RCC_CFGR, 3u, 3u);
    const uint32_t switched = tapc_wait(RCC_CFGR, 3u << 2, 3u << 2);
    for (volatile uint32_t i = 0; i < 100; ++i) {
    }
    tapc_change(RCC_CFGR, 15u << 4, 0);
    return switched ? TAPC_CPU_HZ : RESET_HZ;
}

uint32_t tapc_board_init(void)
{
    const uint32_t hertz = raise_clock();
#ifdef TAPC_VDDIO2
    TAPC_REGISTER(PWR_CR2) |= PWR_CR2_IOSV;
#endif
    TAPC_REGISTER(RCC_AHB2ENR) |= 1u << ((TAPC_GPIO >> 10) & 15u);
    TAPC_REGISTER(TAPC_UART_ENABLE) |= 1u << TAPC_UART_BIT;
    tapc_uart_pins(TAPC_GPIO, TAPC_TX, TAPC_RX, TAPC_AF);
    TAPC_REGISTER(USART_BRR) = hertz == TAPC_CPU_HZ ? BAUD(TAPC_CPU_HZ) : BAUD(RESET_HZ);
    TAPC_REGISTER(USART_CR1) = USART_ON;
    return hertz;
}
