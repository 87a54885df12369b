#ifndef SAMPLE_WEIGHTS_H
#define SAMPLE_WEIGHTS_H

#include <stdint.h>

extern const int8_t sample_w_0_dense[4][16];
extern const int32_t sample_b_0_dense[4];
extern const float sample_s_0_dense[4];

#endif
