/* Statements, loops, macros, and the entry of a rendering. */
#include "jinja/internal.h"

enum flow { FLOW_ON, FLOW_BREAK, FLOW_CONTINUE };

static int assign(struct run *r, const struct node *target, struct jinja_value value);

static int assign_namespace(struct run *r, const struct node *target, struct jinja_value value)
{
    struct jinja_value ns;
    int code = name_lookup(r, target->name, &ns);
    if (code)
        return code;
    if (ns.kind != JINJA_NAMESPACE)
        return run_fail(r, FAIL_FORMAT, "cannot assign attribute on non-namespace object");
    struct jinja_value dict = ns;
    return dict_put(r, &dict, target->value, value);
}

static int assign_tuple(struct run *r, const struct node *target, struct jinja_value value)
{
    const struct jinja_value *items;
    size_t count, want = (size_t)target->list.count;
    if (!is_iterable(value))
        return run_fail(r, FAIL_FORMAT, "cannot unpack non-iterable %s object", type_name(value));
    int code = value_items(r, value, &items, &count);
    if (code)
        return code;
    if (count < want)
        return run_fail(r, FAIL_FORMAT, "not enough values to unpack (expected %zu, got %zu)", want,
                        count);
    if (count > want)
        return run_fail(r, FAIL_FORMAT, "too many values to unpack (expected %zu)", want);
    for (size_t i = 0; !code && i < want; i++)
        code = assign(r, target->list.items[i], items[i]);
    return code;
}

static int assign(struct run *r, const struct node *target, struct jinja_value value)
{
    r->at = target->at;
    if (target->kind == NODE_NAME)
        return frame_set(r, r->frame, target->name, value);
    if (target->kind == NODE_NAMESPACE)
        return assign_namespace(r, target, value);
    return assign_tuple(r, target, value);
}

/* Runs a body in a scope of its own, and gives what it wrote. */
int run_capture(struct run *r, const struct node_list *body, struct jinja_value *ret)
{
    struct text t = { 0 };
    struct text *outer = r->out;
    struct frame *frame = r->frame;
    int flow = FLOW_ON;
    r->frame = frame_push(r, frame);
    if (!r->frame) {
        r->frame = frame;
        return FAIL_LIMIT;
    }
    r->out = &t;
    int code = exec_body(r, body, &flow);
    r->out = outer;
    r->frame = frame;
    return code ? code : text_value(r, &t, ret);
}

/* ---- loops ---- */

static int loop_filter(struct run *r, const struct node *n, struct frame *outer,
                       const struct jinja_value **items, size_t *count)
{
    struct jinja_value *kept = arena_array(&r->arena, struct jinja_value, *count);
    size_t n_kept = 0;
    int code = 0;
    if (!kept)
        return run_nomem(r);
    for (size_t i = 0; !code && i < *count; i++) {
        struct jinja_value v;
        bool is = false;
        r->frame = frame_push(r, outer);
        if (!r->frame) {
            r->frame = outer;
            return FAIL_LIMIT;
        }
        code = frame_set(r, r->frame, bytes_text("loop"), undefined_name(bytes_text("loop")));
        if (!code)
            code = assign(r, n->a, (*items)[i]);
        if (!code)
            code = eval(r, n->c, &v);
        if (!code)
            is = truth(v);
        if (is)
            kept[n_kept++] = (*items)[i];
    }
    r->frame = outer;
    *items = kept;
    *count = n_kept;
    return code;
}

static int loop_pass(struct run *r, struct jinja_loop *loop, int *flow)
{
    const struct node *n = loop->node;
    r->frame = frame_push(r, loop->frame);
    if (!r->frame) {
        r->frame = loop->frame;
        return FAIL_LIMIT;
    }
    int code = frame_set(r, r->frame, bytes_text("loop"), loop->view);
    if (!code)
        code = assign(r, n->a, loop->items[loop->index]);
    if (!code)
        code = exec_body(r, &n->body, flow);
    r->frame = loop->frame;
    return code;
}

