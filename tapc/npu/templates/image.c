/* A bare image around the library: waits for nothing, runs once, says what came out of it. */
#include <stdint.h>

int NETWORK_RUN(void);
void tapc_mark(void);
extern uint32_t tapc_stack_top[];
volatile int32_t tapc_result = -1;

/* Called behind every step of a network that is compiled with marks. */
__attribute__((noinline)) void tapc_mark(void)
{
    __asm__ volatile("" ::: "memory");
}

static void start(void)
{
    tapc_result = NETWORK_RUN();
    for (;;)
        __asm__ volatile("bkpt 0");
}

static void fault(void)
{
    tapc_result = -2;
    for (;;)
        __asm__ volatile("bkpt 0");
}

__attribute__((section(".vectors"), used)) static void (*const tapc_vectors[16])(void) = {
    (void (*)(void))(uintptr_t)tapc_stack_top, start, fault, fault, fault, fault, fault, fault,
    fault, fault, fault, fault, fault, fault, fault, fault,
};
