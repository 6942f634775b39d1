/* The forward pass of the compact encoder with AMX: products in bf16 with fp32 sums, all else in fp32.
 *
 * Windows pass through the layers in groups whose rows (one for each token) fit the second-level cache beside the
 * weights of a layer. A window's result does not depend on its neighbours, as long as all values are finite: what a
 * tile contains beyond a window is masked, multiplied by 0, or not stored.
 */
#include "kernel.h"

#include <stdlib.h>
#include <string.h>

#include "tiles.h"
#include "vector_math.h"

/* Scratch buffers for a group of windows. `inner` reuses the memory of `query` and `key`. */
struct scratch {
    float *hidden;              /* the residual stream, shape (rows, 128) */
    bf16 *input;                /* inputs of the next product, shape (rows, 128) */
    bf16 *query, *key, *value;  /* shape (rows, 128) */
    bf16 *inner;                /* of the feed-forward layer, shape (rows, 256) */
    uint32_t *packed_keys;      /* of one head: 16 pairs of units, each of all keys */
    uint32_t *packed_values;    /* of one head: pairs of tokens, each of 32 units */
    float *scores;              /* of 16 queries, shape (16, keys) */
    bf16 *weights;              /* their exponentials, shape (16, keys) */
    uint16_t *seen;             /* bit masks: keys that each query sees, shape (16, keys / 16) */
    uint16_t *inside;           /* bit mask: keys that are tokens of the window, shape (keys / 16,) */
};

/* Which keys a block of 16 queries is scored with: all keys or, in a local layer, the keys that at least one of them
 * sees. */
struct span {
    int local;
    long padding; /* zero keys before the first: the attention window, even because values are packed in pairs */
    long keys;    /* keys of a block, a multiple of 32 */
    long stride;  /* pairs between rows of the packed keys */
};

static inline long span_keys(long window, long length) {
    return round_up(window ? TILE_ROWS + 2 * round_up(window, 2) : length, TILE_INPUTS);
}

static inline struct span key_span(const struct layer *layer, long length) {
    long keys = span_keys(layer->window, length);
    return (struct span){layer->window != 0, round_up(layer->window, 2), keys, round_up(length, TILE_ROWS) + keys};
}

/* Layer norm of the residual stream, as inputs of a product. */
AMX static void norm_rows(struct scratch *scratch, const float *weight, float eps, long rows) {
    __m512 normed[WIDTH / VECTOR];
    for (long row = 0; row < rows; row++) {
        layer_norm(scratch->hidden + row * WIDTH, weight, eps, normed);
        for (int at = 0; at < WIDTH / VECTOR; at += 2)
            store_bf16(scratch->input + row * WIDTH + VECTOR * at, normed[at], normed[at + 1]);
    }
}

/* Store a head of a row's queries, keys or values, which begins at `column` of the three. Queries and keys get their
 * rotary embedding (Su et al. 2021). Queries are scaled by log2(e) / sqrt(head size), so that softmax takes powers of
 * 2. */
INLINE void store_head(const struct layer *layer, struct scratch *scratch, const float *sums, long row, long token,
                       long column) {
    __m512 left = _mm512_loadu_ps(sums), right = _mm512_loadu_ps(sums + HALF);
    long at = row * WIDTH + column % WIDTH;
    if (column >= 2 * WIDTH) {
        store_bf16(scratch->value + at, left, right);
        return;
    }
    __m512 cosine = _mm512_loadu_ps(layer->cosine + token * HALF);
    __m512 sine = _mm512_loadu_ps(layer->sine + token * HALF);
    __m512 rotated = _mm512_fmsub_ps(left, cosine, _mm512_mul_ps(right, sine));
    right = _mm512_fmadd_ps(right, cosine, _mm512_mul_ps(left, sine));
    if (column < WIDTH) {
        __m512 scale = _mm512_set1_ps(1.44269504f / sqrtf(HEAD_SIZE));
        store_bf16(scratch->query + at, _mm512_mul_ps(rotated, scale), _mm512_mul_ps(right, scale));
    } else {
        store_bf16(scratch->key + at, rotated, right);
    }
}

