/* Methods of lists, dicts, loops and the small objects; predicates of strings; global functions. */
#include "jinja/internal.h"

#include <math.h>

#define METHOD(name)                                                                               \
    static int name(struct run *r, struct jinja_value self, const struct jinja_value *arg,         \
                    const struct call *more, struct jinja_value *ret)

/* ---- predicates of strings ---- */

static int every(struct run *r, struct jinja_value s, bool (*test)(uint32_t), bool of_empty,
                 struct jinja_value *ret)
{
    bool all = s.size || of_empty;
    int code = run_chars(r, s.size);
    for (size_t i = 0; !code && all && i < s.size;)
        all = test(utf8_next(s.as.text, s.size, &i));
    *ret = jinja_bool(all);
    return code;
}

static bool is_alnum(uint32_t c)
{
    return unicode_is_alpha(c) || unicode_is_numeric(c) || unicode_is_digit(c);
}

static bool is_ascii(uint32_t c)
{
    return c < 0x80;
}

static bool is_word(uint32_t c)
{
    return c == '_' || is_alnum(c);
}

#define PREDICATE(name, test)                                                                      \
    METHOD(name)                                                                                   \
    {                                                                                              \
        return every(r, self, test, false, ret);                                                   \
    }
PREDICATE(method_isalpha, unicode_is_alpha)
PREDICATE(method_isdigit, unicode_is_digit)
PREDICATE(method_isdecimal, unicode_is_decimal)
PREDICATE(method_isnumeric, unicode_is_numeric)
PREDICATE(method_isalnum, is_alnum)
PREDICATE(method_isspace, unicode_is_space)
#undef PREDICATE

METHOD(method_isprintable)
{
    return every(r, self, unicode_is_printable, true, ret);
}

METHOD(method_isascii)
{
    return every(r, self, is_ascii, true, ret);
}

METHOD(method_isidentifier)
{
    size_t i = 0;
    uint32_t first = self.size ? utf8_next(self.as.text, self.size, &i) : '0';
    int code = every(r, self, is_word, false, ret);
    *ret = jinja_bool(ret->as.boolean && (first == '_' || unicode_is_alpha(first)));
    return code;
}

static int cased(struct run *r, struct jinja_value s, bool (*want)(uint32_t),
                 bool (*other)(uint32_t), struct jinja_value *ret)
{
    bool any = false, none = true;
    int code = run_chars(r, s.size);
    for (size_t i = 0; !code && none && i < s.size;) {
        uint32_t c = utf8_next(s.as.text, s.size, &i);
        none = !other(c) && !unicode_is_title(c);
        any = any || want(c);
    }
    *ret = jinja_bool(any && none);
    return code;
}

METHOD(method_isupper)
{
    return cased(r, self, unicode_is_upper, unicode_is_lower, ret);
}

METHOD(method_islower)
{
    return cased(r, self, unicode_is_lower, unicode_is_upper, ret);
}

METHOD(method_istitle)
{
    bool any = false, word = false, fits = true;
    int code = run_chars(r, self.size);
    for (size_t i = 0; !code && fits && i < self.size;) {
        uint32_t c = utf8_next(self.as.text, self.size, &i);
        bool upper = unicode_is_upper(c) || unicode_is_title(c), lower = unicode_is_lower(c);
        fits = !(upper && word) && !(lower && !word);
        word = upper || lower;
        any = any || word;
    }
    *ret = jinja_bool(any && fits);
    return code;
}

const struct builtin jinja_string_predicates[] = {
    { "isalpha", method_isalpha, "", 0 },
    { "isdigit", method_isdigit, "", 0 },
    { "isdecimal", method_isdecimal, "", 0 },
    { "isnumeric", method_isnumeric, "", 0 },
    { "isalnum", method_isalnum, "", 0 },
    { "isspace", method_isspace, "", 0 },
    { "isupper", method_isupper, "", 0 },
    { "islower", method_islower, "", 0 },
    { "istitle", method_istitle, "", 0 },
    { "isascii", method_isascii, "", 0 },
    { "isprintable", method_isprintable, "", 0 },
    { "isidentifier", method_isidentifier, "", 0 },
    { NULL, NULL, NULL, 0 },
};

