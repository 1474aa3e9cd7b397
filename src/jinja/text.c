/* Texts of the interpreter: growing ones, escaped ones, and values as Python's str() and repr()
 * show them. */
#include "jinja/internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

size_t string_offset(struct jinja_value s, size_t n)
{
    if (s.points == s.size)
        return n;
    size_t i = 0;
    while (n--)
        utf8_next(s.as.text, s.size, &i);
    return i;
}

/* Moves the text to memory of this capacity, with marks if it is mixed from now on. */
static int text_move(struct run *r, struct text *t, size_t capacity, enum text_taint taint)
{
    if (capacity >= TAINT_ALL)
        return run_nomem(r);
    char *grown = arena_alloc(&r->arena, taint == TEXT_MIXED ? capacity * 2 : capacity);
    if (!grown)
        return run_nomem(r);
    if (t->size)
        memcpy(grown, t->data, t->size);
    if (t->size && taint == TEXT_MIXED) {
        if (t->taint == TEXT_MIXED)
            memcpy(grown + capacity, t->data + t->capacity, t->size);
        else
            memset(grown + capacity, t->taint == TEXT_TAINTED, t->size);
    }
    *t = (struct text){ .data = grown, .size = t->size, .capacity = capacity, .taint = taint };
    return run_step(r, t->size / 64);
}

/* Room for `more` bytes of this taint. */
static int text_reserve(struct run *r, struct text *t, size_t more, enum text_taint taint)
{
    if (!t->size && taint != TEXT_MIXED)
        t->taint = taint; /* what it was of says nothing any more */
    else if (t->taint != taint)
        taint = TEXT_MIXED;
    if (t->taint == taint && t->capacity - t->size >= more)
        return 0;
    if (more > r->j->limits.memory || t->size + more > UINT32_MAX)
        return run_nomem(r);
    size_t capacity = t->capacity ? t->capacity : 64;
    while (capacity < t->size + more)
        capacity *= 2;
    return text_move(r, t, capacity, taint);
}

/* Takes in bytes whose room is reserved. */
static void text_take(struct text *t, const void *data, size_t size, bool tainted)
{
    memcpy(t->data + t->size, data, size);
    if (t->taint == TEXT_MIXED)
        memset(t->data + t->capacity + t->size, tainted, size);
    t->size += size;
}

int text_put(struct run *r, struct text *t, const void *data, size_t size, bool tainted)
{
    if (!size)
        return 0;
    int code = text_reserve(r, t, size, tainted ? TEXT_TAINTED : TEXT_CLEAN);
    if (code)
        return code;
    text_take(t, data, size, tainted);
    return size < 64 ? 0 : run_step(r, size / 64);
}

int text_add(struct run *r, struct text *t, const void *data, size_t size)
{
    return text_put(r, t, data, size, false);
}

int text_part(struct run *r, struct text *t, struct jinja_value s, size_t from, size_t to)
{
    if (!s.taint || s.taint == TAINT_ALL || from == to)
        return text_put(r, t, s.as.text + from, to - from, s.taint);
    int code = text_reserve(r, t, to - from, TEXT_MIXED);
    if (code)
        return code;
    memcpy(t->data + t->size, s.as.text + from, to - from);
    memcpy(t->data + t->capacity + t->size, s.as.text + from + s.taint, to - from);
    t->size += to - from;
    return run_step(r, (to - from) / 64);
}

int text_string(struct run *r, struct text *t, struct jinja_value s)
{
    return text_part(r, t, s, 0, s.size);
}

int text_join(struct run *r, struct text *t, struct jinja_value a, struct jinja_value b)
{
    size_t size = (size_t)a.size + b.size;
    bool plain = a.taint == b.taint && (!a.taint || a.taint == TAINT_ALL);
    enum text_taint taint = !plain ? TEXT_MIXED : a.taint ? TEXT_TAINTED : TEXT_CLEAN;
    int code = text_move(r, t, size ? size : 1, taint);
    if (!code)
        code = text_string(r, t, a);
    return code ? code : text_string(r, t, b);
}

int text_add_point(struct run *r, struct text *t, uint32_t point, bool tainted)
{
    char raw[4];
    return text_put(r, t, raw, utf8_encode(point, raw), tainted);
}

int text_cstr(struct run *r, struct text *t, const char *s)
{
    return text_add(r, t, s, strlen(s));
}

int text_printf(struct run *r, struct text *t, const char *format, ...)
{
    char small[512];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(small, sizeof(small), format, args);
    va_end(args);
    if (n < 0 || n >= (int)sizeof(small))
        return run_fail(r, FAIL_LIMIT, "a number is too long");
    int code = run_step(r, 4);
    return code ? code : text_add(r, t, small, (size_t)n);
}

