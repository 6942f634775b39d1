/* The AVX kernel for CPUs with AVX2, FMA and AVX-VNNI, which multiplies and adds in one instruction. */
#include <immintrin.h>

#include "kernel.h"

#define AVX __attribute__((target("avx2,fma,avxvnni")))
#define ENCODE encode_avx_vnni
#define LANES 8
#define ROWS 6
#define EACH_ROW(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5)
#define ADD_PRODUCTS(sums, a, b) (words)_mm256_dpwssd_avx_epi32((integers)(sums), a, b)
#define LARGER _mm256_max_ps
#define SMALLER _mm256_min_ps
typedef __m256i integers;

#include "encoder.h"

