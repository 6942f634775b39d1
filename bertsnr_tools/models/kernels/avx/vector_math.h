/* Vectors of LANES fp32, and the functions of them that the AVX kernel needs. */
#ifndef BERTSNR_AVX_VECTOR_MATH_H
#define BERTSNR_AVX_VECTOR_MATH_H

#include <math.h>
#include <string.h>

#include "../polynomials.h"
#include "kernel.h"

#define INLINE AVX static inline __attribute__((always_inline))

typedef float vector __attribute__((vector_size(4 * LANES)));
typedef int32_t words __attribute__((vector_size(4 * LANES)));
typedef int16_t halves __attribute__((vector_size(2 * LANES)));

INLINE vector load(const float *from) {
    vector values;
    memcpy(&values, from, sizeof values);
    return values;
}

INLINE integers load_integers(const int16_t *from) {
    integers values;
    memcpy(&values, from, sizeof values);
    return values;
}

/* Two int16, repeated. */
INLINE integers load_integer(const int16_t *from) {
    int32_t both;
    memcpy(&both, from, sizeof both);
    return (integers)(both - (words){0});
}

INLINE void store(float *to, vector values) {
    memcpy(to, &values, sizeof values);
}

INLINE vector fill(float value) {
    return value - (vector){0};
}

INLINE float sum_of(vector values) {
    float sum = 0;
    for (int lane = 0; lane < LANES; lane++)
        sum += values[lane];
    return sum;
}

INLINE float largest_of(vector values) {
    float largest = values[0];
    for (int lane = 1; lane < LANES; lane++)
        largest = values[lane] > largest ? values[lane] : largest;
    return largest;
}

/* Nearest integers of |x| < 2^22: in the last bits of x + 1.5 * 2^23. */
INLINE words nearest(vector x) {
    return (words)(x + 12582912.0f) - 0x4b400000;
}

/* 2^x; x is clipped to -126 and 127.
 *
 * 2^x = 2^n 2^r with n the nearest integer. The polynomial in r has the least maximal relative error on [-1/2, 1/2]
 * (Remez exchange: seven alternating extremes of 7.5e-8).
 */
INLINE vector exp2_vector(vector x) {
    x = LARGER(SMALLER(x, fill(127)), fill(-126));
    words n = nearest(x);
    vector r = x - __builtin_convertvector(n, vector);
    vector sum = r * 0.0013276472f + 0.00967554133f;
    sum = sum * r + 0.0555071327f;
    sum = sum * r + 0.240221197f;
    sum = sum * r + 0.693146967f;
    sum = sum * r + 1.00000007f;
    return sum * (vector)((n + 127) << 23);
}

/* GELU(x) = x Phi(x), see `GELU_POLYNOMIAL`. */
INLINE vector gelu(vector x) {
    vector clipped = LARGER(SMALLER(x, fill(4)), fill(-4)), square = clipped * clipped, sum = fill(GELU_POLYNOMIAL[0]);
    for (int degree = 1; degree < GELU_TERMS; degree++)
        sum = sum * square + GELU_POLYNOMIAL[degree];
    return x * (sum * clipped + 0.5f);
}

#endif