int text_fill(struct run *r, struct text *t, struct jinja_value unit, uint64_t times)
{
    uint64_t total;
    if (size_mul_overflow(unit.size, times, &total) || total > r->j->limits.memory)
        return run_nomem(r);
    if (!total)
        return 0;
    enum text_taint taint = !unit.taint               ? TEXT_CLEAN
                            : unit.taint == TAINT_ALL ? TEXT_TAINTED
                                                      : TEXT_MIXED;
    int code = run_step(r, total / 16);
    if (!code)
        code = text_reserve(r, t, (size_t)total, taint);
    for (uint64_t i = 0; !code && i < times; i++) {
        size_t at = t->size;
        text_take(t, unit.as.text, unit.size, unit.taint == TAINT_ALL);
        if (taint == TEXT_MIXED)
            memcpy(t->data + t->capacity + at, unit.as.text + unit.taint, unit.size);
    }
    return code;
}

int text_value(struct run *r, const struct text *t, struct jinja_value *ret)
{
    size_t points;
    if (!utf8_check(bytes_of(t->data, t->size), &points))
        return run_fail(r, FAIL_FORMAT, "text is not UTF-8");
    *ret = string_of(t->data, t->size, points);
    if (t->size && t->taint != TEXT_CLEAN)
        ret->taint = t->taint == TEXT_MIXED ? (uint32_t)t->capacity : TAINT_ALL;
    return run_step(r, t->size / 32);
}

int call_name(struct run *r, const struct call *c, int i, struct jinja_value *ret)
{
    if (c->taints && c->taints[i]) { /* borrowed from the dict that it was a key of */
        size_t points = 0;
        utf8_check(c->names[i], &points);
        *ret = string_of((const char *)c->names[i].data, c->names[i].size, points);
        ret->taint = c->taints[i];
        return run_bytes(r, c->names[i].size);
    }
    return string_copy(r, c->names[i], ret);
}

int string_copy(struct run *r, struct bytes text, struct jinja_value *ret)
{
    struct text t = { 0 };
    int code = text_add(r, &t, text.data, text.size);
    return code ? code : text_value(r, &t, ret);
}

/* The shortest digits that read back as f, laid out as Python's repr. */
int float_repr(struct run *r, struct text *t, double f)
{
    char raw[40], out[64];
    int code = run_step(r, 200); /* up to 18 conversions there and back */
    if (code)
        return code;
    if (isnan(f) || isinf(f))
        return text_cstr(r, t, isnan(f) ? "nan" : f < 0 ? "-inf" : "inf");
    int precision = 0;
    do
        snprintf(raw, sizeof(raw), "%.*e", precision, f);
    while (++precision < 18 && strtod(raw, NULL) != f);
    char *e = strchr(raw, 'e');
    int exponent = (int)strtol(e + 1, NULL, 10);
    if (exponent < -4 || exponent >= 16) {
        *e = '\0';
        snprintf(out, sizeof(out), "%se%c%02d", raw, exponent < 0 ? '-' : '+', abs(exponent));
        return text_cstr(r, t, out);
    }
    int decimals = precision - 1 - exponent;
    snprintf(out, sizeof(out), "%.*f", decimals > 0 ? decimals : 1, f);
    return text_cstr(r, t, out);
}

static int string_repr(struct run *r, struct text *t, struct jinja_value v)
{
    bool single = memchr(v.as.text, '\'', v.size), twin = memchr(v.as.text, '"', v.size);
    char quote = single && !twin ? '"' : '\'', raw[16];
    int code = run_chars(r, v.size);
    if (!code)
        code = text_add(r, t, &quote, 1);
    for (size_t i = 0; !code && i < v.size;) {
        bool tainted = taint_at(v, i);
        uint32_t c = utf8_next(v.as.text, v.size, &i);
        int n = 0;
        if (c == (uint32_t)quote || c == '\\')
            n = snprintf(raw, sizeof raw, "\\%c", (int)c);
        else if (c == '\n' || c == '\r' || c == '\t')
            n = snprintf(raw, sizeof raw, "\\%c", c == '\n' ? 'n' : c == '\r' ? 'r' : 't');
        else if (unicode_is_printable(c))
            n = (int)utf8_encode(c, raw);
        else if (c < 0x100)
            n = snprintf(raw, sizeof raw, "\\x%02x", (unsigned)c);
        else
            n = snprintf(raw, sizeof raw, c < 0x10000 ? "\\u%04x" : "\\U%08x", (unsigned)c);
        code = text_put(r, t, raw, (size_t)n, tainted);
    }
    return code ? code : text_add(r, t, &quote, 1);
}

static int items_repr(struct run *r, struct text *t, const struct jinja_list *l, const char *open,
                      const char *close)
{
    int code = text_cstr(r, t, open);
    for (size_t i = 0; !code && i < l->count; i++) {
        if (i)
            code = text_cstr(r, t, ", ");
        if (!code)
            code = value_repr(r, t, l->items[i]);
    }
    return code ? code : text_cstr(r, t, close);
}

