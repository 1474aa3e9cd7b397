/* Weights into compute layout (see layout.h). A row's dwords are written 64 bytes apart, so a
 * vector ends up with one dword of each of the 16 rows. Little-endian hosts only. */
#include "kernels/layout.h"

#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "dwords are moved as they lie");

#define NIBBLES 0x0f0f0f0fu

static inline uint32_t load32(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, 4);
    return v;
}

static inline void put32(uint8_t *vectors, int index, int row, uint32_t v)
{
    memcpy(vectors + 64 * index + 4 * row, &v, 4);
}

static inline void put16(uint8_t *at, int row, const uint8_t *src)
{
    memcpy(at + 2 * row, src, 2);
}

/* 16 bytes whose nibbles are already weight i low, weight i + 16 high. */
static inline void put_nibbles(uint8_t *to, int row, const uint8_t *q)
{
    for (int j = 0; j < 4; j++)
        put32(to, j, row, load32(q + 4 * j));
}

/* 32 bytes that hold a weight each at bits shift..shift+3, as nibbles. */
static inline void put_split_nibbles(uint8_t *to, int row, const uint8_t *q, int shift)
{
    for (int j = 0; j < 4; j++) {
        uint32_t low = load32(q + 4 * j) >> shift & NIBBLES;
        uint32_t high = load32(q + 16 + 4 * j) >> shift & NIBBLES;
        put32(to, j, row, low | high << 4);
    }
}

/* 32 bytes that hold two bits a weight at shift, as pairs. */
static inline void put_pairs(uint8_t *to, int row, const uint8_t *q, int shift)
{
    uint32_t a = 0, b = 0;
    for (int j = 0; j < 4; j++) {
        a |= (load32(q + 4 * j) >> shift & 0x03030303u) << (2 * j);
        b |= (load32(q + 16 + 4 * j) >> shift & 0x03030303u) << (2 * j);
    }
    put32(to, 0, row, a);
    put32(to, 1, row, b);
}

/* 32 bytes that hold one bit a weight at shift, as a vector of fifths. */
static inline void put_fifth(uint8_t *to, int row, const uint8_t *q, int shift)
{
    uint32_t a = 0;
    for (int j = 0; j < 8; j++)
        a |= (load32(q + 4 * j) >> shift & 0x01010101u) << j;
    put32(to, 0, row, a);
}

/* Bit i of h (weight i) to bit i / 4 of byte i % 4. */
static inline uint32_t spread_fifth(uint32_t h)
{
    uint32_t out = 0;
    for (int b = 0; b < 4; b++) {
        uint32_t x = h >> b & 0x11111111u;
        x = (x | x >> 3) & 0x03030303u;
        x = (x | x >> 6) & 0x000f000fu;
        x = (x | x >> 12) & 0xffu;
        out |= x << (8 * b);
    }
    return out;
}

/* One row's block of 32 into sub-block `sub` of a unit. */
typedef void (*put_block)(const uint8_t *block, int row, int sub, uint8_t *header, uint8_t *to);

static void put_q4_0(const uint8_t *block, int row, int sub, uint8_t *header, uint8_t *to)
{
    put16(header + 32 * sub, row, block);
    put_nibbles(to, row, block + offsetof(struct block_q4_0, q));
}

static void put_q4_1(const uint8_t *block, int row, int sub, uint8_t *header, uint8_t *to)
{
    put16(header, row, block);
    put16(header + 32, row, block + offsetof(struct block_q4_1, m));
    put_nibbles(to, row, block + offsetof(struct block_q4_1, q));
}

static void put_q5_0(const uint8_t *block, int row, int sub, uint8_t *header, uint8_t *to)
{
    put16(header + 32 * sub, row, block);
    put32(to, 0, row, spread_fifth(load32(block + offsetof(struct block_q5_0, high))));
    put_nibbles(to + 64, row, block + offsetof(struct block_q5_0, q));
}

static void put_q5_1(const uint8_t *block, int row, int sub, uint8_t *header, uint8_t *to)
{
    put16(header, row, block);
    put16(header + 32, row, block + offsetof(struct block_q5_1, m));
    put32(to, 0, row, spread_fifth(load32(block + offsetof(struct block_q5_1, high))));
    put_nibbles(to + 64, row, block + offsetof(struct block_q5_1, q));
}

static void put_q8_0(const uint8_t *block, int row, int sub, uint8_t *header, uint8_t *to)
{
    put16(header + 32 * sub, row, block);
    const uint8_t *q = block + offsetof(struct block_q8_0, q);
    for (int j = 0; j < 8; j++)
        put32(to, j, row, load32(q + 4 * j) ^ 0x80808080u);
}

