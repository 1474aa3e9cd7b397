/* Expressions of templates: tokens to trees, with Jinja's precedences. */
#include "jinja/internal.h"

static struct node *unary(struct parser *p, bool with_filter);

static struct node *left_node(struct parser *p, enum node_kind kind, uint32_t at, struct node *a,
                              struct node *b)
{
    struct node *n = a && b ? parser_node(p, kind, at) : NULL;
    if (n) {
        n->a = a;
        n->b = b;
    }
    return n;
}

/* Keywords of one call: as many as anybody writes, and few enough to compare with each other. */
#define MAX_KEYWORDS 1000

static bool add_keyword(struct parser *p, struct node_args *args, struct bytes name)
{
    struct node *value = parser_expression(p);
    if (!value)
        return false;
    int n = args->keywords.count;
    if (n == MAX_KEYWORDS)
        return parser_fail(p, p->token->at, "more than %d keyword arguments", n), false;
    struct bytes *names = arena_array(p->a, struct bytes, n + 1);
    if (!names)
        return parser_fail(p, p->token->at, "the template needs too much memory"), false;
    for (int i = 0; i < n; i++)
        names[i] = args->names[i];
    names[n] = name;
    args->names = names;
    return parser_add(p, &args->keywords, value);
}

static bool one_arg(struct parser *p, struct node_args *args, uint32_t at)
{
    bool dynamic = args->dynamic || args->dynamic_keywords;
    if (parser_is_operator(p, "*")) {
        p->token++;
        if (dynamic)
            return parser_fail(p, at, "invalid syntax for function call expression"), false;
        args->dynamic = parser_expression(p);
        return args->dynamic;
    }
    if (parser_is_operator(p, "**")) {
        p->token++;
        if (args->dynamic_keywords)
            return parser_fail(p, at, "invalid syntax for function call expression"), false;
        args->dynamic_keywords = parser_expression(p);
        return args->dynamic_keywords;
    }
    const struct token *name = p->token;
    if (name->kind == TOKEN_NAME && name[1].kind == TOKEN_OPERATOR &&
        bytes_equal_text(name[1].text, "=")) {
        if (args->dynamic_keywords)
            return parser_fail(p, at, "invalid syntax for function call expression"), false;
        p->token += 2;
        for (int i = 0; i < args->keywords.count; i++)
            if (bytes_equal(args->names[i], name->text))
                return parser_fail(p, name->at, "keyword argument repeated: %.*s",
                                   BYTES_ARG(name->text)),
                       false;
        return add_keyword(p, args, name->text);
    }
    if (dynamic || args->keywords.count)
        return parser_fail(p, at, "invalid syntax for function call expression"), false;
    return parser_add(p, &args->positional, parser_expression(p));
}

static struct node_args *call_args(struct parser *p)
{
    struct node_args *args = arena_alloc(p->a, sizeof(*args));
    uint32_t at = p->token->at;
    if (!args || !parser_expect_operator(p, "("))
        return NULL;
    for (bool first = true; !parser_is_operator(p, ")"); first = false) {
        if (!first && !parser_expect_operator(p, ","))
            return NULL;
        if (!first && parser_is_operator(p, ")"))
            break;
        if (!one_arg(p, args, at))
            return NULL;
    }
    p->token++;
    return args;
}

static struct node *call(struct parser *p, struct node *callee)
{
    struct node *n = parser_node(p, NODE_CALL, p->token->at);
    struct node_args *args = n ? call_args(p) : NULL;
    if (!args)
        return NULL;
    n->a = callee;
    n->args = args;
    return n;
}

/* An index or a slice between brackets. */
static struct node *subscribed(struct parser *p)
{
    uint32_t at = p->token->at;
    struct node *start = NULL;
    if (!parser_is_operator(p, ":")) {
        start = parser_expression(p);
        if (!start || !parser_is_operator(p, ":"))
            return start;
    }
    p->token++;
    struct node *n = parser_node(p, NODE_SLICE, at);
    if (!n)
        return NULL;
    n->a = start;
    for (int part = 1; part <= 2; part++) {
        if (part == 2 && !parser_skip_operator(p, ":"))
            break;
        if (parser_is_operator(p, ":") || parser_is_operator(p, "]") || parser_is_operator(p, ","))
            continue;
        struct node *value = parser_expression(p);
        if (!value)
            return NULL;
        *(part == 1 ? &n->b : &n->c) = value;
    }
    return n;
}

