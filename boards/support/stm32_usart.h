/* The USART and LPUART of newer STM32 chips (RM0432 49.8, RM0399 51.8). TAPC_USART: its address. */
#ifndef TAPC_STM32_USART_H
#define TAPC_STM32_USART_H

#include "support.h"

#define USART_CR1 (TAPC_USART + 0x00u)
#define USART_BRR (TAPC_USART + 0x0Cu)
#define USART_ISR (TAPC_USART + 0x1Cu)
#define USART_ICR (TAPC_USART + 0x20u)
#define USART_RDR (TAPC_USART + 0x24u)
#define USART_TDR (TAPC_USART + 0x28u)
#define USART_ON 0xDu /* UE, RE, TE */
#define USART_ERRORS 0xFu /* parity, framing, noise, overrun: each stops nothing once it is cleared */
#define USART_RXNE (1u << 5)
#define USART_TXE (1u << 7)

void tapc_serial_put(uint32_t byte)
{
    if (tapc_wait(USART_ISR, USART_TXE, USART_TXE)) {
        TAPC_REGISTER(USART_TDR) = byte;
    }
}

int32_t tapc_serial_get(void)
{
    const uint32_t status = TAPC_REGISTER(USART_ISR);
    if (status & USART_ERRORS) {
        TAPC_REGISTER(USART_ICR) = USART_ERRORS;
    }
    return status & USART_RXNE ? (int32_t)(TAPC_REGISTER(USART_RDR) & 0xFFu) : -1;
}

#endif
