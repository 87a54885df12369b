/* What the twin's main needs of an Arm core. */
#ifndef TAPC_TWIN_ARM_H
#define TAPC_TWIN_ARM_H

#include <stdint.h>

#define FAULT_CAUSE "CFSR"
#define SCB_CCR (*(volatile uint32_t *)0xE000ED14u)

/* Arm's semihosting, as of its specification 2.0. */
static uint32_t semihost(uint32_t operation, uint32_t argument)
{
    register uint32_t r0 __asm__("r0") = operation;
    register uint32_t r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

static inline void trap_unaligned(void)
{
    SCB_CCR |= 1u << 3;
}

__asm__(".syntax unified\n"
        ".section .text.tapc_mark, \"ax\", %progbits\n"
        ".thumb\n"
        ".balign 4\n"
        ".global tapc_mark\n.type tapc_mark, %function\n.thumb_func\n"
        "tapc_mark:\n"
        "    push {r4, lr}\n"
        "    bl tapc_after_step\n"
        ".global tapc_mark_end\n.type tapc_mark_end, %function\n.thumb_func\n"
        "tapc_mark_end:\n"
        "    pop {r4, pc}\n"
        ".size tapc_mark, . - tapc_mark\n"
        ".text\n");

/* The exception's frame has the caller's address and its own; CFSR, the cause. */
void HardFault_Handler(void);
__attribute__((naked)) void HardFault_Handler(void)
{
    __asm__ volatile("mrs r3, msp\n\t"
                     "ldr r0, [r3, #24]\n\t"
                     "ldr r1, [r3, #20]\n\t"
                     "ldr r3, =0xE000ED28\n\t"
                     "ldr r2, [r3]\n\t"
                     "bl fault_report\n\t"
                     ".ltorg");
}

#endif