/* ---- lists and tuples ---- */

METHOD(list_index)
{
    const struct jinja_list *l = self.as.list;
    int64_t bound[2] = { 0, (int64_t)l->count }, n = (int64_t)l->count;
    for (int i = 0; i < 2; i++)
        if (!is_absent(arg[i + 1]) && is_integral(arg[i + 1])) {
            int64_t v = as_int(arg[i + 1]);
            bound[i] = v < -n ? 0 : v < 0 ? v + n : v > n ? n : v;
        }
    for (int64_t i = bound[0]; i < bound[1]; i++) {
        bool same;
        int code = value_equal(r, l->items[i], arg[0], &same);
        if (code || same) {
            *ret = jinja_int(i);
            return code;
        }
    }
    return run_fail(r, FAIL_FORMAT, "%s.index(x): x not in %s", type_name(self), type_name(self));
}

METHOD(list_count)
{
    int64_t n = 0;
    for (size_t i = 0; i < self.as.list->count; i++) {
        bool same;
        int code = value_equal(r, self.as.list->items[i], arg[0], &same);
        if (code)
            return code;
        n += same;
    }
    *ret = jinja_int(n);
    return 0;
}

METHOD(list_copy)
{
    *ret = self; /* values never change */
    return 0;
}

static const struct builtin list_methods[] = {
    { "index", list_index, "- - -", 1 },
    { "count", list_count, "-", 1 },
    { "copy", list_copy, "", 0 },
    { NULL, NULL, NULL, 0 },
};

/* ---- dicts ---- */

static int dict_view(struct run *r, struct jinja_value self, enum view_flavour which,
                     struct jinja_value *ret)
{
    const struct jinja_dict *d = self.as.dict;
    struct jinja_value view;
    int code = list_new(r, JINJA_VIEW, d->count, &view);
    view.flavour = (uint8_t)which;
    for (size_t i = 0; !code && i < d->count; i++) {
        struct jinja_value item = which == VIEW_KEYS ? d->entries[i].key : d->entries[i].value;
        if (which == VIEW_ITEMS)
            code = tuple_of(r, d->entries[i].key, d->entries[i].value, &item);
        if (!code)
            code = list_add(r, &view, item);
    }
    if (!code)
        *ret = view;
    return code;
}

METHOD(dict_keys)
{
    return dict_view(r, self, VIEW_KEYS, ret);
}

METHOD(dict_values)
{
    return dict_view(r, self, VIEW_VALUES, ret);
}

METHOD(dict_items)
{
    return dict_view(r, self, VIEW_ITEMS, ret);
}

METHOD(dict_get)
{
    const struct jinja_value *v = NULL;
    int code = need_hashable(r, arg[0]);
    if (!code)
        code = dict_find(r, self.as.dict, arg[0], &v);
    *ret = v ? *v : is_absent(arg[1]) ? jinja_none() : arg[1];
    return code;
}

static const struct builtin dict_methods[] = {
    { "keys", dict_keys, "", 0 },  { "values", dict_values, "", 0 }, { "items", dict_items, "", 0 },
    { "get", dict_get, "- -", 1 }, { "copy", list_copy, "", 0 },     { NULL, NULL, NULL, 0 },
};

/* ---- numbers ---- */

METHOD(number_is_integer)
{
    *ret = jinja_bool(self.kind != JINJA_FLOAT ||
                      (isfinite(self.as.real) && self.as.real == floor(self.as.real)));
    return 0;
}

METHOD(number_bit_length)
{
    int64_t i = as_int(self), n = 0;
    for (uint64_t u = i < 0 ? 0 - (uint64_t)i : (uint64_t)i; u; u >>= 1)
        n++;
    *ret = jinja_int(n);
    return 0;
}

static const struct builtin float_methods[] = {
    { "is_integer", number_is_integer, "", 0 },
    { NULL, NULL, NULL, 0 },
};

