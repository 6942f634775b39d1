/* The AVX kernel for CPUs with AVX2 and FMA. */
#include <immintrin.h>

#include "kernel.h"

#define AVX __attribute__((target("avx2,fma")))
#define ENCODE encode_avx2
#define LANES 8
#define ROWS 6
#define EACH_ROW(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5)
#define ADD_PRODUCTS(sums, a, b) (sums) + (words)_mm256_madd_epi16(a, b)
#define LARGER _mm256_max_ps
#define SMALLER _mm256_min_ps
typedef __m256i integers;

#include "encoder.h"

struct abi abi(void) {
    return (struct abi){ABI_VERSION, sizeof(struct encoder), sizeof(struct layer)};
}