static struct node *subscript(struct parser *p, struct node *of)
{
    uint32_t at = p->token->at;
    if (parser_skip_operator(p, ".")) {
        const struct token *t = p->token;
        bool name = t->kind == TOKEN_NAME;
        if (!name && !(t->kind == TOKEN_NUMBER && t->value.kind == JINJA_INT))
            return parser_fail(p, t->at, "expected name or number"), NULL;
        p->token++;
        struct node *n = parser_node(p, name ? NODE_ATTRIBUTE : NODE_ITEM, at);
        if (!n)
            return NULL;
        n->a = of;
        n->name = t->text;
        if (!name) {
            n->b = parser_node(p, NODE_CONST, t->at);
            if (!n->b)
                return NULL;
            n->b->value = t->value;
        }
        return n;
    }
    p->token++;
    struct node_list parts = { 0 };
    while (!parser_is_operator(p, "]")) {
        if (parts.count && !parser_expect_operator(p, ","))
            return NULL;
        if (!parser_add(p, &parts, subscribed(p)))
            return NULL;
    }
    p->token++;
    struct node *key = parts.count == 1 ? parts.items[0] : parser_node(p, NODE_TUPLE, at);
    if (key && parts.count != 1)
        key->list = parts;
    return left_node(p, NODE_ITEM, at, of, key);
}

static struct node *postfix(struct parser *p, struct node *n)
{
    while (n) {
        if (parser_is_operator(p, ".") || parser_is_operator(p, "["))
            n = subscript(p, n);
        else if (parser_is_operator(p, "("))
            n = call(p, n);
        else
            break;
    }
    return n;
}

static bool dotted_name(struct parser *p, struct bytes *ret)
{
    if (p->token->kind != TOKEN_NAME)
        return parser_unexpected(p, "a name"), false;
    *ret = p->token++->text;
    /* Names with dots can't be registered here, but must be refused as a whole. */
    while (parser_skip_operator(p, ".")) {
        if (p->token->kind != TOKEN_NAME)
            return parser_unexpected(p, "a name"), false;
        const char *end = (const char *)p->token->text.data + p->token->text.size;
        ret->size = (size_t)(end - (const char *)ret->data);
        p->token++;
    }
    return true;
}

struct node *parser_filters(struct parser *p, struct node *input, bool inline_first)
{
    struct node *n = input;
    while (inline_first || parser_skip_operator(p, "|")) {
        inline_first = false;
        struct node *f = parser_node(p, NODE_FILTER, p->token->at);
        if (!f || !dotted_name(p, &f->name))
            return NULL;
        if (!p->soft && !find_filter(f->name))
            return parser_fail(p, f->at, "no filter named '%.*s'", BYTES_ARG(f->name)), NULL;
        if (parser_is_operator(p, "(") && !(f->args = call_args(p)))
            return NULL;
        f->a = n;
        n = f;
    }
    return n;
}

static struct node *primary(struct parser *p, bool with_namespace);

static struct node *test(struct parser *p, struct node *input)
{
    struct node *n = parser_node(p, NODE_TEST, p->token->at);
    p->token++;
    bool negated = parser_skip_name(p, "not");
    if (!n || !dotted_name(p, &n->name))
        return NULL;
    if (!p->soft && !find_test(n->name))
        return parser_fail(p, n->at, "no test named '%.*s'", BYTES_ARG(n->name)), NULL;
    n->a = input;
    enum token_kind kind = p->token->kind;
    bool starts = kind == TOKEN_NAME || kind == TOKEN_STRING || kind == TOKEN_NUMBER ||
                  parser_is_operator(p, "[") || parser_is_operator(p, "{");
    if (parser_is_operator(p, "(")) {
        if (!(n->args = call_args(p)))
            return NULL;
    } else if (starts && !parser_is_name(p, "else") && !parser_is_name(p, "or") &&
               !parser_is_name(p, "and")) {
        if (parser_is_name(p, "is"))
            return parser_fail(p, p->token->at, "tests can't be chained with is"), NULL;
        struct node *arg = postfix(p, primary(p, false));
        n->args = arena_alloc(p->a, sizeof(*n->args));
        if (!n->args || !parser_add(p, &n->args->positional, arg))
            return NULL;
    }
    if (!negated)
        return n;
    struct node *inverse = parser_node(p, NODE_NOT, n->at);
    if (inverse)
        inverse->a = n;
    return inverse;
}

