/* The forward pass of `model.compact_encoder` on processors with AMX: bf16 products, all else fp32.
 *
 * Windows go through the layers in groups whose rows (tokens) the second-level cache holds beside a layer's weights. Products are of
 * tiles: 16 rows of 32 bf16 with 16 columns, added up in fp32. A weight lies in the order in which its tiles are read: 16 columns after
 * the other, of these 32 inputs after the other, of these 16 pairs of inputs, of these 16 columns, of these the two inputs.
 *
 * No window's result depends on its neighbours, as long as all values are finite: what a tile holds beyond a window is not kept, or its
 * weight is 0.
 */
#include <immintrin.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define AMX __attribute__((target("amx-tile,amx-bf16,avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")))
#define INLINE AMX static inline __attribute__((always_inline))

enum {
    WIDTH = 128, /* of hidden states */
    INNER = 256, /* of the feed-forward part */
    HEAD = 32,   /* units of a head: a tile's 32 inputs */
    TILE = 16,   /* rows of a tile */
    GROUP = 400, /* rows of a group, about; more and less is slower */
};

typedef uint16_t bf16;

/* The weights of a layer; turns have shape (tokens, 16); `reach` is how far a token sees, 0 for everywhere. */
typedef struct {
    const float *before, *between, *cosine, *sine;
    const bf16 *qkv, *out, *up, *gate, *down;
    long reach;
} layer;

/* Room for a group: `rows` are the inputs of a product, `inner` takes the place of queries and keys. The last five are for one window and
 * head, or for 16 of its queries. */
typedef struct {
    float *hidden;
    bf16 *rows, *inner, *query, *key, *value;
    uint32_t *keys, *values;
    float *scores;
    bf16 *weights;
    uint16_t *masks;
} room;

INLINE long up_to(long number, long unit) {
    return (number + unit - 1) / unit * unit;
}

INLINE void store32(bf16 *to, __m512 first, __m512 second) {
    _mm512_storeu_si512(to, (__m512i)_mm512_cvtne2ps_pbh(second, first));
}

/* What was stored before is there for tiles to be loaded: compilers do not know what these read. */
INLINE void stored(void) {
    __asm__ volatile("" ::: "memory");
}

INLINE void add32(float *to, const float *sums) {
    _mm512_storeu_ps(to, _mm512_add_ps(_mm512_loadu_ps(to), _mm512_load_ps(sums)));
    _mm512_storeu_ps(to + 16, _mm512_add_ps(_mm512_loadu_ps(to + 16), _mm512_load_ps(sums + 16)));
}

/* 2 to the power of x, to 1e-4 of it. */
INLINE __m512 power(__m512 x) {
    __m512 rest = _mm512_reduce_ps(x, 1); /* less the next lower integer */
    __m512 sum = _mm512_fmadd_ps(rest, _mm512_set1_ps(0.07802452f), _mm512_set1_ps(0.22606716f));
    sum = _mm512_fmadd_ps(rest, sum, _mm512_set1_ps(0.69583354f));
    sum = _mm512_fmadd_ps(rest, sum, _mm512_set1_ps(0.99992522f));
    return _mm512_scalef_ps(sum, x);
}

/* x times the share of the normal distribution below x, to 5e-5 up to 4 and to 5e-5 of x beyond: an odd polynomial. */
INLINE __m512 gelu(__m512 x) {
    static const float parts[] = {-1.3012951e-09f, 1.0419609e-07f, -3.6571341e-06f, 7.4855066e-05f, -0.0010064906f, 0.0095053986f, -0.065887846f, 0.39867339f};
    __m512 near = _mm512_max_ps(_mm512_min_ps(x, _mm512_set1_ps(4)), _mm512_set1_ps(-4));
    __m512 square = _mm512_mul_ps(near, near), sum = _mm512_set1_ps(parts[0]);
    for (unsigned part = 1; part < sizeof parts / sizeof *parts; part++)
        sum = _mm512_fmadd_ps(sum, square, _mm512_set1_ps(parts[part]));
    return _mm512_mul_ps(x, _mm512_fmadd_ps(sum, near, _mm512_set1_ps(0.5f)));
}

