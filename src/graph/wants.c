/* See wants.h. */
#include "graph/wants.h"

#include <assert.h>

void weight_block_columns(const struct weight *w, int *first, int *end)
{
    int block = (int)quant_format(w->type)->block;
    *first = w->col_first / block * block;
    *end = (w->col_first + w->col_count + block - 1) / block * block;
    if (*end > w->tensor_cols)
        *end = w->tensor_cols;
}

bool weight_same_bytes(const struct weight *a, const struct weight *b)
{
    return a->byte == b->byte && strcmp(a->tensor, b->tensor) == 0 &&
           a->row_first == b->row_first && a->row_count == b->row_count &&
           a->col_first == b->col_first && a->col_count == b->col_count &&
           a->mat_first == b->mat_first && a->mat_count == b->mat_count;
}

void want_of_weight(const struct weight *w, struct want *ret)
{
    int first, end;
    weight_block_columns(w, &first, &end);
    uint64_t row = quant_row_bytes(w->type, (size_t)w->tensor_cols);
    uint64_t skip = quant_row_bytes(w->type, (size_t)first);
    struct want want = {
        .tensor = w->tensor,
        .weight = PROGRAM_NONE,
        .size = quant_row_bytes(w->type, (size_t)end) - skip,
        .runs = (uint64_t)w->row_count,
        .stride = row,
        .mats = (uint64_t)w->mat_count,
        .mat_stride = row * (uint64_t)w->tensor_rows,
    };
    want.offset = (uint64_t)w->mat_first * want.mat_stride + (uint64_t)w->row_first * row + skip;
    if (!w->col_count || !want.runs || !want.mats)
        want.size = want.runs = want.mats = 0;
    if (want.size == want.stride) {
        want.size *= want.runs;
        want.runs = want.runs > 0;
    }
    if (want.runs == 1 && want.size == want.mat_stride) {
        want.size *= want.mats;
        want.mats = 1;
    }
    *ret = want;
}

uint64_t want_runs(const struct want *w)
{
    return w->runs * w->mats;
}

uint64_t want_bytes(const struct want *w)
{
    return w->size * want_runs(w);
}

uint64_t want_offset(const struct want *w, uint64_t i)
{
    assert(i < want_runs(w));
    return w->offset + i / w->runs * w->mat_stride + i % w->runs * w->stride;
}

static void mark_used(const struct program *p, bool *used)
{
    for (int i = 0; i < p->n_instrs; i++)
        for (int k = 0; k < PROGRAM_MAX_WEIGHTS; k++)
            if (p->instrs[i].weight[k] != PROGRAM_NONE)
                used[p->instrs[i].weight[k]] = true;
    for (int i = 0; i < p->n_ropes; i++)
        if (p->ropes[i].factors != PROGRAM_NONE)
            used[p->ropes[i].factors] = true;
}

int program_wants(const struct program *p, struct arena *arena, struct want **ret, struct error *e)
{
    bool *used = arena_array(arena, bool, p->n_weights + 1);
    struct want *wants = arena_array(arena, struct want, p->n_weights + 1);
    int n = 0;
    if (!used || !wants)
        return fail(e, FAIL_NOMEM, "%d weights", p->n_weights);
    mark_used(p, used);
    for (int i = 0; i < p->n_weights; i++) {
        bool seen = !used[i];
        for (int j = 0; j < n && !seen; j++)
            seen = weight_same_bytes(&p->weights[wants[j].weight], &p->weights[i]);
        if (seen)
            continue;
        want_of_weight(&p->weights[i], &wants[n]);
        wants[n].weight = i;
        n += want_bytes(&wants[n]) > 0;
    }
    *ret = wants;
    return n;
}
