/* Expressions: names, calls, filters, tests and operators. */
#include "jinja/internal.h"

struct frame *frame_push(struct run *r, struct frame *parent)
{
    struct frame *f = arena_alloc(&r->arena, sizeof(*f));
    if (!f) {
        run_nomem(r);
        return NULL;
    }
    f->parent = parent;
    return f;
}

int frame_set(struct run *r, struct frame *f, struct bytes name, struct jinja_value value)
{
    for (int i = 0; i < f->count; i++)
        if (bytes_equal(f->bindings[i].name, name)) {
            f->bindings[i].value = value;
            return run_step(r, (uint64_t)i / 8);
        }
    int code = run_step(r, (uint64_t)f->count / 8);
    if (code)
        return code;
    if (f->count == f->capacity) {
        int capacity = f->capacity ? f->capacity * 2 : 4;
        struct binding *grown = arena_array(&r->arena, struct binding, capacity);
        if (!grown)
            return run_nomem(r);
        if (f->count)
            memcpy(grown, f->bindings, (size_t)f->count * sizeof(*grown));
        f->bindings = grown;
        f->capacity = capacity;
    }
    f->bindings[f->count++] = (struct binding){ .name = name, .value = value };
    return 0;
}

int name_lookup(struct run *r, struct bytes name, struct jinja_value *ret)
{
    uint64_t seen = name.size / 8;
    for (const struct frame *f = r->frame; f; f = f->parent, seen++)
        for (int i = 0; i < f->count; i++, seen++)
            if (bytes_equal(f->bindings[i].name, name)) {
                *ret = f->bindings[i].value;
                return run_step(r, seen / 8);
            }
    const struct jinja_value *global = NULL;
    int code = run_step(r, seen / 8);
    if (!code && r->globals && r->globals->kind == JINJA_DICT)
        code = dict_find_text(r, r->globals->as.dict, name, &global);
    if (global)
        *ret = *global;
    if (code || global)
        return code;
    const struct builtin *b = find_global(name);
    if (b)
        return bind_method(r, b, jinja_none(), ret);
    *ret = undefined_name(name);
    return 0;
}

/* ---- calls ---- */

static int add_dynamic(struct run *r, const struct node_args *args, struct jinja_value *values,
                       struct jinja_value dynamic, struct call *c)
{
    const struct jinja_value *more;
    size_t count;
    int code = value_items(r, dynamic, &more, &count);
    (void)args;
    for (size_t i = 0; !code && i < count; i++)
        values[c->count++] = more[i];
    return code;
}

static int eval_keywords(struct run *r, const struct node_args *args, struct call *c)
{
    struct jinja_value extra = jinja_none();
    int code = args->dynamic_keywords ? eval(r, args->dynamic_keywords, &extra) : 0;
    if (code)
        return code;
    if (args->dynamic_keywords && extra.kind != JINJA_DICT)
        return run_fail(r, FAIL_FORMAT, "argument after ** must be a mapping, not %s",
                        type_name(extra));
    size_t n = (size_t)args->keywords.count + (extra.kind == JINJA_DICT ? extra.as.dict->count : 0);
    struct bytes *names = arena_array(&r->arena, struct bytes, n);
    struct jinja_value *values = arena_array(&r->arena, struct jinja_value, n);
    uint32_t *taints = arena_array(&r->arena, uint32_t, n);
    if (!names || !values || !taints)
        return run_nomem(r);
    c->names = names;
    c->keywords = values;
    c->taints = taints;
    for (int i = 0; i < args->keywords.count; i++) {
        names[c->keyword_count] = args->names[i];
        code = eval(r, args->keywords.items[i], &values[c->keyword_count++]);
        if (code)
            return code;
    }
    for (size_t i = 0; extra.kind == JINJA_DICT && i < extra.as.dict->count; i++) {
        struct jinja_value key = extra.as.dict->entries[i].key;
        if (!is_string(key))
            return run_fail(r, FAIL_FORMAT, "keywords must be strings");
        code = run_step(r, 1 + (uint64_t)args->keywords.count * (1 + key.size / 64) / 8);
        if (code)
            return code;
        taints[c->keyword_count] = key.taint;
        for (int k = 0; k < args->keywords.count; k++)
            if (bytes_equal(names[k], string_bytes(key)))
                return run_fail(r, FAIL_FORMAT, "got multiple values for keyword argument '%.*s'",
                                BYTES_ARG(string_bytes(key)));
        names[c->keyword_count] = string_bytes(key);
        values[c->keyword_count++] = extra.as.dict->entries[i].value;
    }
    return 0;
}

