/* A hand-written library with the interface of a generated one: three steps whose results are easy to compute. */
#ifndef SAMPLE_H
#define SAMPLE_H

#include <stdint.h>

#define SAMPLE_INPUT_BYTES 16
#define SAMPLE_OUTPUT_BYTES 4
#define SAMPLE_OUTPUT_SCALE 0.25f
#define SAMPLE_OUTPUT_ZERO_POINT (-3)
#define SAMPLE_ARENA_BYTES 64
#define SAMPLE_STEPS 3

extern uint8_t sample_arena[SAMPLE_ARENA_BYTES];

int8_t *sample_input(void);
const int8_t *sample_output(void);
void sample_run(void);
int32_t sample_step(int32_t step);

#endif
