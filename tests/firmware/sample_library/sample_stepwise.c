#include "sample.h"

#include "sample_kernels.h"

int32_t sample_step(int32_t step)
{
    switch (step) {
    case 0:
        sample_k_scale((const int8_t *)sample_arena, (int8_t *)sample_arena + 16);
        return 1;
    case 1:
        sample_k_spin((int8_t *)sample_arena + 16);
        return 2;
    case 2:
        sample_k_dense((const int8_t *)sample_arena + 16, (int8_t *)sample_arena + 32);
        return 0;
    default:
        return 0;
    }
}
