/* Statements of templates, and the parser's entry. */
#include "jinja/internal.h"

/* Names that are compared with each other, so that their number squared is work: parameters of one
 * macro, blocks of a template. */
#define MAX_PARAMETERS 1000
#define MAX_BLOCKS 2000

#include <stdlib.h>

#define DEFAULT_SOURCE ((size_t)1 << 20)
#define DEFAULT_MEMORY ((size_t)256 << 20)
#define DEFAULT_OUTPUT ((size_t)64 << 20)
#define DEFAULT_STEPS 50000000u
#define DEFAULT_NESTING 100
#define DEFAULT_DEPTH 500
#define DEFAULT_RANGE 100000

static bool expect_block_end(struct parser *p)
{
    if (p->token->kind == TOKEN_BLOCK_END) {
        p->token++;
        return true;
    }
    parser_unexpected(p, "the end of the tag");
    return false;
}

static struct node *statement(struct parser *p);

static bool is_end(const struct parser *p, const char *const *ends)
{
    for (; ends && *ends; ends++)
        if (parser_is_name(p, *ends))
            return true;
    return false;
}

static struct node *data_node(struct parser *p)
{
    struct node *n = parser_node(p, NODE_DATA, p->token->at);
    if (n && jinja_string(p->token->text, &n->value, p->e)) {
        parser_fail(p, p->token->at, "text is not UTF-8");
        return NULL;
    }
    p->token++;
    return n;
}

static struct node *output_node(struct parser *p)
{
    struct node *n = parser_node(p, NODE_OUTPUT, p->token->at);
    p->token++;
    if (!n || !parser_add(p, &n->list, parser_tuple(p, true, NULL)))
        return NULL;
    if (p->token->kind != TOKEN_VARIABLE_END) {
        parser_unexpected(p, "the end of the expression");
        return NULL;
    }
    p->token++;
    return n;
}

/* Nodes up to a tag that begins with one of ends (NULL-terminated; NULL: the template's end). The
 * parser then stands on that name. */
static bool statements(struct parser *p, const char *const *ends, struct node_list *ret)
{
    if (!parser_enter(p))
        return false;
    uint32_t from = p->token->at;
    while (p->token->kind != TOKEN_END) {
        struct node *n;
        if (p->token->kind == TOKEN_DATA) {
            n = data_node(p);
        } else if (p->token->kind == TOKEN_VARIABLE_BEGIN) {
            n = output_node(p);
        } else {
            p->token++;
            if (is_end(p, ends)) {
                p->depth--;
                return true;
            }
            n = statement(p);
            if (n && !expect_block_end(p))
                return false;
        }
        if (!parser_add(p, ret, n))
            return false;
    }
    p->depth--;
    if (ends)
        parser_fail(p, from, "the block that begins here has no '%s'", ends[0]);
    return !ends;
}

/* The rest of the opening tag, the body, and the closing name. */
static bool body(struct parser *p, const char *const *ends, struct node_list *ret)
{
    parser_skip_operator(p, ":");
    return expect_block_end(p) && statements(p, ends, ret);
}

/* A body in a scope of its own: what stands in it is no longer conditional. */
static bool scoped_body(struct parser *p, const char *const *ends, struct node_list *ret)
{
    bool soft = p->soft;
    p->soft = false;
    bool ok = body(p, ends, ret);
    p->soft = soft;
    return ok;
}

#define ENDS(...) ((const char *const[]){ __VA_ARGS__, NULL })

static bool check_loop_target(struct parser *p, const struct node *n)
{
    for (int i = 0; n->kind == NODE_TUPLE && i < n->list.count; i++)
        if (!check_loop_target(p, n->list.items[i]))
            return false;
    if (n->kind != NODE_NAME || !bytes_equal_text(n->name, "loop"))
        return true;
    parser_fail(p, n->at, "can't assign to the special loop variable");
    return false;
}

