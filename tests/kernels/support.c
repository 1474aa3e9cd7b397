#include "tests/kernels/support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "quant/half.h"

uint32_t seed_bits(struct seed *s)
{
    s->state = s->state * 6364136223846793005u + 1442695040888963407u;
    uint64_t x = s->state;
    x ^= x >> 33;
    x *= 0xff51afd7ed558ccdu;
    return (uint32_t)(x >> 32);
}

float seed_unit(struct seed *s)
{
    return (float)(int32_t)(seed_bits(s) & 0xffffff00u) * 0x1p-31f;
}

void *aligned_make(size_t bytes)
{
    bytes = (bytes + 127) / 64 * 64;
    void *p = aligned_alloc(64, bytes);
    if (!p)
        abort();
    memset(p, 0, bytes);
    return p;
}

void fill(float *x, size_t n, struct seed *s)
{
    for (size_t i = 0; i < n; i++)
        x[i] = seed_unit(s) * (seed_bits(s) % 61 == 0 ? 20.0f : 1.0f);
}

/* Where a block of each type keeps halves, so that they can be made reasonable. */
static void set_scales(enum quant_type type, uint8_t *block, float scale, struct seed *s)
{
    size_t at[2] = { 0, 0 };
    int n = 1;
    switch (type) {
    case QUANT_Q4_1:
    case QUANT_Q5_1:
    case QUANT_Q4_K:
    case QUANT_Q5_K:
        n = 2;
        at[1] = 2;
        break;
    case QUANT_Q2_K:
        n = 2;
        at[0] = offsetof(struct block_q2_k, d);
        at[1] = offsetof(struct block_q2_k, dmin);
        break;
    case QUANT_Q3_K:
        at[0] = offsetof(struct block_q3_k, d);
        break;
    case QUANT_Q6_K:
        at[0] = offsetof(struct block_q6_k, d);
        break;
    case QUANT_MXFP4:
        block[0] = (uint8_t)(120 + seed_bits(s) % 6);
        if (seed_bits(s) % 50 == 0)
            block[0] = (uint8_t)(seed_bits(s) % 3);
        return;
    default:
        break;
    }
    for (int i = 0; i < n; i++) {
        uint16_t h = half_from_f32(seed_unit(s) * scale);
        memcpy(block + at[i], &h, 2);
    }
}

static void random_block(enum quant_type type, uint8_t *block, int cols, struct seed *s)
{
    const struct quant_format *f = quant_format(type);
    float unit = 1.0f / sqrtf((float)cols);
    float x = seed_unit(s) * unit;
    uint16_t h;
    switch (type) {
    case QUANT_F32:
        memcpy(block, &x, 4);
        return;
    case QUANT_F16:
        h = half_from_f32(x);
        memcpy(block, &h, 2);
        return;
    case QUANT_BF16:
        h = bf16_from_f32(x);
        memcpy(block, &h, 2);
        return;
    default:
        break;
    }
    for (uint32_t i = 0; i < f->bytes; i++)
        block[i] = (uint8_t)seed_bits(s);
    set_scales(type, block, f->block == 256 ? unit / 64 : unit / 8, s);
}

void weight_make(struct weight *w, enum quant_type type, int rows, int cols, struct seed *s)
{
    const struct quant_format *f = quant_format(type);
    memset(w, 0, sizeof(*w));
    w->row_bytes = quant_row_bytes(type, (size_t)cols);
    w->blocks = aligned_make(w->row_bytes * (size_t)rows);
    for (size_t at = 0; at < w->row_bytes * (size_t)rows; at += f->bytes)
        random_block(type, w->blocks + at, cols, s);
    w->packed = (struct packed){
        .type = type, .rows = rows, .cols = cols, .group_bytes = kernels_group_bytes(type, cols)
    };
    int groups = (rows + KERNEL_LANES - 1) / KERNEL_LANES;
    w->groups = aligned_make(w->packed.group_bytes * (size_t)groups);
    /* Packing must write every byte that is read. */
    memset(w->groups, 0xff, w->packed.group_bytes * (size_t)groups);
    for (int g = 0; g < groups; g++) {
        int n = rows - g * KERNEL_LANES < KERNEL_LANES ? rows - g * KERNEL_LANES : KERNEL_LANES;
        kernels_pack_group(type, w->blocks + (size_t)g * KERNEL_LANES * w->row_bytes, w->row_bytes,
                           n, cols, w->groups + (size_t)g * w->packed.group_bytes);
    }
    w->packed.data = w->groups;
}

void weight_free(struct weight *w)
{
    free(w->blocks);
    free(w->groups);
}

const enum quant_type *computable_types(int *n)
{
    static enum quant_type types[QUANT_COUNT];
    *n = 0;
    for (int i = 0; i < QUANT_COUNT; i++)
        if (kernels_supports((enum quant_type)i))
            types[(*n)++] = (enum quant_type)i;
    return types;
}
