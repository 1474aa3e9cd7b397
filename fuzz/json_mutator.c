/* libFuzzer's mutator for targets that read JSON: an input stays well-formed while its values, keys
 * and shape change, which random bytes hardly ever achieve. Compiled only with libFuzzer.
 *
 * One object of the input is changed: any "{" at the start or behind a byte below 0x20, which is
 * what targets put between or before several of them. */
#include "fuzz/fuzz.h"

#include <jansson.h>
#include <stdbool.h>
#include <string.h>

#define MAX_SLOTS 512
#define MAX_DEPTH 24
#define MAX_STARTS 16
#define MAX_STRING 256
/* One mutation in so many is libFuzzer's own, of the bytes. */
#define PLAIN 8

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed);

/* A place that holds a value. */
struct slot {
    json_t *parent;
    const char *key; /* in an object; NULL: in an array */
    size_t index;
};

struct slots {
    struct slot all[MAX_SLOTS];
    int n;
};

static uint32_t next(uint32_t *random)
{
    *random ^= *random << 13;
    *random ^= *random >> 17;
    *random ^= *random << 5;
    return *random;
}

static json_t *value_at(const struct slot *s)
{
    return s->key != NULL ? json_object_get(s->parent, s->key)
                          : json_array_get(s->parent, s->index);
}

static void set_at(const struct slot *s, json_t *value)
{
    if (s->key != NULL) {
        json_object_set_new(s->parent, s->key, value);
    } else {
        json_array_set_new(s->parent, s->index, value);
    }
}

static void collect(json_t *parent, int depth, struct slots *ret)
{
    const char *key = NULL;
    json_t *child = NULL;
    size_t i = 0;
    if (depth == MAX_DEPTH) {
        return;
    }
    json_object_foreach(parent, key, child)
    {
        if (ret->n < MAX_SLOTS) {
            ret->all[ret->n++] = (struct slot){ parent, key, 0 };
            collect(child, depth + 1, ret);
        }
    }
    json_array_foreach(parent, i, child)
    {
        if (ret->n < MAX_SLOTS) {
            ret->all[ret->n++] = (struct slot){ parent, NULL, i };
            collect(child, depth + 1, ret);
        }
    }
}

/* Text as libFuzzer changes it (its dictionary included), if that is still UTF-8. */
static json_t *mutated_text(const char *text)
{
    char copy[MAX_STRING];
    size_t n = strlen(text) < MAX_STRING ? strlen(text) : MAX_STRING;
    memcpy(copy, text, n);
    n = LLVMFuzzerMutate((uint8_t *)copy, n, MAX_STRING);
    json_t *changed = json_stringn(copy, n);
    return changed != NULL ? changed : json_string(text);
}

static json_t *odd_value(uint32_t r)
{
    switch (r % 16) {
    case 0:
        return json_null();
    case 1:
        return json_true();
    case 2:
        return json_false();
    case 3:
        return json_object();
    case 4:
        return json_array();
    case 5:
        return json_string("");
    case 6:
        return json_real(0.5);
    case 7:
        return json_real(1e300);
    case 8:
        return json_integer(INT64_MAX);
    case 9:
        return json_integer(INT64_MIN);
    case 10:
        return json_integer((json_int_t)1 << 32);
    default:
        return json_integer((json_int_t)(r >> 4) % 24 - 2);
    }
}

static json_t *changed_value(const json_t *old, uint32_t r)
{
    if (json_is_string(old)) {
        return mutated_text(json_string_value(old));
    }
    if (json_is_integer(old)) {
        json_int_t n = json_integer_value(old);
        return json_integer(r % 3 == 0   ? (json_int_t)((uint64_t)n + 1)
                            : r % 3 == 1 ? (json_int_t)((uint64_t)n - 1)
                                         : (json_int_t)((uint64_t)n * 2));
    }
    return odd_value(r);
}

static void add_to(json_t *parent, const char *key, json_t *value)
{
    if (json_is_object(parent)) {
        json_object_set_new(parent, key != NULL ? key : "x", value);
    } else {
        json_array_append_new(parent, value);
    }
}

static void change_tree(json_t *root, uint32_t *random)
{
    static struct slots slots;
    slots.n = 0;
    collect(root, 0, &slots);
    if (slots.n == 0) {
        json_object_set_new(root, "type", odd_value(next(random)));
        return;
    }
    const struct slot *at = &slots.all[next(random) % (uint32_t)slots.n];
    const struct slot *other = &slots.all[next(random) % (uint32_t)slots.n];
    json_t *copy = json_deep_copy(value_at(other));
    switch (next(random) % 7) {
    case 0:
        set_at(at, copy);
        return;
    case 1:
        set_at(at, odd_value(next(random)));
        break;
    case 2:
        add_to(at->parent, other->key, copy);
        return;
    case 3:
        if (at->key != NULL) {
            json_object_del(at->parent, at->key);
        } else {
            json_array_remove(at->parent, at->index);
        }
        break;
    case 4: { /* another key for the value */
        json_t *key = mutated_text(at->key != NULL ? at->key : "x");
        add_to(at->parent, json_string_value(key), copy);
        json_decref(key);
        return;
    }
    default:
        set_at(at, changed_value(value_at(at), next(random)));
    }
    json_decref(copy);
}

/* Where the object that is changed begins; size when there is none. */
static size_t choose_start(const uint8_t *data, size_t size, uint32_t *random)
{
    size_t starts[MAX_STARTS];
    uint32_t n = 0;
    for (size_t i = 0; i < size && n < MAX_STARTS; i++) {
        if (data[i] == '{' && (i == 0 || data[i - 1] < 0x20)) {
            starts[n++] = i;
        }
    }
    return n > 0 ? starts[next(random) % n] : size;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
    uint32_t random = seed | 1;
    json_error_t where;
    size_t start = choose_start(data, size, &random);
    if (next(&random) % PLAIN == 0 || start == size) {
        return LLVMFuzzerMutate(data, size, max_size);
    }
    json_t *root = json_loadb((const char *)data + start, size - start,
                              JSON_DISABLE_EOF_CHECK | JSON_ALLOW_NUL, &where);
    if (root == NULL) {
        return LLVMFuzzerMutate(data, size, max_size);
    }
    size_t rest = size - start - (size_t)where.position;
    change_tree(root, &random);
    /* The new text may be longer than there is room: then the old one stays. */
    size_t n = json_dumpb(root, NULL, 0, JSON_COMPACT);
    if (start + n + rest <= max_size) {
        memmove(data + start + n, data + size - rest, rest);
        json_dumpb(root, (char *)data + start, n, JSON_COMPACT);
        size = start + n + rest;
    }
    json_decref(root);
    return size;
}