static const struct builtin int_methods[] = {
    { "bit_length", number_bit_length, "", 0 },
    { NULL, NULL, NULL, 0 },
};

/* ---- loops, cyclers ---- */

METHOD(loop_cycle)
{
    if (!more->count)
        return run_fail(r, FAIL_FORMAT, "no items for cycling given");
    *ret = more->args[self.as.loop->index % (size_t)more->count];
    return 0;
}

METHOD(loop_changed)
{
    struct jinja_loop *loop = self.as.loop;
    struct jinja_value now;
    bool same = false;
    int code = list_new(r, JINJA_TUPLE, (size_t)more->count, &now);
    for (int i = 0; !code && i < more->count; i++)
        code = list_add(r, &now, more->args[i]);
    if (!code && !is_absent(loop->changed))
        code = value_equal(r, loop->changed, now, &same);
    if (code)
        return code;
    loop->changed = now;
    *ret = jinja_bool(!same);
    return 0;
}

static const struct builtin loop_methods[] = {
    { "cycle", loop_cycle, "*", 0 },
    { "changed", loop_changed, "*", 0 },
    { NULL, NULL, NULL, 0 },
};

METHOD(cycler_next)
{
    struct jinja_cell *c = self.as.cell;
    *ret = c->items->items[c->position];
    c->position = (c->position + 1) % c->items->count;
    return 0;
}

METHOD(cycler_reset)
{
    self.as.cell->position = 0;
    *ret = jinja_none();
    return 0;
}

static const struct builtin cycler_methods[] = {
    { "next", cycler_next, "", 0 },
    { "reset", cycler_reset, "", 0 },
    { NULL, NULL, NULL, 0 },
};

static bool is_one_of(struct bytes name, const char *const *names)
{
    for (; *names; names++)
        if (bytes_equal_text(name, *names))
            return true;
    return false;
}

const struct builtin *find_method(struct jinja_value of, struct bytes name, bool *unsafe)
{
    /* What the immutable sandbox refuses. */
    static const char *const list_unsafe[] = { "append", "clear",  "pop",    "reverse", "insert",
                                               "sort",   "extend", "remove", NULL };
    static const char *const dict_unsafe[] = { "clear",      "pop",    "popitem",
                                               "setdefault", "update", NULL };
    const struct builtin *b;
    switch (of.kind) {
    case JINJA_STRING:
        b = find_builtin(jinja_string_methods, name);
        return b ? b : find_builtin(jinja_string_predicates, name);
    case JINJA_LIST:
        *unsafe = is_one_of(name, list_unsafe);
        return find_builtin(list_methods, name);
    case JINJA_TUPLE:
    case JINJA_RANGE:
        return bytes_equal_text(name, "copy") ? NULL : find_builtin(list_methods, name);
    case JINJA_DICT:
        *unsafe = is_one_of(name, dict_unsafe);
        return find_builtin(dict_methods, name);
    case JINJA_INT:
    case JINJA_BOOL:
        return find_builtin(int_methods, name);
    case JINJA_FLOAT:
        return find_builtin(float_methods, name);
    case JINJA_LOOP:
        return find_builtin(loop_methods, name);
    case JINJA_CYCLER:
        return find_builtin(cycler_methods, name);
    default:
        return NULL;
    }
}

