/* Pre-tokenizers on PCRE2: see pretokenize.h, and pretokenizers.def for the table. */
#include "token/pretokenize.h"

#include <stdlib.h>
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#define MAX_EXPRESSIONS 6
/* Of one match attempt: far above what the expressions need on any text, so it stops only what
 * would otherwise never end. */
#define MATCH_LIMIT 100000000u
#define JIT_STACK_START ((size_t)32 << 10)
#define JIT_STACK_MAX ((size_t)4 << 20)

struct row {
    const char *name;
    const char *expressions[MAX_EXPRESSIONS + 1];
    int flags;
};

static const struct row rows[] = {
#define LIST(...)                                                                                  \
    {                                                                                              \
        __VA_ARGS__, NULL                                                                          \
    }
#define PRE(name, expressions, flags) { name, expressions, flags },
#include "token/pretokenizers.def"
#undef PRE
#undef LIST
};

struct pretokenizer {
    pcre2_code *code[MAX_EXPRESSIONS];
    int count;
};

struct pretokenizer_state {
    const struct pretokenizer *p;
    pcre2_match_data *match[MAX_EXPRESSIONS];
    pcre2_match_context *context;
    pcre2_jit_stack *stack;
};

static int compile(const char *expression, pcre2_code **ret, struct error *e)
{
    int code;
    size_t at;
    pcre2_code *c = pcre2_compile((PCRE2_SPTR)expression, PCRE2_ZERO_TERMINATED,
                                  PCRE2_UTF | PCRE2_UCP, &code, &at, NULL);
    if (!c) {
        char text[128];
        pcre2_get_error_message(code, (PCRE2_UCHAR *)text, sizeof(text));
        return fail(e, FAIL_UNSUPPORTED, "PCRE2 refuses a pre-tokenizer at %zu: %s", at, text);
    }
    /* Without a JIT for this processor matching is slower, and just as right. */
    pcre2_jit_compile(c, PCRE2_JIT_COMPLETE);
    *ret = c;
    return 0;
}

static const struct row *find_row(struct bytes name)
{
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (bytes_equal_text(name, rows[i].name))
            return &rows[i];
    return NULL;
}

bool pretokenizer_known(struct bytes name)
{
    return find_row(name) != NULL;
}

int pretokenizer_open(struct pretokenizer **ret, struct bytes name, int *flags, struct error *e)
{
    const struct row *row = find_row(name);
    if (!row)
        return fail(e, FAIL_UNSUPPORTED, "pre-tokenizer '%.*s' is not known", BYTES_ARG(name));
    struct pretokenizer *p = calloc(1, sizeof(*p));
    if (!p)
        return fail(e, FAIL_NOMEM, "pre-tokenizer");
    for (int i = 0; row->expressions[i]; i++) {
        if (compile(row->expressions[i], &p->code[i], e)) {
            pretokenizer_close(p);
            return wrap(e, "pre-tokenizer %s", row->name);
        }
        p->count = i + 1;
    }
    *flags = row->flags;
    *ret = p;
    return 0;
}

void pretokenizer_close(struct pretokenizer *p)
{
    if (!p)
        return;
    for (int i = 0; i < p->count; i++)
        pcre2_code_free(p->code[i]);
    free(p);
}

int pretokenizer_state_open(struct pretokenizer_state **ret, const struct pretokenizer *p,
                            struct error *e)
{
    struct pretokenizer_state *s = calloc(1, sizeof(*s));
    if (!s)
        return fail(e, FAIL_NOMEM, "pre-tokenizer");
    s->p = p;
    s->context = pcre2_match_context_create(NULL);
    bool ok = s->context != NULL;
    for (int i = 0; i < p->count; i++) {
        s->match[i] = pcre2_match_data_create(1, NULL);
        ok = ok && s->match[i];
    }
    if (!ok) {
        pretokenizer_state_close(s);
        return fail(e, FAIL_NOMEM, "pre-tokenizer");
    }
    pcre2_set_match_limit(s->context, MATCH_LIMIT);
    /* NULL where there is no JIT; then none is needed. */
    s->stack = pcre2_jit_stack_create(JIT_STACK_START, JIT_STACK_MAX, NULL);
    if (s->stack)
        pcre2_jit_stack_assign(s->context, NULL, s->stack);
    *ret = s;
    return 0;
}

void pretokenizer_state_close(struct pretokenizer_state *s)
{
    if (!s)
        return;
    for (int i = 0; i < MAX_EXPRESSIONS; i++)
        pcre2_match_data_free(s->match[i]);
    pcre2_match_context_free(s->context);
    pcre2_jit_stack_free(s->stack);
    free(s);
}

struct job {
    struct pretokenizer_state *state;
    word_fn *on_word;
    void *arg;
};

/* Cuts text by expression `level` and hands the pieces to the next; as deep as there are
 * expressions. */
static int cut(const struct job *j, int level, struct bytes text, struct error *e)
{
    if (text.size == 0)
        return 0;
    if (level == j->state->p->count)
        return j->on_word(j->arg, text, e);
    pcre2_match_data *match = j->state->match[level];
    size_t done = 0, from = 0;
    while (from < text.size) {
        int n = pcre2_match(j->state->p->code[level], text.data, text.size, from,
                            PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY, match, j->state->context);
        if (n == PCRE2_ERROR_NOMATCH)
            break;
        if (n < 0) {
            char why[128];
            pcre2_get_error_message(n, (PCRE2_UCHAR *)why, sizeof(why));
            return fail(e, FAIL_LIMIT, "cutting text into words at byte %zu: %s", from, why);
        }
        const size_t *at = pcre2_get_ovector_pointer(match);
        size_t start = at[0], end = at[1];
        int r = cut(j, level + 1, bytes_of(text.data + done, start - done), e);
        if (r == 0)
            r = cut(j, level + 1, bytes_of(text.data + start, end - start), e);
        if (r)
            return r;
        done = from = end;
    }
    return cut(j, level + 1, bytes_of(text.data + done, text.size - done), e);
}

int pretokenizer_run(struct pretokenizer_state *s, struct bytes text, word_fn *on_word, void *arg,
                     struct error *e)
{
    return cut(&(struct job){ .state = s, .on_word = on_word, .arg = arg }, 0, text, e);
}