static struct node *filter_expression(struct parser *p, struct node *n)
{
    while (n) {
        if (parser_is_operator(p, "|"))
            n = parser_filters(p, n, false);
        else if (parser_is_name(p, "is"))
            n = test(p, n);
        else if (parser_is_operator(p, "("))
            n = call(p, n);
        else
            break;
    }
    return n;
}

static struct node *strings(struct parser *p)
{
    const struct token *t = p->token++;
    struct node *n = parser_node(p, NODE_CONST, t->at);
    if (!n)
        return NULL;
    n->value = t->value;
    while (p->token->kind == TOKEN_STRING) {
        struct jinja_value more = p->token++->value;
        size_t size = (size_t)n->value.size + more.size;
        char *joined = arena_alloc(p->a, size + 1);
        if (!joined)
            return parser_fail(p, t->at, "the template needs too much memory"), NULL;
        memcpy(joined, n->value.as.text, n->value.size);
        memcpy(joined + n->value.size, more.as.text, more.size);
        n->value = string_of(joined, size, (size_t)n->value.points + more.points);
    }
    return n;
}

static struct node *name_or_constant(struct parser *p, bool with_namespace)
{
    const struct token *t = p->token++;
    struct node *n = parser_node(p, NODE_CONST, t->at);
    if (!n)
        return NULL;
    if (bytes_equal_text(t->text, "true") || bytes_equal_text(t->text, "True"))
        n->value = jinja_bool(true);
    else if (bytes_equal_text(t->text, "false") || bytes_equal_text(t->text, "False"))
        n->value = jinja_bool(false);
    else if (bytes_equal_text(t->text, "none") || bytes_equal_text(t->text, "None"))
        n->value = jinja_none();
    else
        n->kind = NODE_NAME;
    n->name = t->text;
    if (n->kind == NODE_CONST)
        return n;
    size_t i = 0;
    uint32_t first = utf8_next((const char *)t->text.data, t->text.size, &i);
    if (first != '_' && !unicode_is_alpha(first))
        return parser_fail(p, t->at, "invalid name '%.*s'", BYTES_ARG(t->text)), NULL;
    if (with_namespace && parser_is_operator(p, ".")) {
        p->token++;
        if (p->token->kind != TOKEN_NAME)
            return parser_unexpected(p, "a name"), NULL;
        n->kind = NODE_NAMESPACE;
        struct bytes attribute = p->token++->text;
        if (jinja_string(attribute, &n->value, p->e))
            return parser_fail(p, t->at, "invalid name"), NULL;
        return n;
    }
    p->uses |= bytes_equal_text(t->text, "caller")    ? USES_CALLER
               : bytes_equal_text(t->text, "varargs") ? USES_VARARGS
               : bytes_equal_text(t->text, "kwargs")  ? USES_KWARGS
                                                      : 0;
    return n;
}

static struct node *list_or_dict(struct parser *p, bool dict)
{
    const char *close = dict ? "}" : "]";
    struct node *n = parser_node(p, dict ? NODE_DICT : NODE_LIST, p->token->at);
    if (!n)
        return NULL;
    p->token++;
    while (!parser_is_operator(p, close)) {
        if (n->list.count && !parser_expect_operator(p, ","))
            return NULL;
        if (parser_is_operator(p, close))
            break;
        if (!parser_add(p, &n->list, parser_expression(p)))
            return NULL;
        if (dict &&
            (!parser_expect_operator(p, ":") || !parser_add(p, &n->list, parser_expression(p))))
            return NULL;
    }
    p->token++;
    return n;
}

/* Expressions apart by commas; a plain expression when there is no comma. simplified: targets. */
static struct node *tuple_of_kind(struct parser *p, bool simplified, bool flag,
                                  const char *end_name, bool parentheses)
{
    struct node_list items = { 0 };
    bool is_tuple = false;
    uint32_t at = p->token->at;
    for (;;) {
        if (items.count && !parser_expect_operator(p, ","))
            return NULL;
        if (p->token->kind == TOKEN_VARIABLE_END || p->token->kind == TOKEN_BLOCK_END ||
            parser_is_operator(p, ")") || (end_name && parser_is_name(p, end_name)))
            break;
        struct node *item = simplified ? primary(p, flag)
                            : flag     ? parser_expression(p)
                                       : parser_expression_or(p);
        if (!parser_add(p, &items, item))
            return NULL;
        if (!parser_is_operator(p, ","))
            break;
        is_tuple = true;
    }
    if (!is_tuple && items.count)
        return items.items[0];
    if (!is_tuple && !parentheses)
        return parser_unexpected(p, "an expression"), NULL;
    struct node *n = parser_node(p, NODE_TUPLE, at);
    if (n)
        n->list = items;
    return n;
}

