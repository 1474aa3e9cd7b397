/* A model file with some of its keys and tensors changed, and its logits. */
#ifndef SHOAL_TESTS_MODEL_EDITED_H
#define SHOAL_TESTS_MODEL_EDITED_H

#include "tests/wide.h"
#include "tests/values.h"

#include "gguf/writer.h"

#include <math.h>
#include <stdio.h>

#define EDITED_MAX_TOKENS 64

enum edit_kind {
    EDIT_END,
    EDIT_DROP,   /* the key or tensor `name` */
    EDIT_U32,    /* sets a key */
    EDIT_F32,    /* sets a key */
    EDIT_F64,    /* sets a key */
    EDIT_BOOL,   /* sets a key */
    EDIT_TEXT,   /* sets a key */
    EDIT_ARRAY,  /* sets a key to an array of n i32 */
    EDIT_FACTOR, /* the tensor (f32) times `number`, matrix k of a stack times (k + 1) more */
    EDIT_ADD,    /* a tensor of n f32, the k-th `number` times (k + 1) */
    EDIT_RENAME, /* the tensor is called `text` */
    EDIT_JOIN    /* a tensor of the rows of those called by the words of `text`, which go */
};

#define EDIT_MAX_PARTS 3

struct edit {
    enum edit_kind kind;
    const char *name;
    double number;
    const char *text;
    const int32_t *values;
    int n;
};

#define DROP(name)                                                                                 \
    {                                                                                              \
        EDIT_DROP, name, 0, NULL, NULL, 0                                                          \
    }
#define SET_U32(name, value)                                                                       \
    {                                                                                              \
        EDIT_U32, name, value, NULL, NULL, 0                                                       \
    }
#define SET_F32(name, value)                                                                       \
    {                                                                                              \
        EDIT_F32, name, value, NULL, NULL, 0                                                       \
    }
#define SET_F64(name, value)                                                                       \
    {                                                                                              \
        EDIT_F64, name, value, NULL, NULL, 0                                                       \
    }
#define SET_BOOL(name, value)                                                                      \
    {                                                                                              \
        EDIT_BOOL, name, value, NULL, NULL, 0                                                      \
    }
#define SET_TEXT(name, value)                                                                      \
    {                                                                                              \
        EDIT_TEXT, name, 0, value, NULL, 0                                                         \
    }
#define SET_ARRAY(name, values, n)                                                                 \
    {                                                                                              \
        EDIT_ARRAY, name, 0, NULL, values, n                                                       \
    }
#define FACTOR(name, factor)                                                                       \
    {                                                                                              \
        EDIT_FACTOR, name, factor, NULL, NULL, 0                                                   \
    }
#define ADD_TENSOR(name, value, n)                                                                 \
    {                                                                                              \
        EDIT_ADD, name, value, NULL, NULL, n                                                       \
    }
#define RENAME(name, to)                                                                           \
    {                                                                                              \
        EDIT_RENAME, name, 0, to, NULL, 0                                                          \
    }

#define JOIN(name, parts)                                                                          \
    {                                                                                              \
        EDIT_JOIN, name, 0, parts, NULL, 0                                                         \
    }

/* Tensor i of a joined one's; NULL behind the last. */
static inline const struct gguf_tensor *joined_part(const struct gguf *g, const struct edit *d,
                                                    int i)
{
    char words[256], *save = NULL;
    snprintf(words, sizeof(words), "%s", d->text);
    const char *word = strtok_r(words, " ", &save);
    for (; word && i > 0; i--)
        word = strtok_r(NULL, " ", &save);
    return word ? gguf_tensor(g, word) : NULL;
}

static inline bool is_joined(const struct gguf *g, const struct edit *edits,
                             const struct gguf_tensor *t)
{
    for (const struct edit *d = edits; d && d->kind != EDIT_END; d++)
        for (int i = 0; d->kind == EDIT_JOIN && i < EDIT_MAX_PARTS; i++)
            if (joined_part(g, d, i) == t)
                return true;
    return false;
}

static inline void declare_joined(struct gguf_writer *w, const struct gguf *g, const struct edit *d)
{
    const struct gguf_tensor *first = joined_part(g, d, 0);
    uint64_t dims[2] = { first->dims[0], 0 };
    struct error e = { 0 };
    bool vector = first->n_dims == 1;
    for (int i = 0; joined_part(g, d, i); i++)
        dims[1] += joined_part(g, d, i)->elements / (vector ? 1 : dims[0]);
    if (gguf_writer_tensor(w, d->name, first->type, vector ? 1 : 2, vector ? &dims[1] : dims, &e))
        fail_test("%s", e.text);
}

