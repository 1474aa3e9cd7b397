/* Opening GGUF files: see gguf.h. */
#include "gguf/internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/model_name.h"
#include "os/entropy.h"

static struct bytes read_name(struct cursor *c, const char *what)
{
    uint64_t n = cursor_u64(c, what);
    if (!c->failed && (n == 0 || n > GGUF_MAX_NAME)) {
        cursor_fail(c, FAIL_FORMAT, "%s of %" PRIu64 " bytes", what, n);
        return (struct bytes){ 0 };
    }
    return cursor_bytes(c, n, what);
}

/* The keys of one part become the file's present ones. */
static int read_values(struct gguf *g, struct cursor *c, uint64_t count, struct error *e)
{
    /* A key and a value take at least 13 bytes, so the file bounds the count. */
    if (count > GGUF_MAX_KEYS || count > cursor_left(c) / 13)
        return cursor_fail(c, FAIL_FORMAT, "%" PRIu64 " metadata keys", count);
    struct gguf_value *values = arena_array(&g->arena, struct gguf_value, count + 1);
    if (!values)
        return fail(e, FAIL_NOMEM, "%" PRIu64 " metadata keys", count);
    struct map seen;
    int r = map_init(&seen, &g->arena, (size_t)count, g->seed, e);
    for (uint64_t i = 0; i < count && !r && !c->failed; i++) {
        struct gguf_value *v = &values[i];
        uint64_t at = c->position;
        v->key = read_name(c, "a key's name");
        uint32_t type = cursor_u32(c, "a value's type");
        if (c->failed)
            break;
        if (type >= GGUF_TYPE_COUNT)
            return cursor_fail(c, FAIL_FORMAT, "key %.*s: unknown value type %" PRIu32,
                               BYTES_ARG(v->key), type);
        gguf_read_value(g, c, (enum gguf_type)type, v);
        if (c->failed)
            break;
        if (map_get(&seen, v->key, -1) >= 0)
            return fail(e, FAIL_FORMAT, "key %.*s stands twice, again at byte %" PRIu64,
                        BYTES_ARG(v->key), at);
        r = map_put(&seen, v->key, (int32_t)i);
    }
    if (r || c->failed)
        return r ? r : e ? e->code : FAIL_FORMAT;
    g->values = values;
    g->n_values = (int)count;
    g->value_map = seen;
    return 0;
}

/* Dimensions, type and byte count; the offset is checked when all are known. */
static int read_tensor(struct cursor *c, struct gguf_tensor *t)
{
    t->name = read_name(c, "a tensor's name");
    uint32_t n_dims = cursor_u32(c, "a tensor's dimension count");
    if (!c->failed && (n_dims < 1 || n_dims > GGUF_MAX_DIMS))
        return cursor_fail(c, FAIL_FORMAT, "tensor %.*s: %" PRIu32 " dimensions",
                           BYTES_ARG(t->name), n_dims);
    t->n_dims = (int)n_dims;
    t->elements = 1;
    for (uint32_t d = 0; d < GGUF_MAX_DIMS; d++) {
        t->dims[d] = d < n_dims ? cursor_u64(c, "a tensor's dimension") : 1;
        if (c->failed)
            return FAIL_FORMAT;
        if (t->dims[d] == 0 || t->dims[d] > INT32_MAX ||
            size_mul_overflow(t->elements, t->dims[d], &t->elements) || t->elements > INT64_MAX)
            return cursor_fail(c, FAIL_FORMAT, "tensor %.*s: dimension %" PRIu32 " is %" PRIu64,
                               BYTES_ARG(t->name), d, t->dims[d]);
    }
    uint32_t id = cursor_u32(c, "a tensor's type");
    t->offset = cursor_u64(c, "a tensor's offset");
    if (c->failed)
        return FAIL_FORMAT;
    t->type = quant_from_id(id);
    if (t->type == QUANT_COUNT)
        return cursor_fail(c, FAIL_UNSUPPORTED, "tensor %.*s: unknown type %" PRIu32,
                           BYTES_ARG(t->name), id);
    const struct quant_format *f = quant_format(t->type);
    if (t->dims[0] % f->block)
        return cursor_fail(c, FAIL_FORMAT,
                           "tensor %.*s: rows of %" PRIu64 " are not whole blocks of %s (%" PRIu32
                           ")",
                           BYTES_ARG(t->name), t->dims[0], f->name, f->block);
    if (size_mul_overflow(t->elements / f->block, f->bytes, &t->bytes))
        return cursor_fail(c, FAIL_FORMAT, "tensor %.*s: too large", BYTES_ARG(t->name));
    return 0;
}

