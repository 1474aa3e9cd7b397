/* Filters that apply other filters and tests, and the tables of filters and tests. Source: Jinja
 * documentation, "List of Builtin Filters" and "List of Builtin Tests". */
#include "jinja/internal.h"

#define BUILTIN(name)                                                                              \
    static int name(struct run *r, struct jinja_value self, const struct jinja_value *arg,         \
                    const struct call *more, struct jinja_value *ret)

/* The call without its first n arguments. */
static struct call rest_of(const struct call *c, int n)
{
    struct call rest = *c;
    rest.args += n;
    rest.count -= n;
    return rest;
}

static int keyword(const struct call *c, const char *name)
{
    for (int i = 0; i < c->keyword_count; i++)
        if (bytes_equal_text(c->names[i], name))
            return i;
    return -1;
}

/* What can't be iterated but counts as false is empty here: none, 0. */
static int picked_items(struct run *r, struct jinja_value v, const struct jinja_value **items,
                        size_t *count)
{
    *items = NULL;
    *count = 0;
    return truth(v) ? value_items(r, v, items, count) : 0;
}

int apply_filter(struct run *r, struct bytes name, struct jinja_value input, const struct call *c,
                 struct jinja_value *ret)
{
    const struct builtin *b = find_filter(name);
    if (!b)
        return run_fail(r, FAIL_FORMAT, "no filter named '%.*s'", BYTES_ARG(name));
    return call_builtin(r, b, input, c, ret);
}

static int map_item(struct run *r, struct jinja_value item, const struct call *c,
                    struct jinja_value *ret)
{
    int attribute = keyword(c, "attribute"), missing = keyword(c, "default");
    if (c->count || attribute < 0) {
        struct call rest = rest_of(c, 1);
        return apply_filter(r, string_bytes(c->args[0]), item, &rest, ret);
    }
    return get_path(r, item, c->keywords[attribute], missing >= 0 ? &c->keywords[missing] : NULL,
                    ret);
}

BUILTIN(filter_map)
{
    const struct jinja_value *items;
    size_t count;
    struct jinja_value out = jinja_none(), v;
    bool attribute = !more->count && keyword(more, "attribute") >= 0;
    if (!attribute && (!more->count || !is_string(more->args[0])))
        return run_fail(r, FAIL_FORMAT, "map requires a filter argument");
    for (int i = 0; attribute && i < more->keyword_count; i++)
        if (!bytes_equal_text(more->names[i], "attribute") &&
            !bytes_equal_text(more->names[i], "default"))
            return run_fail(r, FAIL_FORMAT, "Unexpected keyword argument '%.*s'",
                            BYTES_ARG(more->names[i]));
    int code = iterator_new(r, "generator", 0, &out);
    if (!code)
        code = picked_items(r, self, &items, &count);
    for (size_t i = 0; !code && i < count; i++) {
        code = map_item(r, items[i], more, &v);
        if (!code)
            code = list_add(r, &out, v);
    }
    return iterator_done(r, code, out, ret);
}

int apply_test(struct run *r, struct bytes name, struct jinja_value input, const struct call *c,
               bool *ret)
{
    const struct builtin *b = find_test(name);
    if (!b)
        return run_fail(r, FAIL_FORMAT, "no test named '%.*s'", BYTES_ARG(name));
    struct jinja_value v;
    int code = call_builtin(r, b, input, c, &v);
    if (!code)
        *ret = truth(v);
    return code;
}

/* select and reject, of items or of an attribute of theirs. */
static int pick(struct run *r, struct jinja_value self, const struct call *c, bool attribute,
                bool want, struct jinja_value *ret)
{
    const struct jinja_value *items;
    size_t count;
    struct jinja_value out = jinja_none(), v;
    int skip = attribute ? 1 : 0;
    if (c->count < skip)
        return run_fail(r, FAIL_FORMAT, "Missing parameter for attribute name");
    struct call rest = rest_of(c, skip);
    bool test = rest.count > 0;
    if (test && !is_string(rest.args[0]))
        return run_fail(r, FAIL_FORMAT, "the name of a test must be a string");
    struct bytes name = test ? string_bytes(rest.args[0]) : bytes_text("");
    if (test)
        rest = rest_of(&rest, 1);
    int code = iterator_new(r, "generator", 0, &out);
    if (!code)
        code = picked_items(r, self, &items, &count);
    for (size_t i = 0; !code && i < count; i++) {
        bool is = false;
        v = items[i];
        if (attribute)
            code = get_path(r, items[i], c->args[0], NULL, &v);
        if (!code && test)
            code = apply_test(r, name, v, &rest, &is);
        else if (!code)
            is = truth(v);
        if (!code && is == want)
            code = list_add(r, &out, items[i]);
    }
    return iterator_done(r, code, out, ret);
}

