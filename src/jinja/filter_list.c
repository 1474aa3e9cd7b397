/* Filters of sequences. Source: Jinja documentation, "List of Builtin Filters". */
#include "jinja/internal.h"

#define FILTER(name)                                                                               \
    static int name(struct run *r, struct jinja_value self, const struct jinja_value *arg,         \
                    const struct call *more, struct jinja_value *ret)

static bool flag(struct jinja_value v)
{
    return !is_absent(v) && truth(v);
}

/* What a filter compares of an item: its attribute, if one is named, in lower case unless case
 * counts. */
static int item_key_or(struct run *r, struct jinja_value item, struct jinja_value attribute,
                       const struct jinja_value *missing, bool case_sensitive,
                       struct jinja_value *ret)
{
    int code = 0;
    *ret = item;
    if (!is_absent(attribute) && attribute.kind != JINJA_NONE)
        code = get_path(r, item, attribute, missing, ret);
    if (!code && is_string(*ret) && !case_sensitive)
        code = string_case(r, *ret, CASE_LOWER, ret);
    return code;
}

static int item_key(struct run *r, struct jinja_value item, struct jinja_value attribute,
                    bool case_sensitive, struct jinja_value *ret)
{
    return item_key_or(r, item, attribute, NULL, case_sensitive, ret);
}

/* "a,b" sorts by a, then by b. The key is a list even for one attribute, so that equal values that
 * have no order (none, undefined) stay side by side as in Jinja. */
static int sort_key(struct run *r, struct jinja_value item, struct jinja_value attribute,
                    bool case_sensitive, struct jinja_value *ret)
{
    struct jinja_value list, part = attribute, key;
    int code = list_new(r, JINJA_LIST, 1, &list);
    bool text = is_string(attribute);
    const char *p = text ? attribute.as.text : "", *end = p + (text ? attribute.size : 0), *next;
    for (; !code && p; p = next) {
        const char *comma = memchr(p, ',', (size_t)(end - p));
        next = comma ? comma + 1 : NULL;
        if (text)
            part = string_range(attribute, (size_t)(p - attribute.as.text),
                                (size_t)((comma ? comma : end) - attribute.as.text), 0);
        code = item_key(r, item, part, case_sensitive, &key);
        if (!code)
            code = list_add(r, &list, key);
    }
    if (!code)
        *ret = list;
    return code;
}

static int copy_items(struct run *r, struct jinja_value v, struct jinja_value **ret, size_t *count)
{
    const struct jinja_value *items;
    int code = value_items(r, v, &items, count);
    struct jinja_value *copy = code ? NULL : arena_array(&r->arena, struct jinja_value, *count);
    if (code)
        return code;
    if (!copy)
        return run_nomem(r);
    if (*count)
        memcpy(copy, items, *count * sizeof(*copy));
    *ret = copy;
    return run_step(r, 1 + *count);
}

static int list_from(struct run *r, struct jinja_value *items, size_t count,
                     struct jinja_value *ret)
{
    int code = list_new(r, JINJA_LIST, 0, ret);
    if (!code) {
        ret->as.list->items = items;
        ret->as.list->count = ret->as.list->capacity = count;
    }
    return code;
}

FILTER(filter_list)
{
    struct jinja_value *items;
    size_t count;
    int code = copy_items(r, self, &items, &count);
    return code ? code : list_from(r, items, count, ret);
}

FILTER(filter_length)
{
    int64_t n;
    int code = value_length(r, self, &n);
    if (!code)
        *ret = jinja_int(n);
    return code;
}

FILTER(filter_first)
{
    const struct jinja_value *items;
    size_t count;
    struct jinja_list *l = self.kind == JINJA_ITERATOR ? self.as.list : NULL;
    size_t next = l ? l->next : 0;
    int code = value_items(r, self, &items, &count);
    if (code)
        return code;
    if (l && count)
        l->next = next + 1;
    *ret = count ? items[0] : undefined_hint("No first item, sequence was empty.");
    return 0;
}

