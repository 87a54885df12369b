#include "sample.h"

#include "sample_kernels.h"

#if defined(SAMPLE_MARKS)
void tapc_mark(void);
#define MARK() tapc_mark()
#else
#define MARK()
#endif

__attribute__((aligned(8), section(".tapc_arena"))) uint8_t sample_arena[SAMPLE_ARENA_BYTES];

int8_t *sample_input(void)
{
    return (int8_t *)sample_arena;
}

const int8_t *sample_output(void)
{
    return (const int8_t *)sample_arena + 32;
}

void sample_run(void)
{
    MARK();
    sample_k_scale((const int8_t *)sample_arena, (int8_t *)sample_arena + 16);
    MARK();
    sample_k_spin((int8_t *)sample_arena + 16);
    MARK();
    sample_k_dense((const int8_t *)sample_arena + 16, (int8_t *)sample_arena + 32);
    MARK();
}