static struct node *primary(struct parser *p, bool with_namespace)
{
    const struct token *t = p->token;
    if (t->kind == TOKEN_NAME)
        return name_or_constant(p, with_namespace);
    if (t->kind == TOKEN_STRING)
        return strings(p);
    if (t->kind == TOKEN_NUMBER) {
        struct node *n = parser_node(p, NODE_CONST, t->at);
        if (n)
            n->value = t->value;
        p->token++;
        return n;
    }
    if (parser_skip_operator(p, "(")) {
        if (!parser_enter(p))
            return NULL;
        struct node *n = tuple_of_kind(p, false, true, NULL, true);
        p->depth--;
        return n && parser_expect_operator(p, ")") ? n : NULL;
    }
    if (parser_is_operator(p, "[") || parser_is_operator(p, "{"))
        return list_or_dict(p, parser_is_operator(p, "{"));
    return parser_unexpected(p, "an expression"), NULL;
}

static struct node *unary(struct parser *p, bool with_filter)
{
    struct node *n;
    uint32_t at = p->token->at;
    enum op op = parser_is_operator(p, "-") ? OP_SUB : parser_is_operator(p, "+") ? OP_ADD : 0;
    if (op) {
        p->token++;
        if (!parser_enter(p))
            return NULL;
        struct node *operand = unary(p, false);
        p->depth--;
        n = operand ? parser_node(p, NODE_UNARY, at) : NULL;
        if (n) {
            n->op = (uint8_t)op;
            n->a = operand;
        }
    } else {
        n = primary(p, false);
    }
    n = postfix(p, n);
    return with_filter ? filter_expression(p, n) : n;
}

struct level {
    const char *text;
    enum op op;
};

static enum op level_op(const struct parser *p, const struct level *ops)
{
    for (; ops->text; ops++)
        if (parser_is_operator(p, ops->text))
            return ops->op;
    return OP_NONE;
}

static struct node *power(struct parser *p)
{
    struct node *n = unary(p, true);
    while (n && parser_is_operator(p, "**")) {
        uint32_t at = p->token++->at;
        n = left_node(p, NODE_BINARY, at, n, unary(p, true));
        if (n)
            n->op = OP_POW;
    }
    return n;
}

static struct node *product(struct parser *p)
{
    static const struct level ops[] = {
        { "*", OP_MUL }, { "/", OP_DIV }, { "//", OP_FLOORDIV }, { "%", OP_MOD }, { NULL, 0 }
    };
    struct node *n = power(p);
    for (enum op op; n && (op = level_op(p, ops));) {
        uint32_t at = p->token++->at;
        n = left_node(p, NODE_BINARY, at, n, power(p));
        if (n)
            n->op = (uint8_t)op;
    }
    return n;
}

static struct node *concatenation(struct parser *p)
{
    uint32_t at = p->token->at;
    struct node *first = product(p);
    if (!first || !parser_is_operator(p, "~"))
        return first;
    struct node *n = parser_node(p, NODE_CONCAT, at);
    if (!n || !parser_add(p, &n->list, first))
        return NULL;
    while (parser_skip_operator(p, "~"))
        if (!parser_add(p, &n->list, product(p)))
            return NULL;
    return n;
}

static struct node *sum(struct parser *p)
{
    static const struct level ops[] = { { "+", OP_ADD }, { "-", OP_SUB }, { NULL, 0 } };
    struct node *n = concatenation(p);
    for (enum op op; n && (op = level_op(p, ops));) {
        uint32_t at = p->token++->at;
        n = left_node(p, NODE_BINARY, at, n, concatenation(p));
        if (n)
            n->op = (uint8_t)op;
    }
    return n;
}

static enum op comparison_op(struct parser *p)
{
    static const struct level ops[] = { { "==", OP_EQ }, { "!=", OP_NE }, { "<", OP_LT },
                                        { "<=", OP_LE }, { ">", OP_GT },  { ">=", OP_GE },
                                        { NULL, 0 } };
    enum op op = level_op(p, ops);
    if (op) {
        p->token++;
        return op;
    }
    if (parser_skip_name(p, "in"))
        return OP_IN;
    if (parser_is_name(p, "not") && p->token[1].kind == TOKEN_NAME &&
        bytes_equal_text(p->token[1].text, "in")) {
        p->token += 2;
        return OP_NOT_IN;
    }
    return OP_NONE;
}

