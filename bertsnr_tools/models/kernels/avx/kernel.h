/* Interface and sizes of the AVX kernel: the forward pass of the compact encoder (`models/encoder.py`) with products in
 * 16-bit integers.
 *
 * `../compiled.py` mirrors the structs, `__init__.py` the sizes.
 */
#ifndef BERTSNR_AVX_KERNEL_H
#define BERTSNR_AVX_KERNEL_H

#include <stdint.h>

enum {
    ABI_VERSION = 1,  /* raise it with every change of a struct or of `encode` */
    WIDTH = 128,      /* hidden units */
    INNER = 256,      /* units of the feed-forward layer */
    HEAD_SIZE = 32,   /* units of an attention head */
    HALF = 16,        /* half a head; columns of a packed weight that are multiplied together */
    MOST = 8191,      /* largest magnitude of an input of a product; the weights keep sums within 31 bits */
    GROUP_ROWS = 210, /* tokens that pass through a layer together, about; 100 to 800 differ by less than 4 % */
};

/* One layer. A weight is a scale for each output, fp32, then int16, shape (outputs / 16, inputs / 2, 16, 2). */
struct layer {
    const float *attention_norm; /* shape (128,); NULL in the first layer, which has none */
    const float *mlp_norm;       /* shape (128,) */
    const float *cosine, *sine;  /* rotary embedding, shape (tokens, 16) */
    const float *qkv, *attention_out, *up, *gate, *down; /* queries are scaled by log2(e) / sqrt(head size) */
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

/* Token ids, shape (count, length), to hidden states after the final norm, shape (count, length, 128), for CPUs with
 * AVX2 and FMA, with AVX-VNNI too, with AVX-512 (F, BW, DQ, VL), and with its VNNI.
 *
 * Return 0, or -1 when out of memory. */
int encode_avx2(const struct encoder *encoder, const int64_t *ids, long count, long length, float *hidden);
int encode_avx_vnni(const struct encoder *encoder, const int64_t *ids, long count, long length, float *hidden);
int encode_avx512(const struct encoder *encoder, const int64_t *ids, long count, long length, float *hidden);
int encode_vnni(const struct encoder *encoder, const int64_t *ids, long count, long length, float *hidden);

#endif