static inline void set_key(struct gguf_writer *w, const struct edit *d)
{
    if (d->kind == EDIT_U32)
        gguf_writer_u32(w, d->name, (uint32_t)d->number);
    if (d->kind == EDIT_F32)
        gguf_writer_f32(w, d->name, (float)d->number);
    if (d->kind == EDIT_F64)
        gguf_writer_value(w, &(struct gguf_value){
                                 .key = bytes_text(d->name), .type = GGUF_F64, .f = d->number });
    if (d->kind == EDIT_BOOL)
        gguf_writer_bool(w, d->name, d->number != 0);
    if (d->kind == EDIT_TEXT)
        gguf_writer_text(w, d->name, bytes_text(d->text));
    if (d->kind == EDIT_ARRAY)
        gguf_writer_i32_array(w, d->name, d->values, (size_t)d->n);
}

static inline const struct edit *edit_of(const struct edit *edits, struct bytes name)
{
    for (; edits && edits->kind != EDIT_END; edits++)
        if (bytes_equal_text(name, edits->name))
            return edits;
    return NULL;
}

static inline void edited_keys(struct gguf_writer *w, const struct gguf *g, const struct edit *d)
{
    for (int i = 0; i < gguf_n_keys(g); i++) {
        const struct gguf_value *v = gguf_value_at(g, i);
        if (!edit_of(d, v->key))
            gguf_writer_value(w, v);
    }
    for (; d && d->kind != EDIT_END; d++)
        set_key(w, d);
}

static inline void declare_tensors(struct gguf_writer *w, const struct gguf *g,
                                   const struct edit *edits)
{
    struct error e = { 0 };
    for (int i = 0; i < gguf_n_tensors(g); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(g, i);
        const struct edit *d = edit_of(edits, t->name);
        char name[128];
        if ((d && d->kind == EDIT_DROP) || is_joined(g, edits, t))
            continue;
        snprintf(name, sizeof(name), "%.*s", BYTES_ARG(t->name));
        if (gguf_writer_tensor(w, d && d->kind == EDIT_RENAME ? d->text : name, t->type, t->n_dims,
                               t->dims, &e))
            fail_test("%s", e.text);
    }
    for (const struct edit *d = edits; d && d->kind != EDIT_END; d++)
        if (d->kind == EDIT_ADD &&
            gguf_writer_tensor(w, d->name, QUANT_F32, 1, &(uint64_t){ (uint64_t)d->n }, &e))
            fail_test("%s", e.text);
    for (const struct edit *d = edits; d && d->kind != EDIT_END; d++)
        if (d->kind == EDIT_JOIN)
            declare_joined(w, g, d);
}

static inline void write_tensors(struct gguf_writer *w, const struct gguf *g,
                                 const struct edit *edits)
{
    struct error e = { 0 };
    for (int i = 0; i < gguf_n_tensors(g); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(g, i);
        const struct edit *d = edit_of(edits, t->name);
        float *copy = malloc(t->bytes);
        if ((d && d->kind == EDIT_DROP) || is_joined(g, edits, t)) {
            free(copy);
            continue;
        }
        memcpy(copy, t->data, t->bytes);
        for (uint64_t k = 0; d && d->kind == EDIT_FACTOR && k < t->elements; k++)
            copy[k] *= (float)(d->number * (double)(k / (t->dims[0] * t->dims[1]) + 1));
        assert_int_equal(gguf_writer_data(w, bytes_of(copy, t->bytes), &e), 0);
        free(copy);
    }
    for (const struct edit *d = edits; d && d->kind != EDIT_END; d++)
        for (int k = 0; d->kind == EDIT_ADD && k < d->n; k++) {
            float value = (float)(d->number * (k + 1));
            assert_int_equal(gguf_writer_data(w, bytes_of(&value, sizeof(value)), &e), 0);
        }
    for (const struct edit *d = edits; d && d->kind != EDIT_END; d++)
        for (int k = 0; d->kind == EDIT_JOIN && joined_part(g, d, k); k++) {
            const struct gguf_tensor *t = joined_part(g, d, k);
            assert_int_equal(gguf_writer_data(w, bytes_of(t->data, t->bytes), &e), 0);
        }
}

/* The file at path, edited (an array that ends with { 0 }; NULL: as it is), in memory. */
static inline void edited_file(struct buffer *out, const char *path, const struct edit *edits)
{
    struct gguf *g = NULL;
    struct gguf_writer *writer = NULL;
    struct error e = { 0 };
    buffer_init(out, WIDE_MAX_BYTES);
    if (gguf_open(&g, path, &e) || gguf_writer_open_memory(&writer, out, &e))
        fail_test("%s: %s", path, e.text);
    edited_keys(writer, g, edits);
    declare_tensors(writer, g, edits);
    write_tensors(writer, g, edits);
    if (gguf_writer_finish(writer, &e))
        fail_test("%s: %s", path, e.text);
    gguf_writer_close(writer);
    gguf_close(g);
}

