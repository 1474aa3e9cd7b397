/* See builder.h. */
#include "model/builder.h"

#include <inttypes.h>
#include <stdio.h>

void tensor_name(const struct builder *b, const char *name, char out[static 128])
{
    if (b->layer >= 0 && b->layer < b->recipe->n_layers)
        snprintf(out, 128, "blk.%d.%s", b->layer, name);
    else
        snprintf(out, 128, "%s", name);
}

const struct gguf_tensor *find_tensor(struct builder *b, const char *name)
{
    char full[128];
    tensor_name(b, name, full);
    const struct gguf_tensor *t = gguf_tensor(b->g, full);
    if (t && map_put(&b->read, t->name, 1) && !b->result)
        b->result = fail(b->error, FAIL_NOMEM, "the program of %s", b->recipe->family);
    return t;
}

bool has_matrix(const struct builder *b, const char *name)
{
    char part[96], full[128];
    snprintf(part, sizeof(part), "%s.weight", name);
    tensor_name(b, part, full);
    return gguf_tensor(b->g, full) != NULL;
}

void pass_over(struct builder *b, const char *name)
{
    static const char *const parts[] = { "weight", "bias", "scale" };
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        char part[96];
        snprintf(part, sizeof(part), "%s.%s", name, parts[i]);
        find_tensor(b, part);
    }
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
        b->result = fail(b->error, FAIL_NOMEM, "the program of %s", b->recipe->family);
    return index;
}

int add_matrix(struct builder *b, const struct matrix *m)
{
    char part[96], full[128];
    if (b->result)
        return PROGRAM_NONE;
    snprintf(part, sizeof(part), "%s.weight", m->name);
    tensor_name(b, part, full);
    const struct gguf_tensor *t = find_tensor(b, part);
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

int add_vector(struct builder *b, const struct vector *v)
{
    char full[128];
    if (b->result)
        return PROGRAM_NONE;
    tensor_name(b, v->name, full);
    const struct gguf_tensor *t = find_tensor(b, v->name);
    if (!t)
        return v->required ? bad(b, FAIL_NOT_FOUND, full, "is missing") : PROGRAM_NONE;
    if (t->elements != (uint64_t)v->length || t->dims[0] != (uint64_t)v->length)
        return bad(b, FAIL_FORMAT, full, "has another length than the model's keys say");
    struct weight w = { .tensor = full,
                        .byte = gguf_byte(b->g, full),
                        .type = t->type,
                        .mats = 1,
                        .tensor_rows = 1,
                        .tensor_cols = v->length,
                        .mat_count = 1,
                        .row_count = 1,
                        .col_first = v->first,
                        .col_count = v->n,
                        .mat_axis = axis_none(),
                        .row_axis = axis_none(),
                        .col_axis = v->axis };
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

int vocab_range(struct builder *b)
{
    return add_range(
        b, &(struct range){
               .name = "vocab", .count = b->recipe->vocab, .granule = 16, .parent = PROGRAM_NONE });
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

/* The bias of a matrix may be in all layers or in none: a file that lost one is another model. */
static void check_bias(struct builder *b, const char *matrix, const char *bias)
{
    char full[128];
    int here = b->layer, first = 0;
    if (b->result || here <= 0 || here >= b->recipe->n_layers)
        return;
    tensor_name(b, bias, full);
    bool has = gguf_tensor(b->g, full) != NULL;
    for (b->layer = 0; b->layer < here && !has_matrix(b, matrix); b->layer++)
        first++;
    tensor_name(b, bias, full);
    bool first_has = gguf_tensor(b->g, full) != NULL;
    b->layer = here;
    if (first == here || has == first_has)
        return;
    tensor_name(b, bias, full);
    b->result =
        gguf_refuse(b->g, full, b->error, has ? FAIL_FORMAT : FAIL_NOT_FOUND,
                    "tensor %s is %s, unlike layer %d's", full, has ? "there" : "missing", first);
}

int emit_matmul(struct builder *b, int x, const struct matrix *m, const char *value)
{
    struct instr in = instr_init(OP_MATMUL, b->layer);
    char bias[96], scale[96];
    const char *beside = m->beside ? m->beside : m->name;
    int length = m->tensor_rows ? m->tensor_rows : m->rows;
    snprintf(bias, sizeof(bias), "%s.bias", beside);
    snprintf(scale, sizeof(scale), "%s.scale", beside);
    in.in[0] = x;
    in.weight[0] = add_matrix(b, m);
    check_bias(b, m->name, bias);
    in.weight[1] =
        add_vector(b, &(struct vector){ bias, m->first_row, m->rows, length, m->row_axis, false });
    in.weight[2] = add_vector(b, &(struct vector){ scale, 0, 1, 1, axis_none(), false });
    return emit(b, in, value, m->rows, m->row_axis);
}

int emit_norm(struct builder *b, int x, const struct norm_recipe *norm, int group,
              const char *value)
{
    struct instr in = instr_init(OP_RMS_NORM, b->layer);
    if (b->result || norm->kind == NORM_NONE)
        return x;
    const struct value v = b->p->values[x];
    int n = group ? group : v.width;
    in.in[0] = x;
    in.norm.group = group;
    in.norm.eps = norm->eps;
    if (norm->kind == NORM_RMS)
        in.weight[0] = add_vector(b, &(struct vector){ norm->tensor, 0, n, n, axis_none(), true });
    return emit(b, in, value, v.width, v.axis);
}

int emit_binary(struct builder *b, enum op op, int x, int y, const char *value)
{
    struct instr in = instr_init(op, b->layer);
    if (b->result)
        return PROGRAM_NONE;
    in.in[0] = x;
    in.in[1] = y;
    return emit(b, in, value, b->p->values[x].width, b->p->values[x].axis);
}

int emit_act(struct builder *b, enum activation_kind act, int gate, int up, const char *value)
{
    struct instr in = instr_init(OP_ACT, b->layer);
    if (b->result)
        return PROGRAM_NONE;
    in.in[0] = gate;
    in.in[1] = up;
    in.act = act;
    return emit(b, in, value, b->p->values[gate].width, b->p->values[gate].axis);
}

int emit_scale(struct builder *b, int x, double factor, const char *value)
{
    struct instr in = instr_init(OP_SCALE, b->layer);
    if (b->result)
        return PROGRAM_NONE;
    in.in[0] = x;
    in.scale.factor = (float)factor;
    return emit(b, in, value, b->p->values[x].width, b->p->values[x].axis);
}
