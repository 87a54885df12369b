/* Counts cycles: mcycle, of 64 bits (RISC-V Privileged Architecture 1.10, 3.1.15). */
#include "support.h"

const char *tapc_cycles_init(void)
{
    return "mcycle";
}

uint64_t tapc_cycles(void)
{
    uint32_t high, low, again;
    do {
        __asm__ volatile(".option push\n\t"
                         ".option arch, +zicsr\n\t"
                         "csrr %0, mcycleh\n\t"
                         "csrr %1, mcycle\n\t"
                         "csrr %2, mcycleh\n\t"
                         ".option pop"
                         : "=r"(high), "=r"(low), "=r"(again));
    } while (high != again);
    return (uint64_t)high << 32 | low;
}
