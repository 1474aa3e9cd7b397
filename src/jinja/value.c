/* Values: construction, truth, equality, order, membership, iteration. Semantics are Python's. */
#include "jinja/internal.h"

#include "base/random.h"

#include <math.h>

/* Below this many keys a dict is searched from its start. */
#define SMALL_DICT 8

struct jinja_value string_of(const char *text, size_t size, size_t points)
{
    return (struct jinja_value){ .kind = JINJA_STRING,
                                 .size = (uint32_t)size,
                                 .points = (uint32_t)points,
                                 .as.text = size ? text : "" };
}

struct jinja_value string_range(struct jinja_value s, size_t from, size_t to, size_t points)
{
    struct jinja_value part = string_of(s.as.text + from, to - from, points);
    part.taint = to > from ? s.taint : 0;
    return part;
}

struct jinja_value string_const(const char *text)
{
    size_t n = strlen(text);
    return string_of(text, n, n);
}

int jinja_string(struct bytes text, struct jinja_value *ret, struct error *e)
{
    size_t points;
    if (text.size >= UINT32_MAX)
        return fail(e, FAIL_LIMIT, "a text of %zu bytes is too long", text.size);
    if (!utf8_check(text, &points))
        return fail(e, FAIL_FORMAT, "text is not UTF-8");
    *ret = string_of((const char *)text.data, text.size, points);
    return 0;
}

int jinja_user_string(struct bytes text, struct jinja_value *ret, struct error *e)
{
    int code = jinja_string(text, ret, e);
    if (!code && text.size)
        ret->taint = TAINT_ALL;
    return code;
}

struct jinja_value undefined_hint(const char *hint)
{
    return (struct jinja_value){ .kind = JINJA_UNDEFINED,
                                 .flavour = UNDEFINED_HINT,
                                 .size = (uint32_t)strlen(hint),
                                 .as.text = hint };
}

struct jinja_value undefined_name(struct bytes name)
{
    return (struct jinja_value){ .kind = JINJA_UNDEFINED,
                                 .flavour = UNDEFINED_NAME,
                                 .size = (uint32_t)name.size,
                                 .as.text = (const char *)name.data };
}

struct jinja_value undefined_attribute(struct jinja_value of, struct bytes name)
{
    struct jinja_value v = undefined_name(name);
    v.flavour = UNDEFINED_ATTRIBUTE;
    v.points = of.kind;
    return v;
}

static const char *kind_name(enum jinja_kind kind)
{
    static const char *const names[JINJA_KIND_COUNT] = {
        [JINJA_UNDEFINED] = "Undefined", [JINJA_NONE] = "NoneType",
        [JINJA_BOOL] = "bool",           [JINJA_INT] = "int",
        [JINJA_FLOAT] = "float",         [JINJA_STRING] = "str",
        [JINJA_LIST] = "list",           [JINJA_TUPLE] = "tuple",
        [JINJA_DICT] = "dict",           [JINJA_ITERATOR] = "generator",
        [JINJA_VIEW] = "dict_keys",      [JINJA_RANGE] = "range",
        [JINJA_NAMESPACE] = "Namespace", [JINJA_MACRO] = "Macro",
        [JINJA_FUNCTION] = "function",   [JINJA_LOOP] = "LoopContext",
        [JINJA_CYCLER] = "Cycler",       [JINJA_JOINER] = "Joiner",
    };
    return kind < JINJA_KIND_COUNT && names[kind] ? names[kind] : "object";
}

const char *type_name(struct jinja_value v)
{
    static const char *const views[] = { "dict_keys", "dict_values", "dict_items" };
    return v.kind == JINJA_VIEW ? views[v.flavour] : kind_name(v.kind);
}