static int loop_else(struct run *r, const struct node *n, int *flow)
{
    struct frame *outer = r->frame;
    r->frame = frame_push(r, outer);
    int code = r->frame ? exec_body(r, &n->orelse, flow) : FAIL_LIMIT;
    r->frame = outer;
    return code;
}

/* r->frame is the scope around the loop. flow: a break or continue of the loop's else part. */
static int run_loop(struct run *r, const struct node *n, struct jinja_value over, int depth,
                    int *flow)
{
    struct jinja_loop *loop = arena_alloc(&r->arena, sizeof(*loop));
    if (!loop)
        return run_nomem(r);
    *loop = (struct jinja_loop){
        .node = n, .frame = r->frame, .depth = depth, .changed = { .kind = JINJA_ABSENT }
    };
    loop->view = (struct jinja_value){ .kind = JINJA_LOOP, .as.loop = loop };
    r->at = n->b->at;
    int code = value_items(r, over, &loop->items, &loop->count);
    if (!code && n->c)
        code = loop_filter(r, n, loop->frame, &loop->items, &loop->count);
    int inner = FLOW_ON;
    for (; !code && inner != FLOW_BREAK && loop->index < loop->count; loop->index++) {
        inner = FLOW_ON;
        code = run_step(r, 1);
        if (!code)
            code = loop_pass(r, loop, &inner);
        if (inner == FLOW_BREAK)
            break;
    }
    r->frame = loop->frame;
    if (!code && !loop->count && n->orelse.count)
        code = loop_else(r, n, flow);
    return code;
}

/* loop(items) of a recursive loop. */
static int loop_call(struct run *r, struct jinja_loop *loop, struct jinja_value items,
                     struct jinja_value *ret)
{
    if (!loop->node->recursive)
        return run_fail(r, FAIL_FORMAT, "the loop must have the 'recursive' marker to be called");
    struct text t = { 0 };
    struct text *outer = r->out;
    struct frame *frame = r->frame;
    int flow = FLOW_ON, code = run_enter(r);
    r->out = &t;
    r->frame = loop->frame;
    if (!code)
        code = run_loop(r, loop->node, items, loop->depth + 1, &flow);
    r->out = outer;
    r->frame = frame;
    run_leave(r);
    return code ? code : text_value(r, &t, ret);
}

/* ---- macros ---- */

static int macro_keyword(const struct call *c, struct bytes name)
{
    for (int i = 0; i < c->keyword_count; i++)
        if (bytes_equal(c->names[i], name))
            return i;
    return -1;
}

static int add_keyword(struct run *r, struct jinja_value *kwargs, const struct call *c, int i)
{
    struct jinja_value name;
    int code = call_name(r, c, i, &name);
    return code ? code : dict_put(r, kwargs, name, c->keywords[i]);
}

/* What no parameter takes: varargs, kwargs and caller, or an error. */
static int macro_rest(struct run *r, const struct jinja_macro *m, const struct call *c)
{
    const struct node_list *params = &m->node->list;
    struct jinja_value varargs, kwargs, caller = undefined_hint("no caller defined");
    int code = list_new(r, JINJA_TUPLE, 0, &varargs);
    if (!code)
        code = dict_new(r, 0, &kwargs);
    if (!code && c->count > params->count && !(m->node->uses & USES_VARARGS))
        return run_fail(r, FAIL_FORMAT, "macro '%.*s' takes not more than %d argument(s)",
                        BYTES_ARG(m->name), params->count);
    for (int i = params->count; !code && i < c->count; i++)
        code = list_add(r, &varargs, c->args[i]);
    for (int i = 0; !code && i < c->keyword_count; i++) {
        bool param = false;
        code = run_step(r, 1 + (uint64_t)params->count * (1 + c->names[i].size / 64) / 8);
        if (code)
            return code;
        for (int k = 0; k < params->count; k++)
            param = param || bytes_equal(params->items[k]->name, c->names[i]);
        if (param)
            continue;
        if (bytes_equal_text(c->names[i], "caller") && m->node->uses & USES_CALLER)
            caller = c->keywords[i];
        else if (m->node->uses & USES_KWARGS)
            code = add_keyword(r, &kwargs, c, i);
        else
            return run_fail(r, FAIL_FORMAT, "macro '%.*s' takes no keyword argument '%.*s'",
                            BYTES_ARG(m->name), BYTES_ARG(c->names[i]));
    }
    if (!code && m->node->uses & USES_VARARGS)
        code = frame_set(r, r->frame, bytes_text("varargs"), varargs);
    if (!code && m->node->uses & USES_KWARGS)
        code = frame_set(r, r->frame, bytes_text("kwargs"), kwargs);
    if (!code && m->node->uses & USES_CALLER)
        code = frame_set(r, r->frame, bytes_text("caller"), caller);
    return code;
}