static struct node *parse_for(struct parser *p, struct node *n)
{
    n->a = parser_target(p, false, "in");
    if (!n->a || !check_loop_target(p, n->a))
        return NULL;
    if (!parser_skip_name(p, "in")) {
        parser_unexpected(p, "'in'");
        return NULL;
    }
    n->b = parser_tuple(p, false, "recursive");
    if (!n->b)
        return NULL;
    bool soft = p->soft;
    p->soft = false;
    if (parser_skip_name(p, "if") && !(n->c = parser_expression(p)))
        return NULL;
    p->soft = soft;
    n->recursive = parser_skip_name(p, "recursive");
    p->loops++;
    bool ok = scoped_body(p, ENDS("endfor", "else"), &n->body);
    p->loops--;
    if (!ok)
        return NULL;
    if (parser_skip_name(p, "else") && !scoped_body(p, ENDS("endfor"), &n->orelse))
        return NULL;
    parser_skip_name(p, "endfor");
    return n;
}

static struct node *parse_if(struct parser *p, struct node *n)
{
    struct node *first = n;
    bool soft = p->soft;
    p->soft = true;
    for (;;) {
        n->a = parser_tuple(p, false, NULL);
        if (!n->a || !body(p, ENDS("elif", "else", "endif"), &n->body))
            return NULL;
        if (parser_is_name(p, "elif")) {
            struct node *next = parser_node(p, NODE_IF, p->token->at);
            if (!parser_add(p, &n->orelse, next))
                return NULL;
            n = next;
            p->token++;
            continue;
        }
        if (parser_skip_name(p, "else") && !body(p, ENDS("endif"), &n->orelse))
            return NULL;
        break;
    }
    p->soft = soft;
    parser_skip_name(p, "endif");
    return first;
}

static struct node *parse_set(struct parser *p, struct node *n)
{
    n->a = parser_target(p, true, NULL);
    if (!n->a)
        return NULL;
    if (parser_skip_operator(p, "=")) {
        n->b = parser_tuple(p, true, NULL);
        return n->b ? n : NULL;
    }
    n->kind = NODE_SET_BLOCK;
    n->b = parser_filters(p, NULL, false);
    if (p->result || !scoped_body(p, ENDS("endset"), &n->body))
        return NULL;
    p->token++;
    return n;
}

/* The parameters of a macro or a call block: list, with defaults in each one's a. */
static bool signature(struct parser *p, struct node *n)
{
    if (!parser_expect_operator(p, "("))
        return false;
    bool defaults = false;
    while (!parser_is_operator(p, ")")) {
        if (n->list.count && !parser_expect_operator(p, ","))
            return false;
        struct node *param = parser_name_target(p);
        if (!param)
            return false;
        if (parser_skip_operator(p, "=")) {
            defaults = true;
            if (!(param->a = parser_expression(p)))
                return false;
        } else if (defaults) {
            parser_fail(p, param->at, "non-default argument follows default argument");
            return false;
        }
        for (int i = 0; i < n->list.count; i++)
            if (bytes_equal(n->list.items[i]->name, param->name)) {
                parser_fail(p, param->at, "duplicate argument '%.*s'", BYTES_ARG(param->name));
                return false;
            }
        if (n->list.count == MAX_PARAMETERS) {
            parser_fail(p, param->at, "more than %d parameters", MAX_PARAMETERS);
            return false;
        }
        if (!parser_add(p, &n->list, param))
            return false;
    }
    p->token++;
    return true;
}

/* A body that is called: loops outside it can't be left from inside. */
static bool called_body(struct parser *p, const char *end, struct node *n, bool with_signature)
{
    uint8_t uses = p->uses;
    int loops = p->loops;
    p->uses = 0;
    p->loops = 0;
    if (with_signature && !signature(p, n))
        return false;
    if (n->kind == NODE_CALL_BLOCK && !(n->a = parser_expression(p)))
        return false;
    if (n->kind == NODE_CALL_BLOCK && n->a->kind != NODE_CALL) {
        parser_fail(p, n->at, "expected a call");
        return false;
    }
    if (!scoped_body(p, ENDS(end), &n->body))
        return false;
    p->token++;
    n->uses = p->uses;
    p->uses |= uses;
    p->loops = loops;
    return true;
}

static struct node *parse_macro(struct parser *p, struct node *n)
{
    struct node *name = parser_name_target(p);
    if (!name)
        return NULL;
    n->name = name->name;
    return called_body(p, "endmacro", n, true) ? n : NULL;
}

