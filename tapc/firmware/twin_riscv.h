/* What the twin's main needs of a 32-bit RISC-V core in machine mode. */
#ifndef TAPC_TWIN_RISCV_H
#define TAPC_TWIN_RISCV_H

#include <stdint.h>

#define FAULT_CAUSE "mcause"

/* RISC-V Semihosting 0.4: three instructions that are never compressed, in one page. */
static __attribute__((noinline)) uint32_t semihost(uint32_t operation, uint32_t argument)
{
    register uint32_t a0 __asm__("a0") = operation;
    register uint32_t a1 __asm__("a1") = argument;
    __asm__ volatile(".option push\n\t"
                     ".option norvc\n\t"
                     ".balign 16\n\t"
                     "slli zero, zero, 0x1f\n\t"
                     "ebreak\n\t"
                     "srai zero, zero, 7\n\t"
                     ".option pop"
                     : "+r"(a0)
                     : "r"(a1)
                     : "memory");
    return a0;
}

__asm__(".section .text.tapc_mark, \"ax\", %progbits\n"
        ".balign 4\n"
        ".global tapc_mark\n.type tapc_mark, %function\n"
        "tapc_mark:\n"
        "    addi sp, sp, -16\n"
        "    sw ra, 12(sp)\n"
        "    call tapc_after_step\n"
        ".global tapc_mark_end\n.type tapc_mark_end, %function\n"
        "tapc_mark_end:\n"
        "    lw ra, 12(sp)\n"
        "    addi sp, sp, 16\n"
        "    ret\n"
        ".size tapc_mark, . - tapc_mark\n"
        ".text\n");

void HardFault_Handler(void);
__attribute__((naked)) void HardFault_Handler(void)
{
    __asm__ volatile(".option push\n\t"
                     ".option arch, +zicsr\n\t"
                     "csrr a0, mepc\n\t"
                     "mv a1, ra\n\t"
                     "csrr a2, mcause\n\t"
                     "j fault_report\n\t"
                     ".option pop");
}

#endif