int undefined_fail(struct run *r, struct jinja_value v)
{
    int size = (int)(v.size > 200 ? 200 : v.size);
    switch (v.flavour) {
    case UNDEFINED_NAME:
        return run_fail(r, FAIL_FORMAT, "'%.*s' is undefined", size, v.as.text);
    case UNDEFINED_ATTRIBUTE:
        return run_fail(r, FAIL_FORMAT, "'%s object' has no attribute '%.*s'", kind_name(v.points),
                        size, v.as.text);
    case UNDEFINED_UNSAFE:
        return run_fail(r, FAIL_FORMAT, "access to attribute '%.*s' of '%s' object is unsafe", size,
                        v.as.text, kind_name(v.points));
    default:
        return run_fail(r, FAIL_FORMAT, "%.*s", size, v.size ? v.as.text : "value is undefined");
    }
}

bool truth(struct jinja_value v)
{
    switch (v.kind) {
    case JINJA_UNDEFINED:
    case JINJA_NONE:
        return false;
    case JINJA_BOOL:
        return v.as.boolean;
    case JINJA_INT:
        return v.as.integer != 0;
    case JINJA_FLOAT:
        return v.as.real != 0;
    case JINJA_STRING:
        return v.size != 0;
    case JINJA_LIST:
    case JINJA_TUPLE:
    case JINJA_VIEW:
    case JINJA_RANGE:
        return v.as.list->count != 0;
    case JINJA_DICT:
        return v.as.dict->count != 0;
    default:
        return true;
    }
}

/* ---- lists ---- */

static int list_reserve(struct arena *a, struct jinja_list *l, size_t more)
{
    if (l->capacity - l->count >= more)
        return 0;
    size_t capacity = l->capacity * 2 > l->count + more ? l->capacity * 2 : l->count + more + 4;
    struct jinja_value *grown = arena_array(a, struct jinja_value, capacity);
    if (!grown)
        return FAIL_NOMEM;
    if (l->count)
        memcpy(grown, l->items, l->count * sizeof(*grown));
    l->items = grown;
    l->capacity = capacity;
    return 0;
}

int jinja_list_new(struct arena *a, size_t capacity, struct jinja_value *ret, struct error *e)
{
    struct jinja_list *l = arena_alloc(a, sizeof(*l));
    /* Never NULL items, so that offsets into an empty list are defined. */
    if (!l || list_reserve(a, l, capacity ? capacity : 1))
        return fail(e, FAIL_NOMEM, "no memory for a list of %zu", capacity);
    *ret = (struct jinja_value){ .kind = JINJA_LIST, .as.list = l };
    return 0;
}

int jinja_list_add(struct arena *a, struct jinja_value *list, struct jinja_value item,
                   struct error *e)
{
    struct jinja_list *l = list->as.list;
    if (list_reserve(a, l, 1))
        return fail(e, FAIL_NOMEM, "no memory for a list of %zu", l->count);
    l->items[l->count++] = item;
    return 0;
}

int list_new(struct run *r, enum jinja_kind kind, size_t capacity, struct jinja_value *ret)
{
    if (jinja_list_new(&r->arena, capacity, ret, NULL))
        return run_nomem(r);
    ret->kind = (uint8_t)kind;
    return run_step(r, 1 + capacity / 16);
}

int list_add(struct run *r, struct jinja_value *list, struct jinja_value item)
{
    return jinja_list_add(&r->arena, list, item, NULL) ? run_nomem(r) : run_step(r, 1);
}

int iterator_new(struct run *r, const char *name, size_t capacity, struct jinja_value *ret)
{
    int code = list_new(r, JINJA_ITERATOR, capacity, ret);
    if (!code)
        ret->as.list->type_name = name;
    return code;
}

int iterator_done(struct run *r, int code, struct jinja_value made, struct jinja_value *ret)
{
    if (code == FAIL_FORMAT && made.kind == JINJA_ITERATOR) {
        struct bytes text = bytes_text(r->e ? r->e->text : "");
        made.as.list->failure = arena_text(&r->arena, text);
        if (!made.as.list->failure)
            return run_nomem(r);
        if (r->e)
            *r->e = (struct error){ 0 };
        code = 0;
    }
    if (!code)
        *ret = made;
    return code;
}

