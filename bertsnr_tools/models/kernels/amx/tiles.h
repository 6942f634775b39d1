/* Tiles of the AMX kernel: their configuration, products, and the packing of what they load.
 *
 * A product multiplies 16 rows of 32 bf16 (tile A) by 16 input pairs of 16 columns (tile B) and adds to 16 x 16 fp32
 * sums. Tile registers: 0 to 3 sums, 4 and 5 A, 6 and 7 B.
 */
#ifndef BERTSNR_AMX_TILES_H
#define BERTSNR_AMX_TILES_H

#include <immintrin.h>

#include "kernel.h"

/* All eight tiles have 16 rows of 64 bytes. Static: some compilers do not see that the instruction reads the whole
 * struct. */
AMX static void configure_tiles(void) {
    static const struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } configuration = {
        1,
        0,
        {0},
        {64, 64, 64, 64, 64, 64, 64, 64},
        {TILE_ROWS, TILE_ROWS, TILE_ROWS, TILE_ROWS, TILE_ROWS, TILE_ROWS, TILE_ROWS, TILE_ROWS},
    };
    _tile_loadconfig(&configuration);
}

/* Stores before this line are done when tiles are loaded after it: compilers do not know what tile loads read. */
INLINE void finish_stores(void) {
    __asm__ volatile("" ::: "memory");
}

/* 32 rows times 32 columns of a packed weight: fp32 sums, shape (32, 32). */
INLINE void multiply(const bf16 *rows, long inputs, const bf16 *weight, float *sums) {
    const bf16 *right = weight + inputs * TILE_ROWS; /* columns 16 to 31 */
    finish_stores();
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (long at = 0; at < inputs; at += TILE_INPUTS) {
        _tile_loadd(4, rows + at, inputs * 2);
        _tile_loadd(5, rows + TILE_ROWS * inputs + at, inputs * 2);
        _tile_loadd(6, weight + at * TILE_ROWS, 64);
        _tile_loadd(7, right + at * TILE_ROWS, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, sums, 128);
    _tile_stored(1, sums + TILE_ROWS, 128);
    _tile_stored(2, sums + TILE_ROWS * 32, 128);
    _tile_stored(3, sums + TILE_ROWS * 32 + TILE_ROWS, 128);
}

/* Transpose 16 rows of 16 pairs, WIDTH bf16 apart, to columns that are `stride` pairs apart. */
INLINE void transpose_pairs(const bf16 *rows, uint32_t *columns, long stride) {
    __m512i a[16], b[16];
#pragma GCC unroll 16
    for (int row = 0; row < 16; row++)
        a[row] = _mm512_loadu_si512(rows + row * WIDTH);
#pragma GCC unroll 8
    for (int row = 0; row < 16; row += 2) {
        b[row] = _mm512_unpacklo_epi32(a[row], a[row + 1]);
        b[row + 1] = _mm512_unpackhi_epi32(a[row], a[row + 1]);
    }
#pragma GCC unroll 4
    for (int row = 0; row < 16; row += 4) {
        a[row] = _mm512_unpacklo_epi64(b[row], b[row + 2]);
        a[row + 1] = _mm512_unpackhi_epi64(b[row], b[row + 2]);
        a[row + 2] = _mm512_unpacklo_epi64(b[row + 1], b[row + 3]);
        a[row + 3] = _mm512_unpackhi_epi64(b[row + 1], b[row + 3]);
    }
#pragma GCC unroll 4
    for (int row = 0; row < 4; row++) {
        __m512i even_low = _mm512_shuffle_i32x4(a[row], a[row + 4], 0x88);
        __m512i odd_low = _mm512_shuffle_i32x4(a[row], a[row + 4], 0xdd);
        __m512i even_high = _mm512_shuffle_i32x4(a[row + 8], a[row + 12], 0x88);
        __m512i odd_high = _mm512_shuffle_i32x4(a[row + 8], a[row + 12], 0xdd);
        _mm512_storeu_si512(columns + row * stride, _mm512_shuffle_i32x4(even_low, even_high, 0x88));
        _mm512_storeu_si512(columns + (row + 4) * stride, _mm512_shuffle_i32x4(odd_low, odd_high, 0x88));
        _mm512_storeu_si512(columns + (row + 8) * stride, _mm512_shuffle_i32x4(even_low, even_high, 0xdd));
        _mm512_storeu_si512(columns + (row + 12) * stride, _mm512_shuffle_i32x4(odd_low, odd_high, 0xdd));
    }
}

/* Two rows of 32 bf16, WIDTH apart, to 32 pairs. The instructions interleave within 128 bits: `__init__.py` permutes
 * the units of the values so that the pairs come out in order. */
INLINE void interleave_rows(const bf16 *rows, uint32_t *pairs) {
    __m512i first = _mm512_loadu_si512(rows), second = _mm512_loadu_si512(rows + WIDTH);
    _mm512_storeu_si512(pairs, _mm512_unpacklo_epi16(first, second));
    _mm512_storeu_si512(pairs + 16, _mm512_unpackhi_epi16(first, second));
}

#endif
