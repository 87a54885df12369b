/* Start-up of 32-bit RISC-V in machine mode: registers, traps, C environment, stack canary. */
#include <stdint.h>

#define STACK_CANARY 0xA5A5A5A5u

extern uint32_t tapc_data_load[], tapc_data_start[], tapc_data_end[];
extern uint32_t tapc_bss_start[], tapc_bss_end[];
extern uint32_t tapc_stack_limit[], tapc_stack_top[];
extern const uint32_t tapc_copies_start[], tapc_copies_end[];

int main(void);
void Reset_Handler(void);
void Default_Handler(void);
void tapc_start(void) __attribute__((noreturn));

void Default_Handler(void)
{
    for (;;) {
    }
}

/* The name that it has on other cores: what the firmware does where it can go on no more. */
void HardFault_Handler(void) __attribute__((weak, alias("Default_Handler")));

#ifdef TAPC_BOOT_ESP32C3 /* its traps are vectored: exceptions go to the table's first entry. It has no register mie. */
#define TRAP_ALIGNED 256
#define NO_INTERRUPTS "csrci mstatus, 8\n\t"
#else
#define TRAP_ALIGNED 4
#define NO_INTERRUPTS "csrw mie, zero\n\t"
#endif

/* A trap's address has two bits for its mode. */
__attribute__((naked, aligned(TRAP_ALIGNED))) static void trap(void)
{
    __asm__ volatile("tail HardFault_Handler");
}

/* First in the image. Thread-local variables (the C library's errno) stand at the start of what is zeroed. */
__attribute__((section(".vectors"), naked, used)) void Reset_Handler(void)
{
    __asm__ volatile(".option push\n\t"
                     ".option norelax\n\t"
                     "la gp, __global_pointer$\n\t"
                     ".option pop\n\t"
                     "la sp, tapc_stack_top\n\t"
                     "la tp, tapc_bss_start\n\t"
                     "j tapc_start");
}

__attribute__((used)) void tapc_start(void)
{
    __asm__ volatile(".option push\n\t"
                     ".option arch, +zicsr\n\t"
                     NO_INTERRUPTS
                     "csrw mtvec, %0\n\t"
                     ".option pop"
                     :
                     : "r"(trap)
                     : "memory");
    /* volatile: a loop turned into a call of memset would overwrite its own frame */
    volatile uint32_t *stack_pointer;
    __asm__ volatile("mv %0, sp" : "=r"(stack_pointer));
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
    __asm__ volatile(".option push\n\t.option arch, +zifencei\n\tfence.i\n\t.option pop" ::: "memory");
#endif
    (void)main();
    for (;;) {
    }
}