/* Queries, keys and values of all rows. */
AMX static void project(const struct layer *layer, struct scratch *scratch, float eps, long rows, long length) {
    float sums[32 * 32] __attribute__((aligned(64)));
    norm_rows(scratch, layer->attention_norm, eps, rows);
    for (long column = 0; column < 3 * WIDTH; column += HEAD_SIZE)
        for (long first = 0, token = 0; first < rows; first += 32) {
            multiply(scratch->input + first * WIDTH, WIDTH, layer->qkv + column * WIDTH, sums);
            for (long row = 0; row < 32; row++, token = token + 1 < length ? token + 1 : 0)
                store_head(layer, scratch, sums + row * 32, first + row, token, column);
        }
}

/* Token embeddings of a group, and from a table their queries, keys and values in the first layer. */
AMX static void embed(const struct encoder *encoder, struct scratch *scratch, const int64_t *ids, long rows,
                      long length) {
    for (long row = 0; row < rows; row++) {
        const float *qkv = encoder->first_qkv + ids[row] * 3 * WIDTH;
        memcpy(scratch->hidden + row * WIDTH, encoder->embedding + ids[row] * WIDTH, WIDTH * sizeof(float));
        for (long column = 0; column < 3 * WIDTH; column += HEAD_SIZE)
            store_head(encoder->layers, scratch, qkv + column, row, row % length, column);
    }
}

/* The keys of a block that each of its 16 queries sees: the same for all blocks. */
AMX static void mark_seen(const struct layer *layer, struct span span, struct scratch *scratch) {
    long vectors = span.keys / VECTOR, first = span.padding - layer->window;
    for (long query = 0; query < TILE_ROWS; query++)
        for (long at = 0; at < vectors; at++)
            scratch->seen[query * vectors + at] =
                span.local ? range_mask(query + first, query + first + 2 * layer->window + 1, at * VECTOR) : 0xffff;
}

/* exp2(scores - shift) of the keys that are seen and inside, as bf16; returns their sum. */
INLINE float exponentials(const struct scratch *scratch, long row, long keys, float shift) {
    const float *scores = scratch->scores + row * keys;
    const uint16_t *seen = scratch->seen + row * keys / VECTOR, *inside = scratch->inside;
    __m512 total = _mm512_setzero_ps(), shifts = _mm512_set1_ps(shift);
    for (long at = 0; at < keys; at += TILE_INPUTS) {
        __m512 halves[2];
        for (int half = 0; half < 2; half++) {
            long key = at + VECTOR * half;
            __m512 power = exp2_vector(_mm512_sub_ps(_mm512_load_ps(scores + key), shifts));
            halves[half] = _mm512_maskz_mov_ps(seen[key / VECTOR] & inside[key / VECTOR], power);
            total = _mm512_add_ps(total, halves[half]);
        }
        store_bf16(scratch->weights + row * keys + at, halves[0], halves[1]);
    }
    return _mm512_reduce_add_ps(total);
}

/* Softmax of a row of scores, before the division by the returned sum. The maximum is subtracted only where the sum of
 * the plain exponentials would be out of range: with the scores of trained models it is not, and the maximum costs a
 * pass. */
INLINE float softmax(const struct scratch *scratch, long row, long keys) {
    float total = exponentials(scratch, row, keys, 0);
    if (total > 1e-30f && total < 1e30f)
        return total;
    const float *scores = scratch->scores + row * keys;
    const uint16_t *seen = scratch->seen + row * keys / VECTOR, *inside = scratch->inside;
    float maximum = -INFINITY;
    for (long key = 0; key < keys; key += VECTOR) {
        __mmask16 mask = seen[key / VECTOR] & inside[key / VECTOR];
        maximum = fmaxf(maximum, _mm512_mask_reduce_max_ps(mask, _mm512_load_ps(scores + key)));
    }
    return exponentials(scratch, row, keys, maximum);
}

/* Scores of 16 queries with the keys from `start` on. */
INLINE void score(struct span span, struct scratch *scratch, const bf16 *query, long start, long length) {
    finish_stores();
    _tile_loadd(4, query, WIDTH * 2);
    for (long key = 0; key < span.keys; key += TILE_ROWS) {
        scratch->inside[key / VECTOR] = range_mask(span.padding - start, span.padding - start + length, key);
        _tile_zero(0);
        _tile_loadd(6, scratch->packed_keys + start + key, span.stride * 4);
        _tile_dpbf16ps(0, 4, 6);
        _tile_stored(0, scratch->scores + key, span.keys * 4);
    }
}

