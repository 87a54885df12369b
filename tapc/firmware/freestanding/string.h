/* What firmware takes from string.h, for a compiler that comes without a C library: its runtime has these. */
#ifndef TAPC_FREESTANDING_STRING_H
#define TAPC_FREESTANDING_STRING_H

#include <stddef.h>

void *memcpy(void *to, const void *from, size_t bytes);
void *memmove(void *to, const void *from, size_t bytes);
void *memset(void *to, int byte, size_t bytes);
int memcmp(const void *a, const void *b, size_t bytes);

#endif
