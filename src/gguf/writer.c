/* Writing GGUF files: see writer.h. */
#include "gguf/writer.h"

#include "gguf/internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

struct extent {
    uint64_t offset, bytes; /* in the tensor data */
};

struct gguf_writer {
    char *path, *temp;     /* NULL when writing to memory */
    FILE *file;            /* opened with the header */
    struct buffer *memory; /* borrowed */
    struct buffer keys, infos, extents;
    uint64_t n_keys, n_tensors;
    uint32_t alignment;
    uint64_t declared; /* bytes of tensor data, the last one's padding not counted */
    uint64_t written;  /* of the data, padding included */
    uint64_t current;  /* tensor being filled */
    bool header_done, finished;
};

static int writer_new(struct gguf_writer **ret, struct error *e)
{
    struct gguf_writer *w = calloc(1, sizeof(*w));
    if (!w)
        return fail(e, FAIL_NOMEM, "a GGUF writer");
    buffer_init(&w->keys, GGUF_WRITER_MAX_HEADER);
    buffer_init(&w->infos, GGUF_WRITER_MAX_HEADER);
    buffer_init(&w->extents, (size_t)GGUF_MAX_TENSORS * sizeof(struct extent));
    w->alignment = GGUF_DEFAULT_ALIGNMENT;
    *ret = w;
    return 0;
}

int gguf_writer_open(struct gguf_writer **ret, const char *path, struct error *e)
{
    struct gguf_writer *w = NULL;
    int r = writer_new(&w, e);
    if (r)
        return r;
    size_t n = strlen(path);
    w->path = malloc(n + 1);
    w->temp = malloc(n + sizeof(".part"));
    if (!w->path || !w->temp) {
        gguf_writer_close(w);
        return fail(e, FAIL_NOMEM, "a GGUF writer");
    }
    memcpy(w->path, path, n + 1);
    snprintf(w->temp, n + sizeof(".part"), "%s.part", path);
    *ret = w;
    return 0;
}

int gguf_writer_open_memory(struct gguf_writer **ret, struct buffer *out, struct error *e)
{
    int r = writer_new(ret, e);
    if (!r)
        (*ret)->memory = out;
    return r;
}

void gguf_writer_close(struct gguf_writer *w)
{
    if (!w)
        return;
    if (w->file)
        fclose(w->file);
    if (w->temp && w->header_done && !w->finished)
        remove(w->temp);
    buffer_done(&w->keys);
    buffer_done(&w->infos);
    buffer_done(&w->extents);
    free(w->path);
    free(w->temp);
    free(w);
}

static void put_text(struct buffer *b, struct bytes text)
{
    buffer_u64(b, text.size);
    buffer_append(b, text);
}

static void begin_key(struct gguf_writer *w, struct bytes key, enum gguf_type type)
{
    put_text(&w->keys, key);
    buffer_u32(&w->keys, type);
    w->n_keys++;
}

void gguf_writer_u32(struct gguf_writer *w, const char *key, uint32_t value)
{
    begin_key(w, bytes_text(key), GGUF_U32);
    buffer_u32(&w->keys, value);
    if (strcmp(key, "general.alignment") == 0 && w->n_tensors == 0 && value)
        w->alignment = value;
}

void gguf_writer_u64(struct gguf_writer *w, const char *key, uint64_t value)
{
    begin_key(w, bytes_text(key), GGUF_U64);
    buffer_u64(&w->keys, value);
}

void gguf_writer_f32(struct gguf_writer *w, const char *key, float value)
{
    begin_key(w, bytes_text(key), GGUF_F32);
    buffer_f32(&w->keys, value);
}

void gguf_writer_bool(struct gguf_writer *w, const char *key, bool value)
{
    begin_key(w, bytes_text(key), GGUF_BOOL);
    buffer_u8(&w->keys, value);
}

void gguf_writer_text(struct gguf_writer *w, const char *key, struct bytes value)
{
    begin_key(w, bytes_text(key), GGUF_TEXT);
    put_text(&w->keys, value);
}

static void begin_array(struct gguf_writer *w, struct bytes key, enum gguf_type element, uint64_t n)
{
    begin_key(w, key, GGUF_ARRAY);
    buffer_u32(&w->keys, element);
    buffer_u64(&w->keys, n);
}

void gguf_writer_i32_array(struct gguf_writer *w, const char *key, const int32_t *values, size_t n)
{
    begin_array(w, bytes_text(key), GGUF_I32, n);
    for (size_t i = 0; i < n; i++)
        buffer_u32(&w->keys, (uint32_t)values[i]);
}

void gguf_writer_f32_array(struct gguf_writer *w, const char *key, const float *values, size_t n)
{
    begin_array(w, bytes_text(key), GGUF_F32, n);
    for (size_t i = 0; i < n; i++)
        buffer_f32(&w->keys, values[i]);
}

void gguf_writer_text_array(struct gguf_writer *w, const char *key, const struct bytes *values,
                            size_t n)
{
    begin_array(w, bytes_text(key), GGUF_TEXT, n);
    for (size_t i = 0; i < n; i++)
        put_text(&w->keys, values[i]);
}

void gguf_writer_value(struct gguf_writer *w, const struct gguf_value *v)
{
    if (v->type == GGUF_ARRAY) {
        begin_array(w, v->key, v->element, v->count);
        buffer_append(&w->keys, v->raw);
        return;
    }
    begin_key(w, v->key, v->type);
    if (v->type == GGUF_TEXT) {
        put_text(&w->keys, v->text);
    } else if (v->type == GGUF_F32) {
        buffer_f32(&w->keys, (float)v->f);
    } else if (v->type == GGUF_F64) {
        uint64_t bits;
        memcpy(&bits, &v->f, sizeof(bits));
        buffer_u64(&w->keys, bits);
    } else {
        size_t size = gguf_type_size(v->type);
        for (size_t i = 0; i < size; i++)
            buffer_u8(&w->keys, (uint8_t)(v->u >> (8 * i)));
    }
}

