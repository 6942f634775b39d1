/* The instructions of the AMX kernel, emulated in C: for tests on every CPU, and for sanitizers and valgrind, which
 * lack AMX.
 *
 * They compute what a CPU with AMX computes, with two differences: fused multiply-add rounds twice, and subnormal
 * numbers are not flushed to 0. What would fault there (no tile configuration, an unaligned address) aborts here.
 */
#ifndef BERTSNR_EMULATED_IMMINTRIN_H
#define BERTSNR_EMULATED_IMMINTRIN_H

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef float __m512 __attribute__((vector_size(64)));
typedef int64_t __m512i __attribute__((vector_size(64)));
typedef uint16_t __mmask16;

#define EMULATED static inline __attribute__((unused))
#define LANES(value)                        \
    __m512 result;                          \
    for (int lane = 0; lane < 16; lane++)   \
        result[lane] = (value);             \
    return result;

EMULATED __m512 _mm512_set1_ps(float x) { LANES(x) }
EMULATED __m512 _mm512_setzero_ps(void) { LANES(0) }
EMULATED __m512 _mm512_add_ps(__m512 a, __m512 b) { return a + b; }
EMULATED __m512 _mm512_sub_ps(__m512 a, __m512 b) { return a - b; }
EMULATED __m512 _mm512_mul_ps(__m512 a, __m512 b) { return a * b; }
EMULATED __m512 _mm512_max_ps(__m512 a, __m512 b) { LANES(a[lane] > b[lane] ? a[lane] : b[lane]) }
EMULATED __m512 _mm512_min_ps(__m512 a, __m512 b) { LANES(a[lane] < b[lane] ? a[lane] : b[lane]) }
EMULATED __m512 _mm512_fmadd_ps(__m512 a, __m512 b, __m512 c) { LANES((float)((double)a[lane] * b[lane] + c[lane])) }
EMULATED __m512 _mm512_fmsub_ps(__m512 a, __m512 b, __m512 c) { LANES((float)((double)a[lane] * b[lane] - c[lane])) }
EMULATED __m512 _mm512_scalef_ps(__m512 a, __m512 b) {
    LANES(ldexpf(a[lane], (int)fmaxf(fminf(floorf(b[lane]), 1000), -1000)))
}
EMULATED __m512 _mm512_maskz_mov_ps(__mmask16 mask, __m512 a) { LANES(mask >> lane & 1 ? a[lane] : 0) }

EMULATED __m512 _mm512_reduce_ps(__m512 a, int control) {
    if (control != 1)
        abort();
    LANES(a[lane] - floorf(a[lane]))
}

EMULATED float _mm512_reduce_add_ps(__m512 a) {
    for (int half = 8; half; half /= 2)
        for (int lane = 0; lane < half; lane++)
            a[lane] += a[lane + half];
    return a[0];
}

EMULATED float _mm512_mask_reduce_max_ps(__mmask16 mask, __m512 a) {
    float most = -INFINITY;
    for (int lane = 0; lane < 16; lane++)
        if (mask >> lane & 1 && a[lane] > most)
            most = a[lane];
    return most;
}

EMULATED __m512 _mm512_loadu_ps(const void *from) {
    __m512 result;
    memcpy(&result, from, 64);
    return result;
}

EMULATED __m512 _mm512_load_ps(const void *from) {
    if ((uintptr_t)from % 64)
        abort();
    return _mm512_loadu_ps(from);
}

EMULATED __m512i _mm512_loadu_si512(const void *from) {
    __m512i result;
    memcpy(&result, from, 64);
    return result;
}

EMULATED void _mm512_storeu_ps(void *to, __m512 a) { memcpy(to, &a, 64); }
EMULATED void _mm512_storeu_si512(void *to, __m512i a) { memcpy(to, &a, 64); }