/* Fills w with the edited file. Returns what model_build does; wide_close ends it either way. */
static inline int edited_build(struct wide *w, const char *path, const struct edit *edits,
                               struct buffer *notes, struct error *e)
{
    *w = (struct wide){ 0 };
    edited_file(&w->file, path, edits);
    if (gguf_open_bytes(&w->gguf, buffer_bytes(&w->file), e))
        fail_test("%s: %s", path, e->text);
    w->source = (struct weight_source){ .map = wide_tensor, .arg = w->gguf };
    return model_build(w->gguf, &(struct model_options){ .notes = notes }, &w->arena, &w->program,
                       e);
}

/* Logits (n, vocab) of n ids in exact mode; caller frees. */
static inline float *wide_logits(struct wide *w, const int32_t *ids, int n)
{
    struct error e = { 0 };
    struct pool *pool;
    struct backend_ctx *c;
    uint8_t wanted[EDITED_MAX_TOKENS];
    int rows, width;
    assert_int_equal(pool_open(&pool, &(struct pool_options){ .threads = 1 }, &e), 0);
    const struct backend_options o = { .pool = pool,
                                       .kernels = kernels_choose(NULL, &e),
                                       .exact = true,
                                       .max_rows = EDITED_MAX_TOKENS,
                                       .max_sessions = 1,
                                       .state_tokens = EDITED_MAX_TOKENS };
    memset(wanted, 1, sizeof(wanted));
    const struct backend_run run = { 1, 0, n };
    const struct backend_step s = {
        .runs = &run, .n_runs = 1, .ids = ids, .wanted = wanted, .n_rows = n, .n_wanted = n
    };
    if (backend_open(&backend_cpu, &c, w->program, &w->source, &o, &e) ||
        backend_create(c, 1, &e) || backend_begin(c, &s, &e) || backend_run(c, 0, &e))
        fail_test("%s", e.text);
    const float *logits = backend_rows_of(c, w->program->logits, &rows, &width);
    size_t bytes = (size_t)n * (size_t)width * sizeof(float);
    float *copy = malloc(bytes);
    memcpy(copy, logits, bytes);
    backend_close(c);
    pool_close(pool);
    return copy;
}

#define GOLDEN_VOCAB 288 /* of the golden models */
#define GOLDEN_TOKENS 40

/* The path of a golden model; until the next call. */
static inline const char *golden(const char *name)
{
    static char path[512];
    snprintf(path, sizeof(path), "%s/golden/%s.gguf", getenv("SHOAL_TEST_DATA"), name);
    return path;
}

/* Logits (n, vocab) of the first n of GOLDEN_TOKENS fixed ids; caller frees. */
static inline float *edited_logits(const char *path, const struct edit *edits, int n)
{
    struct wide w;
    struct error e = { 0 };
    int32_t ids[GOLDEN_TOKENS];
    if (edited_build(&w, path, edits, NULL, &e))
        fail_test("%s: %s", path, e.text);
    wide_ids(ids, GOLDEN_TOKENS, GOLDEN_VOCAB, 5);
    float *logits = wide_logits(&w, ids, n);
    wide_close(&w);
    return logits;
}

/* Largest difference of a golden model's logits under two edits, over the largest logit; 0: the
 * same bits, but for the sign of zeros. */
static inline double golden_difference(const char *model, const struct edit *a,
                                       const struct edit *b)
{
    float *x = edited_logits(golden(model), a, GOLDEN_TOKENS);
    float *y = edited_logits(golden(model), b, GOLDEN_TOKENS);
    double worst = 0, top = 0;
    for (int i = 0; i < GOLDEN_TOKENS * GOLDEN_VOCAB; i++) {
        worst = fmax(worst, fabs((double)x[i] - (double)y[i]));
        top = fmax(top, fabs((double)x[i]));
    }
    free(x);
    free(y);
    return worst / top;
}

/* The edited golden model is refused with this code, and the text names `name` and a byte. */
static inline void assert_refused(const char *model, const struct edit *edits, int code,
                                  const char *name)
{
    struct wide w;
    struct error e = { 0 };
    int r = edited_build(&w, golden(model), edits, NULL, &e);
    wide_close(&w);
    if (r != code || !strstr(e.text, name) || !strstr(e.text, "byte"))
        fail_test("%s: %d \"%s\", not %d \"%s\"", model, r, e.text, code, name);
}

#endif
