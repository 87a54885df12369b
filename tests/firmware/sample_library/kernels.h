#ifndef KERNELS_H
#define KERNELS_H

#include <stdint.h>

void k_scale(const int8_t *x, int8_t *y);
void k_spin(int8_t *x);
void k_dense(const int8_t *x, int8_t *y);

#endif
