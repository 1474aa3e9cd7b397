#include "tests/stage/fake.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MAX_SESSIONS 64

struct fake_ctx {
    struct backend_ctx base;
    const struct program *p;
    struct arena arena;
    struct segment *segments;
    float **values;
    int *rows;
    struct backend_step step;
    bool known[MAX_SESSIONS];
    int32_t position[MAX_SESSIONS], pending[MAX_SESSIONS];
};

static int weight(struct program *p, const char *name, int rows, int cols, struct axis row_axis,
                  struct axis col_axis)
{
    struct axis none = { PROGRAM_NONE, 0 };
    return program_add_weight(p, &(struct weight){ .tensor = name,
                                                   .mats = 1,
                                                   .tensor_rows = rows,
                                                   .tensor_cols = cols,
                                                   .mat_count = 1,
                                                   .row_count = rows,
                                                   .col_count = cols,
                                                   .mat_axis = none,
                                                   .row_axis = row_axis,
                                                   .col_axis = col_axis });
}

struct fake_instr {
    enum op op;
    int layer, a, b, weight, width;
    enum value_rows rows;
};

static int add(struct program *p, struct fake_instr f)
{
    struct instr in = instr_init(f.op, f.layer);
    in.in[0] = f.a;
    in.in[1] = f.b;
    in.weight[0] = f.weight;
    in.out = program_add_value(p, op_name(f.op), f.width, (struct axis){ PROGRAM_NONE, 0 });
    p->values[in.out].rows = f.rows;
    program_add_instr(p, &in);
    return in.out;
}

struct program *fake_program(struct arena *arena)
{
    struct program *p = program_new(arena);
    struct axis none = { PROGRAM_NONE, 0 };
    p->family = "fake";
    p->n_layers = p->end_layer = FAKE_LAYERS;
    p->width = FAKE_WIDTH;
    p->vocab = FAKE_VOCAB;
    p->context = 512;
    p->stage_first = 1;
    p->n_ranks = 1;
    struct axis ffn = { program_add_range(p, &(struct range){ .name = "ffn",
                                                              .count = FAKE_FFN,
                                                              .granule = 1,
                                                              .parent = PROGRAM_NONE,
                                                              .end = FAKE_FFN }),
                        1 };
    struct axis vocab = { program_add_range(p, &(struct range){ .name = "vocab",
                                                                .count = FAKE_VOCAB,
                                                                .granule = 1,
                                                                .parent = PROGRAM_NONE,
                                                                .end = FAKE_VOCAB }),
                          1 };
    int n = PROGRAM_NONE;
    int x = add(p, (struct fake_instr){ OP_EMBED, -1, n, n,
                                        weight(p, "embd", FAKE_VOCAB, FAKE_WIDTH, none, none),
                                        FAKE_WIDTH, ROWS_ALL });
    for (int l = 0; l < FAKE_LAYERS; l++) {
        int h = add(p, (struct fake_instr){ OP_MATMUL, l, x, n,
                                            weight(p, "up", FAKE_FFN, FAKE_WIDTH, ffn, none),
                                            FAKE_FFN, ROWS_ALL });
        int d = add(p, (struct fake_instr){ OP_MATMUL, l, h, n,
                                            weight(p, "down", FAKE_WIDTH, FAKE_FFN, none, ffn),
                                            FAKE_WIDTH, ROWS_ALL });
        x = add(p, (struct fake_instr){ OP_ADD, l, x, d, n, FAKE_WIDTH, ROWS_ALL });
    }
    x = add(p, (struct fake_instr){ OP_ROWS, FAKE_LAYERS, x, n, n, FAKE_WIDTH, ROWS_WANTED });
    p->logits =
        add(p, (struct fake_instr){ OP_MATMUL, FAKE_LAYERS, x, n,
                                    weight(p, "output", FAKE_VOCAB, FAKE_WIDTH, vocab, none),
                                    FAKE_VOCAB, ROWS_WANTED });
    p->outputs = arena_array(arena, int, 1);
    p->outputs[0] = p->logits;
    p->n_outputs = 1;
    return p;
}