FILTER(filter_last)
{
    const struct jinja_value *items;
    size_t count;
    if (self.kind == JINJA_ITERATOR)
        return run_fail(r, FAIL_FORMAT, "'%s' object is not reversible", self.as.list->type_name);
    int code = value_items(r, self, &items, &count);
    if (!code)
        *ret = count ? items[count - 1] : undefined_hint("No last item, sequence was empty.");
    return code;
}

FILTER(filter_reverse)
{
    struct jinja_value *items;
    size_t count;
    const struct jinja_value back[3] = { jinja_none(), jinja_none(), jinja_int(-1) };
    if (is_string(self))
        return get_slice(r, self, back, ret);
    if (!is_iterable(self))
        return run_fail(r, FAIL_FORMAT, "argument must be iterable");
    int code = copy_items(r, self, &items, &count);
    if (!code)
        code = self.kind == JINJA_ITERATOR ? list_new(r, JINJA_LIST, count, ret)
                                           : iterator_new(r, "list_reverseiterator", count, ret);
    for (size_t i = count; !code && i > 0; i--)
        code = list_add(r, ret, items[i - 1]);
    return code;
}

FILTER(filter_join)
{
    const struct jinja_value *items;
    size_t count;
    struct text t = { 0 };
    struct jinja_value separator = is_absent(arg[0]) ? string_const("") : arg[0];
    int code = value_to_string(r, separator, &separator);
    if (!code)
        code = value_items(r, self, &items, &count);
    for (size_t i = 0; !code && i < count; i++) {
        struct jinja_value v;
        code = item_key(r, items[i], arg[1], true, &v);
        if (!code && i)
            code = text_string(r, &t, separator);
        if (!code)
            code = run_step(r, 1);
        if (!code)
            code = value_str(r, &t, v);
    }
    return code ? code : text_value(r, &t, ret);
}

FILTER(filter_sort)
{
    struct jinja_value *items, *keys;
    size_t count;
    if (!is_absent(arg[0]) && !is_integral(arg[0]))
        return run_fail(r, FAIL_FORMAT, "reverse must be true or false, not %s", type_name(arg[0]));
    int code = copy_items(r, self, &items, &count);
    if (code)
        return code;
    keys = arena_array(&r->arena, struct jinja_value, count);
    if (!keys)
        return run_nomem(r);
    for (size_t i = 0; !code && i < count; i++)
        code = sort_key(r, items[i], arg[2], flag(arg[1]), &keys[i]);
    if (!code)
        code = sort_values(r, keys, items, count, flag(arg[0]));
    return code ? code : list_from(r, items, count, ret);
}

static int extreme(struct run *r, struct jinja_value self, const struct jinja_value *arg,
                   enum op better, struct jinja_value *ret)
{
    const struct jinja_value *items;
    size_t count;
    struct jinja_value best_key = jinja_none(), key;
    int code = value_items(r, self, &items, &count);
    *ret = undefined_hint("No aggregated item, sequence was empty.");
    for (size_t i = 0; !code && i < count; i++) {
        bool is = i == 0;
        code = item_key(r, items[i], arg[1], flag(arg[0]), &key);
        if (!code && i)
            code = value_relation(r, key, best_key, better, &is);
        if (!code && is) {
            best_key = key;
            *ret = items[i];
        }
    }
    return code;
}

FILTER(filter_min)
{
    return extreme(r, self, arg, OP_LT, ret);
}

FILTER(filter_max)
{
    return extreme(r, self, arg, OP_GT, ret);
}

FILTER(filter_sum)
{
    const struct jinja_value *items;
    size_t count;
    struct jinja_value total = is_absent(arg[1]) ? jinja_int(0) : arg[1], v;
    if (is_string(total))
        return run_fail(r, FAIL_FORMAT, "sum() can't sum strings [use ''.join(seq) instead]");
    int code = value_items(r, self, &items, &count);
    for (size_t i = 0; !code && i < count; i++) {
        code = item_key(r, items[i], arg[0], true, &v);
        if (!code)
            code = binary_op(r, OP_ADD, total, v, &total);
    }
    if (!code)
        *ret = total;
    return code;
}