/* A row less its mean, divided by its deviation, times a weight, as 8 vectors. */
INLINE void norm(const float *row, const float *weight, float eps, __m512 *normed) {
    __m512 sum = _mm512_setzero_ps(), squares = _mm512_setzero_ps();
    for (int at = 0; at < WIDTH / 16; at++) {
        normed[at] = _mm512_loadu_ps(row + 16 * at);
        sum = _mm512_add_ps(sum, normed[at]);
    }
    __m512 mean = _mm512_set1_ps(_mm512_reduce_add_ps(sum) / WIDTH);
    for (int at = 0; at < WIDTH / 16; at++) {
        normed[at] = _mm512_sub_ps(normed[at], mean);
        squares = _mm512_fmadd_ps(normed[at], normed[at], squares);
    }
    __m512 scale = _mm512_set1_ps(1 / sqrtf(_mm512_reduce_add_ps(squares) / WIDTH + eps));
    for (int at = 0; at < WIDTH / 16; at++)
        normed[at] = _mm512_mul_ps(_mm512_mul_ps(normed[at], scale), _mm512_loadu_ps(weight + 16 * at));
}

/* The rows of hidden states, normed, as inputs of a product. */
AMX static void norm_rows(room *room, const float *weight, float eps, long rows) {
    __m512 normed[WIDTH / 16];
    for (long row = 0; row < rows; row++) {
        norm(room->hidden + row * WIDTH, weight, eps, normed);
        for (int at = 0; at < WIDTH / 16; at += 2)
            store32(room->rows + row * WIDTH + 16 * at, normed[at], normed[at + 1]);
    }
}

/* Two tiles of rows, each of so many inputs, times 32 columns of a weight: fp32, shape (32, 32). */
INLINE void product(const bf16 *rows, long inputs, const bf16 *weight, float *sums) {
    const bf16 *other = weight + inputs * TILE;
    stored();
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (long at = 0; at < inputs; at += 32) {
        _tile_loadd(4, rows + at, inputs * 2);
        _tile_loadd(5, rows + TILE * inputs + at, inputs * 2);
        _tile_loadd(6, weight + at * TILE, 64);
        _tile_loadd(7, other + at * TILE, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, sums, 128);
    _tile_stored(1, sums + TILE, 128);
    _tile_stored(2, sums + TILE * 32, 128);
    _tile_stored(3, sums + TILE * 32 + TILE, 128);
}

/* Keep 32 columns of a row's queries (in units in which scores are powers of 2) or keys, with their positions (Su et al. 2021), or values. */
INLINE void keep(const layer *part, room *room, const float *sums, long row, long token, long column) {
    __m512 left = _mm512_loadu_ps(sums), right = _mm512_loadu_ps(sums + 16);
    long place = row * WIDTH + column % WIDTH;
    if (column >= 2 * WIDTH) {
        store32(room->value + place, left, right);
        return;
    }
    __m512 cosine = _mm512_loadu_ps(part->cosine + token * 16), sine = _mm512_loadu_ps(part->sine + token * 16);
    __m512 turned = _mm512_fmsub_ps(left, cosine, _mm512_mul_ps(right, sine)), scale = _mm512_set1_ps(1.44269504f / sqrtf(HEAD));
    right = _mm512_fmadd_ps(right, cosine, _mm512_mul_ps(left, sine));
    if (column < WIDTH)
        store32(room->query + place, _mm512_mul_ps(turned, scale), _mm512_mul_ps(right, scale));
    else
        store32(room->key + place, turned, right);
}

/* Queries, keys and values of the rows; in the first layer each token always has the same, before its position. */
AMX static void project(const layer *part, room *room, float eps, long rows, long length) {
    float sums[32 * 32] __attribute__((aligned(64)));
    norm_rows(room, part->before, eps, rows);
    for (long column = 0; column < 3 * WIDTH; column += HEAD)
        for (long first = 0, token = 0; first < rows; first += 32) {
            product(room->rows + first * WIDTH, WIDTH, part->qkv + column * WIDTH, sums);
            for (long row = 0; row < 32; row++, token = token + 1 < length ? token + 1 : 0)
                keep(part, room, sums + row * 32, first + row, token, column);
        }
}

/* 16 rows of 16 words to 16 columns, `stride` words apart. */
INLINE void transpose(const bf16 *rows, uint32_t *columns, long stride) {
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
        __m512i even = _mm512_shuffle_i32x4(a[row], a[row + 4], 0x88), odd = _mm512_shuffle_i32x4(a[row], a[row + 4], 0xdd);
        __m512i even2 = _mm512_shuffle_i32x4(a[row + 8], a[row + 12], 0x88), odd2 = _mm512_shuffle_i32x4(a[row + 8], a[row + 12], 0xdd);
        _mm512_storeu_si512(columns + row * stride, _mm512_shuffle_i32x4(even, even2, 0x88));
        _mm512_storeu_si512(columns + (row + 4) * stride, _mm512_shuffle_i32x4(odd, odd2, 0x88));
        _mm512_storeu_si512(columns + (row + 8) * stride, _mm512_shuffle_i32x4(even, even2, 0xdd));
        _mm512_storeu_si512(columns + (row + 12) * stride, _mm512_shuffle_i32x4(odd, odd2, 0xdd));
    }
}

