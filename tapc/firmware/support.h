/* What a board's support (boards/support/) and a core's (targets/common/cycles.c) give the firmware's main. */
#ifndef TAPC_SUPPORT_H
#define TAPC_SUPPORT_H

#include <stdint.h>

#define TAPC_REGISTER(address) (*(volatile uint32_t *)(address))

/* Polls of a flag that may never come: the hardware is broken, absent or not modelled by a simulator. */
#define TAPC_POLLS 100000u

/* Waits until `address` & `mask` is `value`; 0 where it does not happen. */
static __attribute__((noinline, unused)) uint32_t tapc_wait(uint32_t address, uint32_t mask, uint32_t value)
{
    for (uint32_t poll = 0; poll < TAPC_POLLS; ++poll) {
        if ((TAPC_REGISTER(address) & mask) == value) {
            return 1;
        }
    }
    return 0;
}

/* Clears `mask` in a register and sets `value`. */
static __attribute__((noinline, unused)) void tapc_change(uint32_t address, uint32_t mask, uint32_t value)
{
    TAPC_REGISTER(address) = (TAPC_REGISTER(address) & ~mask) | value;
}

/* Raises the clock, brings up external memories and the UART. Every wait is bounded. Returns the core's clock in Hz. */
uint32_t tapc_board_init(void);

/* Sends a byte; drops it where the UART does not take it. */
void tapc_serial_put(uint32_t byte);

/* Returns the next byte, or -1 where none has come. */
int32_t tapc_serial_get(void);

/* Starts the cycle counter and returns its name: "dwt", "systick", "mcycle". */
const char *tapc_cycles_init(void);

/* Cycles of the core's clock since then; to be called at least every 2^32 of them. */
uint64_t tapc_cycles(void);

#endif