/* Markup's methods give markup; those that put their arguments into the text escape them. */
static int call_markup(struct run *r, const struct jinja_function *f, const struct call *c,
                       struct jinja_value *ret)
{
    static const char *const plain[] = { "split",      "rsplit",     "splitlines", "partition",
                                         "rpartition", "startswith", "endswith",   "find",
                                         "rfind",      "index",      "rindex",     "count",
                                         NULL };
    struct call escaped = *c;
    struct jinja_value *args = arena_array(&r->arena, struct jinja_value, c->count);
    struct jinja_value *keywords = arena_array(&r->arena, struct jinja_value, c->keyword_count);
    if (!args || !keywords)
        return run_nomem(r);
    bool keep = is_one_of(bytes_text(f->builtin->name), plain);
    int code = 0;
    for (int i = 0; !code && i < c->count; i++) {
        args[i] = c->args[i];
        if (!keep && is_string(args[i]))
            code = string_escape(r, args[i], &args[i]);
    }
    for (int i = 0; !code && i < c->keyword_count; i++) {
        keywords[i] = c->keywords[i];
        if (!keep && is_string(keywords[i]))
            code = string_escape(r, keywords[i], &keywords[i]);
    }
    escaped.args = args;
    escaped.keywords = keywords;
    if (!code)
        code = call_builtin(r, f->builtin, f->self, &escaped, ret);
    if (code)
        return code;
    if (is_string(*ret))
        ret->flavour = 1;
    for (size_t i = 0; is_items(*ret) && i < ret->as.list->count; i++)
        if (is_string(ret->as.list->items[i]))
            ret->as.list->items[i].flavour = 1;
    return 0;
}

int call_value(struct run *r, struct jinja_value f, const struct call *c, struct jinja_value *ret)
{
    switch (f.kind) {
    case JINJA_UNDEFINED:
        return undefined_fail(r, f);
    case JINJA_FUNCTION:
        if (is_markup(f.as.function->self))
            return call_markup(r, f.as.function, c, ret);
        return call_builtin(r, f.as.function->builtin, f.as.function->self, c, ret);
    case JINJA_MACRO:
        return r->calls->macro(r, f.as.macro, c, ret);
    case JINJA_LOOP:
        if (c->count != 1 || c->keyword_count)
            return run_fail(r, FAIL_FORMAT, "a loop is called with one argument");
        return r->calls->loop(r, f.as.loop, c->args[0], ret);
    case JINJA_JOINER:
        *ret = f.as.cell->used ? f.as.cell->separator : string_const("");
        f.as.cell->used = true;
        return 0;
    default:
        return run_fail(r, FAIL_FORMAT, "'%s' object is not callable", type_name(f));
    }
}

/* ---- global functions ---- */

METHOD(global_range)
{
    int64_t v[3] = { 0, 0, 1 };
    int n = is_absent(arg[1]) ? 1 : is_absent(arg[2]) ? 2 : 3;
    for (int i = 0; i < n; i++) {
        if (!is_integral(arg[i])) {
            if (arg[i].kind == JINJA_UNDEFINED)
                return undefined_fail(r, arg[i]);
            return run_fail(r, FAIL_FORMAT, "'%s' object cannot be interpreted as an integer",
                            type_name(arg[i]));
        }
        v[n == 1 ? 1 : i] = as_int(arg[i]);
    }
    if (v[2] == 0)
        return run_fail(r, FAIL_FORMAT, "range() arg 3 must not be zero");
    uint64_t span = v[2] > 0 ? (v[1] > v[0] ? (uint64_t)v[1] - (uint64_t)v[0] : 0)
                             : (v[0] > v[1] ? (uint64_t)v[0] - (uint64_t)v[1] : 0);
    uint64_t step = v[2] > 0 ? (uint64_t)v[2] : 0 - (uint64_t)v[2];
    uint64_t count = span / step + (span % step != 0);
    if (count > (uint64_t)r->j->limits.range)
        return run_fail(r, FAIL_LIMIT, "Range too big. The sandbox blocks ranges larger than %lld.",
                        (long long)r->j->limits.range);
    struct jinja_value out;
    int code = list_new(r, JINJA_RANGE, (size_t)count, &out);
    for (uint64_t i = 0; !code && i < count; i++)
        code = list_add(r, &out, jinja_int((int64_t)((uint64_t)v[0] + i * (uint64_t)v[2])));
    if (!code) {
        memcpy(out.as.list->range, v, sizeof(v));
        *ret = out;
    }
    return code;
}

