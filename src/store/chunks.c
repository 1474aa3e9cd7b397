/* Lists of chunks: see chunks.h. */
#include "store/chunks.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/cursor.h"
#include "base/map.h"
#include "base/random.h"
#include "base/model_name.h"
#include "gguf/gguf.h"
#include "os/file.h"
#include "os/thread.h"

#define MAGIC "shoal chunks 1\n\n"
#define MAGIC_BYTES 16
_Static_assert(sizeof MAGIC == MAGIC_BYTES + 1, "magic");

struct tensor {
    const char *name;
    uint64_t bytes, offset; /* within its part */
    uint64_t first;         /* chunk */
    int part;
    uint8_t shape[DIGEST_BYTES]; /* of name, type and dimensions */
};

struct part {
    const char *path;
    struct file_identity identity;
};

struct chunks {
    struct arena arena;
    uint8_t header[DIGEST_BYTES], stamp[DIGEST_BYTES];
    struct part *parts;
    struct tensor *tensors;
    int n_tensors;
    struct map by_name;
    uint64_t count;

    struct mutex lock; /* of what follows; digests that are done don't change */
    uint8_t *digests;  /* (count, DIGEST_BYTES) */
    uint8_t *done;     /* a selection */
    atomic_ullong n_done;
};

/* --- stamps --- */

static void put_u64(uint8_t *to, uint64_t v)
{
    for (int i = 0; i < 8; i++) {
        to[i] = (uint8_t)(v >> (8 * i));
    }
}

int chunks_stamp(const struct file_identity *parts, int n, uint8_t ret[static DIGEST_BYTES],
                 struct error *e)
{
    /* A chain, so that any number of parts needs no memory. */
    uint8_t link[DIGEST_BYTES + 24] = { 0 };
    int code = 0;
    for (int i = 0; i < n && code == 0; i++) {
        put_u64(link + DIGEST_BYTES, parts[i].size);
        put_u64(link + DIGEST_BYTES + 8, (uint64_t)parts[i].modified_ns);
        put_u64(link + DIGEST_BYTES + 16, parts[i].inode);
        code = digest_once(bytes_of(link, sizeof link), link, e);
    }
    if (code == 0) {
        memcpy(ret, link, DIGEST_BYTES);
    }
    return code;
}

int chunks_stamp_now(const char *first, int n, uint8_t ret[static DIGEST_BYTES], struct error *e)
{
    struct file_identity *parts = calloc((size_t)n, sizeof *parts);
    int code = parts != NULL ? 0 : fail(e, FAIL_NOMEM, "memory for %d parts of a model", n);
    for (int i = 0; i < n && code == 0; i++) {
        char path[4096];
        code = model_name_part(first, i, n, path, sizeof path, e);
        code = code ? code : file_identify(path, &parts[i], e);
    }
    code = code ? code : chunks_stamp(parts, n, ret, e);
    free(parts);
    return code;
}

/* --- opening --- */

static int take_parts(struct chunks *c, const struct gguf *g, struct error *e)
{
    int n = gguf_parts(g);
    struct file_identity *identities = arena_array(&c->arena, struct file_identity, (size_t)n);
    c->parts = arena_array(&c->arena, struct part, (size_t)n);
    if (c->parts == NULL || identities == NULL) {
        return fail(e, FAIL_NOMEM, "memory for a list of chunks");
    }
    for (int i = 0; i < n; i++) {
        const char *path = gguf_part_path(g, i);
        char *copy = arena_array(&c->arena, char, strlen(path) + 1);
        if (copy == NULL) {
            return fail(e, FAIL_NOMEM, "memory for a list of chunks");
        }
        memcpy(copy, path, strlen(path) + 1);
        identities[i] = *gguf_part_identity(g, i);
        c->parts[i] = (struct part){ copy, identities[i] };
    }
    return chunks_stamp(identities, n, c->stamp, e);
}

/* What a tensor is, apart from its bytes. */
static void digest_shape(struct digest *d, const struct gguf_tensor *t,
                         uint8_t ret[static DIGEST_BYTES])
{
    uint8_t numbers[8 * (3 + GGUF_MAX_DIMS)];
    put_u64(numbers, t->name.size);
    put_u64(numbers + 8, (uint64_t)t->type);
    put_u64(numbers + 16, (uint64_t)t->n_dims);
    for (int i = 0; i < GGUF_MAX_DIMS; i++) {
        put_u64(numbers + 24 + 8 * i, t->dims[i]);
    }
    digest_clear(d);
    digest_add(d, bytes_of(numbers, sizeof numbers));
    digest_add(d, t->name);
    digest_bytes(d, ret);
}

