/* Attributes, items and slices, as the sandbox allows them. */
#include "jinja/internal.h"

#include <stdlib.h>

static struct jinja_value unsafe(struct jinja_value of, struct bytes name)
{
    struct jinja_value v = undefined_attribute(of, name);
    v.flavour = UNDEFINED_UNSAFE;
    return v;
}

static int loop_attribute(struct run *r, struct jinja_loop *l, struct bytes name,
                          struct jinja_value *ret, bool *found)
{
    int64_t index = (int64_t)l->index, count = (int64_t)l->count;
    *found = true;
    if (bytes_equal_text(name, "index"))
        *ret = jinja_int(index + 1);
    else if (bytes_equal_text(name, "index0"))
        *ret = jinja_int(index);
    else if (bytes_equal_text(name, "first"))
        *ret = jinja_bool(index == 0);
    else if (bytes_equal_text(name, "last"))
        *ret = jinja_bool(index + 1 == count);
    else if (bytes_equal_text(name, "length"))
        *ret = jinja_int(count);
    else if (bytes_equal_text(name, "revindex"))
        *ret = jinja_int(count - index);
    else if (bytes_equal_text(name, "revindex0"))
        *ret = jinja_int(count - index - 1);
    else if (bytes_equal_text(name, "depth"))
        *ret = jinja_int(l->depth + 1);
    else if (bytes_equal_text(name, "depth0"))
        *ret = jinja_int(l->depth);
    else if (bytes_equal_text(name, "previtem"))
        *ret = index > 0 ? l->items[index - 1] : undefined_hint("there is no previous item");
    else if (bytes_equal_text(name, "nextitem"))
        *ret = index + 1 < count ? l->items[index + 1] : undefined_hint("there is no next item");
    else
        *found = false;
    (void)r;
    return 0;
}

static int macro_attribute(struct run *r, const struct jinja_macro *m, struct bytes name,
                           struct jinja_value *ret, bool *found)
{
    *found = true;
    if (bytes_equal_text(name, "name"))
        return string_copy(r, m->name, ret);
    if (bytes_equal_text(name, "catch_kwargs"))
        *ret = jinja_bool(m->node->uses & USES_KWARGS);
    else if (bytes_equal_text(name, "catch_varargs"))
        *ret = jinja_bool(m->node->uses & USES_VARARGS);
    else if (bytes_equal_text(name, "caller"))
        *ret = jinja_bool(m->node->uses & USES_CALLER);
    else if (bytes_equal_text(name, "arguments")) {
        int code = list_new(r, JINJA_TUPLE, 0, ret);
        for (int i = 0; !code && i < m->node->list.count; i++) {
            struct jinja_value v;
            code = string_copy(r, m->node->list.items[i]->name, &v);
            if (!code)
                code = list_add(r, ret, v);
        }
        return code;
    } else {
        *found = false;
    }
    return 0;
}

static int cell_attribute(struct run *r, struct jinja_value of, struct bytes name,
                          struct jinja_value *ret, bool *found)
{
    const struct jinja_cell *c = of.as.cell;
    *found = of.kind == JINJA_CYCLER && bytes_equal_text(name, "current");
    if (*found)
        *ret = c->items->items[c->position];
    (void)r;
    return 0;
}

/* What every Python object has, and the sandbox hides. */
static bool is_hidden(struct bytes name)
{
    static const char *const common[] = { "__class__",
                                          "__dict__",
                                          "__doc__",
                                          "__init__",
                                          "__new__",
                                          "__module__",
                                          "__hash__",
                                          "__eq__",
                                          "__repr__",
                                          "__str__",
                                          "__dir__",
                                          "__reduce__",
                                          "__reduce_ex__",
                                          "__getattribute__",
                                          "__sizeof__",
                                          "__format__",
                                          "__ne__",
                                          "__subclasshook__",
                                          "__init_subclass__",
                                          "__setattr__",
                                          "__delattr__",
                                          "__lt__",
                                          "__le__",
                                          "__gt__",
                                          "__ge__" };
    for (size_t i = 0; i < ARRAY_LEN(common); i++)
        if (bytes_equal_text(name, common[i]))
            return true;
    return false;
}

static int namespace_attribute(struct run *r, struct jinja_value of, struct bytes name,
                               struct jinja_value *ret, bool *found)
{
    const struct jinja_value *v;
    int code = dict_find_text(r, of.as.dict, name, &v);
    *found = v;
    if (v)
        *ret = name.size && name.data[0] == '_' ? unsafe(of, name) : *v;
    return code;
}