static struct node *comparison(struct parser *p)
{
    uint32_t at = p->token->at;
    struct node *first = sum(p), *n = NULL;
    for (enum op op; first && (op = comparison_op(p));) {
        struct node *operand = parser_node(p, NODE_OPERAND, p->token->at);
        if (!n)
            n = parser_node(p, NODE_COMPARE, at);
        if (!n || !operand || !(operand->a = sum(p)))
            return NULL;
        operand->op = (uint8_t)op;
        n->a = first;
        if (!parser_add(p, &n->list, operand))
            return NULL;
    }
    return n ? n : first;
}

static struct node *negation(struct parser *p)
{
    if (!parser_is_name(p, "not"))
        return comparison(p);
    struct node *n = parser_node(p, NODE_NOT, p->token++->at);
    if (!n || !parser_enter(p))
        return NULL;
    n->a = negation(p);
    p->depth--;
    return n->a ? n : NULL;
}

static struct node *conjunction(struct parser *p)
{
    struct node *n = negation(p);
    while (n && parser_is_name(p, "and")) {
        uint32_t at = p->token++->at;
        n = left_node(p, NODE_AND, at, n, negation(p));
    }
    return n;
}

struct node *parser_expression_or(struct parser *p)
{
    if (!parser_enter(p))
        return NULL;
    struct node *n = conjunction(p);
    while (n && parser_is_name(p, "or")) {
        uint32_t at = p->token++->at;
        n = left_node(p, NODE_OR, at, n, conjunction(p));
    }
    p->depth--;
    return n;
}

/* True when an "if" follows at this bracket level before the expression ends: what stands before
 * it is then conditional, and unknown filters in it fail only when reached. */
static bool condition_follows(const struct parser *p)
{
    int open = 0;
    for (const struct token *t = p->token; t->kind >= TOKEN_NAME; t++) {
        char c = t->kind == TOKEN_OPERATOR ? (char)t->text.data[0] : '\0';
        if (c == '(' || c == '[' || c == '{')
            open++;
        else if ((c == ')' || c == ']' || c == '}') && open-- == 0)
            return false;
        else if (open == 0 && t->text.size == 1 && (c == ',' || c == ':' || c == '='))
            return false;
        else if (open == 0 && t->kind == TOKEN_NAME && bytes_equal_text(t->text, "if"))
            return true;
    }
    return false;
}

static struct node *condition(struct parser *p)
{
    uint32_t at = p->token->at;
    struct node *n = parser_expression_or(p);
    while (n && parser_skip_name(p, "if")) {
        struct node *c = parser_node(p, NODE_CONDITION, at);
        if (!c)
            return NULL;
        c->a = n;
        c->b = parser_expression_or(p);
        if (!c->b)
            return NULL;
        if (parser_skip_name(p, "else") && !(c->c = parser_expression(p)))
            return NULL;
        n = c;
    }
    return n;
}

struct node *parser_expression(struct parser *p)
{
    if (!parser_enter(p))
        return NULL;
    bool soft = p->soft;
    p->soft = soft || condition_follows(p);
    struct node *n = condition(p);
    p->soft = soft;
    p->depth--;
    return n;
}

struct node *parser_tuple(struct parser *p, bool with_condition, const char *end_name)
{
    return tuple_of_kind(p, false, with_condition, end_name, false);
}

static bool check_target(struct parser *p, const struct node *n)
{
    if (n->kind == NODE_NAME || n->kind == NODE_NAMESPACE)
        return true;
    if (n->kind == NODE_TUPLE) {
        for (int i = 0; i < n->list.count; i++)
            if (!check_target(p, n->list.items[i]))
                return false;
        return true;
    }
    parser_fail(p, n->at, "can't assign to this expression");
    return false;
}

struct node *parser_target(struct parser *p, bool with_namespace, const char *end_name)
{
    uint8_t uses = p->uses;
    struct node *n = tuple_of_kind(p, true, with_namespace, end_name, false);
    p->uses = uses;
    return n && check_target(p, n) ? n : NULL;
}

struct node *parser_name_target(struct parser *p)
{
    if (p->token->kind != TOKEN_NAME)
        return parser_unexpected(p, "a name"), NULL;
    uint8_t uses = p->uses;
    struct node *n = name_or_constant(p, false);
    p->uses = uses;
    return n && check_target(p, n) ? n : NULL;
}