static int no_tensor(void *arg, const char *name, const uint8_t **data, uint64_t *size,
                     struct error *e)
{
    return fail(e, FAIL_NOT_FOUND, "%s", name);
}

const struct weight_source fake_source = { .map = no_tensor };

static void fake_close(struct backend_ctx *b)
{
    struct fake_ctx *c = (struct fake_ctx *)b;
    for (int i = 0; i < c->p->n_values; i++) {
        free(c->values[i]);
    }
    free(c->values);
    free(c->rows);
    arena_done(&c->arena);
    free(c);
}

static int fake_create(struct backend_ctx *b, uint32_t s, struct error *e)
{
    struct fake_ctx *c = (struct fake_ctx *)b;
    if (s >= MAX_SESSIONS || c->known[s]) {
        return fail(e, FAIL_LIMIT, "session %u", s);
    }
    c->known[s] = true;
    c->position[s] = 0;
    return 0;
}

static int fake_release(struct backend_ctx *b, uint32_t s, struct error *e)
{
    struct fake_ctx *c = (struct fake_ctx *)b;
    if (s >= MAX_SESSIONS || !c->known[s]) {
        return fail(e, FAIL_NOT_FOUND, "session %u", s);
    }
    c->known[s] = false;
    return 0;
}

static int fake_truncate(struct backend_ctx *b, uint32_t s, int32_t position, struct error *e)
{
    struct fake_ctx *c = (struct fake_ctx *)b;
    c->position[s] = position;
    return 0;
}

static int fake_fork(struct backend_ctx *b, uint32_t s, uint32_t from, struct error *e)
{
    struct fake_ctx *c = (struct fake_ctx *)b;
    c->known[s] = true;
    c->position[s] = c->position[from];
    return 0;
}

static int fake_mark(struct backend_ctx *b, uint32_t s, uint32_t id, struct error *e)
{
    return 0;
}

static int32_t fake_earliest(struct backend_ctx *b, uint32_t s)
{
    return 0;
}

static uint64_t fake_weight_bytes(const struct backend_ctx *b)
{
    return 100;
}

static uint64_t fake_state_bytes(const struct backend_ctx *b)
{
    return 7;
}

static int fake_begin(struct backend_ctx *b, const struct backend_step *s, struct error *e)
{
    struct fake_ctx *c = (struct fake_ctx *)b;
    c->step = *s;
    for (int i = 0; i < s->n_runs; i++) {
        uint32_t id = s->runs[i].session;
        if (id >= MAX_SESSIONS || !c->known[id] || c->position[id] != s->runs[i].first) {
            return fail(e, FAIL_STATE, "session %u is not at %d", id, s->runs[i].first);
        }
        c->pending[id] = s->runs[i].first + s->runs[i].count;
    }
    for (int i = 0; i < s->n_rows; i++) {
        if (s->ids[i] == FAKE_BAD_TOKEN && c->p->first_layer <= FAKE_BAD_LAYER &&
            c->p->end_layer > FAKE_BAD_LAYER) {
            return fail(e, FAIL_RANGE, "a bad token");
        }
    }
    for (int i = 0; i < c->p->n_values; i++) {
        c->rows[i] = c->p->values[i].rows == ROWS_ALL ? s->n_rows : s->n_wanted;
    }
    return 0;
}

static void embed(struct fake_ctx *c, float *out, int width)
{
    int row = 0;
    for (int i = 0; i < c->step.n_runs; i++) {
        for (int k = 0; k < c->step.runs[i].count; k++, row++) {
            for (int j = 0; j < width; j++) {
                out[row * width + j] =
                    (float)((c->step.ids[row] * 7 + j * 3 + (c->step.runs[i].first + k) * 5) % 11);
            }
        }
    }
}