int tuple_of(struct run *r, struct jinja_value a, struct jinja_value b, struct jinja_value *ret)
{
    struct jinja_value t;
    int code = list_new(r, JINJA_TUPLE, 2, &t);
    if (!code)
        code = list_add(r, &t, a);
    if (!code)
        code = list_add(r, &t, b);
    if (!code)
        *ret = t;
    return code;
}

/* ---- dicts ---- */

/* Hashing and comparing keys count their work: a tuple of tuples holds itself many times over, a
 * text may have megabytes. Without a run (values that a caller makes) keys are texts, which cost
 * what making them did. */
static int key_work(struct run *r, struct jinja_value v)
{
    return r ? run_step(r, 1 + (is_string(v) ? v.size / 32 : 0)) : 0;
}

/* Equal values have equal hashes, whatever their kind. Seeded by the dict's address, which an
 * outsider who chooses keys doesn't know. */
static uint64_t hash_text(struct jinja_value v, uint64_t h)
{
    for (uint32_t i = 0; i < v.size; i += 8) {
        uint64_t part = 0;
        memcpy(&part, v.as.text + i, v.size - i < 8 ? v.size - i : 8);
        h = random_mix(h ^ part) + i;
    }
    return random_mix(h ^ v.size);
}

static int hash(struct run *r, struct jinja_value v, uint64_t seed, uint64_t *ret)
{
    uint64_t h = seed;
    int code = key_work(r, v);
    switch (v.kind) {
    case JINJA_STRING:
        h = code ? 0 : hash_text(v, h);
        break;
    case JINJA_FLOAT:
        if (v.as.real >= -9.2e18 && v.as.real <= 9.2e18 && v.as.real == floor(v.as.real)) {
            h = random_mix(h ^ (uint64_t)(int64_t)v.as.real);
            break;
        }
        memcpy(&h, &v.as.real, sizeof(h));
        h = random_mix(h ^ seed);
        break;
    case JINJA_BOOL:
    case JINJA_INT:
        h = random_mix(h ^ (uint64_t)as_int(v));
        break;
    case JINJA_TUPLE:
        for (size_t i = 0; !code && i < v.as.list->count; i++) {
            uint64_t item = 0;
            code = hash(r, v.as.list->items[i], seed, &item);
            h = random_mix(h ^ item);
        }
        break;
    case JINJA_NONE:
    case JINJA_UNDEFINED:
        h = random_mix(h ^ (uint64_t)(v.kind + 1000));
        break;
    default:
        h = random_mix(h ^ (uint64_t)(uintptr_t)v.as.list);
    }
    *ret = h;
    return code;
}

/* Equality of two numbers. */
static bool numbers_equal(struct jinja_value a, struct jinja_value b)
{
    if (is_integral(a) && is_integral(b))
        return as_int(a) == as_int(b);
    double x = as_float(a), y = as_float(b);
    if (x != y || (a.kind == JINJA_FLOAT && b.kind == JINJA_FLOAT))
        return x == y;
    /* One is an int: equal only if the float is that very int. */
    double f = a.kind == JINJA_FLOAT ? x : y;
    int64_t i = a.kind == JINJA_FLOAT ? as_int(b) : as_int(a);
    return f < 0x1p63 && (int64_t)f == i;
}

