/* The functions of vector_math.h on arrays of 16 fp32, for tests/test_amx.py. */
#include "vector_math.h"

void exp2_16(const float *x, float *y);
void gelu_16(const float *x, float *y);

void exp2_16(const float *x, float *y) {
    _mm512_storeu_ps(y, exp2_vector(_mm512_loadu_ps(x)));
}

void gelu_16(const float *x, float *y) {
    _mm512_storeu_ps(y, gelu(_mm512_loadu_ps(x)));
}