BUILTIN(filter_select)
{
    return pick(r, self, more, false, true, ret);
}

BUILTIN(filter_reject)
{
    return pick(r, self, more, false, false, ret);
}

BUILTIN(filter_selectattr)
{
    return pick(r, self, more, true, true, ret);
}

BUILTIN(filter_rejectattr)
{
    return pick(r, self, more, true, false, ret);
}

BUILTIN(filter_default)
{
    bool use =
        self.kind == JINJA_UNDEFINED || (!is_absent(arg[1]) && truth(arg[1]) && !truth(self));
    *ret = !use ? self : is_absent(arg[0]) ? string_const("") : arg[0];
    return 0;
}

/* Attributes only: a dict's keys are none. */
BUILTIN(filter_attr)
{
    struct jinja_value name = arg[0];
    if (!is_string(name))
        return run_fail(r, FAIL_FORMAT, "attribute name must be string, not '%s'", type_name(name));
    struct jinja_value empty = self;
    struct jinja_dict none = { 0 };
    if (self.kind == JINJA_DICT)
        empty.as.dict = &none;
    int code = get_attribute(r, empty, string_bytes(name), ret);
    if (!code && self.kind == JINJA_DICT && ret->kind == JINJA_FUNCTION)
        code = get_attribute(r, self, string_bytes(name), ret);
    return code;
}

static const struct builtin pick_filters[] = {
    { "map", filter_map, "*", 0 },
    { "select", filter_select, "*", 0 },
    { "reject", filter_reject, "*", 0 },
    { "selectattr", filter_selectattr, "*", 0 },
    { "rejectattr", filter_rejectattr, "*", 0 },
    { "default", filter_default, "default_value boolean", 0 },
    { "d", filter_default, "default_value boolean", 0 },
    { "attr", filter_attr, "name", 1 },
    { NULL, NULL, NULL, 0 },
};

const struct builtin *find_filter(struct bytes name)
{
    const struct builtin *b = find_builtin(pick_filters, name);
    if (!b)
        b = find_builtin(jinja_text_filters, name);
    return b ? b : find_builtin(jinja_list_filters, name);
}

/* ---- tests ---- */

#define TEST(name, expression)                                                                     \
    BUILTIN(name)                                                                                  \
    {                                                                                              \
        *ret = jinja_bool(expression);                                                             \
        return 0;                                                                                  \
    }
TEST(test_defined, self.kind != JINJA_UNDEFINED)
TEST(test_undefined, self.kind == JINJA_UNDEFINED)
TEST(test_none, self.kind == JINJA_NONE)
TEST(test_boolean, self.kind == JINJA_BOOL)
TEST(test_true, self.kind == JINJA_BOOL && self.as.boolean)
TEST(test_false, self.kind == JINJA_BOOL && !self.as.boolean)
TEST(test_integer, self.kind == JINJA_INT)
TEST(test_float, self.kind == JINJA_FLOAT)
TEST(test_number, is_number(self))
TEST(test_string, is_string(self))
TEST(test_mapping, self.kind == JINJA_DICT)
TEST(test_iterable, is_iterable(self))
TEST(test_sequence, is_string(self) || self.kind == JINJA_LIST || self.kind == JINJA_TUPLE ||
                        self.kind == JINJA_DICT || self.kind == JINJA_RANGE ||
                        self.kind == JINJA_UNDEFINED)
TEST(test_callable, self.kind == JINJA_FUNCTION || self.kind == JINJA_MACRO ||
                        self.kind == JINJA_LOOP || self.kind == JINJA_JOINER ||
                        self.kind == JINJA_UNDEFINED)
TEST(test_escaped, is_markup(self))
#undef TEST

BUILTIN(test_filter)
{
    *ret = jinja_bool(is_string(self) && find_filter(string_bytes(self)));
    return need_hashable(r, self);
}

BUILTIN(test_test)
{
    *ret = jinja_bool(is_string(self) && find_test(string_bytes(self)));
    return need_hashable(r, self);
}

