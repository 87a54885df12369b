/* Counts cycles: DWT's counter where it moves (Armv7-M Architecture Reference Manual, C1.8.7), else SysTick (B3.3). */
#include "support.h"

#define DEMCR 0xE000EDFCu
#define DEMCR_TRCENA (1u << 24)
#define DWT_CTRL 0xE0001000u
#define DWT_CTRL_CYCCNTENA 1u
#define DWT_CYCCNT 0xE0001004u
#define DWT_LAR 0xE0001FB0u /* locked on the Cortex-M7 after reset; ignores writes on others */
#define DWT_LAR_KEY 0xC5ACCE55u
#define SYST_CSR 0xE000E010u
#define SYST_CSR_RUN 7u /* counts the core's clock, interrupts at zero */
#define SYST_RVR 0xE000E014u
#define SYST_CVR 0xE000E018u
/* Of the 24 bits: an interrupt of some 30 cycles for every 65536. QEMU looks for bytes of some UARTs only when a timer ends. */
#define SYST_BITS 16

static volatile uint32_t wraps;
static uint32_t dwt, last;
static uint64_t total;

void SysTick_Handler(void);
void SysTick_Handler(void)
{
    ++wraps;
}

const char *tapc_cycles_init(void)
{
    wraps = 0;
    total = 0;
    dwt = 0;
#if __ARM_ARCH > 6 /* Armv6-M has no counter in its DWT */
    TAPC_REGISTER(DEMCR) |= DEMCR_TRCENA;
    TAPC_REGISTER(DWT_LAR) = DWT_LAR_KEY;
    TAPC_REGISTER(DWT_CTRL) |= DWT_CTRL_CYCCNTENA;
    last = TAPC_REGISTER(DWT_CYCCNT);
    __asm__ volatile("nop\n\tnop\n\tnop\n\tnop");
    dwt = TAPC_REGISTER(DWT_CYCCNT) != last;
    if (dwt) {
        return "dwt";
    }
#endif
    TAPC_REGISTER(SYST_RVR) = (1u << SYST_BITS) - 1;
    TAPC_REGISTER(SYST_CVR) = 0;
    TAPC_REGISTER(SYST_CSR) = SYST_CSR_RUN;
    return "systick";
}

uint64_t tapc_cycles(void)
{
    if (dwt) {
        const uint32_t now = TAPC_REGISTER(DWT_CYCCNT);
        total += now - last;
        last = now;
        return total;
    }
    uint32_t before, left;
    do {
        before = wraps;
        left = TAPC_REGISTER(SYST_CVR);
    } while (before != wraps);
    return ((uint64_t)before << SYST_BITS) + ((1u << SYST_BITS) - 1 - left);
}
