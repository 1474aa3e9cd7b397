/* What a file that was read has: see gguf.h. */
#include "gguf/internal.h"

uint32_t gguf_version(const struct gguf *g)
{
    return g->version;
}

uint32_t gguf_alignment(const struct gguf *g)
{
    return g->alignment;
}

uint64_t gguf_file_bytes(const struct gguf *g)
{
    uint64_t total = 0;
    for (int i = 0; i < g->n_parts; i++)
        total += g->parts[i].file.size;
    return total;
}

struct bytes gguf_header(const struct gguf *g)
{
    uint64_t n = g->parts[0].data_start;
    if (n > g->parts[0].file.size)
        n = g->parts[0].file.size;
    return bytes_of(g->parts[0].file.data, (size_t)n);
}

int gguf_parts(const struct gguf *g)
{
    return g->n_parts;
}

int gguf_n_keys(const struct gguf *g)
{
    return g->n_values;
}

const struct gguf_value *gguf_value_at(const struct gguf *g, int i)
{
    return &g->values[i];
}

const struct gguf_value *gguf_find(const struct gguf *g, const char *key)
{
    int32_t i = map_get(&g->value_map, bytes_text(key), -1);
    return i < 0 ? NULL : &g->values[i];
}

uint64_t gguf_seed(const struct gguf *g)
{
    return g->seed;
}

int gguf_n_tensors(const struct gguf *g)
{
    return g->n_tensors;
}

const struct gguf_tensor *gguf_tensor_at(const struct gguf *g, int i)
{
    return &g->tensors[i];
}

const struct gguf_tensor *gguf_tensor(const struct gguf *g, const char *name)
{
    int32_t i = map_get(&g->tensor_map, bytes_text(name), -1);
    return i < 0 ? NULL : &g->tensors[i];
}