EMULATED uint16_t emulated_bf16(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    return (uint16_t)(isnan(x) ? bits >> 16 | 64 : (bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

EMULATED __m512i _mm512_cvtne2ps_pbh(__m512 high, __m512 low) {
    uint16_t result[32];
    for (int lane = 0; lane < 16; lane++) {
        result[lane] = emulated_bf16(low[lane]);
        result[lane + 16] = emulated_bf16(high[lane]);
    }
    return _mm512_loadu_si512(result);
}

EMULATED __m512i _mm512_shuffle_i32x4(__m512i a, __m512i b, int control) {
    __m512i result;
    for (int part = 0; part < 4; part++)
        for (int half = 0; half < 2; half++)
            result[2 * part + half] = (part < 2 ? a : b)[2 * (control >> 2 * part & 3) + half];
    return result;
}

/* Of each 16 bytes the first or second 8, alternating words of `a` and `b`. */
EMULATED __m512i emulated_unpack(__m512i a, __m512i b, int bytes, int second) {
    char from[2][64], result[64];
    memcpy(from[0], &a, 64);
    memcpy(from[1], &b, 64);
    for (int at = 0; at < 64; at++)
        result[at] = from[at / bytes % 2][at / 16 * 16 + second * 8 + at % 16 / (2 * bytes) * bytes + at % bytes];
    return _mm512_loadu_si512(result);
}

EMULATED __m512i _mm512_unpacklo_epi16(__m512i a, __m512i b) { return emulated_unpack(a, b, 2, 0); }
EMULATED __m512i _mm512_unpackhi_epi16(__m512i a, __m512i b) { return emulated_unpack(a, b, 2, 1); }
EMULATED __m512i _mm512_unpacklo_epi32(__m512i a, __m512i b) { return emulated_unpack(a, b, 4, 0); }
EMULATED __m512i _mm512_unpackhi_epi32(__m512i a, __m512i b) { return emulated_unpack(a, b, 4, 1); }
EMULATED __m512i _mm512_unpacklo_epi64(__m512i a, __m512i b) { return emulated_unpack(a, b, 8, 0); }
EMULATED __m512i _mm512_unpackhi_epi64(__m512i a, __m512i b) { return emulated_unpack(a, b, 8, 1); }

static __thread struct {
    uint8_t bytes[16][64];
} emulated_tiles[8];
static __thread int emulated_ready;

EMULATED void _tile_loadconfig(const void *from) {
    const uint8_t *config = from;
    int fit = config[0] == 1 && config[1] == 0;
    for (int tile = 0; tile < 8; tile++)
        fit = fit && config[16 + 2 * tile] == 64 && config[17 + 2 * tile] == 0 && config[48 + tile] == 16;
    if (!fit)
        abort();
    memset(emulated_tiles, 0, sizeof emulated_tiles);
    emulated_ready = 1;
}

EMULATED void _tile_release(void) { emulated_ready = 0; }

EMULATED void emulated_check(int tile) {
    if (!emulated_ready || tile < 0 || tile > 7)
        abort();
}

EMULATED void _tile_zero(int tile) {
    emulated_check(tile);
    memset(&emulated_tiles[tile], 0, sizeof *emulated_tiles);
}

EMULATED void _tile_loadd(int tile, const void *from, long stride) {
    emulated_check(tile);
    for (int row = 0; row < 16; row++)
        memcpy(emulated_tiles[tile].bytes[row], (const char *)from + row * stride, 64);
}

EMULATED void _tile_stored(int tile, void *to, long stride) {
    emulated_check(tile);
    for (int row = 0; row < 16; row++)
        memcpy((char *)to + row * stride, emulated_tiles[tile].bytes[row], 64);
}

/* The first or second bf16 of a pair. */
EMULATED float emulated_half(uint32_t word, int second) {
    float x;
    word = second ? word & 0xffff0000 : word << 16;
    memcpy(&x, &word, 4);
    return x;
}

/* The first and second inputs of all pairs have sums of their own. */
EMULATED void _tile_dpbf16ps(int sums, int rows, int columns) {
    uint32_t left[16][16], right[16][16];
    __m512 parts[2][16], total[16];
    emulated_check(sums), emulated_check(rows), emulated_check(columns);
    memcpy(left, &emulated_tiles[rows], sizeof left);
    memcpy(right, &emulated_tiles[columns], sizeof right);
    memcpy(total, &emulated_tiles[sums], sizeof total);
    for (int pair = 0; pair < 16; pair++)
        for (int column = 0; column < 16; column++)
            for (int second = 0; second < 2; second++)
                parts[second][pair][column] = emulated_half(right[pair][column], second);
    for (int row = 0; row < 16; row++) {
        __m512 added[2] = {{0}, {0}};
        for (int pair = 0; pair < 16; pair++)
            for (int second = 0; second < 2; second++)
                added[second] += emulated_half(left[row][pair], second) * parts[second][pair];
        total[row] += added[0] + added[1];
    }
    memcpy(&emulated_tiles[sums], total, sizeof total);
}

#endif
