/* Metadata values: reading, typed access, printing. */
#include "gguf/internal.h"

#include "base/buffer.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

static const struct {
    const char *name;
    size_t size;
} types[] = {
    [GGUF_U8] = { "u8", 1 },       [GGUF_I8] = { "i8", 1 },     [GGUF_U16] = { "u16", 2 },
    [GGUF_I16] = { "i16", 2 },     [GGUF_U32] = { "u32", 4 },   [GGUF_I32] = { "i32", 4 },
    [GGUF_F32] = { "f32", 4 },     [GGUF_BOOL] = { "bool", 1 }, [GGUF_TEXT] = { "string", 0 },
    [GGUF_ARRAY] = { "array", 0 }, [GGUF_U64] = { "u64", 8 },   [GGUF_I64] = { "i64", 8 },
    [GGUF_F64] = { "f64", 8 },
};

size_t gguf_type_size(enum gguf_type t)
{
    return types[t].size;
}

const char *gguf_type_name(enum gguf_type t)
{
    return (unsigned)t < GGUF_TYPE_COUNT ? types[t].name : "unknown";
}

bool gguf_type_is_int(enum gguf_type t)
{
    return t != GGUF_F32 && t != GGUF_F64 && t != GGUF_TEXT && t != GGUF_ARRAY;
}

static struct bytes read_text(struct cursor *c, const char *what)
{
    uint64_t n = cursor_u64(c, what);
    return cursor_bytes(c, n, what);
}

static void read_text_array(struct gguf *g, struct cursor *c, struct gguf_value *v)
{
    /* Each text takes at least its length's 8 bytes, which bounds count by the file. */
    if (v->count > cursor_left(c) / 8) {
        cursor_fail(c, FAIL_FORMAT, "key %.*s: an array of %" PRIu64 " strings does not fit",
                    BYTES_ARG(v->key), v->count);
        return;
    }
    uint64_t *starts = arena_array(&g->arena, uint64_t, v->count + 1);
    if (!starts) {
        cursor_fail(c, FAIL_NOMEM, "key %.*s: no memory for %" PRIu64 " strings", BYTES_ARG(v->key),
                    v->count);
        return;
    }
    uint64_t begin = c->position;
    for (uint64_t i = 0; i < v->count && !c->failed; i++) {
        starts[i] = c->position - begin;
        read_text(c, "a string of an array");
    }
    if (c->failed)
        return;
    v->raw = bytes_of(c->base + begin, (size_t)(c->position - begin));
    v->starts = starts;
}

static void read_array(struct gguf *g, struct cursor *c, struct gguf_value *v)
{
    uint32_t element = cursor_u32(c, "an array's element type");
    v->count = cursor_u64(c, "an array's length");
    if (c->failed)
        return;
    if (element >= GGUF_TYPE_COUNT || element == GGUF_ARRAY) {
        cursor_fail(c, FAIL_FORMAT, "key %.*s: array elements of type %" PRIu32 " (%s)",
                    BYTES_ARG(v->key), element,
                    element == GGUF_ARRAY ? "arrays in arrays are not supported" : "unknown");
        return;
    }
    if (v->count > GGUF_MAX_ARRAY) {
        cursor_fail(c, FAIL_LIMIT, "key %.*s: an array of %" PRIu64 " elements", BYTES_ARG(v->key),
                    v->count);
        return;
    }
    v->element = (enum gguf_type)element;
    if (element == GGUF_TEXT)
        read_text_array(g, c, v);
    else
        v->raw = cursor_bytes(c, v->count * gguf_type_size(v->element), "an array");
}

void gguf_read_value(struct gguf *g, struct cursor *c, enum gguf_type type, struct gguf_value *v)
{
    v->type = type;
    switch (type) {
    case GGUF_U8:
    case GGUF_BOOL:
        v->u = cursor_u8(c, "a value");
        if (type == GGUF_BOOL && v->u > 1)
            cursor_fail(c, FAIL_FORMAT, "key %.*s: a boolean of %" PRIu64, BYTES_ARG(v->key), v->u);
        break;
    case GGUF_I8:
        v->u = (uint64_t)(int64_t)(int8_t)cursor_u8(c, "a value");
        break;
    case GGUF_U16:
        v->u = cursor_u16(c, "a value");
        break;
    case GGUF_I16:
        v->u = (uint64_t)(int64_t)(int16_t)cursor_u16(c, "a value");
        break;
    case GGUF_U32:
        v->u = cursor_u32(c, "a value");
        break;
    case GGUF_I32:
        v->u = (uint64_t)(int64_t)(int32_t)cursor_u32(c, "a value");
        break;
    case GGUF_U64:
    case GGUF_I64:
        v->u = cursor_u64(c, "a value");
        break;
    case GGUF_F32:
        v->f = (double)cursor_f32(c, "a value");
        break;
    case GGUF_F64:
        v->f = cursor_f64(c, "a value");
        break;
    case GGUF_TEXT:
        v->text = read_text(c, "a string");
        break;
    case GGUF_ARRAY:
        read_array(g, c, v);
        break;
    default:
        cursor_fail(c, FAIL_FORMAT, "key %.*s: unknown value type %d", BYTES_ARG(v->key),
                    (int)type);
    }
}