/* Which of 16 numbers from `at` on lie between the two. */
INLINE uint16_t between(long low, long high, long at) {
    low = low < at ? 0 : low > at + 16 ? 16 : low - at;
    high = high < at ? 0 : high > at + 16 ? 16 : high - at;
    return (uint16_t)(high > low ? (1u << high) - (1u << low) : 0);
}

/* The weights of a row of scores, less `most`, of the keys that are in both masks, and their sum. */
INLINE float exponentials(const float *scores, long wide, const uint16_t *near, const uint16_t *inside, float most, bf16 *weights) {
    __m512 total = _mm512_setzero_ps(), shift = _mm512_set1_ps(most);
    for (long at = 0; at < wide; at += 32) {
        __m512 parts[2];
        for (int part = 0; part < 2; part++) {
            long from = at + 16 * part;
            parts[part] = _mm512_maskz_mov_ps(near[from / 16] & inside[from / 16], power(_mm512_sub_ps(_mm512_load_ps(scores + from), shift)));
            total = _mm512_add_ps(total, parts[part]);
        }
        store32(weights + at, parts[0], parts[1]);
    }
    return _mm512_reduce_add_ps(total);
}

/* How many keys the scores of 16 queries are with: all or, in a sliding layer, those from `reach` before the first query on. */
INLINE long keys_seen(const layer *part, long length) {
    return up_to(part->reach ? TILE + 2 * up_to(part->reach, 2) : length, 32);
}

/* Which of these keys the 16 queries see, wherever they are. */
AMX static void mask(const layer *part, room *room, long length) {
    long vectors = keys_seen(part, length) / 16, low = up_to(part->reach, 2) - part->reach;
    for (long at = 0; at < TILE * vectors; at++)
        room->masks[at] = part->reach ? between(at / vectors + low, at / vectors + low + 2 * part->reach + 1, at % vectors * 16) : 0xffff;
}