/* Adds the pairs of a dict or of an iterable of pairs, then the keywords. */
static int fill_dict(struct run *r, struct jinja_value from, const struct call *c,
                     struct jinja_value *dict)
{
    const struct jinja_value *items = NULL, *pair;
    size_t count = 0, two;
    int code = 0;
    if (from.kind == JINJA_DICT || from.kind == JINJA_NAMESPACE) {
        for (size_t i = 0; !code && i < from.as.dict->count; i++)
            code = dict_put(r, dict, from.as.dict->entries[i].key, from.as.dict->entries[i].value);
    } else if (!is_absent(from)) {
        code = value_items(r, from, &items, &count);
    }
    for (size_t i = 0; !code && i < count; i++) {
        code = value_items(r, items[i], &pair, &two);
        if (!code && two != 2)
            return run_fail(r, FAIL_FORMAT, "a dict is made of pairs, not of %zu values", two);
        if (!code)
            code = dict_put(r, dict, pair[0], pair[1]);
    }
    for (int i = 0; !code && i < c->keyword_count; i++) {
        struct jinja_value key;
        code = call_name(r, c, i, &key);
        if (!code)
            code = dict_put(r, dict, key, c->keywords[i]);
    }
    return code;
}

METHOD(global_dict)
{
    struct jinja_value dict;
    if (more->count > 1)
        return run_fail(r, FAIL_FORMAT, "dict expected at most 1 argument, got %d", more->count);
    int code = dict_new(r, 0, &dict);
    if (!code)
        code = fill_dict(r, more->count ? more->args[0] : (struct jinja_value){ JINJA_ABSENT },
                         more, &dict);
    if (!code)
        *ret = dict;
    return code;
}

METHOD(global_namespace)
{
    int code = global_dict(r, self, arg, more, ret);
    if (!code)
        ret->kind = JINJA_NAMESPACE;
    return code;
}

static int cell_new(struct run *r, enum jinja_kind kind, struct jinja_value *ret)
{
    struct jinja_cell *c = arena_alloc(&r->arena, sizeof(*c));
    if (!c)
        return run_nomem(r);
    *ret = (struct jinja_value){ .kind = (uint8_t)kind, .as.cell = c };
    return 0;
}

METHOD(global_cycler)
{
    struct jinja_value list;
    if (!more->count)
        return run_fail(r, FAIL_FORMAT, "at least one item has to be provided");
    int code = list_new(r, JINJA_LIST, (size_t)more->count, &list);
    for (int i = 0; !code && i < more->count; i++)
        code = list_add(r, &list, more->args[i]);
    if (!code)
        code = cell_new(r, JINJA_CYCLER, ret);
    if (!code)
        ret->as.cell->items = list.as.list;
    return code;
}

METHOD(global_joiner)
{
    int code = cell_new(r, JINJA_JOINER, ret);
    if (!code)
        ret->as.cell->separator = is_absent(arg[0]) ? string_const(", ") : arg[0];
    return code;
}

METHOD(global_raise_exception)
{
    struct jinja_value text;
    int code = value_to_string(r, arg[0], &text);
    if (code)
        return code;
    return run_fail(r, FAIL_ARG, "%.*s", (int)(text.size > 400 ? 400 : text.size), text.as.text);
}

METHOD(global_strftime_now)
{
    if (!is_string(arg[0]))
        return run_fail(r, FAIL_FORMAT, "strftime_now takes a format");
    const struct jinja_clock *now = r->context ? r->context->now : NULL;
    if (!now)
        return run_fail(r, FAIL_STATE, "no time was given to the template");
    return format_time(r, arg[0], now, ret);
}

const struct builtin *find_global(struct bytes name)
{
    static const struct builtin globals[] = {
        { "range", global_range, "- - -", 1 },
        { "dict", global_dict, "*", 0 },
        { "namespace", global_namespace, "*", 0 },
        { "cycler", global_cycler, "*", 0 },
        { "joiner", global_joiner, "sep", 0 },
        { "raise_exception", global_raise_exception, "message", 1 },
        { "strftime_now", global_strftime_now, "format", 1 },
        { NULL, NULL, NULL, 0 },
    };
    return find_builtin(globals, name);
}