static int macro_bind(struct run *r, const struct jinja_macro *m, const struct call *c)
{
    const struct node_list *params = &m->node->list;
    int code = 0;
    for (int i = 0; !code && i < params->count; i++) {
        const struct node *param = params->items[i];
        int keyword = macro_keyword(c, param->name);
        struct jinja_value v = undefined_hint("a parameter of the macro was not provided");
        code = run_step(r, 1 + (uint64_t)c->keyword_count * (1 + param->name.size / 64) / 8);
        if (code)
            return code;
        if (i < c->count && keyword >= 0)
            return run_fail(r, FAIL_FORMAT, "macro '%.*s' got multiple values for '%.*s'",
                            BYTES_ARG(m->name), BYTES_ARG(param->name));
        if (i < c->count)
            v = c->args[i];
        else if (keyword >= 0)
            v = c->keywords[keyword];
        else if (param->a)
            code = eval(r, param->a, &v);
        if (!code)
            code = frame_set(r, r->frame, param->name, v);
    }
    return code;
}

/* Calls a macro or a call block; *ret is what it wrote. */
static int macro_call(struct run *r, const struct jinja_macro *m, const struct call *c,
                      struct jinja_value *ret)
{
    struct text t = { 0 };
    struct text *outer = r->out;
    struct frame *frame = r->frame;
    int flow = FLOW_ON, code = run_enter(r);
    struct frame *inner = code ? NULL : frame_push(r, m->frame);
    if (inner) {
        r->frame = inner;
        r->out = &t;
        code = macro_rest(r, m, c);
        if (!code)
            code = macro_bind(r, m, c);
        if (!code)
            code = exec_body(r, &m->node->body, &flow);
        r->out = outer;
        r->frame = frame;
    } else if (!code) {
        code = FAIL_LIMIT;
    }
    run_leave(r);
    return code ? code : text_value(r, &t, ret);
}

static int macro_value(struct run *r, const struct node *n, struct jinja_value *ret)
{
    struct jinja_macro *m = arena_alloc(&r->arena, sizeof(*m));
    if (!m)
        return run_nomem(r);
    *m = (struct jinja_macro){ .node = n, .frame = r->frame, .name = n->name };
    *ret = (struct jinja_value){ .kind = JINJA_MACRO, .as.macro = m };
    return 0;
}