static int offset_order(const void *a, const void *b)
{
    const struct gguf_tensor *const *x = a, *const *y = b;
    return (*x)->offset < (*y)->offset ? -1 : (*x)->offset > (*y)->offset;
}

/* Every tensor lies aligned inside the file and overlaps no other. */
static int check_offsets(struct gguf *g, int part, int first, struct error *e)
{
    const struct gguf_part *p = &g->parts[part];
    uint64_t room = p->file.size > p->data_start ? p->file.size - p->data_start : 0;
    int n = g->n_tensors - first;
    struct gguf_tensor **order = arena_array(&g->arena, struct gguf_tensor *, n + 1);
    if (!order)
        return fail(e, FAIL_NOMEM, "%d tensors", n);
    for (int i = 0; i < n; i++) {
        struct gguf_tensor *t = order[i] = &g->tensors[first + i];
        if (t->offset % g->alignment)
            return fail(e, FAIL_FORMAT,
                        "tensor %.*s: offset %" PRIu64
                        " is not a multiple of the alignment %" PRIu32
                        " (data start at byte %" PRIu64 ")",
                        BYTES_ARG(t->name), t->offset, g->alignment, p->data_start);
        if (t->offset > room || t->bytes > room - t->offset)
            return fail(e, FAIL_FORMAT,
                        "tensor %.*s: %" PRIu64 " bytes at byte %" PRIu64
                        " end beyond the file's %zu bytes",
                        BYTES_ARG(t->name), t->bytes, p->data_start + t->offset, p->file.size);
        t->part = part;
        t->offset += p->data_start;
        t->data = p->file.data + t->offset;
    }
    qsort(order, (size_t)n, sizeof(order[0]), offset_order);
    for (int i = 1; i < n; i++)
        if (order[i]->offset < order[i - 1]->offset + order[i - 1]->bytes)
            return fail(e, FAIL_FORMAT, "tensors %.*s and %.*s overlap at byte %" PRIu64,
                        BYTES_ARG(order[i - 1]->name), BYTES_ARG(order[i]->name), order[i]->offset);
    return 0;
}

static int grow_tensors(struct gguf *g, uint64_t more, struct error *e)
{
    struct gguf_tensor *grown =
        arena_array(&g->arena, struct gguf_tensor, (uint64_t)g->n_tensors + more + 1);
    if (!grown)
        return fail(e, FAIL_NOMEM, "%" PRIu64 " tensors", more);
    if (g->n_tensors)
        memcpy(grown, g->tensors, (size_t)g->n_tensors * sizeof(*grown));
    g->tensors = grown;
    return 0;
}

/* The power of two that tensor offsets are multiples of. */
static int read_alignment(struct gguf *g, struct error *e)
{
    int64_t alignment;
    int r = gguf_get_int(g, "general.alignment", GGUF_DEFAULT_ALIGNMENT, &alignment, e);
    if (r)
        return r;
    if (alignment < 1 || alignment > GGUF_MAX_ALIGNMENT || (alignment & (alignment - 1)))
        return gguf_refuse(g, "general.alignment", e, FAIL_FORMAT,
                           "general.alignment is %" PRId64 ", not a power of two up to %d",
                           alignment, GGUF_MAX_ALIGNMENT);
    g->alignment = (uint32_t)alignment;
    return 0;
}