/* Equality of hashable values. */
static int key_equal(struct run *r, struct jinja_value a, struct jinja_value b, bool *ret)
{
    int code = 0;
    if (is_number(a) && is_number(b)) {
        *ret = numbers_equal(a, b);
        return 0;
    }
    *ret = a.kind == b.kind;
    if (!*ret)
        return 0;
    switch (a.kind) {
    case JINJA_STRING:
        *ret = a.size == b.size;
        if (*ret && a.as.text != b.as.text) {
            code = key_work(r, a);
            *ret = !code && memcmp(a.as.text, b.as.text, a.size) == 0;
        }
        return code;
    case JINJA_TUPLE:
        *ret = a.as.list->count == b.as.list->count;
        code = key_work(r, a);
        for (size_t i = 0; !code && *ret && i < a.as.list->count; i++)
            code = key_equal(r, a.as.list->items[i], b.as.list->items[i], ret);
        return code;
    case JINJA_NONE:
    case JINJA_UNDEFINED:
        return 0;
    default:
        *ret = a.as.list == b.as.list;
        return 0;
    }
}

/* *ret: the key's entry, or NULL. */
static int find(struct run *r, const struct jinja_dict *d, struct jinja_value key, uint64_t h,
                struct dict_entry **ret)
{
    size_t mask = d->slots ? d->slot_count - 1 : 0, i = d->slots ? h & mask : 0;
    *ret = NULL;
    for (;; i = d->slots ? (i + 1) & mask : i + 1) {
        if (d->slots ? !d->slots[i] : i == d->count)
            return 0;
        struct dict_entry *entry = &d->entries[d->slots ? (size_t)d->slots[i] - 1 : i];
        bool same = false;
        int code = entry->hash == h ? key_equal(r, entry->key, key, &same) : 0;
        if (code)
            return code;
        if (same) {
            *ret = entry;
            return 0;
        }
    }
}

static int dict_hash(struct run *r, const struct jinja_dict *d, struct jinja_value key,
                     uint64_t *ret)
{
    return hash(r, key, (uint64_t)(uintptr_t)d * 0x9e3779b97f4a7c15u, ret);
}

static void slot_put(struct jinja_dict *d, size_t entry)
{
    size_t mask = d->slot_count - 1, i = d->entries[entry].hash & mask;
    while (d->slots[i])
        i = (i + 1) & mask;
    d->slots[i] = (int32_t)entry + 1;
}

static int dict_reserve(struct arena *a, struct jinja_dict *d, size_t capacity)
{
    if (capacity <= d->capacity)
        return 0;
    if (capacity < d->capacity * 2)
        capacity = d->capacity * 2;
    if (capacity > INT32_MAX / 4)
        return FAIL_NOMEM;
    struct dict_entry *grown = arena_array(a, struct dict_entry, capacity);
    if (!grown)
        return FAIL_NOMEM;
    if (d->count)
        memcpy(grown, d->entries, d->count * sizeof(*grown));
    d->entries = grown;
    d->capacity = capacity;
    if (capacity <= SMALL_DICT)
        return 0;
    size_t slots = 32;
    while (slots < capacity * 2)
        slots *= 2;
    d->slots = arena_array(a, int32_t, slots);
    d->slot_count = slots;
    for (size_t i = 0; d->slots && i < d->count; i++)
        slot_put(d, i);
    return d->slots ? 0 : FAIL_NOMEM;
}

int jinja_dict_new(struct arena *a, size_t capacity, struct jinja_value *ret, struct error *e)
{
    struct jinja_dict *d = arena_alloc(a, sizeof(*d));
    if (!d || dict_reserve(a, d, capacity))
        return fail(e, FAIL_NOMEM, "no memory for a dict of %zu", capacity);
    *ret = (struct jinja_value){ .kind = JINJA_DICT, .as.dict = d };
    return 0;
}

/* FAIL_NOMEM is the arena's; others are recorded. */
static int dict_add(struct run *r, struct arena *a, struct jinja_dict *d, struct jinja_value key,
                    struct jinja_value value)
{
    struct dict_entry *entry;
    uint64_t h;
    int code = dict_hash(r, d, key, &h);
    if (!code)
        code = find(r, d, key, h, &entry);
    if (code)
        return code;
    if (entry) {
        entry->value = value;
        return 0;
    }
    if (d->count == d->capacity && dict_reserve(a, d, d->count + 4))
        return FAIL_NOMEM;
    d->entries[d->count] = (struct dict_entry){ .key = key, .value = value, .hash = h };
    if (d->slots)
        slot_put(d, d->count);
    d->count++;
    return 0;
}