/* Fields of the values that have any. */
static int field(struct run *r, struct jinja_value of, struct bytes name, struct jinja_value *ret,
                 bool *found)
{
    *found = false;
    switch (of.kind) {
    case JINJA_LOOP:
        return loop_attribute(r, of.as.loop, name, ret, found);
    case JINJA_MACRO:
        return macro_attribute(r, of.as.macro, name, ret, found);
    case JINJA_CYCLER:
        return cell_attribute(r, of, name, ret, found);
    case JINJA_NAMESPACE:
        return namespace_attribute(r, of, name, ret, found);
    case JINJA_TUPLE: /* a group of groupby */
        *found =
            of.flavour && (bytes_equal_text(name, "grouper") || bytes_equal_text(name, "list"));
        if (*found)
            *ret = of.as.list->items[name.size == 4];
        return 0;
    default:
        return 0;
    }
}

/* What Python's getattr finds: fields and methods, not items. */
static int own_attribute(struct run *r, struct jinja_value of, struct bytes name,
                         struct jinja_value *ret, bool *found)
{
    bool mutates = false;
    *found = true;
    if (is_hidden(name)) {
        *ret = unsafe(of, name);
        return 0;
    }
    int code = field(r, of, name, ret, found);
    if (code || *found)
        return code;
    const struct builtin *b = r->calls->method(of, name, &mutates);
    *found = b || mutates;
    if (mutates)
        *ret = unsafe(of, name);
    else if (b)
        return bind_method(r, b, of, ret);
    return 0;
}

int get_attribute(struct run *r, struct jinja_value of, struct bytes name, struct jinja_value *ret)
{
    bool found;
    int code = own_attribute(r, of, name, ret, &found);
    if (code || found)
        return code;
    if (of.kind == JINJA_UNDEFINED)
        return undefined_fail(r, of);
    const struct jinja_value *v = NULL;
    if (of.kind == JINJA_DICT)
        code = dict_find_text(r, of.as.dict, name, &v);
    *ret = v ? *v : undefined_attribute(of, name);
    return code;
}

/* Finding a code point by its number: walks over the text unless all have one byte. */
static int offset_work(struct run *r, struct jinja_value s)
{
    return run_step(r, 1 + (s.points == s.size ? 0 : s.size / 8));
}

/* A sequence's item, or false. */
static bool sequence_item(struct jinja_value of, struct jinja_value key, struct jinja_value *ret)
{
    if (!is_integral(key))
        return false;
    int64_t i = as_int(key), n;
    if (is_string(of))
        n = of.points;
    else if (of.kind == JINJA_LIST || of.kind == JINJA_TUPLE || of.kind == JINJA_RANGE)
        n = (int64_t)of.as.list->count;
    else
        return false;
    if (i < 0)
        i += n;
    if (i < 0 || i >= n)
        return false;
    if (is_string(of)) {
        size_t from = string_offset(of, (size_t)i), to = from;
        utf8_next(of.as.text, of.size, &to);
        *ret = string_range(of, from, to, 1);
        ret->flavour = of.flavour;
    } else {
        *ret = of.as.list->items[i];
    }
    return true;
}

int get_item(struct run *r, struct jinja_value of, struct jinja_value key, struct jinja_value *ret)
{
    if (of.kind == JINJA_UNDEFINED)
        return undefined_fail(r, of);
    if (of.kind == JINJA_DICT) {
        const struct jinja_value *v;
        int code = dict_find(r, of.as.dict, key, &v);
        if (v)
            *ret = *v;
        if (code || v)
            return code;
    } else if (sequence_item(of, key, ret)) {
        return is_string(of) ? offset_work(r, of) : 0;
    }
    if (is_string(key)) {
        bool found;
        int code = own_attribute(r, of, string_bytes(key), ret, &found);
        if (code || found)
            return code;
        *ret = undefined_attribute(of, string_bytes(key));
        return 0;
    }
    struct text t = { 0 };
    int code = text_printf(r, &t, "%s object has no element ", type_name(of));
    if (!code)
        code = value_repr(r, &t, key);
    if (code)
        return code;
    *ret = (struct jinja_value){ .kind = JINJA_UNDEFINED,
                                 .flavour = UNDEFINED_HINT,
                                 .size = (uint32_t)t.size,
                                 .as.text = t.data };
    return 0;
}