static void put_mxfp4(const uint8_t *block, int row, int sub, uint8_t *header, uint8_t *to)
{
    header[16 * sub + row] = block[0];
    put_nibbles(to, row, block + offsetof(struct block_mxfp4, q));
}

/* One row's block of 256 into a unit: header, then 8 sub-blocks. */
typedef void (*put_super)(const uint8_t *block, int row, uint8_t *unit);

static void put_q2_k(const uint8_t *block, int row, uint8_t *unit)
{
    put16(unit, row, block + offsetof(struct block_q2_k, d));
    put16(unit + 32, row, block + offsetof(struct block_q2_k, dmin));
    for (int i = 0; i < 16; i++)
        unit[64 + 16 * i + row] = block[offsetof(struct block_q2_k, scales) + i];
    const uint8_t *q = block + offsetof(struct block_q2_k, q);
    for (int s = 0; s < 8; s++)
        put_pairs(unit + 320 + 128 * s, row, q + s / 4 * 32, s % 4 * 2);
}

static void put_q3_k(const uint8_t *block, int row, uint8_t *unit)
{
    put16(unit, row, block + offsetof(struct block_q3_k, d));
    for (int i = 0; i < 3; i++)
        put32(unit + 64, i, row, load32(block + offsetof(struct block_q3_k, scales) + 4 * i));
    const uint8_t *q = block + offsetof(struct block_q3_k, q);
    for (int s = 0; s < 8; s++) {
        put_fifth(unit + 256 + 192 * s, row, block + offsetof(struct block_q3_k, high), s);
        put_pairs(unit + 256 + 192 * s + 64, row, q + s / 4 * 32, s % 4 * 2);
    }
}

static inline void put_k4_header(const uint8_t *block, int row, uint8_t *unit)
{
    put16(unit, row, block);
    put16(unit + 32, row, block + 2);
    for (int i = 0; i < 3; i++)
        put32(unit + 64, i, row, load32(block + 4 + 4 * i));
}

static void put_q4_k(const uint8_t *block, int row, uint8_t *unit)
{
    put_k4_header(block, row, unit);
    const uint8_t *q = block + offsetof(struct block_q4_k, q);
    for (int s = 0; s < 8; s++)
        put_split_nibbles(unit + 256 + 256 * s, row, q + s / 2 * 32, s % 2 * 4);
}

static void put_q5_k(const uint8_t *block, int row, uint8_t *unit)
{
    put_k4_header(block, row, unit);
    const uint8_t *q = block + offsetof(struct block_q5_k, q);
    for (int s = 0; s < 8; s++) {
        put_fifth(unit + 256 + 320 * s, row, block + offsetof(struct block_q5_k, high), s);
        put_split_nibbles(unit + 256 + 320 * s + 64, row, q + s / 2 * 32, s % 2 * 4);
    }
}

static void put_q6_k(const uint8_t *block, int row, uint8_t *unit)
{
    put16(unit, row, block + offsetof(struct block_q6_k, d));
    for (int i = 0; i < 16; i++)
        unit[64 + 16 * i + row] = block[offsetof(struct block_q6_k, scales) + i];
    const uint8_t *high = block + offsetof(struct block_q6_k, high);
    for (int s = 0; s < 8; s++) {
        uint8_t *to = unit + 320 + 384 * s;
        put_pairs(to, row, high + s / 4 * 32, s % 4 * 2);
        put_split_nibbles(to + 128, row, block + s / 4 * 64 + s % 2 * 32, s % 4 / 2 * 4);
    }
}

static void put_iq4_xs(const uint8_t *block, int row, uint8_t *unit)
{
    put16(unit, row, block);
    put16(unit + 32, row, block + offsetof(struct block_iq4_xs, scales_high));
    put32(unit + 64, 0, row, load32(block + offsetof(struct block_iq4_xs, scales_low)));
    for (int s = 0; s < 8; s++)
        put_nibbles(unit + 128 + 256 * s, row, block + offsetof(struct block_iq4_xs, q) + 16 * s);
}

struct source {
    const uint8_t *rows;
    size_t stride;
    int n_rows;
};

static ALWAYS_INLINE void pack_blocks(enum quant_type type, put_block put, const struct source *s,
                                      int cols, uint8_t *dst)
{
    struct layout l = layout_of(type);
    int blocks = cols / KERNEL_BLOCK, bytes = (int)quant_format(type)->bytes;
    for (int b = 0; b < blocks; b += l.subs) {
        int subs = blocks - b < l.subs ? blocks - b : l.subs;
        memset(dst, 0, (size_t)l.header);
        for (int i = 0; i < subs; i++)
            for (int row = 0; row < s->n_rows; row++)
                put(s->rows + row * s->stride + (size_t)(b + i) * bytes, row, i, dst,
                    dst + l.header + i * l.sub);
        dst += l.header + subs * l.sub;
    }
}