/* Attention of one window and head, whose rows begin at `place`. The greatest score of a row is only taken off where its sum is out of range. */
AMX static void attend(const layer *part, room *room, long place, long length) {
    long reach = up_to(part->reach, 2), wide = keys_seen(part, length), stride = up_to(length, TILE) + wide;
    uint16_t *near = room->masks, *inside = near + wide; /* inside: the window */
    for (long key = 0; key < length; key += TILE)
        transpose(room->key + place + key * WIDTH, room->keys + reach + key, stride);
    for (long key = 0; key < length; key += 2) {
        __m512i first = _mm512_loadu_si512(room->value + place + key * WIDTH), second = _mm512_loadu_si512(room->value + place + (key + 1) * WIDTH);
        uint32_t *to = room->values + (reach + key) / 2 * HEAD;
        _mm512_storeu_si512(to, _mm512_unpacklo_epi16(first, second)); /* `amx.py` orders the columns of the values for this */
        _mm512_storeu_si512(to + 16, _mm512_unpackhi_epi16(first, second));
    }
    for (long query = 0; query < length; query += TILE) {
        long start = part->reach ? query : 0, rows = length - query < TILE ? length - query : TILE;
        float totals[TILE], sums[TILE * 32] __attribute__((aligned(64)));
        stored();
        _tile_loadd(4, room->query + place + query * WIDTH, WIDTH * 2);
        for (long key = 0; key < wide; key += TILE) {
            inside[key / 16] = between(reach - start, reach - start + length, key);
            _tile_zero(0);
            _tile_loadd(6, room->keys + start + key, stride * 4);
            _tile_dpbf16ps(0, 4, 6);
            _tile_stored(0, room->scores + key, wide * 4);
        }
        for (long row = 0; row < rows; row++) {
            const float *scores = room->scores + row * wide;
            const uint16_t *seen = near + row * wide / 16;
            totals[row] = exponentials(scores, wide, seen, inside, 0, room->weights + row * wide);
            if (totals[row] > 1e-30f && totals[row] < 1e30f)
                continue;
            float most = -INFINITY;
            for (long key = 0; key < wide; key += 16)
                most = fmaxf(most, _mm512_mask_reduce_max_ps(seen[key / 16] & inside[key / 16], _mm512_load_ps(scores + key)));
            totals[row] = exponentials(scores, wide, seen, inside, most, room->weights + row * wide);
        }
        stored();
        _tile_zero(0);
        _tile_zero(1);
        for (long key = 0; key < wide; key += 32) {
            const uint32_t *values = room->values + (start + key) / 2 * HEAD;
            _tile_loadd(4, room->weights + key, wide * 2);
            _tile_loadd(6, values, 128);
            _tile_loadd(7, values + 16, 128);
            _tile_dpbf16ps(0, 4, 6);
            _tile_dpbf16ps(1, 4, 7);
        }
        _tile_stored(0, sums, 128);
        _tile_stored(1, sums + 16, 128);
        for (long row = 0; row < rows; row++) {
            __m512 share = _mm512_set1_ps(1 / totals[row]);
            store32(room->rows + place + (query + row) * WIDTH, _mm512_mul_ps(_mm512_load_ps(sums + row * 32), share), _mm512_mul_ps(_mm512_load_ps(sums + row * 32 + 16), share));
        }
    }
}

/* Add rows times a weight to the hidden states. */
INLINE void add_product(const bf16 *from, long inputs, const bf16 *weight, float *hidden, long rows) {
    float sums[32 * 32] __attribute__((aligned(64)));
    for (long column = 0; column < WIDTH; column += 32)
        for (long first = 0; first < rows; first += 32) {
            product(from + first * inputs, inputs, weight + column * inputs, sums);
            for (long row = 0; row < 32; row++)
                add32(hidden + (first + row) * WIDTH + column, sums + row * 32);
        }
}

/* What follows attention. */
AMX static void feed(const layer *part, room *room, float eps, long rows) {
    float up[32 * 32] __attribute__((aligned(64))), gate[32 * 32] __attribute__((aligned(64)));
    add_product(room->rows, WIDTH, part->out, room->hidden, rows);
    norm_rows(room, part->between, eps, rows);
    for (long column = 0; column < INNER; column += 32)
        for (long first = 0; first < rows; first += 32) {
            product(room->rows + first * WIDTH, WIDTH, part->up + column * WIDTH, up);
            product(room->rows + first * WIDTH, WIDTH, part->gate + column * WIDTH, gate);
            for (long row = 0; row < 32; row++)
                store32(room->inner + (first + row) * INNER + column, _mm512_mul_ps(gelu(_mm512_load_ps(up + row * 32)), _mm512_load_ps(gate + row * 32)),
                        _mm512_mul_ps(gelu(_mm512_load_ps(up + row * 32 + 16)), _mm512_load_ps(gate + row * 32 + 16)));
        }
    add_product(room->inner, INNER, part->down, room->hidden, rows);
}