/* Sums of the values of 16 queries, weighted; shape (16, 32). */
INLINE void mix(struct span span, const struct scratch *scratch, long start, float *sums) {
    finish_stores();
    _tile_zero(0);
    _tile_zero(1);
    for (long key = 0; key < span.keys; key += TILE_INPUTS) {
        const uint32_t *values = scratch->packed_values + (start + key) / 2 * HEAD_SIZE;
        _tile_loadd(4, scratch->weights + key, span.keys * 2);
        _tile_loadd(6, values, 128);
        _tile_loadd(7, values + TILE_ROWS, 128);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
    }
    _tile_stored(0, sums, 128);
    _tile_stored(1, sums + TILE_ROWS, 128);
}

/* Attention of one window and head, which begin at `offset` in queries, keys, values and output. */
AMX static void attend(struct span span, struct scratch *scratch, long offset, long length) {
    for (long key = 0; key < length; key += TILE_ROWS)
        transpose_pairs(scratch->key + offset + key * WIDTH, scratch->packed_keys + span.padding + key, span.stride);
    for (long key = 0; key < length; key += 2)
        interleave_rows(scratch->value + offset + key * WIDTH,
                        scratch->packed_values + (span.padding + key) / 2 * HEAD_SIZE);
    for (long query = 0; query < length; query += TILE_ROWS) {
        long start = span.local ? query : 0, rows = length - query < TILE_ROWS ? length - query : TILE_ROWS;
        float totals[TILE_ROWS], sums[TILE_ROWS * 32] __attribute__((aligned(64)));
        score(span, scratch, scratch->query + offset + query * WIDTH, start, length);
        for (long row = 0; row < rows; row++)
            totals[row] = softmax(scratch, row, span.keys);
        mix(span, scratch, start, sums);
        for (long row = 0; row < rows; row++) {
            __m512 scale = _mm512_set1_ps(1 / totals[row]), left = _mm512_load_ps(sums + row * 32);
            __m512 right = _mm512_load_ps(sums + row * 32 + HALF);
            bf16 *to = scratch->input + offset + (query + row) * WIDTH;
            store_bf16(to, _mm512_mul_ps(left, scale), _mm512_mul_ps(right, scale));
        }
    }
}

/* Add a product to the residual stream. */
INLINE void add_product(const bf16 *input, long inputs, const bf16 *weight, float *hidden, long rows) {
    float sums[32 * 32] __attribute__((aligned(64)));
    for (long column = 0; column < WIDTH; column += 32)
        for (long first = 0; first < rows; first += 32) {
            multiply(input + first * inputs, inputs, weight + column * inputs, sums);
            for (long row = 0; row < 32; row++) {
                float *to = hidden + (first + row) * WIDTH + column;
                for (int half = 0; half < 32; half += VECTOR) {
                    __m512 added = _mm512_load_ps(sums + row * 32 + half);
                    _mm512_storeu_ps(to + half, _mm512_add_ps(_mm512_loadu_ps(to + half), added));
                }
            }
        }
}

/* The output projection of attention and the gated feed-forward layer, each with its residual. */
AMX static void feed_forward(const struct layer *layer, struct scratch *scratch, float eps, long rows) {
    float up[32 * 32] __attribute__((aligned(64))), gate[32 * 32] __attribute__((aligned(64)));
    add_product(scratch->input, WIDTH, layer->attention_out, scratch->hidden, rows);
    norm_rows(scratch, layer->mlp_norm, eps, rows);
    for (long column = 0; column < INNER; column += 32)
        for (long first = 0; first < rows; first += 32) {
            multiply(scratch->input + first * WIDTH, WIDTH, layer->up + column * WIDTH, up);
            multiply(scratch->input + first * WIDTH, WIDTH, layer->gate + column * WIDTH, gate);
            for (long row = 0; row < 32; row++) {
                const float *activated = up + row * 32, *gates = gate + row * 32;
                __m512 left = _mm512_mul_ps(gelu(_mm512_load_ps(activated)), _mm512_load_ps(gates));
                __m512 right = _mm512_mul_ps(gelu(_mm512_load_ps(activated + VECTOR)), _mm512_load_ps(gates + VECTOR));
                store_bf16(scratch->inner + (first + row) * INNER + column, left, right);
            }
        }
    add_product(scratch->inner, INNER, layer->down, scratch->hidden, rows);
}