static struct node *parse_call(struct parser *p, struct node *n)
{
    n->name = bytes_text("caller");
    return called_body(p, "endcall", n, parser_is_operator(p, "(")) ? n : NULL;
}

static struct node *parse_filter(struct parser *p, struct node *n)
{
    n->b = parser_filters(p, NULL, true);
    if (!n->b || !scoped_body(p, ENDS("endfilter"), &n->body))
        return NULL;
    p->token++;
    return n;
}

static struct node *parse_with(struct parser *p, struct node *n)
{
    while (p->token->kind != TOKEN_BLOCK_END && !parser_is_operator(p, ":")) {
        if (n->list.count && !parser_expect_operator(p, ","))
            return NULL;
        if (!parser_add(p, &n->list, parser_target(p, false, NULL)) ||
            !parser_expect_operator(p, "=") || !parser_add(p, &n->list, parser_expression(p)))
            return NULL;
    }
    if (!scoped_body(p, ENDS("endwith"), &n->body))
        return NULL;
    p->token++;
    return n;
}

/* What a chat template's generation tag encloses; it marks, and changes nothing. */
static struct node *parse_generation(struct parser *p, struct node *n)
{
    int loops = p->loops;
    p->loops = 0;
    bool ok = scoped_body(p, ENDS("endgeneration"), &n->body);
    p->loops = loops;
    p->token += ok;
    return ok ? n : NULL;
}

static struct node *parse_autoescape(struct parser *p, struct node *n)
{
    n->a = parser_expression(p);
    if (!n->a || !scoped_body(p, ENDS("endautoescape"), &n->body))
        return NULL;
    p->token++;
    return n;
}

static struct node *parse_print(struct parser *p, struct node *n)
{
    while (p->token->kind != TOKEN_BLOCK_END) {
        if (n->list.count && !parser_expect_operator(p, ","))
            return NULL;
        if (!parser_add(p, &n->list, parser_expression(p)))
            return NULL;
    }
    return n;
}

static struct node *parse_block(struct parser *p, struct node *n)
{
    struct node *name = parser_name_target(p);
    if (!name)
        return NULL;
    n->name = name->name;
    for (int i = 0; i < p->blocks.count; i++)
        if (bytes_equal(p->blocks.items[i]->name, n->name)) {
            parser_fail(p, n->at, "block '%.*s' defined twice", BYTES_ARG(n->name));
            return NULL;
        }
    n->recursive = parser_skip_name(p, "scoped");
    if (parser_is_name(p, "required")) {
        parser_fail(p, n->at, "required blocks need a template that extends this one");
        return NULL;
    }
    if (p->blocks.count == MAX_BLOCKS) {
        parser_fail(p, n->at, "more than %d blocks", MAX_BLOCKS);
        return NULL;
    }
    int loops = p->loops;
    p->loops = 0;
    if (!parser_add(p, &p->blocks, n) || !scoped_body(p, ENDS("endblock"), &n->body))
        return NULL;
    p->loops = loops;
    p->token++;
    if (p->token->kind == TOKEN_NAME && bytes_equal(p->token->text, n->name))
        p->token++;
    return n;
}

static struct node *parse_jump(struct parser *p, struct node *n)
{
    if (p->loops)
        return n;
    parser_fail(p, n->at, "'%s' outside a loop", n->kind == NODE_BREAK ? "break" : "continue");
    return NULL;
}

static struct node *parse_refused(struct parser *p, struct node *n)
{
    parser_fail(p, n->at, "'%.*s' is not supported: a chat template stands alone",
                BYTES_ARG(p->token[-1].text));
    return NULL;
}

