/* A synthetic model in memory, as file and program, for tests of the arithmetic. */
#ifndef SHOAL_TESTS_WIDE_H
#define SHOAL_TESTS_WIDE_H

#include "tests/test.h"

#include "backend/backend.h"
#include "base/random.h"
#include "tools/synth/synth.h"
#include "kernels/kernels.h"
#include "model/model.h"
#include "os/pool.h"

#define WIDE_MAX_BYTES ((size_t)1 << 30)

struct wide {
    struct buffer file;
    struct gguf *gguf;
    struct arena arena;
    struct program *program;
    struct weight_source source;
};

static int wide_tensor(void *arg, const char *name, const uint8_t **data, uint64_t *size,
                       struct error *e)
{
    const struct gguf_tensor *t = gguf_tensor(arg, name);
    if (!t)
        return fail(e, FAIL_NOT_FOUND, "no tensor %s", name);
    *data = t->data;
    *size = t->bytes;
    return 0;
}

static inline void wide_open(struct wide *w, const struct synth_spec *spec)
{
    struct error e = { 0 };
    struct gguf_writer *writer = NULL;
    *w = (struct wide){ 0 };
    buffer_init(&w->file, WIDE_MAX_BYTES);
    if (gguf_writer_open_memory(&writer, &w->file, &e) || synth_write(writer, spec, &e))
        fail_test("%s: %s", spec->family, e.text);
    gguf_writer_close(writer);
    if (gguf_open_bytes(&w->gguf, buffer_bytes(&w->file), &e) ||
        model_build(w->gguf, NULL, &w->arena, &w->program, &e))
        fail_test("%s: %s", spec->family, e.text);
    w->source = (struct weight_source){ .map = wide_tensor, .arg = w->gguf };
}

static inline void wide_close(struct wide *w)
{
    arena_done(&w->arena);
    gguf_close(w->gguf);
    buffer_done(&w->file);
}

/* n token ids below vocab, of a seed. */
static inline void wide_ids(int32_t *ids, int n, int vocab, uint64_t seed)
{
    for (int i = 0; i < n; i++)
        ids[i] = (int32_t)(random_at(seed, (uint64_t)i) % (uint64_t)vocab);
}

#endif