static ALWAYS_INLINE void pack_supers(enum quant_type type, put_super put, const struct source *s,
                                      int cols, uint8_t *dst)
{
    struct layout l = layout_of(type);
    int blocks = cols / 256, bytes = (int)quant_format(type)->bytes;
    for (int b = 0; b < blocks; b++) {
        memset(dst, 0, (size_t)l.header);
        for (int row = 0; row < s->n_rows; row++)
            put(s->rows + row * s->stride + (size_t)b * bytes, row, dst);
        dst += l.header + 8 * l.sub;
    }
}

static void pack_f32(const struct source *s, int cols, uint8_t *dst)
{
    for (int k = 0; k < cols; k++)
        for (int row = 0; row < s->n_rows; row++)
            memcpy(dst + ((size_t)k * 16 + row) * 4, s->rows + row * s->stride + (size_t)k * 4, 4);
}

static void pack_f16(const struct source *s, int cols, uint8_t *dst)
{
    for (int k = 0; k < cols; k++)
        for (int row = 0; row < s->n_rows; row++)
            memcpy(dst + ((size_t)k * 16 + row) * 2, s->rows + row * s->stride + (size_t)k * 2, 2);
}

size_t kernels_group_bytes(enum quant_type type, int cols)
{
    if (!kernels_supports(type) || cols <= 0)
        return 0;
    int element = layout_element(type);
    if (element)
        return round64((size_t)cols * KERNEL_LANES * element);
    if ((uint32_t)cols % quant_format(type)->block)
        return 0;
    struct layout l = layout_of(type);
    size_t blocks = (size_t)cols / KERNEL_BLOCK;
    return (blocks + l.subs - 1) / l.subs * l.header + blocks * l.sub;
}

void kernels_pack_group(enum quant_type type, const uint8_t *src, size_t row_stride, int n_rows,
                        int cols, uint8_t *dst)
{
    size_t bytes = kernels_group_bytes(type, cols);
    assert(bytes && n_rows > 0 && n_rows <= KERNEL_LANES);
    struct source s = { src, row_stride, n_rows };
    if (n_rows < KERNEL_LANES)
        memset(dst, 0, bytes);
    else if (layout_element(type))
        memset(dst + bytes - 64, 0, 64);
    switch (type) {
#define BLOCKS(name, put)                                                                          \
    case QUANT_##name:                                                                             \
        pack_blocks(QUANT_##name, put, &s, cols, dst);                                             \
        break;
#define SUPERS(name, put)                                                                          \
    case QUANT_##name:                                                                             \
        pack_supers(QUANT_##name, put, &s, cols, dst);                                             \
        break;
        BLOCKS(Q4_0, put_q4_0)
        BLOCKS(Q4_1, put_q4_1)
        BLOCKS(Q5_0, put_q5_0)
        BLOCKS(Q5_1, put_q5_1)
        BLOCKS(Q8_0, put_q8_0)
        BLOCKS(IQ4_NL, put_q4_0)
        BLOCKS(MXFP4, put_mxfp4)
        SUPERS(Q2_K, put_q2_k)
        SUPERS(Q3_K, put_q3_k)
        SUPERS(Q4_K, put_q4_k)
        SUPERS(Q5_K, put_q5_k)
        SUPERS(Q6_K, put_q6_k)
        SUPERS(IQ4_XS, put_iq4_xs)
#undef BLOCKS
#undef SUPERS
    case QUANT_F32:
        pack_f32(&s, cols, dst);
        break;
    default:
        pack_f16(&s, cols, dst);
        break;
    }
}

bool kernels_supports(enum quant_type type)
{
    return (unsigned)type < QUANT_COUNT && (layout_element(type) || layout_of(type).subs);
}

enum activation kernels_activation_format(enum quant_type type, bool exact)
{
    return exact || layout_element(type) ? ACTIVATION_F32 : ACTIVATION_Q8;
}

size_t kernels_activation_bytes(enum activation format, int tokens, int cols)
{
    size_t full = (size_t)(tokens / KERNEL_TILE) * tile_bytes(format, KERNEL_TILE, cols);
    return full + tile_bytes(format, tokens % KERNEL_TILE, cols);
}

size_t kernels_page_bytes(int head_dim, int value_dim, bool f32)
{
    return round64((size_t)KERNEL_PAGE * (head_dim + value_dim) * (f32 ? 4 : 2));
}

size_t kernels_attention_scratch(int n_queries, int n_positions)
{
    /* A row starts at the multiple of 16 below the first position. */
    return (size_t)n_queries * (((size_t)n_positions + 15) / 16 + 1) * 16;
}