FILTER(filter_unique)
{
    const struct jinja_value *items;
    size_t count;
    struct jinja_value seen = jinja_none(), out = jinja_none(), key;
    int code = iterator_new(r, "generator", 0, &out);
    if (!code)
        code = value_items(r, self, &items, &count);
    if (!code)
        code = dict_new(r, 0, &seen);
    for (size_t i = 0; !code && i < count; i++) {
        code = item_key(r, items[i], arg[1], flag(arg[0]), &key);
        size_t before = seen.as.dict->count;
        if (!code)
            code = dict_put(r, &seen, key, jinja_none());
        if (!code && seen.as.dict->count > before)
            code = list_add(r, &out, items[i]);
    }
    return iterator_done(r, code, out, ret);
}

FILTER(filter_batch)
{
    const struct jinja_value *items;
    size_t count;
    struct jinja_value out = jinja_none(), part = { 0 };
    int code = iterator_new(r, "generator", 0, &out);
    if (!code)
        code = value_items(r, self, &items, &count);
    if (!code && !is_integral(arg[0]))
        code = run_fail(r, FAIL_FORMAT, "batch needs an integer");
    if (code)
        return iterator_done(r, code, out, ret);
    int64_t size = as_int(arg[0]);
    for (size_t i = 0; !code && i < count; i++) {
        bool full = part.as.list && (int64_t)part.as.list->count == size;
        if (full)
            code = list_add(r, &out, part);
        if (!code && (full || !part.as.list))
            code = list_new(r, JINJA_LIST, 0, &part);
        if (!code)
            code = list_add(r, &part, items[i]);
    }
    bool fill = !is_absent(arg[1]) && arg[1].kind != JINJA_NONE;
    while (!code && count && fill && (int64_t)part.as.list->count < size)
        code = list_add(r, &part, arg[1]);
    if (!code && count)
        code = list_add(r, &out, part);
    return iterator_done(r, code, out, ret);
}

FILTER(filter_slice)
{
    const struct jinja_value *items;
    size_t count, next = 0;
    struct jinja_value out = jinja_none(), part;
    int code = iterator_new(r, "generator", 0, &out);
    if (!code)
        code = value_items(r, self, &items, &count);
    if (!code && (!is_integral(arg[0]) || as_int(arg[0]) <= 0))
        code = run_fail(r, FAIL_FORMAT, "slice needs a positive number of slices");
    if (code)
        return iterator_done(r, code, out, ret);
    size_t slices = (size_t)as_int(arg[0]), each = count / slices, extra = count % slices;
    bool fill = !is_absent(arg[1]) && arg[1].kind != JINJA_NONE;
    for (size_t i = 0; !code && i < slices; i++) {
        size_t n = each + (i < extra);
        code = list_new(r, JINJA_LIST, n, &part);
        for (size_t k = 0; !code && k < n; k++)
            code = list_add(r, &part, items[next++]);
        if (!code && fill && i >= extra)
            code = list_add(r, &part, arg[1]);
        if (!code)
            code = list_add(r, &out, part);
    }
    return iterator_done(r, code, out, ret);
}

FILTER(filter_items)
{
    struct jinja_value out = jinja_none(), pair;
    int code = iterator_new(r, "generator", 0, &out);
    if (!code && self.kind != JINJA_DICT && self.kind != JINJA_UNDEFINED)
        code = run_fail(r, FAIL_FORMAT, "Can only get item pairs from a mapping.");
    for (size_t i = 0; !code && self.kind == JINJA_DICT && i < self.as.dict->count; i++) {
        code = tuple_of(r, self.as.dict->entries[i].key, self.as.dict->entries[i].value, &pair);
        if (!code)
            code = list_add(r, &out, pair);
    }
    return iterator_done(r, code, out, ret);
}