static void matmul(struct fake_ctx *c, const struct instr *in, float *out, int rows)
{
    const struct weight *w = &c->p->weights[in->weight[0]];
    const float *x = c->values[in->in[0]];
    for (int i = 0; i < rows; i++) {
        for (int r = 0; r < w->row_count; r++) {
            float sum = 0;
            for (int k = 0; k < w->col_count; k++) {
                int factor = ((w->row_first + r) * 3 + (w->col_first + k) * 5 + in->layer) % 4;
                sum += x[i * w->col_count + k] * (float)factor;
            }
            out[i * w->row_count + r] = w->col_axis.range != PROGRAM_NONE
                                            ? sum
                                            : fmodf(sum, 19) + (float)(w->row_first + r == 0);
        }
    }
}

static int fake_run(struct backend_ctx *b, int segment, struct error *e)
{
    struct fake_ctx *c = (struct fake_ctx *)b;
    for (int i = c->segments[segment].first; i < c->segments[segment].end; i++) {
        const struct instr *in = &c->p->instrs[i];
        float *out = c->values[in->out];
        int rows = c->rows[in->out], width = c->p->values[in->out].width;
        if (in->op == OP_EMBED) {
            embed(c, out, width);
        } else if (in->op == OP_MATMUL) {
            matmul(c, in, out, rows);
        } else if (in->op == OP_ADD) {
            for (int k = 0; k < rows * width; k++) {
                out[k] = c->values[in->in[0]][k] + c->values[in->in[1]][k];
            }
        } else if (in->op != OP_ROWS) {
            /* Any other operation of a real program: something that depends on its input. */
            int from = c->p->values[in->in[0]].width;
            for (int k = 0; k < rows * width; k++) {
                out[k] = fmodf(c->values[in->in[0]][k / width * from + k % width % from], 23);
            }
        } else {
            for (int row = 0, k = 0; row < c->step.n_rows; row++) {
                if (c->step.wanted[row]) {
                    memcpy(out + k++ * width, c->values[in->in[0]] + row * width,
                           (size_t)width * sizeof *out);
                }
            }
        }
    }
    return 0;
}

static int fake_end(struct backend_ctx *b, struct error *e)
{
    struct fake_ctx *c = (struct fake_ctx *)b;
    for (int i = 0; i < c->step.n_runs; i++) {
        c->position[c->step.runs[i].session] = c->pending[c->step.runs[i].session];
    }
    return 0;
}

static void fake_abort(struct backend_ctx *b)
{
}

static int fake_rows(struct backend_ctx *b, int value, struct backend_rows *ret, struct error *e)
{
    const struct fake_ctx *c = (const struct fake_ctx *)b;
    *ret = (struct backend_rows){ c->values[value], c->rows[value], c->p->values[value].width };
    return 0;
}

static const struct backend_ops fake_ops = {
    .close = fake_close,
    .create = fake_create,
    .release = fake_release,
    .truncate = fake_truncate,
    .fork = fake_fork,
    .checkpoint = fake_mark,
    .restore = fake_mark,
    .earliest = fake_earliest,
    .weight_bytes = fake_weight_bytes,
    .state_bytes = fake_state_bytes,
    .begin = fake_begin,
    .run = fake_run,
    .end = fake_end,
    .abort = fake_abort,
    .read = fake_rows,
    .write = fake_rows,
};

static int fake_open(struct backend_ctx **ret, const struct program *p,
                     const struct weight_source *source, const struct backend_options *options,
                     struct error *e)
{
    struct fake_ctx *c = calloc(1, sizeof *c);
    c->base.ops = &fake_ops;
    c->p = p;
    c->values = calloc((size_t)p->n_values, sizeof *c->values);
    c->rows = calloc((size_t)p->n_values, sizeof *c->rows);
    for (int i = 0; i < p->n_values; i++) {
        c->values[i] =
            calloc((size_t)options->max_rows * (size_t)(p->values[i].width + 1), sizeof(float));
    }
    program_segments(p, &c->arena, &c->segments);
    if (source->progress && source->progress(source->arg, 50, 100) != 0) {
        fake_close(&c->base);
        return fail(e, FAIL_CANCELLED, "cancelled");
    }
    *ret = &c->base;
    return 0;
}

const struct backend fake_backend = { .name = "fake", .open = fake_open };
