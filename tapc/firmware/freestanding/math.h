/* What generated C takes from math.h, for a compiler that comes without a C library. */
#ifndef TAPC_FREESTANDING_MATH_H
#define TAPC_FREESTANDING_MATH_H

#define TAPC_MATH static inline __attribute__((always_inline, unused))

/* To the nearest, ties to even: adding 2^23 leaves no room for a fraction. */
TAPC_MATH float rintf(float x)
{
    const float size = __builtin_fabsf(x), whole = (size + 8388608.0f) - 8388608.0f;
    return size < 8388608.0f ? __builtin_copysignf(whole, x) : x;
}

TAPC_MATH long lrintf(float x)
{
    return (long)rintf(x);
}

TAPC_MATH float fmaf(float x, float y, float z)
{
    return __builtin_fmaf(x, y, z);
}

#endif
