/* See keys.h. */
#include "model/keys.h"

#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>

void key_name(const struct keys *k, const char *suffix, char out[static 256])
{
    snprintf(out, 256, "%s.%s", k->family, suffix);
}

const struct gguf_value *key_find(const struct keys *k, const char *suffix)
{
    char key[256];
    key_name(k, suffix, key);
    return gguf_find(k->g, key);
}

void key_refuse(struct keys *k, const char *suffix, int code, const char *format, ...)
{
    char key[256], what[256];
    va_list args;
    if (k->result)
        return;
    va_start(args, format);
    vsnprintf(what, sizeof(what), format, args);
    va_end(args);
    key_name(k, suffix, key);
    k->result = gguf_refuse(k->g, key, k->error, code, "key %s: %s", key, what);
}

void key_note(struct keys *k, const char *format, ...)
{
    char text[512];
    va_list args;
    if (!k->notes || k->result)
        return;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    buffer_printf(k->notes, "%s%s", k->notes->size ? "; " : "", text);
}

int key_int(struct keys *k, const char *suffix, int64_t missing, int64_t low, int64_t high)
{
    char key[256];
    int64_t value = 0;
    if (k->result)
        return 0;
    key_name(k, suffix, key);
    if (missing == KEY_REQUIRED && !gguf_find(k->g, key)) {
        key_refuse(k, suffix, FAIL_FORMAT, "it is missing");
        return 0;
    }
    k->result = gguf_get_int(k->g, key, missing, &value, k->error);
    if (!k->result && (value < low || value > high))
        k->result = gguf_refuse(k->g, key, k->error, FAIL_FORMAT,
                                "key %s is %" PRId64 ", outside %" PRId64 " to %" PRId64, key,
                                value, low, high);
    return k->result ? 0 : (int)value;
}

double key_float(struct keys *k, const char *suffix, double missing)
{
    char key[256];
    double value = missing;
    if (k->result)
        return 0;
    key_name(k, suffix, key);
    k->result = gguf_get_float(k->g, key, missing, &value, k->error);
    if (!k->result && !(fabs(value) <= (double)FLT_MAX))
        key_refuse(k, suffix, FAIL_FORMAT, "it is not a finite number of 32 bits");
    return k->result ? 0 : value;
}

double key_float_published(struct keys *k, const char *suffix, double published)
{
    char key[256];
    double value = key_float(k, suffix, published);
    key_name(k, suffix, key);
    if (!key_find(k, suffix) && !(published > 0))
        key_refuse(k, suffix, FAIL_FORMAT, "it is missing, and models of this family differ in it");
    else if (!key_find(k, suffix))
        key_note(k, "key %s is missing: %g stands in, as the family publishes it", key, published);
    else if (!((float)value > 0))
        key_refuse(k, suffix, FAIL_FORMAT, "it is not above 0");
    return k->result ? 0 : value;
}

bool key_bool(struct keys *k, const char *suffix, bool missing)
{
    char key[256];
    bool value = missing;
    key_name(k, suffix, key);
    if (!k->result)
        k->result = gguf_get_bool(k->g, key, missing, &value, k->error);
    return value;
}

struct bytes key_text(struct keys *k, const char *suffix, const char *missing)
{
    char key[256];
    struct bytes value = bytes_text(missing);
    key_name(k, suffix, key);
    if (!k->result)
        k->result = gguf_get_text(k->g, key, missing, &value, k->error);
    return value;
}

void key_layers(struct keys *k, const char *suffix, int64_t missing, int64_t high, int n, int *out)
{
    char key[256];
    const struct gguf_value *v = k->result ? NULL : key_find(k, suffix);
    bool array = v && v->type == GGUF_ARRAY;
    key_name(k, suffix, key);
    if (array && (v->count < (uint64_t)n || !gguf_type_is_int(v->element)))
        key_refuse(k, suffix, FAIL_FORMAT, "it holds %" PRIu64 " values of type %s for %d layers",
                   v->count, gguf_type_name(v->element), n);
    int64_t one = array ? 0 : key_int(k, suffix, missing, 0, high);
    for (int i = 0; i < n && !k->result; i++) {
        int64_t value = array ? gguf_array_int(v, (uint64_t)i) : one;
        if (value < 0 || value > high)
            k->result = gguf_refuse(k->g, key, k->error, FAIL_FORMAT,
                                    "key %s is %" PRId64 " in layer %d, outside 0 to %" PRId64, key,
                                    value, i, high);
        out[i] = (int)value;
    }
}
