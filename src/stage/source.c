/* From a file to a program and its weights' bytes. */
#include "stage/source.h"

#include <stdlib.h>

#include "gguf/gguf.h"
#include "model/model.h"
#include "quant/quants.h"

#include <string.h>

struct source {
    struct gguf *gguf;
    struct arena arena;
    struct program *program;
    struct weight_source weights;
    struct buffer notes;
};

#define MAX_NOTES ((size_t)16 << 10)

static int tensor_bytes(void *arg, const char *name, const uint8_t **data, uint64_t *size,
                        struct error *e)
{
    const struct source *s = arg;
    const struct gguf_tensor *t = gguf_tensor(s->gguf, name);
    if (t == NULL) {
        return fail(e, FAIL_NOT_FOUND, "no tensor '%s'", name);
    }
    if (t->data == NULL) {
        return fail(e, FAIL_STATE, "tensor '%s' was asked for after loading", name);
    }
    *data = t->data;
    *size = t->bytes;
    return 0;
}

int source_open(struct source **ret, const char *path, struct error *e)
{
    struct source *s = calloc(1, sizeof *s);
    if (s == NULL) {
        return fail(e, FAIL_NOMEM, "memory for a model");
    }
    arena_init(&s->arena, 0);
    buffer_init(&s->notes, MAX_NOTES);
    s->weights = (struct weight_source){ .tensor = tensor_bytes, .arg = s };
    int code = gguf_open(&s->gguf, path, e);
    if (code == 0) {
        code = model_build(s->gguf, &(struct model_options){ .notes = &s->notes }, &s->arena,
                           &s->program, e);
        code = code ? wrap(e, "%s", path) : 0;
    }
    if (code != 0) {
        source_close(s);
        return code;
    }
    *ret = s;
    return 0;
}

void source_close(struct source *s)
{
    if (s != NULL) {
        arena_done(&s->arena);
        buffer_done(&s->notes);
        gguf_close(s->gguf);
        free(s);
    }
}

int source_loaded(struct source *s, struct error *e)
{
    int code = gguf_check(s->gguf, e);
    gguf_drop_tensors(s->gguf);
    return code;
}

const struct gguf *source_gguf(const struct source *s)
{
    return s->gguf;
}

const struct program *source_program(const struct source *s)
{
    return s->program;
}

const struct weight_source *source_weights(const struct source *s)
{
    return &s->weights;
}

const char *source_notes(const struct source *s)
{
    return buffer_cstr(&s->notes);
}

int source_need(const struct source *s, uint64_t tokens, int element_bytes, uint64_t *layer_bytes,
                struct split_need *ret, struct error *e)
{
    const struct program *p = s->program;
    uint64_t *ends = calloc(2, sizeof *ends);
    bool *seen = calloc((size_t)p->n_weights * 3, sizeof *seen);
    if (ends == NULL || seen == NULL) {
        free(ends);
        free(seen);
        return fail(e, FAIL_NOMEM, "memory for a plan");
    }
    uint64_t both = 0;
    for (int i = 0; i < p->n_instrs; i++) {
        const struct instr *in = &p->instrs[i];
        for (int k = 0; k < PROGRAM_MAX_WEIGHTS; k++) {
            if (in->weight[k] == PROGRAM_NONE) {
                continue;
            }
            const struct weight *w = &p->weights[in->weight[k]];
            uint64_t bytes = quant_row_bytes(w->type, (size_t)w->tensor_cols) *
                             (uint64_t)w->tensor_rows * (uint64_t)w->mats;
            int side = in->layer < 0 ? 0 : in->layer >= p->n_layers ? 1 : 2;
            /* A tied matrix serves both ends and is held once where both are. */
            bool again = false;
            for (int o = 0; o < 3; o++) {
                again = again || seen[o * p->n_weights + in->weight[k]];
            }
            if (seen[side * p->n_weights + in->weight[k]]) {
                continue;
            }
            seen[side * p->n_weights + in->weight[k]] = true;
            if (side == 2) {
                layer_bytes[in->layer] += bytes;
            } else {
                ends[side] += bytes;
                both += again ? 0 : bytes;
            }
        }
    }
    for (int i = 0; i < p->n_states; i++) {
        const struct state *t = &p->states[i];
        uint64_t n = (uint64_t)t->heads * (uint64_t)(t->key_dim + t->value_dim);
        if (t->kind == STATE_KV && t->layer >= 0 && t->layer < p->n_layers) {
            layer_bytes[t->layer] += n * tokens * (uint64_t)element_bytes;
        }
    }
    ret->first_bytes = ends[0];
    ret->last_bytes = ends[1];
    ret->both_bytes = both;
    free(ends);
    free(seen);
    return 0;
}