/* Python's `is`: for texts and numbers, which have no identity here, equality of one kind. */
BUILTIN(test_sameas)
{
    bool same = self.kind == arg[0].kind;
    if (same && (self.kind <= JINJA_STRING)) {
        int code = value_equal(r, self, arg[0], &same);
        if (code)
            return code;
    } else if (same) {
        same = self.as.list == arg[0].as.list;
    }
    *ret = jinja_bool(same);
    return 0;
}

static int remainder_is(struct run *r, struct jinja_value v, struct jinja_value by, int64_t want,
                        struct jinja_value *ret)
{
    struct jinja_value rest;
    bool is;
    int code = binary_op(r, OP_MOD, v, by, &rest);
    if (!code)
        code = value_equal(r, rest, jinja_int(want), &is);
    if (!code)
        *ret = jinja_bool(is);
    return code;
}

BUILTIN(test_odd)
{
    return remainder_is(r, self, jinja_int(2), 1, ret);
}

BUILTIN(test_even)
{
    return remainder_is(r, self, jinja_int(2), 0, ret);
}

BUILTIN(test_divisibleby)
{
    return remainder_is(r, self, arg[0], 0, ret);
}

static int case_test(struct run *r, struct jinja_value self, const char *method,
                     struct jinja_value *ret)
{
    bool unsafe = false;
    int code = value_to_string(r, self, &self);
    const struct call none = { 0 };
    return code ? code
                : call_builtin(r, find_method(self, bytes_text(method), &unsafe), self, &none, ret);
}

BUILTIN(test_lower)
{
    return case_test(r, self, "islower", ret);
}

BUILTIN(test_upper)
{
    return case_test(r, self, "isupper", ret);
}

BUILTIN(test_in)
{
    bool is;
    int code = value_contains(r, arg[0], self, &is);
    if (!code)
        *ret = jinja_bool(is);
    return code;
}

#define RELATION(name, op)                                                                         \
    BUILTIN(name)                                                                                  \
    {                                                                                              \
        bool is;                                                                                   \
        int code = value_relation(r, self, arg[0], op, &is);                                       \
        if (!code)                                                                                 \
            *ret = jinja_bool(is);                                                                 \
        return code;                                                                               \
    }
RELATION(test_eq, OP_EQ)
RELATION(test_ne, OP_NE)
RELATION(test_lt, OP_LT)
RELATION(test_le, OP_LE)
RELATION(test_gt, OP_GT)
RELATION(test_ge, OP_GE)
#undef RELATION

const struct builtin *find_test(struct bytes name)
{
    static const struct builtin tests[] = {
        { "defined", test_defined, "", 0 },
        { "undefined", test_undefined, "", 0 },
        { "none", test_none, "", 0 },
        { "boolean", test_boolean, "", 0 },
        { "true", test_true, "", 0 },
        { "false", test_false, "", 0 },
        { "integer", test_integer, "", 0 },
        { "float", test_float, "", 0 },
        { "number", test_number, "", 0 },
        { "string", test_string, "", 0 },
        { "mapping", test_mapping, "", 0 },
        { "iterable", test_iterable, "", 0 },
        { "sequence", test_sequence, "", 0 },
        { "callable", test_callable, "", 0 },
        { "filter", test_filter, "", 0 },
        { "test", test_test, "", 0 },
        { "escaped", test_escaped, "", 0 },
        { "sameas", test_sameas, "other", 1 },
        { "odd", test_odd, "", 0 },
        { "even", test_even, "", 0 },
        { "divisibleby", test_divisibleby, "num", 1 },
        { "lower", test_lower, "", 0 },
        { "upper", test_upper, "", 0 },
        { "in", test_in, "seq", 1 },
        { "==", test_eq, "-", 1 },
        { "eq", test_eq, "-", 1 },
        { "equalto", test_eq, "-", 1 },
        { "!=", test_ne, "-", 1 },
        { "ne", test_ne, "-", 1 },
        { ">", test_gt, "-", 1 },
        { "gt", test_gt, "-", 1 },
        { "greaterthan", test_gt, "-", 1 },
        { ">=", test_ge, "-", 1 },
        { "ge", test_ge, "-", 1 },
        { "<", test_lt, "-", 1 },
        { "lt", test_lt, "-", 1 },
        { "lessthan", test_lt, "-", 1 },
        { "<=", test_le, "-", 1 },
        { "le", test_le, "-", 1 },
        { NULL, NULL, NULL, 0 },
    };
    return find_builtin(tests, name);
}