static int set(struct arena *a, struct jinja_value *dict, struct jinja_value key,
               struct jinja_value value, struct error *e)
{
    return dict_add(NULL, a, dict->as.dict, key, value)
               ? fail(e, FAIL_NOMEM, "no memory for a dict")
               : 0;
}

int jinja_dict_set(struct arena *a, struct jinja_value *dict, struct bytes key,
                   struct jinja_value value, struct error *e)
{
    struct jinja_value k;
    int r = jinja_string(key, &k, e);
    return r ? r : set(a, dict, k, value, e);
}

int jinja_dict_set_user(struct arena *a, struct jinja_value *dict, struct bytes key,
                        struct jinja_value value, struct error *e)
{
    struct jinja_value k;
    int r = jinja_user_string(key, &k, e);
    return r ? r : set(a, dict, k, value, e);
}

int dict_new(struct run *r, size_t capacity, struct jinja_value *ret)
{
    return jinja_dict_new(&r->arena, capacity, ret, NULL) ? run_nomem(r) : 0;
}

/* Whether v can be a key; counts what it looks at. */
static int is_hashable(struct run *r, struct jinja_value v, int depth, bool *ret)
{
    *ret = v.kind != JINJA_LIST && v.kind != JINJA_DICT && v.kind != JINJA_VIEW;
    if (v.kind != JINJA_TUPLE)
        return 0;
    int code = run_step(r, 1 + v.as.list->count / 8);
    *ret = depth < 50;
    for (size_t i = 0; !code && *ret && i < v.as.list->count; i++)
        code = is_hashable(r, v.as.list->items[i], depth + 1, ret);
    return code;
}

int need_hashable(struct run *r, struct jinja_value v)
{
    bool is;
    int code = is_hashable(r, v, 0, &is);
    if (code || is)
        return code;
    return run_fail(r, FAIL_FORMAT, "unhashable type: '%s'", type_name(v));
}

int dict_put(struct run *r, struct jinja_value *dict, struct jinja_value key,
             struct jinja_value value)
{
    int code = need_hashable(r, key);
    if (!code)
        code = dict_add(r, &r->arena, dict->as.dict, key, value);
    if (code == FAIL_NOMEM)
        return run_nomem(r);
    return code ? code : run_step(r, 1);
}

int dict_find(struct run *r, const struct jinja_dict *d, struct jinja_value key,
              const struct jinja_value **ret)
{
    struct dict_entry *entry = NULL;
    bool is = false;
    uint64_t h;
    int code = d->count ? is_hashable(r, key, 0, &is) : 0;
    if (!code && is)
        code = dict_hash(r, d, key, &h);
    if (!code && is)
        code = find(r, d, key, h, &entry);
    *ret = entry ? &entry->value : NULL;
    return code;
}

int dict_find_text(struct run *r, const struct jinja_dict *d, struct bytes key,
                   const struct jinja_value **ret)
{
    return dict_find(r, d, string_of((const char *)key.data, key.size, 0), ret);
}

/* ---- equality and order ---- */

static int items_equal(struct run *r, const struct jinja_list *a, const struct jinja_list *b,
                       bool *ret)
{
    *ret = a->count == b->count;
    int code = run_enter(r);
    for (size_t i = 0; !code && *ret && i < a->count && i < b->count; i++)
        code = value_equal(r, a->items[i], b->items[i], ret);
    run_leave(r);
    return code;
}