/* Python's slice.indices: start, step and the number of items. */
static int slice_indices(struct run *r, const struct jinja_value part[static 3], int64_t n,
                         int64_t *start, int64_t *step, int64_t *count)
{
    int64_t value[3] = { 0, 0, 1 };
    for (int i = 0; i < 3; i++) {
        if (part[i].kind == JINJA_NONE)
            continue;
        if (!is_integral(part[i]))
            return run_fail(r, FAIL_FORMAT, "slice indices must be integers or None, not %s",
                            type_name(part[i]));
        value[i] = as_int(part[i]);
    }
    if (value[2] == 0)
        return run_fail(r, FAIL_FORMAT, "slice step cannot be zero");
    /* A step beyond the length is as good as the length. */
    int64_t s = value[2] > n + 1 ? n + 1 : value[2] < -n - 1 ? -n - 1 : value[2];
    int64_t low = s < 0 ? -1 : 0, high = s < 0 ? n - 1 : n;
    for (int i = 0; i < 2; i++) {
        if (part[i].kind == JINJA_NONE) {
            value[i] = (i == 0) == (s > 0) ? low : high;
            continue;
        }
        if (value[i] < 0)
            value[i] = value[i] < -n ? low : value[i] + n;
        value[i] = value[i] < low ? low : value[i] > high ? high : value[i];
    }
    int64_t span = s > 0 ? value[1] - value[0] : value[0] - value[1];
    int64_t size = s > 0 ? s : -s;
    *count = span > 0 ? (span + size - 1) / size : 0;
    *start = value[0];
    *step = s;
    return 0;
}

static int slice_string(struct run *r, struct jinja_value of, int64_t start, int64_t step,
                        int64_t count, struct jinja_value *ret)
{
    struct text t = { 0 };
    if (step == 1) {
        size_t from = string_offset(of, (size_t)(count ? start : 0));
        struct jinja_value rest = string_range(of, from, of.size, 0);
        if (of.points == of.size)
            rest.points = rest.size;
        size_t size = string_offset(rest, (size_t)count);
        *ret = string_range(rest, 0, size, (size_t)count);
        return offset_work(r, of);
    }
    const struct jinja_value *items;
    size_t n;
    int code = value_items(r, of, &items, &n);
    for (int64_t i = 0; !code && i < count; i++)
        code = value_str(r, &t, items[start + i * step]);
    return code ? code : text_value(r, &t, ret);
}

int get_slice(struct run *r, struct jinja_value of, const struct jinja_value part[static 3],
              struct jinja_value *ret)
{
    int64_t n, start = 0, step = 1, count = 0;
    if (of.kind == JINJA_UNDEFINED)
        return undefined_fail(r, of);
    bool list = of.kind == JINJA_LIST || of.kind == JINJA_TUPLE || of.kind == JINJA_RANGE;
    if (!list && !is_string(of))
        return run_fail(r, FAIL_FORMAT, "'%s' object can't be sliced", type_name(of));
    int code = value_length(r, of, &n);
    if (!code)
        code = slice_indices(r, part, n, &start, &step, &count);
    if (code)
        return code;
    if (is_string(of)) {
        code = slice_string(r, of, start, step, count, ret);
        if (!code)
            ret->flavour = of.flavour;
        return code;
    }
    struct jinja_value out;
    code = list_new(r, of.kind == JINJA_TUPLE ? JINJA_TUPLE : JINJA_LIST, (size_t)count, &out);
    for (int64_t i = 0; !code && i < count; i++)
        code = list_add(r, &out, of.as.list->items[start + i * step]);
    if (!code && of.kind == JINJA_RANGE) {
        const int64_t *range = of.as.list->range;
        out.kind = JINJA_RANGE;
        out.as.list->range[0] = range[0] + start * range[2];
        out.as.list->range[1] = range[0] + (start + count * step) * range[2];
        out.as.list->range[2] = range[2] * step;
    }
    if (!code)
        *ret = out;
    return code;
}

int get_path(struct run *r, struct jinja_value of, struct jinja_value path,
             const struct jinja_value *missing, struct jinja_value *ret)
{
    if (missing && missing->kind == JINJA_NONE)
        missing = NULL;
    if (!is_string(path)) {
        int code = get_item(r, of, path, ret);
        if (!code && missing && ret->kind == JINJA_UNDEFINED)
            *ret = *missing;
        return code;
    }
    struct bytes rest = string_bytes(path);
    struct jinja_value at = of;
    for (;;) {
        const uint8_t *dot = rest.size ? memchr(rest.data, '.', rest.size) : NULL;
        size_t size = dot ? (size_t)(dot - rest.data) : rest.size;
        struct jinja_value key;
        bool digits = size > 0 && size < 18;
        for (size_t i = 0; i < size; i++)
            digits = digits && rest.data[i] >= '0' && rest.data[i] <= '9';
        if (digits) {
            int64_t index = 0;
            for (size_t i = 0; i < size; i++)
                index = index * 10 + (rest.data[i] - '0');
            key = jinja_int(index);
        } else if (jinja_string(bytes_of(rest.data, size), &key, NULL)) {
            return run_fail(r, FAIL_FORMAT, "attribute is not UTF-8");
        }
        int code = get_item(r, at, key, &at);
        if (!code && missing && at.kind == JINJA_UNDEFINED)
            at = *missing;
        if (code || !dot) {
            *ret = at;
            return code;
        }
        rest = bytes_of(dot + 1, rest.size - size - 1);
    }
}
