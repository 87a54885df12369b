/* The USART of older STM32 chips (RM0008 27.6, RM0090 30.6). TAPC_USART: its address. */
#ifndef TAPC_STM32_USART_V1_H
#define TAPC_STM32_USART_V1_H

#include "support.h"

#define USART_SR (TAPC_USART + 0x00u)
#define USART_DR (TAPC_USART + 0x04u)
#define USART_BRR (TAPC_USART + 0x08u)
#define USART_CR1 (TAPC_USART + 0x0Cu)
#define USART_ON 0x200Cu /* UE, TE, RE */
#define USART_RXNE (1u << 5)
#define USART_TXE (1u << 7)
#define BAUD(hz) (((hz) + 57600u) / 115200u)

void tapc_serial_put(uint32_t byte)
{
    if (tapc_wait(USART_SR, USART_TXE, USART_TXE)) {
        TAPC_REGISTER(USART_DR) = byte;
    }
}

int32_t tapc_serial_get(void)
{
    /* Reading the status and then the data clears an overrun, too. */
    return TAPC_REGISTER(USART_SR) & USART_RXNE ? (int32_t)(TAPC_REGISTER(USART_DR) & 0xFFu) : -1;
}

#endif
