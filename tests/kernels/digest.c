/* Prints one digest of everything that each table computes on seeded data, and fails unless all
 * are equal. Built by another compiler, or for another processor, it must print the same digest:
 * see tools/test_kernels.sh. Needs no test library, so that it can be linked for any machine. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/kernels/support.h"

/* FNV-1a, 64 bits. */
static void digest_add(uint64_t *digest, const void *bytes, size_t n)
{
    const uint8_t *b = bytes;
    for (size_t i = 0; i < n; i++)
        *digest = (*digest ^ b[i]) * 1099511628211u;
}

static void digest_type(const struct kernels *k, enum quant_type type, bool exact, uint64_t *digest)
{
    enum { ROWS = 24, MOST = 18 };
    struct seed s = { 100 + type };
    int cols = quant_format(type)->block == 256 ? 512 : 352;
    struct weight w;
    weight_make(&w, type, ROWS, cols, &s);
    enum activation format = kernels_activation_format(type, exact);
    size_t bytes = kernels_activation_bytes(format, MOST, cols);
    float *x = aligned_make((size_t)MOST * cols * 4), *y = aligned_make(MOST * ROWS * 4);
    uint8_t *act = aligned_make(bytes);
    fill(x, (size_t)MOST * cols, &s);
    for (int tokens = 1; tokens <= MOST; tokens += tokens < 4 ? 1 : 7) {
        memset(act, 0, bytes);
        for (int t = 0; t * KERNEL_TILE < tokens; t++)
            k->pack_activation(format, x, (size_t)cols, tokens, cols, t, act);
        digest_add(digest, act, kernels_activation_bytes(format, tokens, cols));
        (exact ? k->matmul_exact : k->matmul)(&w.packed, act, tokens, 0, 2, y, ROWS);
        digest_add(digest, y, (size_t)tokens * ROWS * 4);
    }
    k->unpack_row(&w.packed, 19, x);
    digest_add(digest, x, (size_t)cols * 4);
    free(x);
    free(y);
    free(act);
    weight_free(&w);
}

static void digest_rows(const struct kernels *k, uint64_t *digest)
{
    enum { N = 999 };
    static float a[N], b[N], out[12][N];
    static uint8_t wire[34 * 32];
    struct seed s = { 50 };
    fill(a, N, &s);
    fill(b, N, &s);
    k->rms_norm(a, b, N, 1e-6f, out[0]);
    k->layer_norm(a, b, a, N, 1e-6f, out[1]);
    k->silu_mul(a, b, N, out[2]);
    k->gelu_mul(a, b, N, out[3]);
    k->relu2_mul(a, b, N, out[4]);
    k->sigmoid_mul(a, b, N, out[5]);
    k->add_scaled(a, b, 0.3f, N, out[6]);
    k->softcap(a, 7, N, out[7]);
    k->softmax(a, N, out[8]);
    k->wire_pack(a, N, wire);
    k->wire_unpack(wire, N, out[9]);
    for (int i = 0; i < N; i++) {
        float angle = a[i] * ldexpf(1, i % 60);
        kernels_sincos(angle, &out[10][i], &out[11][i]);
        out[10][i] += kernels_exp(a[i] * 4);
    }
    k->rope(out[7], 100, true, a, b);
    k->rope(out[7] + 300, 100, false, a, b);
    digest_add(digest, out, sizeof(out));
    digest_add(digest, wire, sizeof(wire));
}

static void digest_attention(const struct kernels *k, bool f32, uint64_t *digest)
{
    enum { DIM = 72, POSITIONS = 3 * KERNEL_PAGE, QUERIES = 15 };
    static float q[QUERIES][DIM], out[QUERIES][DIM], row[2][DIM], sink[QUERIES];
    const float *q_rows[QUERIES];
    float *out_rows[QUERIES];
    int32_t first[QUERIES], last[QUERIES];
    const uint8_t *pages[3];
    struct seed s = { 60 };
    size_t page = kernels_page_bytes(DIM, DIM, f32);
    uint8_t *bytes = aligned_make(3 * page);
    for (int p = 0; p < POSITIONS; p++) {
        fill(row[0], 2 * DIM, &s);
        k->store_kv(bytes + p / KERNEL_PAGE * page, p % KERNEL_PAGE, row[0], DIM, row[1], DIM, f32);
    }
    fill(q[0], QUERIES * DIM, &s);
    fill(sink, QUERIES, &s);
    for (int i = 0; i < QUERIES; i++) {
        q_rows[i] = q[i];
        out_rows[i] = out[i];
        last[i] = POSITIONS - QUERIES + i;
        first[i] = i % 4 ? 0 : last[i] - 70;
    }
    for (int i = 0; i < 3; i++)
        pages[i] = bytes + (size_t)i * page;
    struct attention a = { DIM,   DIM, QUERIES, q_rows, out_rows, first, last,
                           pages, f32, 0.12f,   20,     sink,     NULL };
    a.scratch = aligned_make(kernels_attention_scratch(QUERIES, POSITIONS) * 4);
    k->attention(&a);
    digest_add(digest, bytes, 3 * page);
    digest_add(digest, out, sizeof(out));
    free(a.scratch);
    free(bytes);
}

int main(void)
{
    int n_tables, n_types, result = 0;
    const struct kernels *const *all = kernels_all(&n_tables);
    const enum quant_type *types = computable_types(&n_types);
    uint64_t first = 0;
    for (int i = 0; i < n_tables; i++) {
        uint64_t digest = 14695981039346656037u;
        for (int t = 0; t < n_types; t++)
            for (int exact = 0; exact < 2; exact++)
                digest_type(all[i], types[t], exact, &digest);
        digest_rows(all[i], &digest);
        digest_attention(all[i], false, &digest);
        digest_attention(all[i], true, &digest);
        printf("%-15s %016" PRIx64 "\n", all[i]->name, digest);
        first = i == 0 ? digest : first;
        result |= digest != first;
    }
    return result;
}
