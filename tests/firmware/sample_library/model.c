#include "model.h"

#include "kernels.h"

#if defined(TAPC_MARKS)
void tapc_mark(void);
#define MARK() tapc_mark()
#else
#define MARK()
#endif

__attribute__((aligned(8), section(".tapc_arena"))) uint8_t model_arena[MODEL_ARENA_BYTES];

int8_t *model_input(void)
{
    return (int8_t *)model_arena;
}

const int8_t *model_output(void)
{
    return (const int8_t *)model_arena + 32;
}

void model_run(void)
{
    MARK();
    k_scale((const int8_t *)model_arena, (int8_t *)model_arena + 16);
    MARK();
    k_spin((int8_t *)model_arena + 16);
    MARK();
    k_dense((const int8_t *)model_arena + 16, (int8_t *)model_arena + 32);
    MARK();
}
