/* The tojson filter of chat templates: Python's json.dumps with ensure_ascii off by default and
 * without HTML escaping. Source: transformers documentation, "Chat templates"; Python
 * documentation, module json. */
#include "jinja/internal.h"

#include <math.h>
#include <stdio.h>

struct json {
    struct run *r;
    struct text t;
    bool ascii;
    bool sort;
    bool pretty;
    struct jinja_value indent; /* the unit of one level */
    struct jinja_value comma;
    struct jinja_value colon;
    int level;
};

static int write_value(struct json *w, struct jinja_value v);

static int write_string(struct json *w, struct jinja_value s)
{
    struct run *r = w->r;
    char raw[16];
    int code = run_chars(r, s.size);
    if (!code)
        code = text_cstr(r, &w->t, "\"");
    for (size_t i = 0; !code && i < s.size;) {
        size_t start = i;
        bool tainted = taint_at(s, i);
        uint32_t c = utf8_next(s.as.text, s.size, &i);
        static const char plain[] = "\"\"\\\\\nn\rr\tt\bb\ff";
        const char *p = plain;
        while (*p && (uint32_t)*p != c)
            p += 2;
        int n = 0;
        if (*p && c)
            n = snprintf(raw, sizeof raw, "\\%c", p[1]);
        else if (c < 0x20 || (w->ascii && c > 0x7f && c < 0x10000))
            n = snprintf(raw, sizeof raw, "\\u%04x", (unsigned)c);
        else if (w->ascii && c >= 0x10000)
            n = snprintf(raw, sizeof raw, "\\u%04x\\u%04x", (unsigned)(0xd7c0 + (c >> 10)),
                         (unsigned)(0xdc00 | (c & 0x3ff)));
        code = n ? text_put(r, &w->t, raw, (size_t)n, tainted)
                 : text_put(r, &w->t, s.as.text + start, i - start, tainted);
    }
    return code ? code : text_cstr(r, &w->t, "\"");
}

static int write_newline(struct json *w)
{
    if (!w->pretty)
        return 0;
    int code = text_cstr(w->r, &w->t, "\n");
    if (code)
        return code;
    return text_fill(w->r, &w->t, w->indent, (uint64_t)w->level);
}

/* Before an item: the separator and the line. */
static int write_item(struct json *w, bool first)
{
    int code = first ? 0 : text_string(w->r, &w->t, w->comma);
    return code ? code : write_newline(w);
}

static int write_list(struct json *w, const struct jinja_list *l)
{
    if (!l->count)
        return text_cstr(w->r, &w->t, "[]");
    int code = text_cstr(w->r, &w->t, "[");
    w->level++;
    for (size_t i = 0; !code && i < l->count; i++) {
        code = write_item(w, i == 0);
        if (!code)
            code = write_value(w, l->items[i]);
    }
    w->level--;
    if (!code)
        code = write_newline(w);
    return code ? code : text_cstr(w->r, &w->t, "]");
}

static int write_key(struct json *w, struct jinja_value key)
{
    int code;
    if (is_string(key)) {
        code = write_string(w, key);
    } else if (key.kind == JINJA_NONE || is_number(key)) {
        code = text_cstr(w->r, &w->t, "\"");
        if (!code)
            code = write_value(w, key);
        if (!code)
            code = text_cstr(w->r, &w->t, "\"");
    } else {
        return run_fail(w->r, FAIL_FORMAT, "keys must be str, int, float, bool or None, not %s",
                        type_name(key));
    }
    return code ? code : text_string(w->r, &w->t, w->colon);
}

