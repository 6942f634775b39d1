/* Interface and sizes of the AMX kernel: the forward pass of the compact encoder (`models/encoder.py`) in bf16.
 *
 * `../compiled.py` mirrors the structs and sizes. It calls `abi` first and refuses a library built from other ones.
 */
#ifndef BERTSNR_AMX_KERNEL_H
#define BERTSNR_AMX_KERNEL_H

#include <stdint.h>

#define AMX __attribute__((target("amx-tile,amx-bf16,avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")))
#define INLINE AMX static inline __attribute__((always_inline))

enum {
    ABI_VERSION = 2,  /* raise it with every change of a struct or of `encode` */
    WIDTH = 128,      /* hidden units */
    INNER = 256,      /* units of the feed-forward layer */
    HEAD_SIZE = 32,   /* units of an attention head: the inputs of one tile */
    HALF = 16,        /* half a head: a vector of fp32 */
    TILE_ROWS = 16,   /* rows of a tile, and columns of a tile of sums */
    TILE_INPUTS = 32, /* bf16 inputs in a row of a tile */
    GROUP_ROWS = 400, /* tokens that pass through a layer together, about; measured: more and fewer are slower */
};

typedef uint16_t bf16;

/* One layer. Weights are packed by tiles: shape (outputs / 16, inputs / 32, 16 input pairs, 16 outputs, 2). */
struct layer {
    const float *attention_norm; /* shape (128,); NULL in the first layer, which has none */
    const float *mlp_norm;       /* shape (128,) */
    const float *cosine, *sine;  /* rotary embedding, shape (tokens, 16) */
    const bf16 *qkv, *attention_out, *up, *gate, *down;
    long window; /* tokens seen on either side; 0: all tokens */
};

struct encoder {
    const struct layer *layers;
    long depth;
    const float *embedding;  /* token embedding after its norm, shape (vocabulary, 128) */
    const float *first_qkv;  /* its queries, keys and values in the first layer, shape (vocabulary, 384) */
    const float *final_norm; /* shape (128,) */
    float eps;               /* of all norms */
};

struct abi {
    int32_t version, encoder_size, layer_size;
};

struct abi abi(void);

/* Token ids, shape (count, length), to hidden states after the final norm, shape (count, length, 128).
 *
 * Returns 0, or -1 when out of memory. */
int encode(const struct encoder *encoder, const int64_t *ids, long count, long length, float *hidden);

#endif