FILTER(filter_dictsort)
{
    if (self.kind != JINJA_DICT)
        return self.kind == JINJA_UNDEFINED
                   ? undefined_fail(r, self)
                   : run_fail(r, FAIL_FORMAT, "dictsort needs a dict, not %s", type_name(self));
    bool value = is_string(arg[1]) && bytes_equal_text(string_bytes(arg[1]), "value");
    if (!is_absent(arg[1]) && !value &&
        !(is_string(arg[1]) && bytes_equal_text(string_bytes(arg[1]), "key")))
        return run_fail(r, FAIL_FORMAT, "You can only sort by either \"key\" or \"value\"");
    size_t n = self.as.dict->count;
    struct jinja_value *keys = arena_array(&r->arena, struct jinja_value, n);
    struct jinja_value *pairs = arena_array(&r->arena, struct jinja_value, n);
    if (!keys || !pairs)
        return run_nomem(r);
    int code = 0;
    for (size_t i = 0; !code && i < n; i++) {
        const struct dict_entry *entry = &self.as.dict->entries[i];
        code = tuple_of(r, entry->key, entry->value, &pairs[i]);
        if (!code)
            code = item_key(r, value ? entry->value : entry->key,
                            (struct jinja_value){ .kind = JINJA_ABSENT }, flag(arg[0]), &keys[i]);
    }
    if (!code)
        code = sort_values(r, keys, pairs, n, flag(arg[2]));
    return code ? code : list_from(r, pairs, n, ret);
}

/* An item's attribute for groupby, or what stands for it when it is undefined. */
static int group_key(struct run *r, struct jinja_value item, const struct jinja_value *arg,
                     bool case_sensitive, struct jinja_value *ret)
{
    return item_key_or(r, item, arg[0], is_absent(arg[1]) ? NULL : &arg[1], case_sensitive, ret);
}

FILTER(filter_groupby)
{
    struct jinja_value *items, *keys, out, group, list = { 0 }, name;
    size_t count;
    bool case_sensitive = flag(arg[2]);
    int code = copy_items(r, self, &items, &count);
    if (code)
        return code;
    keys = arena_array(&r->arena, struct jinja_value, count);
    if (!keys)
        return run_nomem(r);
    for (size_t i = 0; !code && i < count; i++)
        code = group_key(r, items[i], arg, case_sensitive, &keys[i]);
    if (!code)
        code = sort_values(r, keys, items, count, false);
    if (!code)
        code = list_new(r, JINJA_LIST, 0, &out);
    for (size_t i = 0; !code && i < count; i++) {
        bool same = false;
        if (i)
            code = value_equal(r, keys[i - 1], keys[i], &same);
        if (!code && !same) {
            code = list_new(r, JINJA_LIST, 0, &list);
            if (!code)
                code = group_key(r, items[i], arg, true, &name);
            if (!code)
                code = tuple_of(r, name, list, &group);
            group.flavour = 1; /* has the attributes grouper and list */
            if (!code)
                code = list_add(r, &out, group);
        }
        if (!code)
            code = list_add(r, &list, items[i]);
    }
    if (!code)
        *ret = out;
    return code;
}

const struct builtin jinja_list_filters[] = {
    { "list", filter_list, "", 0 },
    { "length", filter_length, "", 0 },
    { "count", filter_length, "", 0 },
    { "first", filter_first, "", 0 },
    { "last", filter_last, "", 0 },
    { "reverse", filter_reverse, "", 0 },
    { "join", filter_join, "d attribute", 0 },
    { "sort", filter_sort, "reverse case_sensitive attribute", 0 },
    { "min", filter_min, "case_sensitive attribute", 0 },
    { "max", filter_max, "case_sensitive attribute", 0 },
    { "sum", filter_sum, "attribute start", 0 },
    { "unique", filter_unique, "case_sensitive attribute", 0 },
    { "batch", filter_batch, "linecount fill_with", 1 },
    { "slice", filter_slice, "slices fill_with", 1 },
    { "items", filter_items, "", 0 },
    { "dictsort", filter_dictsort, "case_sensitive by reverse", 0 },
    { "groupby", filter_groupby, "attribute default case_sensitive", 1 },
    { NULL, NULL, NULL, 0 },
};
