/* The AVX kernel for CPUs with AVX-512 and its VNNI, which multiply and add in one instruction. */
#include <immintrin.h>

#include "kernel.h"

#define AVX __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma")))
#define ENCODE encode_vnni
#define LANES 16
#define ROWS 12
#define EACH_ROW(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7) DO(8) DO(9) DO(10) DO(11)
#define ADD_PRODUCTS(sums, a, b) (words)_mm512_dpwssd_epi32((integers)(sums), a, b)
#define LARGER _mm512_max_ps
#define SMALLER _mm512_min_ps
typedef __m512i integers;

#include "encoder.h"
