/* Vector maths of the AMX kernel, 16 fp32 at a time. `tests/test_amx.py` recomputes the errors given here. */
#ifndef BERTSNR_AMX_VECTOR_MATH_H
#define BERTSNR_AMX_VECTOR_MATH_H

#include <immintrin.h>
#include <math.h>

#include "../polynomials.h"
#include "kernel.h"

enum { VECTOR = 16 }; /* fp32 in a vector */

static inline long round_up(long number, long unit) {
    return (number + unit - 1) / unit * unit;
}

/* 32 fp32 as bf16, rounded to nearest even. */
INLINE void store_bf16(bf16 *to, __m512 first, __m512 second) {
    _mm512_storeu_si512(to, (__m512i)_mm512_cvtne2ps_pbh(second, first));
}

/* 2^x for |x| < 126.
 *
 * 2^x = 2^floor(x) 2^r with r = x - floor(x) in [0, 1). The cubic polynomial in r has the least maximal relative error
 * on [0, 1] (Remez exchange: five alternating extremes of 7.5e-5), far below the following rounding to bf16 (up to
 * 3.9e-3).
 */
INLINE __m512 exp2_vector(__m512 x) {
    __m512 r = _mm512_reduce_ps(x, 1); /* 1: round down */
    __m512 sum = _mm512_fmadd_ps(r, _mm512_set1_ps(0.07802452f), _mm512_set1_ps(0.22606716f));
    sum = _mm512_fmadd_ps(r, sum, _mm512_set1_ps(0.69583354f));
    sum = _mm512_fmadd_ps(r, sum, _mm512_set1_ps(0.99992522f));
    return _mm512_scalef_ps(sum, x);
}

/* GELU(x) = x Phi(x), see `GELU_POLYNOMIAL`. */
INLINE __m512 gelu(__m512 x) {
    __m512 clipped = _mm512_max_ps(_mm512_min_ps(x, _mm512_set1_ps(4)), _mm512_set1_ps(-4));
    __m512 square = _mm512_mul_ps(clipped, clipped), sum = _mm512_set1_ps(GELU_POLYNOMIAL[0]);
    for (int degree = 1; degree < GELU_TERMS; degree++)
        sum = _mm512_fmadd_ps(sum, square, _mm512_set1_ps(GELU_POLYNOMIAL[degree]));
    return _mm512_mul_ps(x, _mm512_fmadd_ps(sum, clipped, _mm512_set1_ps(0.5f)));
}

/* Layer norm without bias of a row of WIDTH units, as vectors. */
INLINE void layer_norm(const float *row, const float *weight, float eps, __m512 *normed) {
    __m512 sum = _mm512_setzero_ps(), squares = _mm512_setzero_ps();
    for (int at = 0; at < WIDTH / VECTOR; at++) {
        normed[at] = _mm512_loadu_ps(row + VECTOR * at);
        sum = _mm512_add_ps(sum, normed[at]);
    }
    __m512 mean = _mm512_set1_ps(_mm512_reduce_add_ps(sum) / WIDTH);
    for (int at = 0; at < WIDTH / VECTOR; at++) {
        normed[at] = _mm512_sub_ps(normed[at], mean);
        squares = _mm512_fmadd_ps(normed[at], normed[at], squares);
    }
    __m512 scale = _mm512_set1_ps(1 / sqrtf(_mm512_reduce_add_ps(squares) / WIDTH + eps));
    for (int at = 0; at < WIDTH / VECTOR; at++)
        normed[at] = _mm512_mul_ps(_mm512_mul_ps(normed[at], scale), _mm512_loadu_ps(weight + VECTOR * at));
}

/* Bit i is set when low <= first + i < high. */
INLINE uint16_t range_mask(long low, long high, long first) {
    low = low < first ? 0 : low > first + VECTOR ? VECTOR : low - first;
    high = high < first ? 0 : high > first + VECTOR ? VECTOR : high - first;
    return (uint16_t)(high > low ? (1u << high) - (1u << low) : 0);
}

#endif
