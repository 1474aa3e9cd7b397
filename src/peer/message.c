/* Frames and fields of control messages. Pure. */
#include "peer/message.h"

#include <assert.h>
#include <string.h>

/* First byte of a data frame; a JSON object begins with '{' or white space. */
#define DATA_MARK 0x01
#define DATA_HEAD 5 /* mark and request id */

int message_size(const uint8_t head[static MESSAGE_HEAD], size_t *ret, struct error *e)
{
    uint32_t n = (uint32_t)head[0] | (uint32_t)head[1] << 8 | (uint32_t)head[2] << 16 |
                 (uint32_t)head[3] << 24;
    if (n == 0 || n > MESSAGE_MAX) {
        return fail(e, FAIL_FORMAT, "control message of %u bytes, allowed are 1 to %u", n,
                    MESSAGE_MAX);
    }
    *ret = n;
    return 0;
}

static int parse_data(struct bytes frame, struct message *ret, struct error *e)
{
    if (frame.size < DATA_HEAD || frame.size > DATA_HEAD + MESSAGE_DATA_MAX) {
        return fail(e, FAIL_FORMAT, "data frame of %zu bytes", frame.size);
    }
    const uint8_t *p = frame.data;
    *ret = (struct message){ .stream = (uint32_t)p[1] | (uint32_t)p[2] << 8 | (uint32_t)p[3] << 16 |
                                       (uint32_t)p[4] << 24,
                             .data = bytes_of(p + DATA_HEAD, frame.size - DATA_HEAD) };
    return 0;
}

int message_parse(struct bytes frame, struct message *ret, struct error *e)
{
    if (frame.size > 0 && frame.data[0] == DATA_MARK) {
        return parse_data(frame, ret, e);
    }
    json_error_t why;
    json_t *body = json_loadb((const char *)frame.data, frame.size, JSON_REJECT_DUPLICATES, &why);
    if (body == NULL) {
        return fail(e, FAIL_FORMAT, "control message: %s at byte %d", why.text, why.position);
    }
    const char *type = NULL;
    int code = json_is_object(body) ? message_text(body, "type", MESSAGE_TYPE_MAX - 1, &type, e)
                                    : fail(e, FAIL_FORMAT, "control message is not an object");
    if (code != 0) {
        json_decref(body);
        return code;
    }
    *ret = (struct message){ .body = body };
    memcpy(ret->type, type, strlen(type) + 1);
    return 0;
}

void message_done(struct message *m)
{
    json_decref(m->body);
    m->body = NULL;
}

static int append(const char *text, size_t size, void *out)
{
    return buffer_append(out, bytes_of(text, size)) == 0 ? 0 : -1;
}

/* Writes the length of what was appended after `start`. */
static int close_frame(struct buffer *out, size_t start, struct error *e)
{
    size_t n = out->failed ? 0 : out->size - start - MESSAGE_HEAD;
    if (out->failed || n > MESSAGE_MAX) {
        if (!out->failed) {
            out->size = start;
        }
        return fail(e, FAIL_LIMIT, "control message is too large (at most %u bytes)", MESSAGE_MAX);
    }
    for (int i = 0; i < MESSAGE_HEAD; i++) {
        out->data[start + (size_t)i] = (uint8_t)(n >> (8 * i));
    }
    return 0;
}

int message_encode(json_t *body, struct buffer *out, struct error *e)
{
    if (body == NULL) {
        /* jansson makes none of a text that is no UTF-8, and none without memory. */
        return fail(e, FAIL_FORMAT,
                    "a control message can't be made: a text in it is not UTF-8, or memory is out");
    }
    size_t start = out->size;
    buffer_u32(out, 0);
    json_dump_callback(body, append, out, JSON_COMPACT);
    json_decref(body);
    return close_frame(out, start, e);
}

int message_encode_data(uint32_t stream, struct bytes data, struct buffer *out, struct error *e)
{
    if (data.size > MESSAGE_DATA_MAX) {
        return fail(e, FAIL_LIMIT, "data frame of %zu bytes", data.size);
    }
    size_t start = out->size;
    buffer_u32(out, 0);
    buffer_u8(out, DATA_MARK);
    buffer_u32(out, stream);
    buffer_append(out, data);
    return close_frame(out, start, e);
}

