/* Caches of the Cortex-M55, and its memory of low-overhead loops: off, but invalidated by the core itself, after reset. */
#include <stdint.h>

#define SCB_CCR (*(volatile uint32_t *)0xE000ED14u)

#define CCR_DC (1u << 16)
#define CCR_IC (1u << 17)
#define CCR_LOB (1u << 19)

void tapc_core_init(void);
void tapc_core_init(void)
{
    __asm__ volatile("dsb\n\tisb" ::: "memory");
    SCB_CCR |= CCR_IC | CCR_DC | CCR_LOB;
    __asm__ volatile("dsb\n\tisb" ::: "memory");
}
