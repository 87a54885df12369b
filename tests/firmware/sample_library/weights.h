#ifndef WEIGHTS_H
#define WEIGHTS_H

#include <stdint.h>

extern const int8_t w_dense[4][16];
extern const int32_t b_dense[4];
extern const float s_dense[4];

#endif
