/* See builder.h. */
#include "model/builder.h"

#include <inttypes.h>
#include <stdio.h>

void tensor_name(const struct builder *b, const char *name, char out[static 128])
{
    if (b->layer >= 0 && b->layer < b->h.n_layers)
        snprintf(out, 128, "blk.%d.%s", b->layer, name);
    else
        snprintf(out, 128, "%s", name);
}

bool has_tensor(const struct builder *b, const char *name)
{
    char full[128];
    tensor_name(b, name, full);
    return gguf_tensor(b->g, full) != NULL;
}

static int bad(struct builder *b, int code, const char *name, const char *what)
{
    if (!b->result)
        b->result = gguf_refuse(b->g, name, b->error, code, "tensor %s %s", name, what);
    return PROGRAM_NONE;
}

static int memory_ended(struct builder *b, int index)
{
    if (index == PROGRAM_NONE && !b->result)
        b->result = fail(b->error, FAIL_NOMEM, "the program of %s", b->h.family->name);
    return index;
}

int add_matrix(struct builder *b, const struct matrix *m)
{
    char full[128];
    if (b->result)
        return PROGRAM_NONE;
    tensor_name(b, m->name, full);
    const struct gguf_tensor *t = gguf_tensor(b->g, full);
    int mats = m->mats > 1 ? m->mats : 1, rows = m->tensor_rows ? m->tensor_rows : m->rows;
    if (!t)
        return bad(b, FAIL_NOT_FOUND, full, "is missing");
    if (t->dims[0] != (uint64_t)m->cols || t->dims[1] != (uint64_t)rows ||
        t->dims[2] != (uint64_t)mats || t->dims[3] != 1) {
        b->result = gguf_refuse(b->g, full, b->error, FAIL_FORMAT,
                                "tensor %s is %" PRIu64 " x %" PRIu64 " x %" PRIu64
                                ", %d x %d x %d is needed",
                                full, t->dims[0], t->dims[1], t->dims[2], m->cols, rows, mats);
        return PROGRAM_NONE;
    }
    struct weight w = { .tensor = full,
                        .byte = gguf_byte(b->g, full),
                        .type = t->type,
                        .mats = mats,
                        .tensor_rows = rows,
                        .tensor_cols = m->cols,
                        .mat_count = mats,
                        .row_first = m->first_row,
                        .row_count = m->rows,
                        .col_count = m->cols,
                        .mat_axis = m->mats > 1 ? m->mat_axis : axis_none(),
                        .row_axis = m->row_axis,
                        .col_axis = m->col_axis };
    return memory_ended(b, program_add_weight(b->p, &w));
}

int add_vector(struct builder *b, const char *name, int n, struct axis axis, bool required)
{
    char full[128];
    if (b->result)
        return PROGRAM_NONE;
    tensor_name(b, name, full);
    const struct gguf_tensor *t = gguf_tensor(b->g, full);
    if (!t)
        return required ? bad(b, FAIL_NOT_FOUND, full, "is missing") : PROGRAM_NONE;
    if (t->elements != (uint64_t)n || t->dims[0] != (uint64_t)n)
        return bad(b, FAIL_FORMAT, full, "has another length than the model's keys say");
    struct weight w = { .tensor = full,
                        .byte = gguf_byte(b->g, full),
                        .type = t->type,
                        .mats = 1,
                        .tensor_rows = 1,
                        .tensor_cols = n,
                        .mat_count = 1,
                        .row_count = 1,
                        .col_count = n,
                        .mat_axis = axis_none(),
                        .row_axis = axis_none(),
                        .col_axis = axis };
    return memory_ended(b, program_add_weight(b->p, &w));
}

int add_range(struct builder *b, const struct range *r)
{
    for (int i = 0; i < b->p->n_ranges; i++) {
        const struct range *old = &b->p->ranges[i];
        if (strcmp(old->name, r->name) == 0 && old->count == r->count && old->group == r->group &&
            old->parent == r->parent && old->granule == r->granule)
            return i;
    }
    return memory_ended(b, program_add_range(b->p, r));
}

int add_value(struct builder *b, const char *name, int width, struct axis axis)
{
    return b->result ? PROGRAM_NONE : memory_ended(b, program_add_value(b->p, name, width, axis));
}

int emit(struct builder *b, struct instr in, const char *name, int width, struct axis axis)
{
    in.out = add_value(b, name, width, axis);
    if (b->result)
        return PROGRAM_NONE;
    if (in.op == OP_ROWS ||
        (in.in[0] != PROGRAM_NONE && b->p->values[in.in[0]].rows == ROWS_WANTED))
        b->p->values[in.out].rows = ROWS_WANTED;
    memory_ended(b, program_add_instr(b->p, &in));
    return b->result ? PROGRAM_NONE : in.out;
}

int emit_matmul(struct builder *b, int x, const struct matrix *m, const char *value)
{
    struct instr in = instr_init(OP_MATMUL, b->layer);
    char bias[128];
    in.in[0] = x;
    in.weight[0] = add_matrix(b, m);
    size_t n = strlen(m->name);
    if (n > 7 && strcmp(m->name + n - 7, ".weight") == 0 && !m->tensor_rows) {
        snprintf(bias, sizeof(bias), "%.*s.bias", (int)(n - 7), m->name);
        in.weight[1] = add_vector(b, bias, m->rows, m->row_axis, false);
    }
    return emit(b, in, value, m->rows, m->row_axis);
}

int emit_norm(struct builder *b, int x, const char *weight, int group, const char *value)
{
    struct instr in = instr_init(OP_RMS_NORM, b->layer);
    if (b->result)
        return PROGRAM_NONE;
    const struct value v = b->p->values[x];
    in.in[0] = x;
    in.group = group;
    in.eps = b->h.eps;
    if (weight)
        in.weight[0] = add_vector(b, weight, group ? group : v.width, axis_none(), true);
    return emit(b, in, value, v.width, v.axis);
}

int emit_binary(struct builder *b, enum op op, int x, int y, const char *value)
{
    struct instr in = instr_init(op, b->layer);
    if (b->result)
        return PROGRAM_NONE;
    in.in[0] = x;
    in.in[1] = y;
    in.act = b->h.family->act;
    return emit(b, in, value, b->p->values[x].width, b->p->values[x].axis);
}
