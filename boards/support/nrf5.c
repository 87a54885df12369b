/* Nordic nRF51 and nRF52: crystal, flash cache, the UART without DMA that both have.
 *
 * Registers: nRF51 Reference Manual 3.0, chapters 12 (CLOCK), 14 (GPIO), 29 (UART); nRF52840 Product Specification 1.7,
 * 4.4.6.4 (ICACHECNF), 5.4 (CLOCK), 6.9 (GPIO), 6.33 (UART). The core's clock is fixed: the crystal makes it exact.
 *
 * TAPC_TX, TAPC_RX: pins, those of port 1 from 32 on. TAPC_ICACHE: the chip has a flash cache.
 */
#include "support.h"

#define CLOCK_TASKS_HFCLKSTART 0x40000000u
#define CLOCK_EVENTS_HFCLKSTARTED 0x40000100u
#define GPIO(pin) (0x50000000u + 0x300u * ((pin) / 32u))
#define GPIO_OUTSET (GPIO(TAPC_TX) + 0x508u)
#define GPIO_DIRSET (GPIO(TAPC_TX) + 0x518u)
#define NVMC_ICACHECNF 0x4001E540u
#define UART_TASKS_STARTRX 0x40002000u
#define UART_TASKS_STARTTX 0x40002008u
#define UART_EVENTS_RXDRDY 0x40002108u
#define UART_EVENTS_TXDRDY 0x4000211Cu
#define UART_ENABLE 0x40002500u
#define UART_ENABLED 4u
#define UART_PSELTXD 0x4000250Cu
#define UART_PSELRXD 0x40002514u
#define UART_RXD 0x40002518u
#define UART_TXD 0x4000251Cu
#define UART_BAUDRATE 0x40002524u
#define UART_115200 0x01D7E000u

uint32_t tapc_board_init(void)
{
    TAPC_REGISTER(CLOCK_EVENTS_HFCLKSTARTED) = 0;
    TAPC_REGISTER(CLOCK_TASKS_HFCLKSTART) = 1;
    (void)tapc_wait(CLOCK_EVENTS_HFCLKSTARTED, 1, 1);
#ifdef TAPC_ICACHE
    TAPC_REGISTER(NVMC_ICACHECNF) = 1;
#endif
    TAPC_REGISTER(GPIO_OUTSET) = 1u << TAPC_TX % 32u; /* the line rests high */
    TAPC_REGISTER(GPIO_DIRSET) = 1u << TAPC_TX % 32u;
    TAPC_REGISTER(UART_PSELTXD) = TAPC_TX;
    TAPC_REGISTER(UART_PSELRXD) = TAPC_RX;
    TAPC_REGISTER(UART_BAUDRATE) = UART_115200;
    TAPC_REGISTER(UART_ENABLE) = UART_ENABLED;
    TAPC_REGISTER(UART_TASKS_STARTTX) = 1;
    TAPC_REGISTER(UART_TASKS_STARTRX) = 1;
    return TAPC_CPU_HZ;
}

void tapc_serial_put(uint32_t byte)
{
    TAPC_REGISTER(UART_EVENTS_TXDRDY) = 0;
    TAPC_REGISTER(UART_TXD) = byte;
    (void)tapc_wait(UART_EVENTS_TXDRDY, 1, 1);
}

int32_t tapc_serial_get(void)
{
    if (TAPC_REGISTER(UART_EVENTS_RXDRDY) == 0) {
        return -1;
    }
    TAPC_REGISTER(UART_EVENTS_RXDRDY) = 0;
    return (int32_t)(TAPC_REGISTER(UART_RXD) & 0xFFu);
}