uint64_t gguf_byte(const struct gguf *g, const char *name)
{
    const struct gguf_value *v = gguf_find(g, name);
    const struct gguf_tensor *t = v ? NULL : gguf_tensor(g, name);
    if (v)
        return (uint64_t)(v->key.data - g->parts[g->reading].file.data);
    return t ? (uint64_t)(t->name.data - g->parts[t->part].file.data) : g->parts[0].header_end;
}

int gguf_refuse(const struct gguf *g, const char *name, struct error *e, int code,
                const char *format, ...)
{
    char text[ERROR_TEXT];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    return fail(e, code, "%s (at byte %" PRIu64 ")", text, gguf_byte(g, name));
}

static int wrong_kind(const struct gguf *g, const char *key, const char *wanted, struct error *e)
{
    return gguf_refuse(g, key, e, FAIL_FORMAT, "key %s is of type %s, %s is needed", key,
                       gguf_type_name(gguf_find(g, key)->type), wanted);
}

int gguf_get_int(const struct gguf *g, const char *key, int64_t missing, int64_t *ret,
                 struct error *e)
{
    const struct gguf_value *v = gguf_find(g, key);
    if (!v) {
        *ret = missing;
        return 0;
    }
    if (!gguf_type_is_int(v->type))
        return wrong_kind(g, key, "an integer", e);
    if (v->type == GGUF_U64 && v->u > INT64_MAX)
        return gguf_refuse(g, key, e, FAIL_FORMAT, "key %s is %" PRIu64 ", out of range", key,
                           v->u);
    *ret = (int64_t)v->u;
    return 0;
}

int gguf_get_float(const struct gguf *g, const char *key, double missing, double *ret,
                   struct error *e)
{
    const struct gguf_value *v = gguf_find(g, key);
    if (!v)
        *ret = missing;
    else if (v->type == GGUF_F32 || v->type == GGUF_F64)
        *ret = v->f;
    else if (gguf_type_is_int(v->type))
        *ret = (double)(int64_t)v->u;
    else
        return wrong_kind(g, key, "a number", e);
    return 0;
}

int gguf_get_bool(const struct gguf *g, const char *key, bool missing, bool *ret, struct error *e)
{
    const struct gguf_value *v = gguf_find(g, key);
    if (v && v->type != GGUF_BOOL)
        return wrong_kind(g, key, "a boolean", e);
    *ret = v ? v->u != 0 : missing;
    return 0;
}

int gguf_get_text(const struct gguf *g, const char *key, const char *missing, struct bytes *ret,
                  struct error *e)
{
    const struct gguf_value *v = gguf_find(g, key);
    if (v && v->type != GGUF_TEXT)
        return wrong_kind(g, key, "a string", e);
    *ret = v ? v->text : bytes_text(missing);
    return 0;
}

struct bytes gguf_array_text(const struct gguf_value *v, uint64_t i)
{
    struct cursor c;
    cursor_init(&c, v->raw, NULL);
    c.position = v->starts[i];
    return read_text(&c, "a string");
}

/* Element i as a scalar value. */
static struct gguf_value element_at(const struct gguf_value *v, uint64_t i)
{
    struct gguf_value one = { .key = v->key };
    struct cursor c;
    cursor_init(&c, v->raw, NULL);
    c.position = i * gguf_type_size(v->element);
    gguf_read_value(NULL, &c, v->element, &one);
    return one;
}

int64_t gguf_array_int(const struct gguf_value *v, uint64_t i)
{
    return (int64_t)element_at(v, i).u;
}

double gguf_array_float(const struct gguf_value *v, uint64_t i)
{
    struct gguf_value one = element_at(v, i);
    return gguf_type_is_int(one.type) ? (double)(int64_t)one.u : one.f;
}

static void print_text(struct bytes t, struct buffer *out)
{
    buffer_text(out, "\"");
    for (size_t i = 0; i < t.size && i < 400; i++) {
        if (t.data[i] == '\n')
            buffer_text(out, "\\n");
        else if (t.data[i] < 32 || t.data[i] == 127)
            buffer_printf(out, "\\x%02x", t.data[i]);
        else
            buffer_u8(out, t.data[i]);
    }
    buffer_printf(out, t.size > 400 ? "...\" (%zu bytes)" : "\"", t.size);
}

void gguf_value_print(const struct gguf_value *v, uint64_t most, struct buffer *out)
{
    switch (v->type) {
    case GGUF_TEXT:
        print_text(v->text, out);
        break;
    case GGUF_BOOL:
        buffer_text(out, v->u ? "true" : "false");
        break;
    case GGUF_F32:
    case GGUF_F64:
        buffer_printf(out, "%.9g", v->f);
        break;
    case GGUF_U64:
        buffer_printf(out, "%" PRIu64, v->u);
        break;
    case GGUF_ARRAY:
        buffer_text(out, "[");
        for (uint64_t i = 0; i < v->count && i < most; i++) {
            if (i)
                buffer_text(out, ", ");
            if (v->element == GGUF_TEXT) {
                print_text(gguf_array_text(v, i), out);
            } else {
                struct gguf_value one = element_at(v, i);
                gguf_value_print(&one, 0, out);
            }
        }
        buffer_printf(out, v->count > most ? ", ... %" PRIu64 " in all]" : "]", v->count);
        break;
    default:
        buffer_printf(out, "%" PRId64, (int64_t)v->u);
        break;
    }
}
