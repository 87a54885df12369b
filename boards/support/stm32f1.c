/* STM32F1: PLL from the crystal, flash wait states and prefetch, a USART.
 *
 * Registers: RM0008 (F103), 3.3.3 (FLASH_ACR), 7.3 (RCC), 9.2 (GPIO), 27.6 (USART); RM0041 (F100), the same chapters.
 *
 * TAPC_HSE_HZ, TAPC_HSE_BYPASS; TAPC_APB1_DIVIDER: 1 or 2; TAPC_USART, TAPC_UART_ENABLE, TAPC_UART_BIT;
 * TAPC_UART_DIVIDER: of the core's clock for the USART's bus; TAPC_GPIO, TAPC_TX, TAPC_RX.
 */
#include "stm32_usart_v1.h"

#define FLASH_ACR 0x40022000u
#define FLASH_PREFETCH (1u << 4)
#define FLASH_WAIT_STATES ((TAPC_CPU_HZ - 1u) / 24000000u)
#define RCC_CR 0x40021000u
#define RCC_CFGR 0x40021004u
#define RCC_APB2ENR 0x40021018u
#define HSEON (1u << 16)
#define HSERDY (1u << 17)
#define HSEBYP (1u << 18)
#define PLLON (1u << 24)
#define PLLRDY (1u << 25)
#define PLL_FROM_HSE (1u << 16)
#define PLL_TIMES (TAPC_CPU_HZ / TAPC_HSE_HZ - 2u)
#define APB1_SETTING (TAPC_APB1_DIVIDER == 2u ? 4u : 0u)
#define RESET_HZ 8000000u
#define GPIO_CR(pin) (TAPC_GPIO + 4u * ((pin) / 8u))
#define GPIO_SHIFT(pin) (4u * ((pin) % 8u))
#define GPIO_BSRR (TAPC_GPIO + 0x10u)
#define PIN_FUNCTION 9u /* push-pull, 10 MHz, given to a peripheral */
#define PIN_PULLED 8u   /* input, pulled to what the output register says */

static uint32_t raise_clock(void)
{
#ifdef TAPC_HSE_BYPASS
    TAPC_REGISTER(RCC_CR) |= HSEBYP;
#endif
    TAPC_REGISTER(RCC_CR) |= HSEON;
    if (!tapc_wait(RCC_CR, HSERDY, HSERDY)) {
        return RESET_HZ;
    }
    TAPC_REGISTER(RCC_CFGR) = PLL_FROM_HSE | PLL_TIMES << 18 | APB1_SETTING << 8;
    TAPC_REGISTER(RCC_CR) |= PLLON;
    if (!tapc_wait(RCC_CR, PLLRDY, PLLRDY)) {
        return RESET_HZ;
    }
    TAPC_REGISTER(FLASH_ACR) = FLASH_PREFETCH | FLASH_WAIT_STATES;
    TAPC_REGISTER(RCC_CFGR) |= 2u;
    return tapc_wait(RCC_CFGR, 3u << 2, 2u << 2) ? TAPC_CPU_HZ : RESET_HZ;
}

uint32_t tapc_board_init(void)
{
    const uint32_t hertz = raise_clock();
    TAPC_REGISTER(RCC_APB2ENR) |= 1u | 4u << ((TAPC_GPIO - 0x40010800u) >> 10); /* functions of pins; the port */
    TAPC_REGISTER(TAPC_UART_ENABLE) |= 1u << TAPC_UART_BIT;
    TAPC_REGISTER(GPIO_BSRR) = 1u << TAPC_RX;
    tapc_change(GPIO_CR(TAPC_TX), 15u << GPIO_SHIFT(TAPC_TX), PIN_FUNCTION << GPIO_SHIFT(TAPC_TX));
    tapc_change(GPIO_CR(TAPC_RX), 15u << GPIO_SHIFT(TAPC_RX), PIN_PULLED << GPIO_SHIFT(TAPC_RX));
    TAPC_REGISTER(USART_BRR) = hertz == TAPC_CPU_HZ ? BAUD(TAPC_CPU_HZ / TAPC_UART_DIVIDER) : BAUD(RESET_HZ);
    TAPC_REGISTER(USART_CR1) = USART_ON;
    return hertz;
}
