/* Nordic nRF5340, application core: 128 MHz, flash cache, a UART with DMA that moves one byte at a time.
 *
 * Registers: nRF5340 Product Specification 1.3.1, 4.11 (CLOCK), 7.6 (CACHE), 7.12 (CTRL-AP), 7.17 (GPIO), 7.35 (UARTE), at
 * their secure addresses: start-up runs secure. Raising the clock takes three registers more: nRF5340 Errata, anomaly 4,
 * as Nordic's own driver does it.
 *
 * TAPC_TX, TAPC_RX: pins of port 0.
 */
#include "support.h"

#define CACHE_ENABLE 0x50001500u
#define CLOCK_TASKS_HFCLKSTART 0x50005000u
#define CLOCK_EVENTS_HFCLKSTARTED 0x50005100u
#define CLOCK_HFCLKCTRL 0x50005558u
#define HFCLKCTRL_BY_1 0u
#define APPROTECT_DISABLE 0x50006544u
#define SECUREAPPROTECT_DISABLE 0x5000654Cu
#define DISABLED 0x50FA50FAu
#define GPIO_OUTSET 0x50842508u
#define GPIO_DIRSET 0x50842518u
#define UARTE_TASKS_STARTRX 0x50008000u
#define UARTE_TASKS_STARTTX 0x50008008u
#define UARTE_EVENTS_ENDRX 0x50008110u
#define UARTE_EVENTS_ENDTX 0x50008120u
#define UARTE_ENABLE 0x50008500u
#define UARTE_ENABLED 8u
#define UARTE_PSELTXD 0x5000850Cu
#define UARTE_PSELRXD 0x50008514u
#define UARTE_BAUDRATE 0x50008524u
#define UARTE_115200 0x01D60000u
#define UARTE_RXDPTR 0x50008534u
#define UARTE_RXDMAXCNT 0x50008538u
#define UARTE_TXDPTR 0x50008544u
#define UARTE_TXDMAXCNT 0x50008548u

static volatile uint8_t sent, received; /* the DMA reaches RAM alone */

uint32_t tapc_board_init(void)
{
    /* Where the user's configuration leaves the debugger in, the firmware has to as well, after every reset. */
    TAPC_REGISTER(APPROTECT_DISABLE) = DISABLED;
    TAPC_REGISTER(SECUREAPPROTECT_DISABLE) = DISABLED;
    TAPC_REGISTER(CLOCK_EVENTS_HFCLKSTARTED) = 0;
    TAPC_REGISTER(CLOCK_TASKS_HFCLKSTART) = 1; /* the crystal */
    (void)tapc_wait(CLOCK_EVENTS_HFCLKSTARTED, 1, 1);
    TAPC_REGISTER(0x5084450Cu) = 0x4040u;
    TAPC_REGISTER(0x50026548u) = 0x40u;
    TAPC_REGISTER(0x50081EE4u) = 0x4Du;
    TAPC_REGISTER(CLOCK_HFCLKCTRL) = HFCLKCTRL_BY_1;
    TAPC_REGISTER(CACHE_ENABLE) = 1;
    TAPC_REGISTER(GPIO_OUTSET) = 1u << TAPC_TX; /* the line rests high */
    TAPC_REGISTER(GPIO_DIRSET) = 1u << TAPC_TX;
    TAPC_REGISTER(UARTE_PSELTXD) = TAPC_TX;
    TAPC_REGISTER(UARTE_PSELRXD) = TAPC_RX;
    TAPC_REGISTER(UARTE_BAUDRATE) = UARTE_115200;
    TAPC_REGISTER(UARTE_TXDPTR) = (uint32_t)(uintptr_t)&sent;
    TAPC_REGISTER(UARTE_TXDMAXCNT) = 1;
    TAPC_REGISTER(UARTE_RXDPTR) = (uint32_t)(uintptr_t)&received;
    TAPC_REGISTER(UARTE_RXDMAXCNT) = 1;
    TAPC_REGISTER(UARTE_ENABLE) = UARTE_ENABLED;
    TAPC_REGISTER(UARTE_TASKS_STARTRX) = 1;
    return TAPC_CPU_HZ;
}

void tapc_serial_put(uint32_t byte)
{
    sent = (uint8_t)byte;
    TAPC_REGISTER(UARTE_EVENTS_ENDTX) = 0;
    TAPC_REGISTER(UARTE_TASKS_STARTTX) = 1;
    (void)tapc_wait(UARTE_EVENTS_ENDTX, 1, 1);
}

int32_t tapc_serial_get(void)
{
    if (TAPC_REGISTER(UARTE_EVENTS_ENDRX) == 0) {
        return -1;
    }
    const int32_t byte = received;
    TAPC_REGISTER(UARTE_EVENTS_ENDRX) = 0;
    TAPC_REGISTER(UARTE_TASKS_STARTRX) = 1; /* what comes meanwhile waits in the UART */
    return byte;
}