static int dict_repr(struct run *r, struct text *t, const struct jinja_dict *d)
{
    int code = text_cstr(r, t, "{");
    for (size_t i = 0; !code && i < d->count; i++) {
        if (i)
            code = text_cstr(r, t, ", ");
        if (!code)
            code = value_repr(r, t, d->entries[i].key);
        if (!code)
            code = text_cstr(r, t, ": ");
        if (!code)
            code = value_repr(r, t, d->entries[i].value);
    }
    return code ? code : text_cstr(r, t, "}");
}

static int range_repr(struct run *r, struct text *t, const struct jinja_list *l)
{
    if (l->range[2] == 1)
        return text_printf(r, t, "range(%lld, %lld)", (long long)l->range[0],
                           (long long)l->range[1]);
    return text_printf(r, t, "range(%lld, %lld, %lld)", (long long)l->range[0],
                       (long long)l->range[1], (long long)l->range[2]);
}

static int object_repr(struct run *r, struct text *t, struct jinja_value v)
{
    struct bytes name;
    int code;
    switch (v.kind) {
    case JINJA_NAMESPACE:
        code = text_cstr(r, t, "<Namespace ");
        code = code ? code : dict_repr(r, t, v.as.dict);
        return code ? code : text_cstr(r, t, ">");
    case JINJA_MACRO:
        name = v.as.macro->name;
        code = text_cstr(r, t, "<Macro '");
        code = code ? code : text_add(r, t, name.data, name.size);
        return code ? code : text_cstr(r, t, "'>");
    case JINJA_LOOP:
        return text_printf(r, t, "<LoopContext %zu/%zu>", v.as.loop->index + 1, v.as.loop->count);
    case JINJA_FUNCTION:
        return text_printf(r, t, "<function %s>", v.as.function->builtin->name);
    case JINJA_ITERATOR:
        return text_printf(r, t, "<%s object>", v.as.list->type_name);
    default:
        return text_printf(r, t, "<%s object>", type_name(v));
    }
}

static int nested_repr(struct run *r, struct text *t, struct jinja_value v)
{
    switch (v.kind) {
    case JINJA_LIST:
        return items_repr(r, t, v.as.list, "[", "]");
    case JINJA_TUPLE:
        return items_repr(r, t, v.as.list, "(", v.as.list->count == 1 ? ",)" : ")");
    case JINJA_DICT:
        return dict_repr(r, t, v.as.dict);
    case JINJA_RANGE:
        return range_repr(r, t, v.as.list);
    case JINJA_VIEW: {
        int code = text_printf(r, t, "%s(", type_name(v));
        return code ? code : items_repr(r, t, v.as.list, "[", "])");
    }
    default:
        return object_repr(r, t, v);
    }
}

int value_repr(struct run *r, struct text *t, struct jinja_value v)
{
    int code = run_step(r, 1);
    if (code)
        return code;
    switch (v.kind) {
    case JINJA_UNDEFINED:
        return text_cstr(r, t, "Undefined");
    case JINJA_NONE:
        return text_cstr(r, t, "None");
    case JINJA_BOOL:
        return text_cstr(r, t, v.as.boolean ? "True" : "False");
    case JINJA_INT:
        return text_printf(r, t, "%lld", (long long)v.as.integer);
    case JINJA_FLOAT:
        return float_repr(r, t, v.as.real);
    case JINJA_STRING:
        if (!is_markup(v))
            return string_repr(r, t, v);
        code = text_cstr(r, t, "Markup(");
        code = code ? code : string_repr(r, t, v);
        return code ? code : text_cstr(r, t, ")");
    default:
        code = run_enter(r);
        if (!code)
            code = nested_repr(r, t, v);
        run_leave(r);
        return code;
    }
}

int value_str(struct run *r, struct text *t, struct jinja_value v)
{
    if (is_string(v))
        return text_string(r, t, v);
    if (v.kind == JINJA_UNDEFINED)
        return 0;
    return value_repr(r, t, v);
}

int value_to_string(struct run *r, struct jinja_value v, struct jinja_value *ret)
{
    if (is_string(v)) {
        *ret = v;
        return 0;
    }
    struct text t = { 0 };
    int code = value_str(r, &t, v);
    return code ? code : text_value(r, &t, ret);
}

int text_escape(struct run *r, struct text *t, struct jinja_value s)
{
    int code = run_chars(r, s.size);
    for (size_t i = 0; !code && i < s.size; i++) {
        char c = s.as.text[i];
        const char *name = c == '&'    ? "&amp;"
                           : c == '<'  ? "&lt;"
                           : c == '>'  ? "&gt;"
                           : c == '"'  ? "&#34;"
                           : c == '\'' ? "&#39;"
                                       : NULL;
        code = text_put(r, t, name ? name : &c, name ? strlen(name) : 1, taint_at(s, i));
    }
    return code;
}

int string_escape(struct run *r, struct jinja_value s, struct jinja_value *ret)
{
    struct text t = { 0 };
    if (is_markup(s)) {
        *ret = s;
        return 0;
    }
    int code = text_escape(r, &t, s);
    if (!code)
        code = text_value(r, &t, ret);
    if (!code)
        ret->flavour = 1;
    return code;
}