static int dicts_equal(struct run *r, const struct jinja_dict *a, const struct jinja_dict *b,
                       bool *ret)
{
    *ret = a->count == b->count;
    int code = run_enter(r);
    for (size_t i = 0; !code && *ret && i < a->count; i++) {
        const struct jinja_value *other;
        code = dict_find(r, b, a->entries[i].key, &other);
        *ret = !code && other;
        if (*ret)
            code = value_equal(r, a->entries[i].value, *other, ret);
    }
    run_leave(r);
    return code;
}

int value_equal(struct run *r, struct jinja_value a, struct jinja_value b, bool *ret)
{
    int code = run_step(r, 1);
    if (code)
        return code;
    if (a.kind == b.kind && (a.kind == JINJA_LIST || a.kind == JINJA_TUPLE ||
                             a.kind == JINJA_RANGE || (a.kind == JINJA_VIEW && a.flavour == 0)))
        return items_equal(r, a.as.list, b.as.list, ret);
    if (a.kind == JINJA_DICT && b.kind == JINJA_DICT)
        return dicts_equal(r, a.as.dict, b.as.dict, ret);
    return key_equal(r, a, b, ret);
}

static int compare_numbers(struct jinja_value a, struct jinja_value b)
{
    if (is_integral(a) && is_integral(b))
        return (as_int(a) > as_int(b)) - (as_int(a) < as_int(b));
    double x = as_float(a), y = as_float(b);
    if (isnan(x) || isnan(y))
        return 2;
    return (x > y) - (x < y);
}

static int compare_items(struct run *r, struct jinja_value a, struct jinja_value b, enum op op,
                         int *ret)
{
    const struct jinja_list *x = a.as.list, *y = b.as.list;
    int code = run_enter(r);
    *ret = (x->count > y->count) - (x->count < y->count);
    for (size_t i = 0; !code && i < x->count && i < y->count; i++) {
        bool same;
        code = value_equal(r, x->items[i], y->items[i], &same);
        if (!code && !same) {
            code = value_compare(r, x->items[i], y->items[i], op, ret);
            break;
        }
    }
    run_leave(r);
    return code;
}

int value_compare(struct run *r, struct jinja_value a, struct jinja_value b, enum op op, int *ret)
{
    static const char *const names[OP_COUNT] = {
        [OP_LT] = "<", [OP_LE] = "<=", [OP_GT] = ">", [OP_GE] = ">="
    };
    int code = run_step(r, 1);
    if (code)
        return code;
    if (is_number(a) && is_number(b)) {
        *ret = compare_numbers(a, b);
        return 0;
    }
    if (is_string(a) && is_string(b)) {
        /* UTF-8 sorts bytewise as its code points do. */
        uint32_t n = a.size < b.size ? a.size : b.size;
        int c = memcmp(a.as.text, b.as.text, n);
        *ret = c ? (c > 0) - (c < 0) : (a.size > b.size) - (a.size < b.size);
        return run_bytes(r, n);
    }
    if (a.kind == b.kind && (a.kind == JINJA_LIST || a.kind == JINJA_TUPLE))
        return compare_items(r, a, b, op, ret);
    if (a.kind == JINJA_UNDEFINED || b.kind == JINJA_UNDEFINED)
        return undefined_fail(r, a.kind == JINJA_UNDEFINED ? a : b);
    return run_fail(r, FAIL_FORMAT, "'%s' not supported between instances of '%s' and '%s'",
                    names[op] ? names[op] : "<", type_name(a), type_name(b));
}

int value_relation(struct run *r, struct jinja_value a, struct jinja_value b, enum op op, bool *ret)
{
    bool same;
    int order = 0, code;
    if (op == OP_EQ || op == OP_NE) {
        code = value_equal(r, a, b, &same);
        if (!code)
            *ret = same == (op == OP_EQ);
        return code;
    }
    code = value_compare(r, a, b, op, &order);
    if (code)
        return code;
    *ret = order == 2    ? false
           : op == OP_LT ? order < 0
           : op == OP_LE ? order <= 0
           : op == OP_GT ? order > 0
                         : order >= 0;
    return 0;
}