int gguf_writer_tensor(struct gguf_writer *w, const char *name, enum quant_type type, int n_dims,
                       const uint64_t *dims, struct error *e)
{
    size_t name_size = strlen(name);
    if (w->header_done)
        return fail(e, FAIL_STATE, "tensor %s declared after the first tensor data", name);
    if (name_size == 0 || name_size > GGUF_MAX_NAME || n_dims < 1 || n_dims > GGUF_MAX_DIMS ||
        (unsigned)type >= QUANT_COUNT)
        return fail(e, FAIL_ARG, "tensor %s of %d dimensions", name, n_dims);
    const struct quant_format *f = quant_format(type);
    if (dims[0] % f->block)
        return fail(e, FAIL_ARG, "tensor %s: rows of %" PRIu64 " are not whole blocks of %s", name,
                    dims[0], f->name);
    struct extent x = { .offset = size_round_up(w->declared, w->alignment), .bytes = f->bytes };
    for (int d = 0; d < n_dims; d++)
        if (dims[d] == 0 || dims[d] > INT32_MAX ||
            size_mul_overflow(x.bytes, d ? dims[d] : dims[0] / f->block, &x.bytes))
            return fail(e, FAIL_ARG, "tensor %s: dimension %d is %" PRIu64, name, d, dims[d]);
    put_text(&w->infos, bytes_of(name, name_size));
    buffer_u32(&w->infos, (uint32_t)n_dims);
    for (int d = 0; d < n_dims; d++)
        buffer_u64(&w->infos, dims[d]);
    buffer_u32(&w->infos, f->id);
    buffer_u64(&w->infos, x.offset);
    buffer_append(&w->extents, bytes_of(&x, sizeof(x)));
    w->declared = x.offset + x.bytes;
    w->n_tensors++;
    return 0;
}

static int write_out(struct gguf_writer *w, struct bytes b, struct error *e)
{
    if (w->memory) {
        int r = buffer_append(w->memory, b);
        return r ? fail(e, r, "a GGUF file in memory: %s", error_code_text(r)) : 0;
    }
    if (b.size && fwrite(b.data, 1, b.size, w->file) != b.size)
        return fail(e, FAIL_IO, "writing %s: %s", w->temp, strerror(errno));
    return 0;
}

static int write_zeros(struct gguf_writer *w, uint64_t n, struct error *e)
{
    static const uint8_t zeros[4096];
    int r = 0;
    while (n && !r) {
        size_t piece = n < sizeof(zeros) ? (size_t)n : sizeof(zeros);
        r = write_out(w, bytes_of(zeros, piece), e);
        n -= piece;
    }
    return r;
}

static int write_header(struct gguf_writer *w, struct error *e)
{
    if (w->keys.failed || w->infos.failed || w->extents.failed)
        return fail(e, FAIL_LIMIT, "a GGUF header beyond %u bytes", GGUF_WRITER_MAX_HEADER);
    if (w->temp && !(w->file = fopen(w->temp, "wb")))
        return fail(e, FAIL_IO, "%s: %s", w->temp, strerror(errno));
    w->header_done = true;
    struct buffer head;
    buffer_init(&head, 64);
    buffer_u32(&head, GGUF_MAGIC);
    buffer_u32(&head, 3);
    buffer_u64(&head, w->n_tensors);
    buffer_u64(&head, w->n_keys);
    uint64_t size = head.size + w->keys.size + w->infos.size;
    int r = head.failed ? fail(e, FAIL_NOMEM, "a GGUF header") : 0;
    r = r ? r : write_out(w, buffer_bytes(&head), e);
    r = r ? r : write_out(w, buffer_bytes(&w->keys), e);
    r = r ? r : write_out(w, buffer_bytes(&w->infos), e);
    r = r ? r : write_zeros(w, size_round_up(size, w->alignment) - size, e);
    buffer_done(&head);
    return r;
}

int gguf_writer_data(struct gguf_writer *w, struct bytes data, struct error *e)
{
    int r = w->header_done ? 0 : write_header(w, e);
    const struct extent *extents = (const void *)w->extents.data;
    while (data.size && !r) {
        if (w->current == w->n_tensors)
            return fail(e, FAIL_ARG, "%zu bytes more than the tensors hold", data.size);
        const struct extent *x = &extents[w->current];
        if (w->written < x->offset) {
            r = write_zeros(w, x->offset - w->written, e);
            w->written = x->offset;
            continue;
        }
        uint64_t left = x->offset + x->bytes - w->written;
        size_t piece = data.size < left ? data.size : (size_t)left;
        r = write_out(w, bytes_of(data.data, piece), e);
        w->written += piece;
        data = bytes_of(data.data + piece, data.size - piece);
        if (piece == left)
            w->current++;
    }
    return r;
}

int gguf_writer_finish(struct gguf_writer *w, struct error *e)
{
    int r = w->header_done ? 0 : write_header(w, e);
    if (!r && w->current != w->n_tensors)
        r = fail(e, FAIL_STATE, "only %" PRIu64 " of %" PRIu64 " tensors were written", w->current,
                 w->n_tensors);
    if (!r)
        r = write_zeros(w, size_round_up(w->written, w->alignment) - w->written, e);
    if (!r && w->file) {
        int closed = fclose(w->file);
        w->file = NULL;
        if (closed || rename(w->temp, w->path))
            r = fail(e, FAIL_IO, "%s: %s", w->path, strerror(errno));
    }
    w->finished = !r;
    return r;
}
