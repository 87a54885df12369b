/* Arm's FPGA images: the CMSDK APB UART (Cortex-M System Design Kit, DDI 0479, 4.3). The clocks run when code starts.
 *
 * TAPC_UART: its address; TAPC_UART_HZ: its clock.
 */
#include "support.h"

#define UART_DATA (TAPC_UART + 0x00u)
#define UART_STATE (TAPC_UART + 0x04u)
#define UART_CTRL (TAPC_UART + 0x08u)
#define UART_BAUDDIV (TAPC_UART + 0x10u)
#define TX_FULL 1u
#define RX_FULL 2u

uint32_t tapc_board_init(void)
{
    TAPC_REGISTER(UART_BAUDDIV) = (TAPC_UART_HZ + 57600u) / 115200u;
    TAPC_REGISTER(UART_CTRL) = 3; /* both directions */
    return TAPC_CPU_HZ;
}

void tapc_serial_put(uint32_t byte)
{
    if (tapc_wait(UART_STATE, TX_FULL, 0)) {
        TAPC_REGISTER(UART_DATA) = byte;
    }
}

int32_t tapc_serial_get(void)
{
    return TAPC_REGISTER(UART_STATE) & RX_FULL ? (int32_t)(TAPC_REGISTER(UART_DATA) & 0xFFu) : -1;
}