/* What the keys of part `part` say about the split. */
static int check_split(struct gguf *g, int part, struct error *e)
{
    int64_t number, count, tensors;
    int r = gguf_get_int(g, "split.no", part, &number, e);
    r = r ? r : gguf_get_int(g, "split.count", 1, &count, e);
    r = r ? r : gguf_get_int(g, "split.tensors.count", -1, &tensors, e);
    if (r)
        return r;
    if (part == 0) {
        g->split_count = count > 1 ? (int)(count < INT32_MAX ? count : INT32_MAX) : 1;
        g->split_tensors = tensors;
        g->split_byte = gguf_byte(g, "split.count");
    }
    if (count < 0 || count > GGUF_MAX_PARTS || (part && count != g->split_count) || number != part)
        return gguf_refuse(g, "split.count", e, FAIL_FORMAT,
                           "split.no %" PRId64 " of split.count %" PRId64
                           " where part %d of %d belongs (split.no counts from 0)%s",
                           number, count, part + 1, g->split_count,
                           part ? "" : "; a split model is opened by its first part");
    return 0;
}

/* The keys of a part, checked; those of the first one stay as the file's. */
static int read_part_values(struct gguf *g, int part, struct cursor *c, uint64_t n_keys,
                            struct error *e)
{
    struct gguf first = *g;
    int r = read_values(g, c, n_keys, e);
    if (!r && part == 0)
        r = read_alignment(g, e);
    if (!r)
        r = check_split(g, part, e);
    if (part > 0) {
        g->values = first.values;
        g->n_values = first.n_values;
        g->value_map = first.value_map;
    }
    return r;
}

static int read_part(struct gguf *g, int part, struct error *e)
{
    struct gguf_part *p = &g->parts[part];
    struct cursor c;
    cursor_init(&c, p->file, e);
    uint32_t magic = cursor_u32(&c, "the magic");
    if (!c.failed && magic != GGUF_MAGIC)
        return fail(e, FAIL_FORMAT, "not a GGUF file: it begins with %02x %02x %02x %02x at byte 0",
                    magic & 255, magic >> 8 & 255, magic >> 16 & 255, magic >> 24);
    uint32_t version = cursor_u32(&c, "the version");
    if (!c.failed && (version == 0x02000000u || version == 0x03000000u))
        return fail(e, FAIL_UNSUPPORTED, "a big-endian GGUF file (version at byte 4)");
    if (!c.failed && version != 2 && version != 3)
        return fail(e, FAIL_UNSUPPORTED, "GGUF version %" PRIu32 " at byte 4; 2 and 3 are known",
                    version);
    uint64_t n_tensors = cursor_u64(&c, "the tensor count");
    uint64_t n_keys = cursor_u64(&c, "the key count");
    if (c.failed)
        return e ? e->code : FAIL_FORMAT;
    if (part == 0)
        g->version = version;
    g->reading = part;
    int r = read_part_values(g, part, &c, n_keys, e);
    if (r)
        return r;
    /* Name, one dimension, type and offset take at least 33 bytes. */
    if (n_tensors > GGUF_MAX_TENSORS || n_tensors > cursor_left(&c) / 33)
        return cursor_fail(&c, FAIL_FORMAT, "%" PRIu64 " tensors", n_tensors);
    if ((r = grow_tensors(g, n_tensors, e)))
        return r;
    int first = g->n_tensors;
    for (uint64_t i = 0; i < n_tensors; i++) {
        if ((r = read_tensor(&c, &g->tensors[g->n_tensors])))
            return e && e->code ? e->code : r;
        g->n_tensors++;
    }
    p->header_end = c.position;
    p->data_start = size_round_up(c.position, g->alignment);
    return check_offsets(g, part, first, e);
}

static int index_tensors(struct gguf *g, struct error *e)
{
    int r = map_init(&g->tensor_map, &g->arena, (size_t)g->n_tensors, g->seed, e);
    for (int i = 0; i < g->n_tensors && !r; i++) {
        if (map_get(&g->tensor_map, g->tensors[i].name, -1) >= 0)
            return fail(e, FAIL_FORMAT, "tensor %.*s stands twice (its data at byte %" PRIu64 ")",
                        BYTES_ARG(g->tensors[i].name), g->tensors[i].offset);
        r = map_put(&g->tensor_map, g->tensors[i].name, i);
    }
    return r;
}

