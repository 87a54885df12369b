#ifndef SAMPLE_KERNELS_H
#define SAMPLE_KERNELS_H

#include <stdint.h>

void sample_k_scale(const int8_t *x, int8_t *y);
void sample_k_spin(int8_t *x);
void sample_k_dense(const int8_t *x, int8_t *y);

#endif