/* All eight tiles are of 16 rows of 64 bytes. Constant, because some compilers do not see that the instruction reads all of it. */
AMX static void configure(void) {
    static const struct {
        uint8_t palette, start, none[14];
        uint16_t bytes[16];
        uint8_t rows[16];
    } tiles = {1, 0, {0}, {64, 64, 64, 64, 64, 64, 64, 64}, {TILE, TILE, TILE, TILE, TILE, TILE, TILE, TILE}};
    _tile_loadconfig(&tiles);
}

/* Token ids, int64 shape (count, length), to normed hidden states, fp32 shape (count, length, 128). Returns 0, or -1 without memory.
 *
 * words: normed embeddings, shape (vocabulary, 128); first: their queries, keys and values in the first layer, shape (vocabulary, 384);
 * last: weight of the last norm
 *
 * The number in the name is one more for every change of what is passed: a library that an older release left behind is not to be called.
 */
AMX int encode_1(const layer *layers, long depth, const float *words, const float *first, const float *last, float eps, const int64_t *ids, long count, long length, float *result) {
    long most = GROUP / length > 1 ? GROUP / length : 1, wide = length;
    most = most < count ? most : count;
    for (const layer *part = layers; part < layers + depth; part++)
        wide = wide > TILE + 2 * part->reach + 2 ? wide : TILE + 2 * part->reach + 2;
    wide = up_to(wide, 32);
    size_t rows = (size_t)up_to(most * length, 32) + TILE, keys = (size_t)(up_to(length, TILE) + wide);
    size_t bytes = (size_t)up_to((long)(rows * WIDTH * 12 + keys * 128) + wide * 100, 4096);
    char *memory = aligned_alloc(4096, bytes); /* so that a tile's 16 rows lie in one page, which makes a tenth of the time */
    if (!memory)
        return -1;
    memset(memory, 0, bytes); /* what lies beyond a window must be a number */
    room room;
    room.hidden = (float *)memory;
    room.rows = (bf16 *)(room.hidden + rows * WIDTH);
    room.query = room.inner = room.rows + rows * WIDTH;
    room.key = room.query + rows * WIDTH;
    room.value = room.key + rows * WIDTH;
    room.keys = (uint32_t *)(room.value + rows * WIDTH);
    room.values = room.keys + keys * 16;
    room.scores = (float *)(room.values + keys * 16);
    room.weights = (bf16 *)(room.scores + wide * 16);
    room.masks = room.weights + wide * 16;
    configure();
    for (long window = 0; window < count; window += most) {
        long some = count - window < most ? count - window : most, tokens = some * length;
        for (long row = 0; row < tokens; row++) {
            int64_t id = ids[window * length + row];
            memcpy(room.hidden + row * WIDTH, words + id * WIDTH, WIDTH * 4);
            for (long column = 0; column < 3 * WIDTH; column += HEAD)
                keep(layers, &room, first + id * 3 * WIDTH + column, row, row % length, column);
        }
        for (const layer *part = layers; part < layers + depth; part++) {
            if (part > layers)
                project(part, &room, eps, tokens, length);
            mask(part, &room, length);
            for (long place = 0; place < tokens * WIDTH; place += length * WIDTH)
                for (long head = 0; head < WIDTH; head += HEAD)
                    attend(part, &room, place + head, length);
            feed(part, &room, eps, tokens);
        }
        for (long row = 0; row < tokens; row++) {
            __m512 normed[WIDTH / 16];
            norm(room.hidden + row * WIDTH, last, eps, normed);
            for (int at = 0; at < WIDTH / 16; at++)
                _mm512_storeu_ps(result + (window * length + row) * WIDTH + 16 * at, normed[at]);
        }
    }
    _tile_release();
    free(memory);
    return 0;
}
