/* Builtins: bound to a value, and called with their parameters. */
#include "jinja/internal.h"

/* Parameter number of a name in "a b c", or -1. */
static int param_index(const char *params, struct bytes name)
{
    int index = 0;
    for (const char *p = params; *p; index++) {
        size_t n = strcspn(p, " ");
        if (*p != '-' && n == name.size && memcmp(p, name.data, n) == 0)
            return index;
        p += n;
        p += *p == ' ';
    }
    return -1;
}

const struct builtin *find_builtin(const struct builtin *table, struct bytes name)
{
    for (; table->name; table++)
        if (bytes_equal_text(name, table->name))
            return table;
    return NULL;
}

int call_builtin(struct run *r, const struct builtin *b, struct jinja_value self,
                 const struct call *c, struct jinja_value *ret)
{
    struct jinja_value arg[MAX_PARAMS];
    for (int i = 0; i < MAX_PARAMS; i++)
        arg[i] = (struct jinja_value){ .kind = JINJA_ABSENT };
    int n = 0;
    bool any = false;
    for (const char *p = b->params; *p; p += p[0] == ' ') {
        any = *p == '*';
        n += !any;
        p += strcspn(p, " ");
    }
    if (c->count > n && !any)
        return run_fail(r, FAIL_FORMAT, "%s takes at most %d arguments, %d given", b->name, n,
                        c->count);
    for (int i = 0; i < c->count && i < n; i++)
        arg[i] = c->args[i];
    int code = run_step(r, 4 + 4 * (uint64_t)c->keyword_count);
    if (code)
        return code;
    for (int i = 0; i < c->keyword_count; i++) {
        int k = param_index(b->params, c->names[i]);
        if (k < 0 && any)
            continue;
        if (k < 0)
            return run_fail(r, FAIL_FORMAT, "%s got an unexpected keyword argument '%.*s'", b->name,
                            BYTES_ARG(c->names[i]));
        if (!is_absent(arg[k]))
            return run_fail(r, FAIL_FORMAT, "%s got multiple values for argument '%.*s'", b->name,
                            BYTES_ARG(c->names[i]));
        arg[k] = c->keywords[i];
    }
    for (int i = 0; i < b->required; i++)
        if (is_absent(arg[i]))
            return run_fail(r, FAIL_FORMAT, "%s misses required argument %d", b->name, i + 1);
    return b->fn(r, self, arg, c, ret);
}

int bind_method(struct run *r, const struct builtin *b, struct jinja_value self,
                struct jinja_value *ret)
{
    struct jinja_function *f = arena_alloc(&r->arena, sizeof(*f));
    if (!f)
        return run_nomem(r);
    *f = (struct jinja_function){ .builtin = b, .self = self };
    *ret = (struct jinja_value){ .kind = JINJA_FUNCTION, .as.function = f };
    return 0;
}
