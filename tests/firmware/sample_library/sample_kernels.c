#include "sample_kernels.h"

#include "sample_weights.h"

/* y = saturate(x + 3) */
void sample_k_scale(const int8_t *x, int8_t *y)
{
    for (int i = 0; i < 16; ++i) {
        const int v = x[i] + 3;
        y[i] = (int8_t)(v > 127 ? 127 : v);
    }
}

/* Negates x[0] unless it is -128. The instructions are counted by hand: 2 + 2 * 1000 + 4 + 1 = 2007, whatever x is. */
__attribute__((naked)) void sample_k_spin(int8_t *x __attribute__((unused)))
{
#if defined(__riscv)
    __asm__ volatile("    li a1, 125\n"
                     "    slli a1, a1, 3\n"
                     "1:  addi a1, a1, -1\n"
                     "    bnez a1, 1b\n"
                     "    li a2, 0\n"
                     "    lb a3, 0(a0)\n"
                     "    neg a3, a3\n"
                     "    sb a3, 0(a0)\n"
                     "    ret\n");
#else
    __asm__ volatile(".syntax unified\n"
                     "    movs r1, #125\n"
                     "    lsls r1, r1, #3\n"
                     "1:  subs r1, r1, #1\n"
                     "    bne 1b\n"
                     "    movs r2, #0\n"
                     "    ldrsb r3, [r0, r2]\n"
                     "    rsbs r3, r3, #0\n"
                     "    strb r3, [r0, r2]\n"
                     "    bx lr\n");
#endif
}

/* y = saturate(trunc((w x + b) * s)) */
void sample_k_dense(const int8_t *x, int8_t *y)
{
    for (int o = 0; o < 4; ++o) {
        int32_t sum = sample_b_0_dense[o];
        for (int i = 0; i < 16; ++i) {
            sum += sample_w_0_dense[o][i] * x[i];
        }
        const int32_t v = (int32_t)((float)sum * sample_s_0_dense[o]);
        y[o] = (int8_t)(v > 127 ? 127 : v < -128 ? -128 : v);
    }
}
