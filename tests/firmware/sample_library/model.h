/* A hand-written library with the interface of a generated one: three steps whose results are easy to compute. */
#ifndef MODEL_H
#define MODEL_H

#include <stdint.h>

#define MODEL_INPUT_BYTES 16
#define MODEL_OUTPUT_BYTES 4
#define MODEL_ARENA_BYTES 64
#define MODEL_STEPS 3

extern uint8_t model_arena[MODEL_ARENA_BYTES];

int8_t *model_input(void);
const int8_t *model_output(void);
void model_run(void);

#endif