static struct node *statement(struct parser *p)
{
    static const struct {
        const char *name;
        enum node_kind kind;
        struct node *(*parse)(struct parser *, struct node *);
    } tags[] = {
        { "for", NODE_FOR, parse_for },
        { "if", NODE_IF, parse_if },
        { "set", NODE_SET, parse_set },
        { "macro", NODE_MACRO, parse_macro },
        { "call", NODE_CALL_BLOCK, parse_call },
        { "filter", NODE_FILTER_BLOCK, parse_filter },
        { "with", NODE_WITH, parse_with },
        { "generation", NODE_SCOPE, parse_generation },
        { "autoescape", NODE_AUTOESCAPE, parse_autoescape },
        { "print", NODE_OUTPUT, parse_print },
        { "block", NODE_BLOCK, parse_block },
        { "break", NODE_BREAK, parse_jump },
        { "continue", NODE_CONTINUE, parse_jump },
        { "include", NODE_DATA, parse_refused },
        { "import", NODE_DATA, parse_refused },
        { "from", NODE_DATA, parse_refused },
        { "extends", NODE_DATA, parse_refused },
    };
    uint32_t at = p->token->at;
    if (p->token->kind != TOKEN_NAME) {
        parser_unexpected(p, "the name of a tag");
        return NULL;
    }
    for (size_t i = 0; i < ARRAY_LEN(tags); i++)
        if (parser_skip_name(p, tags[i].name)) {
            struct node *n = parser_node(p, tags[i].kind, at);
            return n ? tags[i].parse(p, n) : NULL;
        }
    parser_fail(p, at, "unknown tag '%.*s'", BYTES_ARG(p->token->text));
    return NULL;
}

/* Jinja reads every kind of newline as "\n" and drops one at the end. */
static bool copy_source(struct jinja *j, struct bytes source)
{
    uint8_t *copy = arena_alloc(&j->arena, source.size + 1);
    if (!copy)
        return false;
    size_t n = 0;
    for (size_t i = 0; i < source.size; i++) {
        uint8_t c = source.data[i];
        if (c == '\r') {
            c = '\n';
            i += i + 1 < source.size && source.data[i + 1] == '\n';
        }
        copy[n++] = c;
    }
    if (n && copy[n - 1] == '\n')
        n--;
    j->source = bytes_of(copy, n);
    return true;
}

static void take_limits(struct jinja_limits *to, const struct jinja_limits *from)
{
    struct jinja_limits l = from ? *from : (struct jinja_limits){ 0 };
    *to = (struct jinja_limits){
        .source = l.source ? l.source : DEFAULT_SOURCE,
        .memory = l.memory ? l.memory : DEFAULT_MEMORY,
        .output = l.output ? l.output : DEFAULT_OUTPUT,
        .steps = l.steps ? l.steps : DEFAULT_STEPS,
        .nesting = l.nesting > 0 ? l.nesting : DEFAULT_NESTING,
        .depth = l.depth > 0 ? l.depth : DEFAULT_DEPTH,
        .range = l.range > 0 ? l.range : DEFAULT_RANGE,
    };
}

static int parse(struct jinja *j, struct bytes source, struct error *e)
{
    if (source.size > j->limits.source || source.size > UINT32_MAX - 1)
        return fail(e, FAIL_LIMIT, "the template has %zu bytes, the limit is %zu", source.size,
                    j->limits.source);
    if (!utf8_check(source, NULL))
        return fail(e, FAIL_FORMAT, "the template is not UTF-8");
    if (!copy_source(j, source))
        return fail(e, FAIL_LIMIT, "the template needs more than %zu bytes", j->limits.memory);
    struct parser p = { .j = j, .a = &j->arena, .e = e };
    struct token *tokens = NULL;
    int r = jinja_lex(j, &tokens, e);
    if (r)
        return r;
    p.token = tokens;
    if (!statements(&p, NULL, &j->body) && !p.result)
        parser_fail(&p, p.token->at, "the template can't be read");
    return p.result;
}

int jinja_parse(struct jinja **ret, struct bytes source, const struct jinja_limits *limits,
                struct error *e)
{
    struct jinja *j = calloc(1, sizeof(*j));
    if (!j)
        return fail(e, FAIL_NOMEM, "no memory for a template");
    take_limits(&j->limits, limits);
    arena_init(&j->arena, j->limits.memory);
    int r = parse(j, source, e);
    if (r) {
        jinja_close(j);
        return r;
    }
    *ret = j;
    return 0;
}

void jinja_close(struct jinja *j)
{
    if (!j)
        return;
    arena_done(&j->arena);
    free(j);
}
