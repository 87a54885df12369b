/* STM32U5: PLL1 from the 4 MHz MSIS, regulator range 1 with its booster, flash wait states, instruction cache, a USART.
 *
 * Registers: RM0456, chapters FLASH, PWR, RCC, ICACHE, at the addresses of a chip whose TrustZone is off (TZEN = 0, as
 * delivered). OpenOCD's target/stm32u5x.cfg raises the clock by the same steps.
 *
 * TAPC_USART; TAPC_UART_ENABLE, TAPC_UART_BIT: its clock's register and bit; TAPC_GPIO, TAPC_TX, TAPC_RX, TAPC_AF.
 */
#include "stm32_gpio.h"
#include "stm32_usart.h"

#define FLASH_ACR 0x40022000u
#define FLASH_PREFETCH (1u << 8)
#define WAIT_STATES 4u /* range 1, up to 160 MHz */
#define ICACHE_CR 0x40030400u
#define ICACHE_SR 0x40030404u
#define PWR_VOSR 0x4602080Cu
#define BOOST_READY (1u << 14)
#define VOS_READY (1u << 15)
#define VOS_RANGE_1 (3u << 16)
#define BOOST (1u << 18)
#define RCC_CR 0x46020C00u
#define RCC_CFGR1 0x46020C1Cu
#define RCC_PLL1CFGR 0x46020C28u
#define RCC_PLL1DIVR 0x46020C34u
#define RCC_AHB2ENR1 0x46020C8Cu
#define RCC_AHB3ENR 0x46020C94u
#define PWREN (1u << 2)
#define PLL1ON (1u << 24)
#define PLL1RDY (1u << 25)
#define PLL_N (TAPC_CPU_HZ / 2000000u) /* 4 MHz x N / 2 */
#define RESET_HZ 4000000u
#define BAUD(hz) (((hz) + 57600u) / 115200u)

static uint32_t raise_clock(void)
{
    TAPC_REGISTER(RCC_AHB3ENR) |= PWREN;
    (void)TAPC_REGISTER(RCC_AHB3ENR);
    TAPC_REGISTER(PWR_VOSR) |= VOS_RANGE_1;
    if (!tapc_wait(PWR_VOSR, VOS_READY, VOS_READY)) {
        return RESET_HZ;
    }
    TAPC_REGISTER(RCC_PLL1CFGR) = 1u | 1u << 18; /* MSIS, undivided, 4 to 8 MHz in; output R on */
    TAPC_REGISTER(PWR_VOSR) |= BOOST;
    if (!tapc_wait(PWR_VOSR, BOOST_READY, BOOST_READY)) {
        return RESET_HZ;
    }
    TAPC_REGISTER(RCC_PLL1DIVR) = (PLL_N - 1u) | 1u << 9 | 1u << 16 | 1u << 24; /* each output / 2 */
    TAPC_REGISTER(RCC_CR) |= PLL1ON;
    if (!tapc_wait(RCC_CR, PLL1RDY, PLL1RDY)) {
        return RESET_HZ;
    }
    TAPC_REGISTER(FLASH_ACR) = FLASH_PREFETCH | WAIT_STATES;
    (void)tapc_wait(FLASH_ACR, 15u, WAIT_STATES);
    tapc_change(RCC_CFGR1, 3u, 3u);
    return tapc_wait(RCC_CFGR1, 3u << 2, 3u << 2) ? TAPC_CPU_HZ : RESET_HZ;
}

uint32_t tapc_board_init(void)
{
    const uint32_t hertz = raise_clock();
    (void)tapc_wait(ICACHE_SR, 1u, 0); /* it is emptied after reset */
    TAPC_REGISTER(ICACHE_CR) |= 1u;
    TAPC_REGISTER(RCC_AHB2ENR1) |= 1u << ((TAPC_GPIO >> 10) & 15u);
    TAPC_REGISTER(TAPC_UART_ENABLE) |= 1u << TAPC_UART_BIT;
    tapc_uart_pins(TAPC_GPIO, TAPC_TX, TAPC_RX, TAPC_AF);
    TAPC_REGISTER(USART_BRR) = hertz == TAPC_CPU_HZ ? BAUD(TAPC_CPU_HZ) : BAUD(RESET_HZ);
    TAPC_REGISTER(USART_CR1) = USART_ON;
    return hertz;
}