/* Maps a part and reads its header, which stays as it is whatever happens to the file. */
static int open_part(struct gguf *g, int i, const char *path, struct error *e)
{
    struct gguf_part *p = &g->parts[i];
    size_t n = strlen(path) + 1;
    char *copy = arena_array(&g->arena, char, n);
    if (!copy)
        return fail(e, FAIL_NOMEM, "a path");
    memcpy(copy, path, n);
    p->path = copy;
    int r = file_map_open(&p->map, path, e);
    if (r)
        return r;
    p->file = bytes_of(p->map.data, (size_t)p->map.size);
    g->n_parts = i + 1;
    r = read_part(g, i, e);
    if (!r)
        r = file_map_keep(&p->map, p->data_start, e);
    /* Zeros in place of lost bytes may have been read as anything: that is the true reason. */
    if (file_map_changed(&p->map, path)) {
        *e = (struct error){ 0 };
        return fail(e, FAIL_IO, "%s changed while it was read", path);
    }
    return r ? wrap(e, "%s", path) : 0;
}

/* Opens part i of n beside the first one. */
static int open_next_part(struct gguf *g, const char *path, int i, int n, struct error *e)
{
    char next[4096];
    int r = model_name_part(path, i, n, next, sizeof(next), e);
    return r ? r : open_part(g, i, next, e);
}

static struct gguf *new_gguf(struct error *e)
{
    struct gguf *g = calloc(1, sizeof(*g));
    if (g)
        g->parts = arena_array(&g->arena, struct gguf_part, GGUF_MAX_PARTS);
    if (!g || !g->parts) {
        fail(e, FAIL_NOMEM, "opening a GGUF file");
        gguf_close(g);
        return NULL;
    }
    g->n_parts = 1;
    g->seed = entropy_u64();
    return g;
}

int gguf_open(struct gguf **ret, const char *path, struct error *e)
{
    struct error local = { 0 };
    struct error *err = e ? e : &local;
    struct gguf *g = new_gguf(err);
    if (!g)
        return FAIL_NOMEM;
    int r = open_part(g, 0, path, err);
    for (int i = 1; !r && i < g->split_count; i++)
        r = open_next_part(g, path, i, g->split_count, err);
    g->reading = 0;
    if (!r && g->split_tensors >= 0 && g->split_tensors != g->n_tensors)
        r = fail(err, FAIL_FORMAT,
                 "%s: %d tensors in all parts, split.tensors.count (near byte %" PRIu64
                 ") says %" PRId64,
                 path, g->n_tensors, g->split_byte, g->split_tensors);
    if (!r)
        r = index_tensors(g, err);
    if (r)
        gguf_close(g);
    else
        *ret = g;
    return r;
}

int gguf_open_bytes(struct gguf **ret, struct bytes file, struct error *e)
{
    struct error local = { 0 };
    struct error *err = e ? e : &local;
    struct gguf *g = new_gguf(err);
    if (!g)
        return FAIL_NOMEM;
    g->parts[0].file = file;
    int r = read_part(g, 0, err);
    if (!r)
        r = index_tensors(g, err);
    if (r)
        gguf_close(g);
    else
        *ret = g;
    return r;
}

void gguf_drop_tensors(struct gguf *g)
{
    for (int i = 0; i < g->n_parts; i++)
        file_map_drop(&g->parts[i].map, g->parts[i].data_start);
    for (int i = 0; i < g->n_tensors; i++)
        if (g->parts[g->tensors[i].part].map.data)
            g->tensors[i].data = NULL;
}

int gguf_check(const struct gguf *g, struct error *e)
{
    for (int i = 0; i < g->n_parts; i++)
        if (g->parts[i].map.data && file_map_changed(&g->parts[i].map, g->parts[i].path))
            return fail(e, FAIL_IO, "%s changed while it was read", g->parts[i].path);
    return 0;
}

const char *gguf_part_path(const struct gguf *g, int i)
{
    return g->parts[i].path ? g->parts[i].path : "";
}

const struct file_identity *gguf_part_identity(const struct gguf *g, int i)
{
    return &g->parts[i].map.identity;
}

void gguf_close(struct gguf *g)
{
    if (!g)
        return;
    for (int i = 0; g->parts && i < g->n_parts; i++)
        file_map_close(&g->parts[i].map);
    arena_done(&g->arena);
    free(g);
}
