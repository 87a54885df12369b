/* Start-up shared by all cores: vector table, C environment, stack canary. */
#include <stdint.h>

#define STACK_CANARY 0xA5A5A5A5u
#define SCB_VTOR (*(volatile uint32_t *)0xE000ED08u)
#define SCB_CPACR (*(volatile uint32_t *)0xE000ED88u)

extern uint32_t tapc_data_load[], tapc_data_start[], tapc_data_end[];
extern uint32_t tapc_bss_start[], tapc_bss_end[];
extern uint32_t tapc_stack_limit[], tapc_stack_top[];
extern const uint32_t tapc_copies_start[], tapc_copies_end[];
extern const uintptr_t tapc_vectors[16];

int main(void);
void Reset_Handler(void) __attribute__((noreturn));
void Default_Handler(void);

void Default_Handler(void)
{
    for (;;) {
    }
}

void NMI_Handler(void) __attribute__((weak, alias("Default_Handler")));
void HardFault_Handler(void) __attribute__((weak, alias("Default_Handler")));
void MemManage_Handler(void) __attribute__((weak, alias("Default_Handler")));
void BusFault_Handler(void) __attribute__((weak, alias("Default_Handler")));
void UsageFault_Handler(void) __attribute__((weak, alias("Default_Handler")));
void SVC_Handler(void) __attribute__((weak, alias("Default_Handler")));
void DebugMon_Handler(void) __attribute__((weak, alias("Default_Handler")));
void PendSV_Handler(void) __attribute__((weak, alias("Default_Handler")));
void SysTick_Handler(void) __attribute__((weak, alias("Default_Handler")));

/* What a core needs beyond this file (caches) overrides this. */
void tapc_core_init(void);
__attribute__((weak)) void tapc_core_init(void)
{
}

/* newlib's mathematics stores errno; its own definition would drag in 1 KiB of reentrancy data. */
int *__errno(void);
int *__errno(void)
{
    static int value;
    return &value;
}

__attribute__((section(".vectors"), used)) const uintptr_t tapc_vectors[16] = {
    (uintptr_t)tapc_stack_top,
    (uintptr_t)Reset_Handler,
    (uintptr_t)NMI_Handler,
    (uintptr_t)HardFault_Handler,
    (uintptr_t)MemManage_Handler,
    (uintptr_t)BusFault_Handler,
    (uintptr_t)UsageFault_Handler,
    0,
    0,
    0,
    0,
    (uintptr_t)SVC_Handler,
    (uintptr_t)DebugMon_Handler,
    0,
    (uintptr_t)PendSV_Handler,
    (uintptr_t)SysTick_Handler,
};

void Reset_Handler(void)
{
    SCB_VTOR = (uint32_t)(uintptr_t)tapc_vectors;
#if defined(__ARM_FP)
    SCB_CPACR |= 0xFu << 20; /* full access to CP10 and CP11 */
    __asm__ volatile("dsb\n\tisb" ::: "memory");
#endif
    /* volatile: a loop turned into a call of memset would overwrite its own frame */
    volatile uint32_t *stack_pointer;
    __asm__ volatile("mov %0, sp" : "=r"(stack_pointer));
    for (volatile uint32_t *word = tapc_stack_limit; word < stack_pointer; ++word) {
        *word = STACK_CANARY;
    }
    const volatile uint32_t *source = tapc_data_load;
    for (volatile uint32_t *word = tapc_data_start; word < tapc_data_end; ++word) {
        *word = *source++;
    }
    for (volatile uint32_t *word = tapc_bss_start; word < tapc_bss_end; ++word) {
        *word = 0;
    }
#ifdef TAPC_COPIES
    /* Hot code and constants, to memories where they are read faster: from, to, end. */
    for (const uint32_t *copy = tapc_copies_start; copy < tapc_copies_end; copy += 3) {
        const volatile uint32_t *from = (const volatile uint32_t *)(uintptr_t)copy[0];
        for (uintptr_t to = copy[1]; to < copy[2]; to += 4) {
            *(volatile uint32_t *)to = *from++;
        }
    }
    __asm__ volatile("dsb\n\tisb" ::: "memory");
#endif
    tapc_core_init();
    (void)main();
    for (;;) {
    }
}