/* Allocate scratch buffers for `tokens` rows of windows of `length`; returns the block to free, or NULL. */
static void *allocate(const struct encoder *encoder, struct scratch *scratch, long tokens, long length) {
    long most_keys = span_keys(0, length);
    for (long number = 0; number < encoder->depth; number++) {
        long keys = span_keys(encoder->layers[number].window, length);
        most_keys = most_keys > keys ? most_keys : keys;
    }
    size_t rows = (size_t)round_up(tokens, 32) + TILE_ROWS, keys = (size_t)most_keys;
    size_t packed = (size_t)round_up(length, TILE_ROWS) + keys;
    size_t row_bytes = WIDTH * (sizeof(float) + 4 * sizeof(bf16));
    size_t key_bytes = TILE_ROWS * (sizeof(float) + sizeof(bf16)) + 2 * sizeof(uint16_t);
    size_t bytes = rows * row_bytes + packed * HEAD_SIZE * sizeof(uint32_t) + keys * key_bytes;
    bytes = (bytes + 4095) / 4096 * 4096;
    char *memory = aligned_alloc(4096, bytes); /* a tile's 16 rows in one page: saves a tenth of the time */
    if (!memory)
        return NULL;
    memset(memory, 0, bytes); /* what lies beyond a window must be finite */
    scratch->hidden = (float *)memory;
    scratch->input = (bf16 *)(scratch->hidden + rows * WIDTH);
    scratch->query = scratch->inner = scratch->input + rows * WIDTH;
    scratch->key = scratch->query + rows * WIDTH;
    scratch->value = scratch->key + rows * WIDTH;
    scratch->packed_keys = (uint32_t *)(scratch->value + rows * WIDTH);
    scratch->packed_values = scratch->packed_keys + packed * HEAD_SIZE / 2;
    scratch->scores = (float *)(scratch->packed_values + packed * HEAD_SIZE / 2);
    scratch->weights = (bf16 *)(scratch->scores + keys * TILE_ROWS);
    scratch->seen = scratch->weights + keys * TILE_ROWS;
    scratch->inside = scratch->seen + keys;
    return memory;
}

AMX static void run_layers(const struct encoder *encoder, struct scratch *scratch, long rows, long length) {
    for (const struct layer *layer = encoder->layers; layer < encoder->layers + encoder->depth; layer++) {
        struct span span = key_span(layer, length);
        if (layer > encoder->layers)
            project(layer, scratch, encoder->eps, rows, length);
        mark_seen(layer, span, scratch);
        for (long window = 0; window < rows * WIDTH; window += length * WIDTH)
            for (long head = 0; head < WIDTH; head += HEAD_SIZE)
                attend(span, scratch, window + head, length);
        feed_forward(layer, scratch, encoder->eps, rows);
    }
}

struct abi abi(void) {
    return (struct abi){ABI_VERSION, sizeof(struct encoder), sizeof(struct layer)};
}

AMX int encode(const struct encoder *encoder, const int64_t *ids, long count, long length, float *hidden) {
    long group = GROUP_ROWS / length > 1 ? GROUP_ROWS / length : 1;
    group = group < count ? group : count;
    struct scratch scratch;
    void *memory = allocate(encoder, &scratch, group * length, length);
    if (!memory)
        return -1;
    configure_tiles();
    for (long window = 0; window < count; window += group) {
        long rows = (count - window < group ? count - window : group) * length;
        embed(encoder, &scratch, ids + window * length, rows, length);
        run_layers(encoder, &scratch, rows, length);
        for (long row = 0; row < rows; row++) {
            __m512 normed[WIDTH / VECTOR];
            layer_norm(scratch.hidden + row * WIDTH, encoder->final_norm, encoder->eps, normed);
            for (int at = 0; at < WIDTH / VECTOR; at++)
                _mm512_storeu_ps(hidden + (window * length + row) * WIDTH + VECTOR * at, normed[at]);
        }
    }
    _tile_release();
    free(memory);
    return 0;
}