static int write_dict(struct json *w, const struct jinja_dict *d)
{
    if (!d->count)
        return text_cstr(w->r, &w->t, "{}");
    struct jinja_value *keys = arena_array(&w->r->arena, struct jinja_value, d->count);
    struct jinja_value *values = arena_array(&w->r->arena, struct jinja_value, d->count);
    if (!keys || !values)
        return run_nomem(w->r);
    for (size_t i = 0; i < d->count; i++) {
        keys[i] = d->entries[i].key;
        values[i] = d->entries[i].value;
    }
    int code = run_step(w->r, d->count);
    if (!code && w->sort)
        code = sort_values(w->r, keys, values, d->count, false);
    if (!code)
        code = text_cstr(w->r, &w->t, "{");
    w->level++;
    for (size_t i = 0; !code && i < d->count; i++) {
        code = write_item(w, i == 0);
        if (!code)
            code = write_key(w, keys[i]);
        if (!code)
            code = write_value(w, values[i]);
    }
    w->level--;
    if (!code)
        code = write_newline(w);
    return code ? code : text_cstr(w->r, &w->t, "}");
}

static int write_value(struct json *w, struct jinja_value v)
{
    struct run *r = w->r;
    int code = run_enter(r);
    if (!code)
        code = run_step(r, 1);
    if (code) {
        run_leave(r);
        return code;
    }
    switch (v.kind) {
    case JINJA_NONE:
        code = text_cstr(r, &w->t, "null");
        break;
    case JINJA_BOOL:
        code = text_cstr(r, &w->t, v.as.boolean ? "true" : "false");
        break;
    case JINJA_FLOAT:
        if (isnan(v.as.real) || isinf(v.as.real))
            code = text_cstr(r, &w->t,
                             isnan(v.as.real) ? "NaN"
                             : v.as.real < 0  ? "-Infinity"
                                              : "Infinity");
        else
            code = float_repr(r, &w->t, v.as.real);
        break;
    case JINJA_INT:
        code = value_repr(r, &w->t, v);
        break;
    case JINJA_STRING:
        code = write_string(w, v);
        break;
    case JINJA_LIST:
    case JINJA_TUPLE:
        code = write_list(w, v.as.list);
        break;
    case JINJA_DICT:
        code = write_dict(w, v.as.dict);
        break;
    default:
        code = run_fail(r, FAIL_FORMAT, "Object of type %s is not JSON serializable", type_name(v));
    }
    run_leave(r);
    return code;
}

static int take_indent(struct json *w, struct jinja_value indent)
{
    if (is_absent(indent) || indent.kind == JINJA_NONE)
        return 0;
    w->pretty = true;
    w->comma = string_const(",");
    if (is_string(indent)) {
        w->indent = indent;
        return 0;
    }
    if (!is_integral(indent))
        return run_fail(w->r, FAIL_FORMAT, "indent must be an integer or a string, not %s",
                        type_name(indent));
    struct text t = { 0 };
    int64_t n = as_int(indent);
    int code = text_fill(w->r, &t, string_const(" "), n > 0 ? (uint64_t)n : 0);
    return code ? code : text_value(w->r, &t, &w->indent);
}

/* arg: ensure_ascii, indent, separators, sort_keys. */
int value_json(struct run *r, struct jinja_value v, const struct jinja_value *arg,
               struct jinja_value *ret)
{
    struct json w = { .r = r,
                      .ascii = !is_absent(arg[0]) && truth(arg[0]),
                      .sort = !is_absent(arg[3]) && truth(arg[3]),
                      .indent = string_const(""),
                      .comma = string_const(", "),
                      .colon = string_const(": ") };
    int code = take_indent(&w, arg[1]);
    if (!code && !is_absent(arg[2]) && arg[2].kind != JINJA_NONE) {
        const struct jinja_list *l = arg[2].as.list;
        if (!is_items(arg[2]) || l->count != 2 || !is_string(l->items[0]) ||
            !is_string(l->items[1]))
            return run_fail(r, FAIL_FORMAT, "separators must be two strings");
        w.comma = l->items[0];
        w.colon = l->items[1];
    }
    if (!code)
        code = write_value(&w, v);
    return code ? code : text_value(r, &w.t, ret);
}
