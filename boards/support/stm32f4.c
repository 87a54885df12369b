/* STM32F4: PLL from the crystal, flash wait states, prefetch and caches, a USART of the older kind.
 *
 * Registers: RM0090 (F405) and RM0390 (F446), chapters FLASH, PWR, RCC, USART.
 *
 * TAPC_HSE_HZ, TAPC_HSE_BYPASS; TAPC_WAIT_STATES; TAPC_OVERDRIVE: above 168 MHz (F446); TAPC_USART, TAPC_UART_ENABLE,
 * TAPC_UART_BIT; TAPC_UART_DIVIDER: of the core's clock for the USART's bus; TAPC_GPIO, TAPC_TX, TAPC_RX, TAPC_AF.
 */
#include "stm32_gpio.h"
#include "stm32_usart_v1.h"

#define FLASH_ACR 0x40023C00u
#define FLASH_CACHES 0x700u
#define PWR_CR 0x40007000u
#define PWR_CSR 0x40007004u
#define RCC_CR 0x40023800u
#define RCC_PLLCFGR 0x40023804u
#define RCC_CFGR 0x40023808u
#define RCC_AHB1ENR 0x40023830u
#define RCC_APB1ENR 0x40023840u
#define PWREN (1u << 28)
#define HSEON (1u << 16)
#define HSERDY (1u << 17)
#define HSEBYP (1u << 18)
#define PLLON (1u << 24)
#define PLLRDY (1u << 25)
#define RESET_HZ 16000000u

static uint32_t raise_clock(void)
{
    TAPC_REGISTER(RCC_APB1ENR) |= PWREN;
    TAPC_REGISTER(PWR_CR) |= 3u << 14; /* voltage scale 1 */
#ifdef TAPC_HSE_BYPASS
    TAPC_REGISTER(RCC_CR) |= HSEBYP;
#endif
    TAPC_REGISTER(RCC_CR) |= HSEON;
    if (!tapc_wait(RCC_CR, HSERDY, HSERDY)) {
        return RESET_HZ;
    }
    /* 1 MHz x N / 2; Q gives the 48 MHz that nothing here uses. */
    TAPC_REGISTER(RCC_PLLCFGR) = TAPC_HSE_HZ / 1000000u | (TAPC_CPU_HZ / 500000u) << 6 | 1u << 22 | 8u << 24 | 2u << 28;
    TAPC_REGISTER(RCC_CR) |= PLLON;
#ifdef TAPC_OVERDRIVE
    TAPC_REGISTER(PWR_CR) |= 1u << 16;
    (void)tapc_wait(PWR_CSR, 1u << 16, 1u << 16);
    TAPC_REGISTER(PWR_CR) |= 1u << 17;
    (void)tapc_wait(PWR_CSR, 1u << 17, 1u << 17);
#endif
    if (!tapc_wait(RCC_CR, PLLRDY, PLLRDY)) {
        return RESET_HZ;
    }
    TAPC_REGISTER(FLASH_ACR) = FLASH_CACHES | TAPC_WAIT_STATES;
    (void)tapc_wait(FLASH_ACR, 15u, TAPC_WAIT_STATES);
    tapc_change(RCC_CFGR, 0xFCF3u, 5u << 10 | 4u << 13 | 2u); /* APB1 / 4, APB2 / 2, PLL */
    return tapc_wait(RCC_CFGR, 3u << 2, 2u << 2) ? TAPC_CPU_HZ : RESET_HZ;
}

uint32_t tapc_board_init(void)
{
    const uint32_t hertz = raise_clock();
    TAPC_REGISTER(RCC_AHB1ENR) |= 1u << ((TAPC_GPIO >> 10) & 15u);
    TAPC_REGISTER(TAPC_UART_ENABLE) |= 1u << TAPC_UART_BIT;
    tapc_uart_pins(TAPC_GPIO, TAPC_TX, TAPC_RX, TAPC_AF);
    TAPC_REGISTER(USART_BRR) = hertz == TAPC_CPU_HZ ? BAUD(TAPC_CPU_HZ / TAPC_UART_DIVIDER) : BAUD(RESET_HZ);
    TAPC_REGISTER(USART_CR1) = USART_ON;
    return hertz;
}