int value_contains(struct run *r, struct jinja_value in, struct jinja_value item, bool *ret)
{
    *ret = false;
    if (is_string(in)) {
        if (!is_string(item))
            return run_fail(r, FAIL_FORMAT, "'in <string>' requires string as left operand, not %s",
                            type_name(item));
        int code = run_step(r, 1 + ((uint64_t)in.size + item.size) / 16);
        if (!code)
            *ret = item.size == 0 || memmem(in.as.text, in.size, item.as.text, item.size);
        return code;
    }
    if (in.kind == JINJA_DICT) {
        const struct jinja_value *found = NULL;
        int code = need_hashable(r, item);
        if (!code)
            code = dict_find(r, in.as.dict, item, &found);
        *ret = found;
        return code;
    }
    const struct jinja_value *items;
    size_t count;
    if (!is_iterable(in))
        return run_fail(r, FAIL_FORMAT, "argument of type '%s' is not iterable", type_name(in));
    int code = value_items(r, in, &items, &count);
    for (size_t i = 0; !code && !*ret && i < count; i++)
        code = value_equal(r, items[i], item, ret);
    return code;
}

int value_length(struct run *r, struct jinja_value v, int64_t *ret)
{
    if (v.kind == JINJA_UNDEFINED)
        *ret = 0;
    else if (is_string(v))
        *ret = v.points;
    else if (v.kind == JINJA_DICT)
        *ret = (int64_t)v.as.dict->count;
    else if (is_items(v) && v.kind != JINJA_ITERATOR)
        *ret = (int64_t)v.as.list->count;
    else if (v.kind == JINJA_LOOP)
        *ret = (int64_t)v.as.loop->count;
    else
        return run_fail(r, FAIL_FORMAT, "object of type '%s' has no len()", type_name(v));
    return 0;
}

/* ---- iteration ---- */

bool is_iterable(struct jinja_value v)
{
    return is_items(v) || v.kind == JINJA_DICT || v.kind == JINJA_STRING ||
           v.kind == JINJA_UNDEFINED || v.kind == JINJA_LOOP;
}

static int string_items(struct run *r, struct jinja_value v, const struct jinja_value **items)
{
    int code = run_step(r, v.points);
    if (code)
        return code;
    struct jinja_value *out = arena_array(&r->arena, struct jinja_value, v.points);
    if (!out)
        return run_nomem(r);
    size_t n = 0;
    for (size_t i = 0; i < v.size;) {
        size_t start = i;
        utf8_next(v.as.text, v.size, &i);
        out[n++] = string_range(v, start, i, 1);
    }
    *items = out;
    return 0;
}

int value_items(struct run *r, struct jinja_value v, const struct jinja_value **items,
                size_t *count)
{
    *items = NULL;
    *count = 0;
    if (v.kind == JINJA_UNDEFINED)
        return 0;
    if (v.kind == JINJA_ITERATOR) {
        struct jinja_list *l = v.as.list;
        if (l->failure)
            return fail(r->e, FAIL_FORMAT, "%s", l->failure);
        *items = l->items + l->next;
        *count = l->count - l->next;
        l->next = l->count;
        return 0;
    }
    if (is_items(v)) {
        *items = v.as.list->items;
        *count = v.as.list->count;
        return 0;
    }
    if (is_string(v)) {
        *count = v.points;
        return string_items(r, v, items);
    }
    if (v.kind != JINJA_DICT)
        return run_fail(r, FAIL_FORMAT, "'%s' object is not iterable", type_name(v));
    struct jinja_value *keys = arena_array(&r->arena, struct jinja_value, v.as.dict->count);
    if (!keys)
        return run_nomem(r);
    for (size_t i = 0; i < v.as.dict->count; i++)
        keys[i] = v.as.dict->entries[i].key;
    *items = keys;
    *count = v.as.dict->count;
    return run_step(r, *count);
}