static int take_tensors(struct chunks *c, const struct gguf *g, struct digest *d, struct error *e)
{
    int n = gguf_n_tensors(g);
    c->tensors = arena_array(&c->arena, struct tensor, (size_t)n + 1);
    int code = map_init(&c->by_name, &c->arena, (size_t)n, gguf_seed(g), e);
    if (c->tensors == NULL || code != 0) {
        return code ? code : fail(e, FAIL_NOMEM, "memory for a list of chunks");
    }
    for (int i = 0; i < n && code == 0; i++) {
        const struct gguf_tensor *t = gguf_tensor_at(g, i);
        char *name = arena_array(&c->arena, char, t->name.size + 1);
        if (name == NULL) {
            return fail(e, FAIL_NOMEM, "memory for a list of chunks");
        }
        memcpy(name, t->name.data, t->name.size);
        name[t->name.size] = '\0';
        struct tensor *to = &c->tensors[i];
        *to = (struct tensor){
            .name = name, .bytes = t->bytes, .offset = t->offset, .first = c->count, .part = t->part
        };
        digest_shape(d, t, to->shape);
        c->count += t->bytes / CHUNK_BYTES + (t->bytes % CHUNK_BYTES != 0);
        code = map_put(&c->by_name, bytes_of(name, t->name.size), i);
    }
    c->n_tensors = n;
    c->tensors[n].first = c->count;
    return code ? fail(e, code, "memory for a list of chunks") : 0;
}

int chunks_open(struct chunks **ret, const struct gguf *g, struct error *e)
{
    struct digest *d = NULL;
    int code = digest_open(&d, e);
    struct chunks *c = calloc(1, sizeof *c);
    if (c == NULL || code != 0) {
        digest_close(d);
        free(c);
        return fail(e, FAIL_NOMEM, "memory for a list of chunks");
    }
    arena_init(&c->arena, 0);
    mutex_init(&c->lock);
    code = digest_once(gguf_header(g), c->header, e);
    code = code ? code : take_parts(c, g, e);
    code = code ? code : take_tensors(c, g, d, e);
    digest_close(d);
    if (code == 0) {
        c->digests = calloc((size_t)c->count + 1, DIGEST_BYTES);
        c->done = calloc(chunks_selection_bytes(c), 1);
        if (c->digests == NULL || c->done == NULL) {
            code = fail(e, FAIL_NOMEM, "memory for the digests of a model");
        }
    }
    if (code != 0) {
        chunks_close(c);
        return code;
    }
    *ret = c;
    return 0;
}

void chunks_close(struct chunks *c)
{
    if (c != NULL) {
        free(c->digests);
        free(c->done);
        mutex_done(&c->lock);
        arena_done(&c->arena);
        free(c);
    }
}

const char *chunks_path(const struct chunks *c)
{
    return c->parts[0].path;
}

const uint8_t *chunks_stamp_of(const struct chunks *c)
{
    return c->stamp;
}

int chunks_tensors(const struct chunks *c)
{
    return c->n_tensors;
}

const char *chunks_tensor_name(const struct chunks *c, int tensor)
{
    return c->tensors[tensor].name;
}

int chunks_find(const struct chunks *c, const char *name)
{
    return map_get(&c->by_name, bytes_text(name), -1);
}

uint64_t chunks_first(const struct chunks *c, int tensor)
{
    return c->tensors[tensor].first;
}

uint64_t chunks_count(const struct chunks *c)
{
    return c->count;
}

/* --- digests --- */

uint64_t chunks_done(const struct chunks *c)
{
    return atomic_load_explicit(&c->n_done, memory_order_acquire);
}

bool chunks_complete(const struct chunks *c)
{
    return chunks_done(c) == c->count;
}

bool chunks_have(const struct chunks *c, uint64_t chunk)
{
    struct mutex *lock = (struct mutex *)&c->lock;
    mutex_lock(lock);
    bool have = chunks_selected(c->done, chunk);
    mutex_unlock(lock);
    return have;
}

