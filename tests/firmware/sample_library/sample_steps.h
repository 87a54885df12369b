#ifndef SAMPLE_STEPS_H
#define SAMPLE_STEPS_H

#include <stdint.h>

static const struct {
    uint32_t offset;
    uint32_t bytes;
} sample_step_output[3] = {{16, 16}, {16, 16}, {32, 4}};

#endif
