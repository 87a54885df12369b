/* Pins of STM32 chips with a MODER register (RM0090 8.4, RM0432 8.4, RM0399 12.4): the same block in all. */
#ifndef TAPC_STM32_GPIO_H
#define TAPC_STM32_GPIO_H

#include "support.h"

#define GPIO_MODER 0x00u
#define GPIO_OSPEEDR 0x08u
#define GPIO_PUPDR 0x0Cu
#define GPIO_AFR 0x20u

/* Gives a pin of the port at `port` to a peripheral; `speed` 0 to 3. */
static __attribute__((noinline)) void tapc_pin(uint32_t port, uint32_t pin, uint32_t function, uint32_t speed)
{
    tapc_change(port + GPIO_AFR + 4 * (pin / 8), 15u << (4 * (pin % 8)), function << (4 * (pin % 8)));
    tapc_change(port + GPIO_OSPEEDR, 3u << (2 * pin), speed << (2 * pin));
    tapc_change(port + GPIO_MODER, 3u << (2 * pin), 2u << (2 * pin));
}

/* UART pins: the receiving one is pulled up, so that an open line is silent. */
static inline void tapc_uart_pins(uint32_t port, uint32_t tx, uint32_t rx, uint32_t function)
{
    tapc_pin(port, tx, function, 1);
    tapc_pin(port, rx, function, 1);
    tapc_change(port + GPIO_PUPDR, 3u << (2 * rx), 1u << (2 * rx));
}

#endif
