/* What the parsers of statements and of expressions share: nodes, tokens and failures. */
#include "jinja/internal.h"

#include <stdio.h>

int parser_fail(struct parser *p, uint32_t at, const char *format, ...)
{
    if (p->result)
        return p->result;
    va_list args;
    va_start(args, format);
    p->result = jinja_fail_at(p->j, at, FAIL_FORMAT, p->e, format, args);
    va_end(args);
    return p->result;
}

static void no_memory(struct parser *p)
{
    if (!p->result)
        p->result = fail(p->e, FAIL_LIMIT, "the template needs more than %zu bytes", p->a->limit);
}

struct node *parser_node(struct parser *p, enum node_kind kind, uint32_t at)
{
    struct node *n = arena_alloc(p->a, sizeof(*n));
    if (!n) {
        no_memory(p);
        return NULL;
    }
    n->kind = (uint8_t)kind;
    n->at = at;
    return n;
}

/* False when n is NULL, so that a failed parse can be added without a look. */
bool parser_add(struct parser *p, struct node_list *list, struct node *n)
{
    if (!n)
        return false;
    if (list->count == list->capacity) {
        int capacity = list->capacity ? list->capacity * 2 : 4;
        struct node **grown = arena_array(p->a, struct node *, capacity);
        if (!grown) {
            no_memory(p);
            return false;
        }
        if (list->count)
            memcpy(grown, list->items, (size_t)list->count * sizeof(*grown));
        list->items = grown;
        list->capacity = capacity;
    }
    list->items[list->count++] = n;
    return true;
}

bool parser_enter(struct parser *p)
{
    /* An expression in brackets passes three counted levels. */
    if (p->depth < 3 * p->j->limits.nesting) {
        p->depth++;
        return true;
    }
    parser_fail(p, p->token->at, "nested more than %d deep", p->j->limits.nesting);
    p->result = FAIL_LIMIT;
    if (p->e)
        p->e->code = FAIL_LIMIT;
    return false;
}

bool parser_is_operator(const struct parser *p, const char *text)
{
    return p->token->kind == TOKEN_OPERATOR && bytes_equal_text(p->token->text, text);
}

bool parser_is_name(const struct parser *p, const char *text)
{
    return p->token->kind == TOKEN_NAME && bytes_equal_text(p->token->text, text);
}

bool parser_skip_operator(struct parser *p, const char *text)
{
    bool is = parser_is_operator(p, text);
    p->token += is;
    return is;
}

bool parser_skip_name(struct parser *p, const char *text)
{
    bool is = parser_is_name(p, text);
    p->token += is;
    return is;
}

void parser_unexpected(struct parser *p, const char *wanted)
{
    parser_fail(p, p->token->at, "expected %s, got '%.*s'", wanted, BYTES_ARG(p->token->text));
}

bool parser_expect_operator(struct parser *p, const char *text)
{
    if (parser_skip_operator(p, text))
        return true;
    char wanted[8];
    snprintf(wanted, sizeof(wanted), "'%s'", text);
    parser_unexpected(p, wanted);
    return false;
}
