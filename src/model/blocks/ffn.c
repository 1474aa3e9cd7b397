/* Gated FFNs: one, or experts of which a router chooses. */
#include "model/blocks/blocks.h"

#include <stdio.h>

/* FFN columns are dealt in whole quantization blocks where there are plenty of them, else in 32s
 * (a cut inside a block is legal; the block is then loaded on both sides). */
static int ffn_granule(const struct builder *b, const char *out, int ffn)
{
    char part[96], full[128];
    snprintf(part, sizeof(part), "%s.weight", out);
    tensor_name(b, part, full);
    const struct gguf_tensor *t = gguf_tensor(b->g, full);
    int block = t ? (int)quant_format(t->type)->block : 32;
    return block > 32 && ffn / block >= 16 ? block : 32;
}

/* One range for all FFNs of one width, whatever types their layers have: the first one's blocks. */
static int ffn_range(struct builder *b, const struct gated_recipe *f)
{
    for (int i = 0; i < b->p->n_ranges; i++)
        if (strcmp(b->p->ranges[i].name, "ffn") == 0 && b->p->ranges[i].count == f->width)
            return i;
    return add_range(b, &(struct range){ .name = "ffn",
                                         .count = f->width,
                                         .granule = ffn_granule(b, f->out, f->width),
                                         .parent = PROGRAM_NONE });
}

int build_gated(struct builder *b, const struct gated_recipe *f, int x)
{
    const struct axis ffn = { ffn_range(b, f), 1 };
    struct matrix m = { .name = f->gate,
                        .rows = f->width,
                        .cols = b->recipe->width,
                        .row_axis = ffn,
                        .col_axis = axis_none() };
    int gate = emit_matmul(b, x, &m, "gate");
    m.name = f->up;
    int up = emit_matmul(b, x, &m, "up");
    int act = emit_act(b, f->act, gate, up, "act");
    return emit_matmul(b, act,
                       &(struct matrix){ .name = f->out,
                                         .rows = b->recipe->width,
                                         .cols = f->width,
                                         .row_axis = axis_none(),
                                         .col_axis = ffn },
                       "ffn_out");
}

/* A row's product with each of its chosen experts, slot by slot. */
static int expert_matmul(struct builder *b, const struct experts_recipe *f, int x, int route,
                         const struct matrix *m, const char *value)
{
    struct instr in = instr_init(OP_EXPERT_MATMUL, b->layer);
    char scale[96];
    snprintf(scale, sizeof(scale), "%s.scale", m->name);
    in.in[0] = x;
    in.in[1] = route;
    in.weight[0] = add_matrix(b, m);
    in.weight[2] =
        add_vector(b, &(struct vector){ scale, 0, f->count, f->count, m->mat_axis, false });
    in.experts = (struct expert_args){ .top_k = f->used, .count = f->count };
    struct axis axis = m->row_axis;
    axis.unit *= f->used;
    return emit(b, in, value, f->used * m->rows, axis);
}

static int build_route(struct builder *b, const struct experts_recipe *f, int x)
{
    struct instr in = instr_init(OP_ROUTE, b->layer);
    in.in[0] = emit_matmul(b, x,
                           &(struct matrix){ .name = f->router,
                                             .rows = f->count,
                                             .cols = b->recipe->width,
                                             .row_axis = axis_none(),
                                             .col_axis = axis_none() },
                           "router");
    in.route = (struct route_args){ f->used, f->normalize };
    return emit(b, in, "route", 2 * f->used, axis_none());
}

int build_experts(struct builder *b, const struct experts_recipe *f, int x)
{
    const struct axis none = axis_none();
    int experts = add_range(
        b, &(struct range){
               .name = "experts", .count = f->count, .granule = 1, .parent = PROGRAM_NONE });
    int ffn = add_range(
        b, &(struct range){
               .name = "expert_ffn", .count = f->width, .granule = 32, .parent = PROGRAM_NONE });
    const struct axis whole = b->expert_columns ? none : (struct axis){ experts, 1 };
    const struct axis columns = b->expert_columns ? (struct axis){ ffn, 1 } : none;
    int route = build_route(b, f, x);
    struct matrix m = { .name = f->gate,
                        .mats = f->count,
                        .rows = f->width,
                        .cols = b->recipe->width,
                        .row_axis = columns,
                        .col_axis = none,
                        .mat_axis = whole };
    int gate = expert_matmul(b, f, x, route, &m, "expert_gate");
    m.name = f->up;
    int up = expert_matmul(b, f, x, route, &m, "expert_up");
    int act = emit_act(b, f->act, gate, up, "expert_act");
    struct matrix down = { .name = f->out,
                           .mats = f->count,
                           .rows = b->recipe->width,
                           .cols = f->width,
                           .row_axis = none,
                           .col_axis = columns,
                           .mat_axis = whole };
    struct instr sum = instr_init(OP_EXPERT_SUM, b->layer);
    sum.in[0] = expert_matmul(b, f, act, route, &down, "expert_out");
    sum.in[1] = route;
    sum.experts = (struct expert_args){ .top_k = f->used, .count = f->count };
    return emit(b, sum, "experts", b->recipe->width, none);
}