/* args may be NULL: none. first, when given, goes before the others. */
int eval_args(struct run *r, const struct node_args *args, const struct jinja_value *first,
              struct call *ret)
{
    *ret = (struct call){ 0 };
    struct jinja_value dynamic = jinja_none();
    int code = args && args->dynamic ? eval(r, args->dynamic, &dynamic) : 0;
    int64_t more = 0;
    if (!code && args && args->dynamic) {
        if (!is_iterable(dynamic))
            return run_fail(r, FAIL_FORMAT, "argument after * must be an iterable, not %s",
                            type_name(dynamic));
        if (dynamic.kind == JINJA_ITERATOR)
            more = (int64_t)(dynamic.as.list->count - dynamic.as.list->next);
        else
            code = value_length(r, dynamic, &more);
    }
    if (code)
        return code;
    size_t n = (size_t)more + (args ? (size_t)args->positional.count : 0) + (first != NULL);
    struct jinja_value *values = arena_array(&r->arena, struct jinja_value, n);
    if (!values)
        return run_nomem(r);
    ret->args = values;
    if (first)
        values[ret->count++] = *first;
    for (int i = 0; args && i < args->positional.count; i++) {
        code = eval(r, args->positional.items[i], &values[ret->count++]);
        if (code)
            return code;
    }
    if (args && args->dynamic)
        code = add_dynamic(r, args, values, dynamic, ret);
    if (!code && args && (args->keywords.count || args->dynamic_keywords))
        code = eval_keywords(r, args, ret);
    return code;
}

static int eval_call(struct run *r, const struct node *n, struct jinja_value *ret)
{
    struct jinja_value callee;
    struct call c;
    int code = eval(r, n->a, &callee);
    if (!code)
        code = eval_args(r, n->args, NULL, &c);
    r->at = n->a->at;
    return code ? code : call_value(r, callee, &c, ret);
}

static int eval_filter(struct run *r, const struct node *n, struct jinja_value *ret)
{
    struct jinja_value input;
    struct call c;
    int code = eval(r, n->a, &input);
    if (!code)
        code = eval_args(r, n->args, NULL, &c);
    r->at = n->at;
    return code ? code : apply_filter(r, n->name, input, &c, ret);
}

static int eval_test(struct run *r, const struct node *n, struct jinja_value *ret)
{
    struct jinja_value input;
    struct call c;
    bool is;
    int code = eval(r, n->a, &input);
    if (!code)
        code = eval_args(r, n->args, NULL, &c);
    r->at = n->at;
    if (!code)
        code = apply_test(r, n->name, input, &c, &is);
    if (!code)
        *ret = jinja_bool(is);
    return code;
}

/* ---- literals and operators ---- */

static int eval_list(struct run *r, const struct node *n, struct jinja_value *ret)
{
    struct jinja_value list, item;
    int code =
        list_new(r, n->kind == NODE_LIST ? JINJA_LIST : JINJA_TUPLE, (size_t)n->list.count, &list);
    for (int i = 0; !code && i < n->list.count; i++) {
        code = eval(r, n->list.items[i], &item);
        if (!code)
            code = list_add(r, &list, item);
    }
    if (!code)
        *ret = list;
    return code;
}

static int eval_dict(struct run *r, const struct node *n, struct jinja_value *ret)
{
    struct jinja_value dict, key, value;
    int code = dict_new(r, (size_t)n->list.count / 2, &dict);
    for (int i = 0; !code && i + 1 < n->list.count; i += 2) {
        code = eval(r, n->list.items[i], &key);
        if (!code)
            code = eval(r, n->list.items[i + 1], &value);
        if (!code)
            code = dict_put(r, &dict, key, value);
    }
    if (!code)
        *ret = dict;
    return code;
}

static int eval_item(struct run *r, const struct node *n, struct jinja_value *ret)
{
    struct jinja_value of, key, part[3];
    int code = eval(r, n->a, &of);
    if (!code && n->b->kind == NODE_SLICE) {
        const struct node *parts[3] = { n->b->a, n->b->b, n->b->c };
        for (int i = 0; !code && i < 3; i++) {
            part[i] = jinja_none();
            if (parts[i])
                code = eval(r, parts[i], &part[i]);
        }
        r->at = n->at;
        return code ? code : get_slice(r, of, part, ret);
    }
    if (!code)
        code = eval(r, n->b, &key);
    r->at = n->at;
    return code ? code : get_item(r, of, key, ret);
}

static int eval_logic(struct run *r, const struct node *n, struct jinja_value *ret)
{
    bool is;
    int code = eval(r, n->a, ret);
    if (code)
        return code;
    is = truth(*ret);
    if (n->kind == NODE_NOT)
        *ret = jinja_bool(!is);
    else if (is == (n->kind == NODE_AND))
        code = eval(r, n->b, ret);
    return code;
}

