/* The forward pass of the compact encoder with AVX: products with weights in 16-bit integers, all else in fp32.
 *
 * The sources that include this file define for their instructions: AVX, the target; LANES, fp32 in a vector; ROWS that
 * are multiplied together, and EACH_ROW, which repeats a macro for each; ADD_PRODUCTS of pairs of int16; LARGER and
 * SMALLER of two vectors; integers, a vector's type; ENCODE, the function's name. Sums have names of their own because
 * compilers keep arrays of them in memory.
 *
 * A row (one for each token) is scaled to 14-bit integers before a product, so that it does not depend on other rows.
 * Rows beyond the last window, and keys beyond a window, are finite; they are masked or not read.
 */
#include <stdlib.h>

#include "vector_math.h"

enum { BLOCK = 2 * LANES }; /* columns of a product */

/* Scratch buffers for a group of windows. `inner` reuses the memory of `query` and `key`, `query` becomes the output of
 * attention. */
struct scratch {
    float *hidden;             /* the residual stream, shape (rows, 128) */
    int16_t *input;            /* inputs of the next product, shape (rows, 128 or 256) */
    float *scale;              /* of the inputs of each row */
    float *query, *key;        /* shape (rows, 128) */
    float *value;              /* shape (rows, 128), with `margin` rows on either side */
    float *inner;              /* of the feed-forward layer, shape (rows, 256) */
    float *columns;            /* keys of one head, shape (32, stride), from `margin` before the first */
    float *scores, *weights;   /* of ROWS queries with the keys, and their exponentials, shape (ROWS, stride) */
    long rows, margin, stride; /* rows is a multiple of ROWS; margin and stride suffice for every layer */
};

/* Scale a row to integers up to MOST. */
INLINE void quantize(const float *row, long inputs, int16_t *to, float *scale) {
    vector most = fill(1e-30f);
    for (long at = 0; at < inputs; at += LANES)
        most = LARGER(most, LARGER(load(row + at), -load(row + at)));
    *scale = largest_of(most) / MOST;
    float factor = 1 / *scale;
    for (long at = 0; at < inputs; at += LANES) {
        halves integers = __builtin_convertvector(nearest(load(row + at) * factor), halves);
        memcpy(to + at, &integers, sizeof integers);
    }
}

/* Layer norm without bias of a row. */
INLINE void layer_norm(const float *row, const float *weight, float eps, float *normed) {
    vector sum = fill(0), squares = fill(0);
    for (int at = 0; at < WIDTH; at += LANES)
        sum += load(row + at);
    float mean = sum_of(sum) / WIDTH;
    for (int at = 0; at < WIDTH; at += LANES) {
        vector centered = load(row + at) - mean;
        squares += centered * centered;
        store(normed + at, centered);
    }
    float scale = 1 / sqrtf(sum_of(squares) / WIDTH + eps);
    for (int at = 0; at < WIDTH; at += LANES)
        store(normed + at, load(normed + at) * scale * load(weight + at));
}

/* Layer norm of the residual stream, as inputs of a product. */
AVX static void norm_rows(struct scratch *scratch, const float *weight, float eps) {
    float normed[WIDTH];
    for (long row = 0; row < scratch->rows; row++) {
        layer_norm(scratch->hidden + row * WIDTH, weight, eps, normed);
        quantize(normed, WIDTH, scratch->input + row * WIDTH, scratch->scale + row);
    }
}

