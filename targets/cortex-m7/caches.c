/* Instruction and data cache of the Cortex-M7: both are off and hold rubbish after reset. */
#include <stdint.h>

#define SCB_CCR (*(volatile uint32_t *)0xE000ED14u)
#define SCB_CCSIDR (*(volatile uint32_t *)0xE000ED80u)
#define SCB_CSSELR (*(volatile uint32_t *)0xE000ED84u)
#define SCB_ICIALLU (*(volatile uint32_t *)0xE000EF50u)
#define SCB_DCISW (*(volatile uint32_t *)0xE000EF60u)

#define CCR_DC (1u << 16)
#define CCR_IC (1u << 17)

static void barrier(void)
{
    __asm__ volatile("dsb\n\tisb" ::: "memory");
}

void tapc_core_init(void);
void tapc_core_init(void)
{
    barrier();
    SCB_ICIALLU = 0;
    barrier();
    SCB_CCR |= CCR_IC;
    barrier();

    SCB_CSSELR = 0; /* level 1 data cache */
    barrier();
    const uint32_t geometry = SCB_CCSIDR;
    const uint32_t last_set = (geometry >> 13) & 0x7FFFu;
    const uint32_t last_way = (geometry >> 3) & 0x3FFu;
    for (uint32_t set = 0; set <= last_set; ++set) {
        for (uint32_t way = 0; way <= last_way; ++way) {
            SCB_DCISW = (way << 30) | (set << 5);
        }
    }
    barrier();
    SCB_CCR |= CCR_DC;
    barrier();
}