static int eval_compare(struct run *r, const struct node *n, struct jinja_value *ret)
{
    struct jinja_value left, right;
    bool is = true;
    int code = eval(r, n->a, &left);
    for (int i = 0; !code && is && i < n->list.count; i++) {
        const struct node *operand = n->list.items[i];
        code = eval(r, operand->a, &right);
        r->at = n->at;
        if (code)
            return code;
        if (operand->op == OP_IN || operand->op == OP_NOT_IN) {
            code = value_contains(r, right, left, &is);
            is = is == (operand->op == OP_IN);
        } else {
            code = value_relation(r, left, right, operand->op, &is);
        }
        left = right;
    }
    if (!code)
        *ret = jinja_bool(is);
    return code;
}

static int eval_concat(struct run *r, const struct node *n, struct jinja_value *ret)
{
    struct text t = { 0 };
    struct jinja_value v;
    int code = 0;
    for (int i = 0; !code && i < n->list.count; i++) {
        code = eval(r, n->list.items[i], &v);
        if (!code)
            code = value_str(r, &t, v);
    }
    return code ? code : text_value(r, &t, ret);
}

static int eval_binary(struct run *r, const struct node *n, struct jinja_value *ret)
{
    struct jinja_value a, b;
    int code = eval(r, n->a, &a);
    if (!code)
        code = eval(r, n->b, &b);
    r->at = n->at;
    return code ? code : binary_op(r, n->op, a, b, ret);
}

static int eval_unary(struct run *r, const struct node *n, struct jinja_value *ret)
{
    struct jinja_value v;
    int code = eval(r, n->a, &v);
    r->at = n->at;
    if (code)
        return code;
    if (v.kind == JINJA_UNDEFINED)
        return undefined_fail(r, v);
    if (!is_number(v))
        return run_fail(r, FAIL_FORMAT, "bad operand type for unary %c: '%s'",
                        n->op == OP_SUB ? '-' : '+', type_name(v));
    if (v.kind == JINJA_FLOAT)
        *ret = jinja_float(n->op == OP_SUB ? -v.as.real : v.as.real);
    else if (n->op == OP_SUB && as_int(v) == INT64_MIN)
        return run_fail(r, FAIL_FORMAT, "integer of more than 64 bits");
    else
        *ret = jinja_int(n->op == OP_SUB ? -as_int(v) : as_int(v));
    return 0;
}

static int eval_condition(struct run *r, const struct node *n, struct jinja_value *ret)
{
    struct jinja_value v;
    bool is;
    int code = eval(r, n->b, &v);
    if (code)
        return code;
    is = truth(v);
    if (is)
        return eval(r, n->a, ret);
    if (n->c)
        return eval(r, n->c, ret);
    *ret = undefined_hint("the inline if-expression evaluated to false and no else section was "
                          "defined");
    return 0;
}

static int eval_attribute(struct run *r, const struct node *n, struct jinja_value *ret)
{
    struct jinja_value of;
    int code = eval(r, n->a, &of);
    r->at = n->at;
    return code ? code : get_attribute(r, of, n->name, ret);
}

static int eval_node(struct run *r, const struct node *n, struct jinja_value *ret)
{
    switch (n->kind) {
    case NODE_CONST:
        *ret = n->value;
        return 0;
    case NODE_NAME:
        return name_lookup(r, n->name, ret);
    case NODE_LIST:
    case NODE_TUPLE:
        return eval_list(r, n, ret);
    case NODE_DICT:
        return eval_dict(r, n, ret);
    case NODE_ATTRIBUTE:
        return eval_attribute(r, n, ret);
    case NODE_ITEM:
        return eval_item(r, n, ret);
    case NODE_CALL:
        return eval_call(r, n, ret);
    case NODE_FILTER:
        return eval_filter(r, n, ret);
    case NODE_TEST:
        return eval_test(r, n, ret);
    case NODE_UNARY:
        return eval_unary(r, n, ret);
    case NODE_BINARY:
        return eval_binary(r, n, ret);
    case NODE_AND:
    case NODE_OR:
    case NODE_NOT:
        return eval_logic(r, n, ret);
    case NODE_COMPARE:
        return eval_compare(r, n, ret);
    case NODE_CONCAT:
        return eval_concat(r, n, ret);
    case NODE_CONDITION:
        return eval_condition(r, n, ret);
    case NODE_SLICE:
        return run_fail(r, FAIL_FORMAT, "a slice can't stand in a tuple of indices");
    default:
        return run_fail(r, FAIL_FORMAT, "not an expression");
    }
}

int eval(struct run *r, const struct node *n, struct jinja_value *ret)
{
    r->at = n->at;
    int code = run_step(r, 1);
    if (!code)
        code = run_enter(r);
    else
        r->depth++;
    if (!code)
        code = eval_node(r, n, ret);
    run_leave(r);
    return code;
}