/* ROWS rows of inputs times the 32 columns of a weight that begin at `column`: shape (ROWS, 32). */
INLINE void multiply(const struct scratch *scratch, long row, long inputs, const float *weight, long outputs,
                     long column, float *product) {
    const int16_t *packed = (const int16_t *)(weight + outputs), *rows = scratch->input + row * inputs;
    for (long at = 0; at < HEAD_SIZE; at += BLOCK) {
        const int16_t *left = packed + (column + at) * inputs, *right = left + (LANES < HALF ? BLOCK : HALF * inputs);
        vector left_scales = load(weight + column + at), right_scales = load(weight + column + at + LANES), scales;
#define BEGIN(n) words left##n = {0}, right##n = {0};
#define ADD(n)                                                                                                         \
    both = load_integer(rows + n * inputs + input);                                                                    \
    left##n = ADD_PRODUCTS(left##n, both, lefts);                                                                      \
    right##n = ADD_PRODUCTS(right##n, both, rights);
#define STORE(n)                                                                                                       \
    scales = scratch->scale[row + n] - (vector){0};                                                                    \
    store(product + n * HEAD_SIZE + at, __builtin_convertvector(left##n, vector) * (left_scales * scales));            \
    store(product + n * HEAD_SIZE + at + LANES, __builtin_convertvector(right##n, vector) * (right_scales * scales));
        EACH_ROW(BEGIN)
        for (long input = 0; input < inputs; input += 2) {
            integers lefts = load_integers(left + input * HALF), rights = load_integers(right + input * HALF), both;
            EACH_ROW(ADD)
        }
        EACH_ROW(STORE)
#undef BEGIN
#undef ADD
#undef STORE
    }
}

/* Store a head of a row's queries, keys or values, which begins at `column` of the three. Queries and keys get their
 * rotary embedding (Su et al. 2021). */
INLINE void store_head(const struct layer *layer, struct scratch *scratch, const float *head, long row, long token,
                       long column) {
    float *parts[] = {scratch->query, scratch->key, scratch->value};
    float *to = parts[column / WIDTH] + row * WIDTH + column % WIDTH;
    if (column >= 2 * WIDTH) {
        memcpy(to, head, HEAD_SIZE * sizeof(float));
        return;
    }
    for (long at = 0; at < HALF; at += LANES) {
        vector left = load(head + at), right = load(head + HALF + at);
        vector cosine = load(layer->cosine + token * HALF + at), sine = load(layer->sine + token * HALF + at);
        store(to + at, left * cosine - right * sine);
        store(to + HALF + at, right * cosine + left * sine);
    }
}

/* Queries, keys and values of all rows. */
AVX static void project(const struct layer *layer, struct scratch *scratch, float eps, long length) {
    float product[ROWS * HEAD_SIZE];
    norm_rows(scratch, layer->attention_norm, eps);
    for (long column = 0; column < 3 * WIDTH; column += HEAD_SIZE)
        for (long row = 0, token = 0; row < scratch->rows; row += ROWS) {
            multiply(scratch, row, WIDTH, layer->qkv, 3 * WIDTH, column, product);
            for (long at = 0; at < ROWS; at++, token = token + 1 < length ? token + 1 : 0)
                store_head(layer, scratch, product + at * HEAD_SIZE, row + at, token, column);
        }
}

/* Token embeddings of a group, and from a table their queries, keys and values in the first layer. */
AVX static void embed(const struct encoder *encoder, struct scratch *scratch, const int64_t *ids, long rows,
                      long length) {
    for (long row = 0; row < rows; row++) {
        const float *qkv = encoder->first_qkv + ids[row] * 3 * WIDTH;
        memcpy(scratch->hidden + row * WIDTH, encoder->embedding + ids[row] * WIDTH, WIDTH * sizeof(float));
        for (long column = 0; column < 3 * WIDTH; column += HEAD_SIZE)
            store_head(encoder->layers, scratch, qkv + column, row, row % length, column);
    }
}

/* ROWS left rows of `inputs` numbers times `inputs` right rows of BLOCK: shape (ROWS, BLOCK). */
INLINE void multiply_floats(const float *left, long left_stride, long inputs, const float *right, long right_stride,
                            float *product, long stride) {
#define BEGIN(n) vector left##n = fill(0), right##n = fill(0);
#define ADD(n)                                                                                                         \
    left##n += left[n * left_stride + input] * lefts;                                                                  \
    right##n += left[n * left_stride + input] * rights;
#define STORE(n)                                                                                                       \
    store(product + n * stride, left##n);                                                                              \
    store(product + n * stride + LANES, right##n);
    EACH_ROW(BEGIN)
    for (long input = 0; input < inputs; input++) {
        vector lefts = load(right + input * right_stride), rights = load(right + input * right_stride + LANES);
        EACH_ROW(ADD)
    }
    EACH_ROW(STORE)
#undef BEGIN
#undef ADD
#undef STORE
}

/* exp2(scores - shift) of the keys from `low` to `high`, 0 of others; returns their sum. */
INLINE float exponentials(const float *scores, long keys, long low, long high, float shift, float *powers) {
    vector total = fill(0);
    words lane;
    for (int at = 0; at < LANES; at++)
        lane[at] = at;
    for (long key = 0; key < keys; key += LANES) {
        words seen = (lane >= (int32_t)(low - key)) & (lane < (int32_t)(high - key));
        vector power = exp2_vector(load(scores + key) - shift);
        power = (vector)((words)power & seen);
        total += power;
        store(powers + key, power);
    }
    return sum_of(total);
}

/* Softmax of a row of scores, before the division by the returned sum. The maximum is subtracted only where the sum of
 * the plain exponentials would be out of range, which is rare. */
INLINE float softmax(const float *scores, long keys, long low, long high, float *weights) {
    float total = exponentials(scores, keys, low, high, 0, weights);
    if (total > 1e-30f && total < 1e30f)
        return total;
    float largest = -INFINITY;
    for (long key = low; key < high; key++)
        largest = fmaxf(largest, scores[key]);
    return exponentials(scores, keys, low, high, largest, weights);
}

/* Attention of ROWS queries from `first` on, of one head that begins at `offset`, whose keys are in `columns`. */
INLINE void attend(struct scratch *scratch, long offset, long first, long length, long window) {
    long start = window ? first - window : 0, end = window ? first + ROWS + window : length;
    long keys = (end - start + BLOCK - 1) / BLOCK * BLOCK, count = length - first < ROWS ? length - first : ROWS;
    const float *columns = scratch->columns + scratch->margin + start;
    float totals[ROWS], mixed[ROWS * HEAD_SIZE], *query = scratch->query + offset + first * WIDTH;
    for (long key = 0; key < keys; key += BLOCK)
        multiply_floats(query, WIDTH, HEAD_SIZE, columns + key, scratch->stride, scratch->scores + key,
                        scratch->stride);
    for (long row = 0; row < ROWS; row++) {
        long low = window ? row : 0, high = window ? row + 2 * window + 1 : length;
        low = low > -start ? low : -start;
        high = high < length - start ? high : length - start;
        totals[row] = softmax(scratch->scores + row * scratch->stride, keys, low, high,
                              scratch->weights + row * scratch->stride);
    }
    for (long half = 0; half < HEAD_SIZE; half += BLOCK)
        multiply_floats(scratch->weights, scratch->stride, keys, scratch->value + offset + start * WIDTH + half, WIDTH,
                        mixed + half, HEAD_SIZE);
    for (long row = 0; row < count; row++)
        for (long at = 0; at < HEAD_SIZE; at += LANES)
            store(query + row * WIDTH + at, load(mixed + row * HEAD_SIZE + at) / totals[row]);
}

/* Attention of all windows of a group, in place of the queries. */
AVX static void mix(const struct layer *layer, struct scratch *scratch, long rows, long length) {
    for (long offset = 0; offset < rows * WIDTH; offset += length * WIDTH)
        for (long head = offset; head < offset + WIDTH; head += HEAD_SIZE) {
            for (long key = 0; key < length; key++)
                for (long unit = 0; unit < HEAD_SIZE; unit++)
                    scratch->columns[unit * scratch->stride + scratch->margin + key] =
                        scratch->key[head + key * WIDTH + unit];
            for (long first = 0; first < length; first += ROWS)
                attend(scratch, head, first, length, layer->window);
        }
}

/* Add the product of rows and a weight of 128 outputs to the residual stream. */
INLINE void add_product(struct scratch *scratch, const float *rows, long inputs, const float *weight) {
    float product[ROWS * HEAD_SIZE];
    for (long row = 0; row < scratch->rows; row++)
        quantize(rows + row * inputs, inputs, scratch->input + row * inputs, scratch->scale + row);
    for (long column = 0; column < WIDTH; column += HEAD_SIZE)
        for (long row = 0; row < scratch->rows; row += ROWS) {
            multiply(scratch, row, inputs, weight, WIDTH, column, product);
            for (long at = 0; at < ROWS * HEAD_SIZE; at += LANES) {
                float *to = scratch->hidden + (row + at / HEAD_SIZE) * WIDTH + column + at % HEAD_SIZE;
                store(to, load(to) + load(product + at));
            }
        }
}

/* The rest of a layer. */
AVX static void feed_forward(const struct layer *layer, struct scratch *scratch, float eps) {
    float up[ROWS * HEAD_SIZE], gate[ROWS * HEAD_SIZE];
    add_product(scratch, scratch->query, WIDTH, layer->attention_out);
    norm_rows(scratch, layer->mlp_norm, eps);
    for (long column = 0; column < INNER; column += HEAD_SIZE)
        for (long row = 0; row < scratch->rows; row += ROWS) {
            multiply(scratch, row, WIDTH, layer->up, INNER, column, up);
            multiply(scratch, row, WIDTH, layer->gate, INNER, column, gate);
            for (long at = 0; at < ROWS * HEAD_SIZE; at += LANES)
                store(scratch->inner + (row + at / HEAD_SIZE) * INNER + column + at % HEAD_SIZE,
                      gelu(load(up + at)) * load(gate + at));
        }
    add_product(scratch, scratch->inner, INNER, layer->down);
}

/* Scratch buffers in one piece of memory, which the caller frees; NULL when out of memory. */
static void *allocate(const struct encoder *encoder, struct scratch *scratch, long rows, long length) {
    long window = 0;
    for (long layer = 0; layer < encoder->depth; layer++)
        window = encoder->layers[layer].window > window ? encoder->layers[layer].window : window;
    scratch->rows = (rows + ROWS - 1) / ROWS * ROWS;
    scratch->margin = window + ROWS + BLOCK;
    scratch->stride = (length + 2 * scratch->margin + HALF - 1) / HALF * HALF;
    rows = scratch->rows + ROWS; /* the last queries of a window are scored with the rows after them */
    long values = rows + 2 * scratch->margin;
    long floats = rows * WIDTH * 4 + rows + values * WIDTH + (HEAD_SIZE + 2 * ROWS) * scratch->stride;
    float *memory = aligned_alloc(64, (floats * sizeof(float) + 63) / 64 * 64);
    if (!memory)
        return NULL;
    memset(memory, 0, floats * sizeof(float)); /* what lies beyond a window must be finite */
    scratch->hidden = memory;
    scratch->input = (int16_t *)(scratch->hidden + rows * WIDTH);
    scratch->query = scratch->inner = (float *)scratch->input + rows * WIDTH;
    scratch->key = scratch->query + rows * WIDTH;
    scratch->value = scratch->key + (rows + scratch->margin) * WIDTH;
    scratch->columns = scratch->value + (rows + scratch->margin) * WIDTH;
    scratch->scores = scratch->columns + HEAD_SIZE * scratch->stride;
    scratch->weights = scratch->scores + ROWS * scratch->stride;
    scratch->scale = scratch->weights + ROWS * scratch->stride;
    return memory;
}

AVX static void run_layers(const struct encoder *encoder, struct scratch *scratch, long rows, long length) {
    for (const struct layer *layer = encoder->layers; layer < encoder->layers + encoder->depth; layer++) {
        if (layer > encoder->layers)
            project(layer, scratch, encoder->eps, length);
        mix(layer, scratch, rows, length);
        feed_forward(layer, scratch, encoder->eps);
    }
}

AVX int ENCODE(const struct encoder *encoder, const int64_t *ids, long count, long length, float *hidden) {
    long group = GROUP_ROWS / length > 1 ? GROUP_ROWS / length : 1;
    group = group < count ? group : count;
    struct scratch scratch;
    void *memory = allocate(encoder, &scratch, group * length, length);
    if (!memory)
        return -1;
    for (long window = 0; window < count; window += group) {
        long rows = (count - window < group ? count - window : group) * length;
        embed(encoder, &scratch, ids + window * length, rows, length);
        run_layers(encoder, &scratch, rows, length);
        for (long row = 0; row < rows; row++)
            layer_norm(scratch.hidden + row * WIDTH, encoder->final_norm, encoder->eps,
                       hidden + (window * length + row) * WIDTH);
    }
    free(memory);
    return 0;
}
