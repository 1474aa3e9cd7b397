/* From a file to a program and its weights' bytes. */
#include "stage/source.h"

#include <inttypes.h>
#include <stdlib.h>

#include "gguf/gguf.h"
#include "graph/facts.h"
#include "model/model.h"

#include <string.h>

struct source {
    struct gguf *gguf;
    struct arena arena;
    struct program *program;
    struct weight_source weights;
    struct buffer notes;
};

#define MAX_NOTES ((size_t)16 << 10)

static int map_tensor(void *arg, const char *name, const uint8_t **data, uint64_t *size,
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

static int read_tensor(void *arg, const char *name, uint64_t offset, uint64_t size, void *into,
                       struct error *e)
{
    const uint8_t *data = NULL;
    uint64_t whole = 0;
    int code = map_tensor(arg, name, &data, &whole, e);
    if (code == 0 && (offset > whole || size > whole - offset)) {
        code = fail(e, FAIL_FORMAT, "tensor '%s' has %" PRIu64 " bytes", name, whole);
    }
    if (code == 0) {
        memcpy(into, data + offset, (size_t)size);
    }
    return code;
}

int source_open(struct source **ret, const char *path, struct error *e)
{
    struct source *s = calloc(1, sizeof *s);
    if (s == NULL) {
        return fail(e, FAIL_NOMEM, "memory for a model");
    }
    arena_init(&s->arena, 0);
    buffer_init(&s->notes, MAX_NOTES);
    s->weights = (struct weight_source){ .read = read_tensor, .map = map_tensor, .arg = s };
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

int source_need(const struct source *s, const struct source_state *state, uint64_t *weight_bytes,
                uint64_t *token_bytes, struct split_need *ret, struct error *e)
{
    struct arena arena = { 0 };
    struct program_facts facts;
    int code = program_facts(s->program, &arena, &facts, e);
    for (int i = 0; code == 0 && i < facts.n_layers; i++) {
        const struct layer_facts *l = &facts.layers[i];
        /* State that positions don't enlarge is kept twice, so that a step can be taken back. */
        weight_bytes[i] =
            l->weight_bytes + 2 * l->state_numbers * sizeof(float) * (uint64_t)state->sequences;
        token_bytes[i] = l->kv_numbers * (uint64_t)state->element_bytes;
    }
    if (code == 0) {
        *ret = (struct split_need){ .n_layers = facts.n_layers,
                                    .layer_bytes = weight_bytes,
                                    .first_bytes = facts.before.weight_bytes,
                                    .last_bytes = facts.after.weight_bytes };
        ret->both_bytes = ret->first_bytes + ret->last_bytes - facts.tied_bytes;
    }
    arena_done(&arena);
    return code;
}