/* The call with one more keyword: the block as `caller`. */
static int exec_call_block(struct run *r, const struct node *n)
{
    struct jinja_value callee, caller, v;
    struct call c;
    int code = eval(r, n->a->a, &callee);
    if (!code)
        code = eval_args(r, n->a->args, NULL, &c);
    if (!code)
        code = macro_value(r, n, &caller);
    if (code)
        return code;
    struct bytes *names = arena_array(&r->arena, struct bytes, c.keyword_count + 1);
    struct jinja_value *values = arena_array(&r->arena, struct jinja_value, c.keyword_count + 1);
    if (!names || !values)
        return run_nomem(r);
    uint32_t *taints = arena_array(&r->arena, uint32_t, c.keyword_count + 1);
    if (!taints)
        return run_nomem(r);
    for (int i = 0; i < c.keyword_count; i++) {
        names[i] = c.names[i];
        values[i] = c.keywords[i];
        taints[i] = c.taints ? c.taints[i] : 0;
    }
    names[c.keyword_count] = bytes_text("caller");
    values[c.keyword_count++] = caller;
    c.names = names;
    c.keywords = values;
    c.taints = taints;
    r->at = n->a->at;
    code = call_value(r, callee, &c, &v);
    return code ? code : value_str(r, r->out, v);
}

/* ---- other statements ---- */

/* Applies a chain of filters whose innermost input is text. */
static int filter_chain(struct run *r, const struct node *f, struct jinja_value *v)
{
    int code = f->a ? filter_chain(r, f->a, v) : 0;
    struct call c;
    if (!code)
        code = eval_args(r, f->args, NULL, &c);
    r->at = f->at;
    return code ? code : apply_filter(r, f->name, *v, &c, v);
}

static int exec_captured(struct run *r, const struct node *n)
{
    struct jinja_value v;
    int code = run_capture(r, &n->body, &v);
    if (!code && n->b)
        code = filter_chain(r, n->b, &v);
    if (code)
        return code;
    if (n->kind == NODE_SET_BLOCK)
        return assign(r, n->a, v);
    if (!is_string(v))
        return run_fail(r, FAIL_FORMAT, "a filter block must give a text, not %s", type_name(v));
    return value_str(r, r->out, v);
}

static int exec_if(struct run *r, const struct node *n, int *flow)
{
    struct jinja_value v;
    for (;;) {
        bool is;
        int code = eval(r, n->a, &v);
        if (code)
            return code;
        is = truth(v);
        if (is)
            return exec_body(r, &n->body, flow);
        if (n->orelse.count != 1 || n->orelse.items[0]->kind != NODE_IF)
            return exec_body(r, &n->orelse, flow);
        n = n->orelse.items[0];
    }
}

static int exec_scope(struct run *r, const struct node *n, int *flow)
{
    struct frame *frame = r->frame, *inner = frame_push(r, frame);
    int code = inner ? 0 : FAIL_LIMIT;
    for (int i = 0; !code && n->kind == NODE_WITH && i + 1 < n->list.count; i += 2) {
        struct jinja_value v;
        code = eval(r, n->list.items[i + 1], &v);
        if (code)
            break;
        r->frame = inner;
        code = assign(r, n->list.items[i], v);
        r->frame = frame;
    }
    /* A block sees the template's own variables, not those of the loop it stands in. */
    if (!code && n->kind == NODE_BLOCK && !n->recursive)
        inner->parent = r->top;
    if (!code && n->kind == NODE_AUTOESCAPE) {
        struct jinja_value v;
        code = eval(r, n->a, &v);
        if (!code && truth(v))
            code = run_fail(r, FAIL_UNSUPPORTED, "autoescape is not supported");
    }
    if (!code) {
        r->frame = inner;
        code = exec_body(r, &n->body, flow);
        r->frame = frame;
    }
    return code;
}

static int exec_output(struct run *r, const struct node *n)
{
    int code = 0;
    for (int i = 0; !code && i < n->list.count; i++) {
        struct jinja_value v;
        code = eval(r, n->list.items[i], &v);
        if (!code)
            code = value_str(r, r->out, v);
    }
    if (!code && r->out->size > r->j->limits.output)
        code = run_fail(r, FAIL_LIMIT, "the text has more than %zu bytes", r->j->limits.output);
    return code;
}

static int exec_set(struct run *r, const struct node *n)
{
    struct jinja_value v;
    int code = eval(r, n->b, &v);
    return code ? code : assign(r, n->a, v);
}