static void keep(struct chunks *c, uint64_t chunk, const uint8_t digest[static DIGEST_BYTES])
{
    mutex_lock(&c->lock);
    if (!chunks_selected(c->done, chunk)) {
        memcpy(c->digests + chunk * DIGEST_BYTES, digest, DIGEST_BYTES);
        chunks_select(c->done, chunk);
        atomic_fetch_add_explicit(&c->n_done, 1, memory_order_release);
    }
    mutex_unlock(&c->lock);
}

/* The tensor that a chunk belongs to: the last one that begins at or before it and has bytes. */
static const struct tensor *tensor_of(const struct chunks *c, uint64_t chunk)
{
    int low = 0, high = c->n_tensors;
    while (high - low > 1) {
        int middle = low + (high - low) / 2;
        if (c->tensors[middle].first <= chunk) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return &c->tensors[low];
}

int chunks_make(struct chunks *c, uint64_t chunk, uint8_t *buffer, struct error *e)
{
    assert(chunk < c->count);
    if (chunks_have(c, chunk)) {
        return 0;
    }
    const struct tensor *t = tensor_of(c, chunk);
    const struct part *p = &c->parts[t->part];
    uint64_t at = (chunk - t->first) * CHUNK_BYTES;
    size_t size = t->bytes - at < CHUNK_BYTES ? (size_t)(t->bytes - at) : CHUNK_BYTES;
    struct file_identity now;
    int code = file_read_range(p->path, t->offset + at, buffer, size, e);
    code = code ? code : file_identify(p->path, &now, e);
    if (code != 0) {
        return code;
    }
    if (now.device != p->identity.device || now.inode != p->identity.inode ||
        now.size != p->identity.size || now.modified_ns != p->identity.modified_ns) {
        return fail(e, FAIL_IO, "%s changed while it was read", p->path);
    }
    uint8_t digest[DIGEST_BYTES];
    code = digest_once(bytes_of(buffer, size), digest, e);
    if (code == 0) {
        keep(c, chunk, digest);
    }
    return code;
}

/* --- selections --- */

size_t chunks_selection_bytes(const struct chunks *c)
{
    return (size_t)(c->count / 8 + 1);
}

uint64_t chunks_draw(const struct chunks *c, uint64_t seed, uint8_t *ret, uint64_t *order)
{
    uint64_t drawn = 0;
    memset(ret, 0, chunks_selection_bytes(c));
    for (int i = 0; i < c->n_tensors; i++) {
        uint64_t first = c->tensors[i].first, n = c->tensors[i + 1].first - first;
        if (n > 0) {
            order[drawn] = first + random_at(seed, (uint64_t)i) % n;
            chunks_select(ret, order[drawn++]);
        }
    }
    return drawn;
}

void chunks_select_bytes(const struct chunks *c, int tensor, uint64_t offset, uint64_t size,
                         uint8_t *ret)
{
    const struct tensor *t = &c->tensors[tensor];
    if (offset >= t->bytes || size == 0) {
        return;
    }
    size = size < t->bytes - offset ? size : t->bytes - offset;
    for (uint64_t i = offset / CHUNK_BYTES; i <= (offset + size - 1) / CHUNK_BYTES; i++) {
        chunks_select(ret, t->first + i);
    }
}

int chunks_tensor_digests(const struct chunks *c, const uint8_t *selection, uint8_t *ret,
                          struct error *e)
{
    struct digest *d = NULL;
    int code = digest_open(&d, e);
    for (int i = 0; i < c->n_tensors && code == 0; i++) {
        digest_clear(d);
        digest_add(d, bytes_of(c->tensors[i].shape, DIGEST_BYTES));
        for (uint64_t k = c->tensors[i].first; k < c->tensors[i + 1].first && code == 0; k++) {
            if (selection != NULL && !chunks_selected(selection, k)) {
                continue;
            }
            if (!chunks_have(c, k)) {
                code = fail(e, FAIL_STATE, "no digest of a chunk of %s yet", c->tensors[i].name);
            }
            digest_add(d, bytes_of(c->digests + k * DIGEST_BYTES, DIGEST_BYTES));
        }
        digest_bytes(d, ret + (size_t)i * DIGEST_BYTES);
    }
    digest_close(d);
    return code;
}

int chunks_root(const struct chunks *c, const uint8_t *tensors, uint8_t ret[static DIGEST_BYTES],
                struct error *e)
{
    uint8_t both[2 * DIGEST_BYTES];
    memcpy(both, c->header, DIGEST_BYTES);
    int code =
        digest_once(bytes_of(tensors, (size_t)c->n_tensors * DIGEST_BYTES), both + DIGEST_BYTES, e);
    return code ? code : digest_once(bytes_of(both, sizeof both), ret, e);
}

/* --- as bytes --- */

int chunks_encode(const struct chunks *c, struct buffer *out, struct error *e)
{
    struct mutex *lock = (struct mutex *)&c->lock;
    size_t start = out->size;
    buffer_append(out, bytes_of(MAGIC, MAGIC_BYTES));
    buffer_append(out, bytes_of(c->header, DIGEST_BYTES));
    buffer_append(out, bytes_of(c->stamp, DIGEST_BYTES));
    buffer_u64(out, (uint64_t)c->n_tensors);
    buffer_u64(out, c->count);
    mutex_lock(lock);
    buffer_append(out, bytes_of(c->done, chunks_selection_bytes(c)));
    for (uint64_t i = 0; i < c->count && !out->failed; i++) {
        if (chunks_selected(c->done, i)) {
            buffer_append(out, bytes_of(c->digests + i * DIGEST_BYTES, DIGEST_BYTES));
        }
    }
    mutex_unlock(lock);
    uint8_t sum[DIGEST_BYTES];
    int code = out->failed ? fail(e, FAIL_NOMEM, "memory for a list of chunks as bytes")
                           : digest_once(bytes_of(out->data + start, out->size - start), sum, e);
    return code ? code : buffer_append(out, bytes_of(sum, sizeof sum));
}

/* The fields before the digests; the sum has been checked. */
static void decode_head(const struct chunks *c, struct cursor *at)
{
    struct bytes magic = cursor_bytes(at, MAGIC_BYTES, "magic");
    struct bytes header = cursor_bytes(at, DIGEST_BYTES, "header");
    struct bytes stamp = cursor_bytes(at, DIGEST_BYTES, "stamp");
    uint64_t tensors = cursor_u64(at, "tensors"), count = cursor_u64(at, "chunks");
    if (at->failed) {
        return;
    }
    if (!bytes_equal(magic, bytes_of(MAGIC, MAGIC_BYTES))) {
        cursor_fail(at, FAIL_FORMAT, "no list of chunks");
    } else if (!bytes_equal(header, bytes_of(c->header, DIGEST_BYTES)) ||
               !bytes_equal(stamp, bytes_of(c->stamp, DIGEST_BYTES)) ||
               tensors != (uint64_t)c->n_tensors || count != c->count) {
        cursor_fail(at, FAIL_FORMAT, "chunks of another file, or of an earlier version of it");
    }
}

int chunks_decode(struct chunks *c, struct bytes text, struct error *e)
{
    uint8_t sum[DIGEST_BYTES];
    if (text.size < DIGEST_BYTES) {
        return fail(e, FAIL_FORMAT, "a list of chunks of %zu bytes", text.size);
    }
    struct bytes body = bytes_of(text.data, text.size - DIGEST_BYTES);
    int code = digest_once(body, sum, e);
    if (code != 0) {
        return code;
    }
    if (memcmp(sum, body.data + body.size, DIGEST_BYTES) != 0) {
        return fail(e, FAIL_FORMAT, "a list of chunks that was damaged");
    }
    struct cursor at;
    struct error local = { 0 };
    cursor_init(&at, body, &local);
    decode_head(c, &at);
    struct bytes done = cursor_bytes(&at, chunks_selection_bytes(c), "which are there");
    uint64_t n = 0;
    for (uint64_t i = 0; i < c->count && !at.failed; i++) {
        n += chunks_selected(done.data, i);
    }
    struct bytes digests = cursor_bytes(&at, n * DIGEST_BYTES, "digests");
    if (!at.failed && cursor_left(&at) != 0) {
        cursor_fail(&at, FAIL_FORMAT, "bytes behind a list of chunks");
    }
    if (at.failed) {
        return fail(e, FAIL_FORMAT, "%s", local.text);
    }
    n = 0;
    for (uint64_t i = 0; i < c->count; i++) {
        if (chunks_selected(done.data, i)) {
            keep(c, i, digests.data + n++ * DIGEST_BYTES);
        }
    }
    return 0;
}
