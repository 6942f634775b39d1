/* Runs the emulated AMX kernel, or the AVX kernel, on random encoders and windows, for sanitizers: see .ci/run.
 *
 * Checks that all outputs are finite and that a window's output is the same alone as in a batch.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel.h"

enum { VOCABULARY = 69, DEPTH = 3, BATCH = 5 };

static uint64_t state = 1;

/* Uniform in [-1, 1): xorshift64* (Vigna 2016). */
static float uniform(void) {
    state ^= state >> 12, state ^= state << 25, state ^= state >> 27;
    return (float)((int64_t)(state * 2685821657736338717u >> 40) - (1 << 23)) / (1 << 23);
}

static float *floats(size_t count, float scale) {
    float *values = malloc(count * sizeof *values);
    for (size_t at = 0; at < count; at++)
        values[at] = scale * uniform();
    return values;
}

#ifdef BERTSNR_AVX_KERNEL_H
/* Scales, then integers that keep sums within 31 bits. */
static float *weights(size_t outputs, size_t inputs, float scale) {
    float *values = malloc(outputs * sizeof(float) + outputs * inputs * sizeof(int16_t));
    int16_t *integers = (int16_t *)(values + outputs);
    for (size_t at = 0; at < outputs; at++)
        values[at] = scale / 1000;
    for (size_t at = 0; at < outputs * inputs; at++)
        integers[at] = (int16_t)(1000 * uniform());
    return values;
}
#else
static bf16 *weights(size_t outputs, size_t inputs, float scale) {
    bf16 *values = malloc(outputs * inputs * sizeof *values);
    for (size_t at = 0; at < outputs * inputs; at++) {
        float value = scale * uniform();
        uint32_t bits;
        memcpy(&bits, &value, 4);
        values[at] = (bf16)(bits >> 16);
    }
    return values;
}
#endif

static int check(long length, long window, float scale) {
    struct layer layers[DEPTH];
    void *memory[10 * DEPTH + 3], **next = memory;
    for (int number = 0; number < DEPTH; number++)
        layers[number] = (struct layer){
            .attention_norm = number ? *next++ = floats(WIDTH, 1) : NULL,
            .mlp_norm = *next++ = floats(WIDTH, 1),
            .cosine = *next++ = floats((size_t)length * HALF, 1),
            .sine = *next++ = floats((size_t)length * HALF, 1),
            .qkv = *next++ = weights(3 * WIDTH, WIDTH, scale),
            .attention_out = *next++ = weights(WIDTH, WIDTH, 0.1f),
            .up = *next++ = weights(INNER, WIDTH, 0.1f),
            .gate = *next++ = weights(INNER, WIDTH, 0.1f),
            .down = *next++ = weights(WIDTH, INNER, 0.1f),
            .window = number && window < length ? window : 0,
        };
    struct encoder encoder = {layers, DEPTH, floats(VOCABULARY * WIDTH, 1), floats(VOCABULARY * 3 * WIDTH, 10 * scale),
                              floats(WIDTH, 1), 1e-5f};
    *next++ = (void *)encoder.embedding, *next++ = (void *)encoder.first_qkv, *next++ = (void *)encoder.final_norm;
    size_t tokens = (size_t)(BATCH * length), values = (size_t)length * WIDTH;
    int64_t *ids = malloc(tokens * sizeof *ids);
    for (size_t at = 0; at < tokens; at++)
        ids[at] = (int64_t)((uniform() + 1) / 2 * VOCABULARY);
    float *together = malloc(BATCH * values * sizeof(float)), *alone = malloc(values * sizeof(float));
    int wrong = encode(&encoder, ids, BATCH, length, together) != 0;
    for (size_t at = 0; at < BATCH * values; at++)
        wrong |= !isfinite(together[at]);
    for (long number = 0; number < BATCH; number++) {
        wrong |= encode(&encoder, ids + number * length, 1, length, alone) != 0;
        wrong |= memcmp(alone, together + (size_t)number * values, values * sizeof(float)) != 0;
    }
    while (next > memory)
        free(*--next);
    free(ids), free(together), free(alone);
    if (wrong)
        printf("wrong: windows of %ld tokens, attention window %ld, scale %g\n", length, window, (double)scale);
    return wrong;
}

int main(void) {
    static const long lengths[] = {1, 2, 15, 16, 17, 31, 33, 100, 401}, windows[] = {1, 2, 5, 40};
    struct abi found = abi();
    int wrong = found.version != ABI_VERSION || found.layer_size != sizeof(struct layer);
    for (size_t length = 0; length < sizeof lengths / sizeof *lengths; length++)
        for (size_t window = 0; window < sizeof windows / sizeof *windows; window++)
            wrong |= check(lengths[length], windows[window], window == 3 ? 3 : 0.1f);
    puts(wrong ? "FAILED" : "the kernel passed");
    return wrong;
}