static int exec(struct run *r, const struct node *n, int *flow)
{
    struct jinja_value v;
    int code;
    switch (n->kind) {
    case NODE_DATA:
        return text_add(r, r->out, n->value.as.text, n->value.size);
    case NODE_OUTPUT:
        return exec_output(r, n);
    case NODE_IF:
        return exec_if(r, n, flow);
    case NODE_FOR:
        code = eval(r, n->b, &v);
        return code ? code : run_loop(r, n, v, 0, flow);
    case NODE_SET:
        return exec_set(r, n);
    case NODE_SET_BLOCK:
    case NODE_FILTER_BLOCK:
        return exec_captured(r, n);
    case NODE_MACRO:
        code = macro_value(r, n, &v);
        return code ? code : frame_set(r, r->frame, n->name, v);
    case NODE_CALL_BLOCK:
        return exec_call_block(r, n);
    case NODE_WITH:
    case NODE_SCOPE:
    case NODE_BLOCK:
    case NODE_AUTOESCAPE:
        return exec_scope(r, n, flow);
    case NODE_BREAK:
    case NODE_CONTINUE:
        *flow = n->kind == NODE_BREAK ? FLOW_BREAK : FLOW_CONTINUE;
        return 0;
    default:
        return run_fail(r, FAIL_FORMAT, "not a statement");
    }
}

int exec_body(struct run *r, const struct node_list *body, int *flow)
{
    int code = run_enter(r);
    for (int i = 0; !code && *flow == FLOW_ON && i < body->count; i++) {
        r->at = body->items[i]->at;
        code = run_step(r, 1);
        if (!code)
            code = exec(r, body->items[i], flow);
        if (!code && r->out->size > r->j->limits.output)
            code = run_fail(r, FAIL_LIMIT, "the text has more than %zu bytes", r->j->limits.output);
    }
    run_leave(r);
    return code;
}

/* Hands the text out; its tainted ranges count from the start of out. */
static int hand_out(const struct text *t, struct buffer *out, struct spans *tainted,
                    struct error *e)
{
    size_t base = out->size, before = tainted ? tainted->count : 0, end = 0;
    size_t last = before ? tainted->items[before - 1].end : 0;
    int code = buffer_append(out, bytes_of(t->data, t->size));
    if (code)
        return fail(e, code, "the rendered text of %zu bytes does not fit", t->size);
    if (!tainted || t->taint == TEXT_CLEAN || !t->size)
        return 0;
    const char *marks = t->data + t->capacity;
    while (!code) {
        if (t->taint == TEXT_TAINTED) {
            code = spans_add(tainted, base, base + t->size, e);
            break;
        }
        const char *start = memchr(marks + end, 1, t->size - end);
        if (!start)
            break;
        const char *stop = memchr(start, 0, t->size - (size_t)(start - marks));
        end = stop ? (size_t)(stop - marks) : t->size;
        code = spans_add(tainted, base + (size_t)(start - marks), base + end, e);
    }
    if (!code)
        return 0;
    out->size = base;
    out->data[base] = '\0';
    tainted->count = before;
    if (before)
        tainted->items[before - 1].end = last;
    return code;
}

int jinja_render(const struct jinja *j, const struct jinja_value *globals,
                 const struct jinja_context *context, struct buffer *out, struct spans *tainted,
                 struct error *e)
{
    static const struct upcalls calls = { .macro = macro_call,
                                          .loop = loop_call,
                                          .method = find_method };
    struct text text = { 0 };
    struct run r = {
        .j = j, .globals = globals, .context = context, .calls = &calls, .e = e, .out = &text
    };
    arena_init(&r.arena, j->limits.memory);
    int flow = FLOW_ON;
    r.top = r.frame = frame_push(&r, NULL);
    int code = r.frame ? exec_body(&r, &j->body, &flow) : FAIL_LIMIT;
    if (!code)
        code = hand_out(&text, out, tainted, e);
    arena_done(&r.arena);
    return code;
}
