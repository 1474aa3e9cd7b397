/* Arithmetic on raw memory: one table of functions for each instruction set, chosen once at start.
 *
 * The rule that everything here keeps: a result depends only on its own row's operands, never on
 * the number of tokens in the call, the tiling, the thread that computed it or the instruction
 * set. Lanes are output rows; every output adds its blocks along K in ascending order; floating
 * point is f32 with explicit fma; so all tables return the same bits, and the scalar table is the
 * definition. */
#ifndef SHOAL_KERNELS_KERNELS_H
#define SHOAL_KERNELS_KERNELS_H

#include "base/error.h"
#include "quant/quants.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Output rows interleaved in a packed weight, and positions interleaved in a page of keys. */
#define KERNEL_LANES 16
/* Weights along K that share one activation scale. */
#define KERNEL_BLOCK 32
/* Tokens of one activation tile; a batch is cut into tiles of this many, the last one smaller. */
#define KERNEL_TILE 8
/* Positions of one KV page; a multiple of KERNEL_LANES. */
#define KERNEL_PAGE 64

/* A weight matrix (rows, cols) in compute layout: groups of 16 rows, each group contiguous. Rows
 * are padded to a multiple of 16, cols to what the layout needs; padding is zero and contributes
 * nothing. data is borrowed. */
struct packed {
    enum quant_type type; /* type in the file; it decides the layout */
    int rows;             /* logical output rows */
    int cols;             /* logical K */
    size_t group_bytes;   /* kernels_group_bytes(type, cols) */
    const uint8_t *data;  /* (groups, group_bytes), 64-byte aligned */
};

/* How a matmul sees its input. */
enum activation {
    ACTIVATION_F32, /* for F32, F16, BF16 weights, and for every type in exact mode */
    ACTIVATION_Q8,  /* signed int8 with one f32 scale for 32 values; -128 never occurs */
    ACTIVATION_COUNT
};

/* One head group of one sequence: n_queries query rows that attend to the same KV head. */
struct attention {
    int head_dim;  /* of q and k */
    int value_dim; /* of v and out */
    int n_queries;
    const float *const *q; /* (n_queries) rows of head_dim, already rotated */
    float *const *out;     /* (n_queries) rows of value_dim, overwritten */
    const int32_t *first;  /* (n_queries) first visible position, inclusive */
    const int32_t *last;   /* (n_queries) last visible position, inclusive */
    /* pages[p] holds positions [p * KERNEL_PAGE, (p + 1) * KERNEL_PAGE) of this layer and KV
     * head: the keys, then the values. A page that no query sees may be NULL. All bytes of a
     * page are initialised (finite) even where no position was stored. */
    const uint8_t *const *pages;
    bool f32;          /* elements are f32, else IEEE half */
    float scale;       /* applied to q . k */
    float softcap;     /* 0: none; else softcap * tanh(score / softcap) */
    const float *sink; /* NULL, or (n_queries) logits that join the softmax without a value */
    float *scratch;    /* kernels_attention_scratch() floats, 64-byte aligned */
};

/* Bytes of one page of one layer and KV head: keys [head_dim][16] for each 16 positions, then
 * values [position][value_dim]. */
size_t kernels_page_bytes(int head_dim, int value_dim, bool f32);

/* Floats of scratch for n_queries over positions [first, last] (n_positions = last - first + 1,
 * the widest of the queries). */
size_t kernels_attention_scratch(int n_queries, int n_positions);

/* Queries that one attention call works on at best; more are allowed. */
#define KERNEL_QUERIES 16

struct kernels {
    /* "scalar", "avx2", "avx512", "neon", "dotprod"; and "avx2-prefetch", "avx512-prefetch",
     * "avx512-zen5", which differ in when they ask for memory only. */
    const char *name;
    const char *isa; /* the name without what follows the hyphen */

    /* Activation packing. x is (tokens, ldx) f32 rows, the first cols of each are taken. Writes
     * tile `tile` (tokens [tile * KERNEL_TILE, ...)) of the packed batch at out, whose size is
     * kernels_activation_bytes(format, tokens, cols). Tiles may be packed by different threads. */
    void (*pack_activation)(enum activation format, const float *x, size_t ldx, int tokens,
                            int cols, int tile, void *out);

    /* y[t][row] = sum over k of w[row][k] * x[t][k] for the rows of groups
     * [group_begin, group_end) and all tokens; y is (tokens, ldy) f32. Rows beyond w->rows are
     * not written. act was packed with kernels_activation_format(w->type, false) over w->cols. */
    void (*matmul)(const struct packed *w, const void *act, int tokens, int group_begin,
                   int group_end, float *y, size_t ldy);