int message_text(const json_t *object, const char *key, size_t max, const char **ret,
                 struct error *e)
{
    const json_t *value = json_object_get(object, key);
    if (!json_is_string(value)) {
        return fail(e, FAIL_FORMAT, "field '%s' is not a text", key);
    }
    size_t n = json_string_length(value);
    const char *text = json_string_value(value);
    if (n > max || strlen(text) != n) {
        return fail(e, FAIL_FORMAT, "field '%s' is longer than %zu bytes or holds a zero byte", key,
                    max);
    }
    *ret = text;
    return 0;
}

int message_integer(const json_t *object, const char *key, int64_t min, int64_t max, int64_t *ret,
                    struct error *e)
{
    const json_t *value = json_object_get(object, key);
    if (!json_is_integer(value)) {
        return fail(e, FAIL_FORMAT, "field '%s' is not an integer", key);
    }
    json_int_t n = json_integer_value(value);
    if (n < min || n > max) {
        return fail(e, FAIL_FORMAT, "field '%s' is %lld, allowed are %lld to %lld", key,
                    (long long)n, (long long)min, (long long)max);
    }
    *ret = n;
    return 0;
}

int message_int(const json_t *object, const char *key, int min, int max, int *ret, struct error *e)
{
    int64_t n = 0;
    int code = message_integer(object, key, min, max, &n, e);
    if (code == 0) {
        *ret = (int)n;
    }
    return code;
}

int message_array(const json_t *object, const char *key, size_t max, const json_t **ret,
                  struct error *e)
{
    const json_t *value = json_object_get(object, key);
    if (!json_is_array(value)) {
        return fail(e, FAIL_FORMAT, "field '%s' is not an array", key);
    }
    if (json_array_size(value) > max) {
        return fail(e, FAIL_FORMAT, "field '%s' has %zu elements, at most %zu are allowed", key,
                    json_array_size(value), max);
    }
    *ret = value;
    return 0;
}

bool message_flag(const json_t *object, const char *key)
{
    return json_is_true(json_object_get(object, key));
}

static int read_field(const json_t *object, const struct message_field *f, void *into,
                      struct error *e)
{
    uint8_t *to = (uint8_t *)into + f->at;
    const char *text = NULL;
    int64_t integer = 0;
    int code = 0;
    switch (f->kind) {
    case FIELD_TEXT:
        code = message_text(object, f->key, f->size - 1, &text, e);
        if (code == 0) {
            memcpy(to, text, strlen(text) + 1);
        }
        return code;
    case FIELD_INTEGER:
        return message_integer(object, f->key, f->min, f->max, (int64_t *)(void *)to, e);
    case FIELD_INT:
        code = message_integer(object, f->key, f->min, f->max, &integer, e);
        *(int *)(void *)to = (int)integer;
        return code;
    case FIELD_FLAG:
        *(bool *)to = message_flag(object, f->key);
        return 0;
    case FIELD_ARRAY:
        return message_array(object, f->key, (size_t)f->max, (const json_t **)(void *)to, e);
    case FIELD_OBJECT:
        *(const json_t **)(void *)to = json_object_get(object, f->key);
        return json_is_object(json_object_get(object, f->key))
                   ? 0
                   : fail(e, FAIL_FORMAT, "field '%s' is not an object", f->key);
    case FIELD_WHOLE:
        *(const json_t **)(void *)to = object;
        return 0;
    case FIELD_KIND_COUNT:
        break;
    }
    assert(false);
    return FAIL_STATE;
}

int message_read(const json_t *object, const struct message_field *fields, int n, void *into,
                 struct error *e)
{
    int code = 0;
    for (int i = 0; i < n && code == 0; i++) {
        if (!fields[i].optional || json_object_get(object, fields[i].key) != NULL) {
            code = read_field(object, &fields[i], into, e);
        }
    }
    return code;
}
