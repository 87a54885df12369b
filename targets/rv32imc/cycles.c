/* Counts cycles: mcycle, of 64 bits (RISC-V Privileged Architecture 1.10, 3.1.15).
 *
 * TAPC_MPCCR: Espressif's own counter instead, of 32 bits (ESP32-C3 Technical Reference Manual, performance counter).
 */
#include "support.h"

#ifdef TAPC_MPCCR
static uint32_t last;
static uint64_t total;

static uint32_t counted(void)
{
    uint32_t now;
    __asm__ volatile(".option push\n\t.option arch, +zicsr\n\tcsrr %0, 0x7E2\n\t.option pop" : "=r"(now));
    return now;
}

const char *tapc_cycles_init(void)
{
    /* mpcer: cycles; mpcmr: on */
    __asm__ volatile(".option push\n\t.option arch, +zicsr\n\tcsrwi 0x7E0, 1\n\tcsrwi 0x7E1, 1\n\t.option pop");
    total = 0;
    last = counted();
    return "mpccr";
}

uint64_t tapc_cycles(void)
{
    const uint32_t now = counted();
    total += now - last;
    last = now;
    return total;
}
#else
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
#endif