    /* The same from f32 activations with the weights dequantized exactly: any type, no rounding
     * of activations. act was packed as ACTIVATION_F32. */
    void (*matmul_exact)(const struct packed *w, const void *act, int tokens, int group_begin,
                         int group_end, float *y, size_t ldy);

    /* Writes row `row` of w, dequantized, to out (cols) f32: the embedding look-up. */
    void (*unpack_row)(const struct packed *w, int row, float *out);

    /* out = x / sqrt(mean(x^2) + eps) * weight; weight may be NULL (ones). out may be x. */
    void (*rms_norm)(const float *x, const float *weight, int n, float eps, float *out);
    /* LayerNorm; weight and bias may be NULL. out may be x. */
    void (*layer_norm)(const float *x, const float *weight, const float *bias, int n, float eps,
                       float *out);
    /* Rotates n_pairs pairs of one head in place by (cos, sin) of (n_pairs). interleaved: pairs
     * (2i, 2i+1); else (i, i + n_pairs). */
    void (*rope)(float *x, int n_pairs, bool interleaved, const float *cos, const float *sin);
    /* out = silu(gate) * up ; gelu: the tanh form; out may be gate or up. up NULL: no product. */
    void (*silu_mul)(const float *gate, const float *up, int n, float *out);
    void (*gelu_mul)(const float *gate, const float *up, int n, float *out);
    /* relu(gate)^2 * up; sigmoid(gate) * up. */
    void (*relu2_mul)(const float *gate, const float *up, int n, float *out);
    void (*sigmoid_mul)(const float *gate, const float *up, int n, float *out);
    void (*add)(const float *a, const float *b, int n, float *out); /* out may be a or b */
    void (*mul)(const float *a, const float *b, int n, float *out);
    void (*scale)(const float *a, float factor, int n, float *out);
    /* out = a + b * factor, one fma each. */
    void (*add_scaled)(const float *a, const float *b, float factor, int n, float *out);
    /* out = cap * tanh(a / cap). */
    void (*softcap)(const float *a, float cap, int n, float *out);
    /* Softmax over n values; max, exp and sum in 16 fixed lanes. out may be x. */
    void (*softmax)(const float *x, int n, float *out);

    /* Stores one position's key and value into a page (see struct attention). slot is the
     * position's index in the page. */
    void (*store_kv)(uint8_t *page, int slot, const float *k, int head_dim, const float *v,
                     int value_dim, bool f32);
    void (*attention)(const struct attention *a);

    /* Quantizes and restores f32 in blocks of 32 with an f16 scale (Q8_0's arithmetic): the 8-bit
     * wire format of exchanges. */
    void (*wire_pack)(const float *x, int n, void *out);
    void (*wire_unpack)(const void *packed, int n, float *out);
};

/* Bytes of one packed group of 16 rows by cols; 0 when the type can't be computed with. */
size_t kernels_group_bytes(enum quant_type type, int cols);

/* Packs up to 16 rows of GGUF blocks into one group. src: the rows' first blocks, row_stride bytes
 * apart; cols is the slice's width, a multiple of the type's block; n_rows < 16 leaves zero rows.
 * Pure; any thread. */
void kernels_pack_group(enum quant_type type, const uint8_t *src, size_t row_stride, int n_rows,
                        int cols, uint8_t *dst);

/* True when weights of this type can be packed and multiplied. */
bool kernels_supports(enum quant_type type);

/* How a weight of this type wants its input packed. */
enum activation kernels_activation_format(enum quant_type type, bool exact);
/* Of a whole batch, all tiles; 64-byte granule. */
size_t kernels_activation_bytes(enum activation format, int tokens, int cols);

/* sin and cos of angle (radians, any finite size), correctly rounded to within 1 ulp of f32; the
 * same bits on every machine. Scalar. */
void kernels_sincos(float angle, float *sin, float *cos);
/* Our exp, log-free: the same bits as the vector code of every table. */
float kernels_exp(float x);

/* The best table for this machine, or the one named ("scalar", "avx2", ...). NULL and an error
 * when the name is unknown or the machine lacks the instructions. Static; never freed. */
const struct kernels *kernels_choose(const char *isa, struct error *e);

/* All tables that this machine can run, the scalar one first; count in *n. For tests and benches.
 */
const struct kernels *const *kernels_all(int *n);

#endif
