/* Filters of texts and numbers. Source: Jinja documentation, "List of Builtin Filters". */
#include "jinja/internal.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define FILTER(name)                                                                               \
    static int name(struct run *r, struct jinja_value self, const struct jinja_value *arg,         \
                    const struct call *more, struct jinja_value *ret)

static bool flag(struct jinja_value v)
{
    return !is_absent(v) && truth(v);
}

static int integer_arg(struct run *r, struct jinja_value v, int64_t missing, int64_t *ret)
{
    if (!is_absent(v) && !is_integral(v))
        return run_fail(r, FAIL_FORMAT, "an integer is required, not %s", type_name(v));
    *ret = is_absent(v) ? missing : as_int(v);
    return 0;
}

/* ret is markup where self was. */
static int as_markup(struct jinja_value self, struct jinja_value *ret)
{
    ret->flavour = self.flavour;
    return 0;
}

static int case_filter(struct run *r, struct jinja_value self, enum text_case to,
                       struct jinja_value *ret)
{
    int code = value_to_string(r, self, &self);
    if (!code)
        code = string_case(r, self, to, ret);
    return code ? code : as_markup(self, ret);
}

FILTER(filter_upper)
{
    return case_filter(r, self, CASE_UPPER, ret);
}

FILTER(filter_lower)
{
    return case_filter(r, self, CASE_LOWER, ret);
}

FILTER(filter_capitalize)
{
    int code = value_to_string(r, self, &self);
    if (!code)
        code = string_capitalize(r, self, ret);
    return code ? code : as_markup(self, ret);
}

/* Words begin after whitespace, hyphens and opening brackets, unlike in str.title(). */
FILTER(filter_title)
{
    struct text t = { 0 };
    bool begin = true;
    int code = value_to_string(r, self, &self);
    if (!code)
        code = run_chars(r, self.size);
    for (size_t i = 0; !code && i < self.size;) {
        bool tainted = taint_at(self, i);
        uint32_t c = utf8_next(self.as.text, self.size, &i), out[3];
        bool breaks =
            c == '-' || c == '(' || c == '{' || c == '[' || c == '<' || unicode_is_space(c);
        int n = unicode_case(c, begin ? CASE_UPPER : CASE_LOWER, out);
        for (int k = 0; !code && k < n; k++)
            code = text_add_point(r, &t, out[k], tainted);
        begin = breaks;
    }
    return code ? code : text_value(r, &t, ret);
}

FILTER(filter_trim)
{
    int code = value_to_string(r, self, &self);
    if (!code)
        code = string_strip(r, self, arg[0], 3, ret);
    return code ? code : as_markup(self, ret);
}

FILTER(filter_string)
{
    return value_to_string(r, self, ret);
}

FILTER(filter_safe)
{
    int code = value_to_string(r, self, ret);
    if (!code)
        ret->flavour = 1;
    return code;
}

FILTER(filter_center)
{
    struct jinja_value width = is_absent(arg[0]) ? jinja_int(80) : arg[0], center;
    bool unsafe = false;
    int code = value_to_string(r, self, &self);
    if (!code)
        code = bind_method(r, find_method(self, bytes_text("center"), &unsafe), self, &center);
    struct call c = { .args = &width, .count = 1 };
    return code ? code : call_value(r, center, &c, ret);
}

FILTER(filter_replace)
{
    struct jinja_value old, fresh;
    int64_t count;
    int code = value_to_string(r, self, &self);
    if (!code)
        code = value_to_string(r, arg[0], &old);
    if (!code)
        code = value_to_string(r, arg[1], &fresh);
    if (!code)
        code = integer_arg(r, arg[2].kind == JINJA_NONE ? jinja_int(-1) : arg[2], -1, &count);
    return code ? code : string_replace(r, self, old, fresh, count < 0 ? -1 : count, ret);
}

FILTER(filter_indent)
{
    struct text t = { 0 };
    struct jinja_value unit, lines;
    int64_t width = 4;
    bool first = flag(arg[1]), blank = flag(arg[2]);
    if (!is_string(self))
        return self.kind == JINJA_UNDEFINED
                   ? undefined_fail(r, self)
                   : run_fail(r, FAIL_FORMAT, "indent needs a text, not %s", type_name(self));
    int code = 0;
    if (is_string(arg[0])) {
        unit = arg[0];
    } else {
        struct text spaces = { 0 };
        code = integer_arg(r, arg[0], 4, &width);
        if (!code)
            code = text_fill(r, &spaces, string_const(" "), width > 0 ? (uint64_t)width : 0);
        if (!code)
            code = text_value(r, &spaces, &unit);
    }
    /* A newline at the end counts as one more, empty line. */
    if (!code)
        code = binary_op(r, OP_ADD, self, string_const("\n"), &self);
    if (!code)
        code = string_splitlines(r, self, false, &lines);
    if (!code && first)
        code = text_string(r, &t, unit);
    for (size_t i = 0; !code && i < lines.as.list->count; i++) {
        struct jinja_value line = lines.as.list->items[i];
        if (i)
            code = text_cstr(r, &t, "\n");
        if (!code && i && (blank || line.size))
            code = text_string(r, &t, unit);
        if (!code)
            code = text_string(r, &t, line);
    }
    return code ? code : text_value(r, &t, ret);
}

FILTER(filter_truncate)
{
    int64_t length, leeway;
    struct jinja_value end = is_absent(arg[2]) ? string_const("...") : arg[2], part;
    int64_t size = 0;
    int code = value_length(r, self, &size);
    if (!code)
        code = value_to_string(r, end, &end);
    if (!code)
        code = integer_arg(r, arg[0], 255, &length);
    if (!code)
        code = integer_arg(r, arg[3].kind == JINJA_NONE ? jinja_int(5) : arg[3], 5, &leeway);
    if (code)
        return code;
    if (length < (int64_t)end.points || leeway < 0)
        return run_fail(r, FAIL_FORMAT, "truncate expects a length of at least %u, got %lld",
                        (unsigned)end.points, (long long)length);
    if (size - length <= leeway) {
        *ret = self;
        return 0;
    }
    if (!is_string(self))
        return run_fail(r, FAIL_FORMAT, "truncate needs a text, not %s", type_name(self));
    const struct jinja_value bound[3] = { jinja_none(), jinja_int(length - end.points),
                                          jinja_none() };
    code = get_slice(r, self, bound, &part);
    if (code)
        return code;
    if (!flag(arg[1])) {
        const char *space = (const char *)bytes_find_last(bytes_of(part.as.text, part.size), ' ');
        if (space)
            part.size = (uint32_t)(space - part.as.text);
    }
    struct text t = { 0 };
    code = text_string(r, &t, part);
    if (!code)
        code = text_string(r, &t, end);
    return code ? code : text_value(r, &t, ret);
}

FILTER(filter_wordcount)
{
    int64_t n = 0;
    bool in_word = false;
    int code = value_to_string(r, self, &self);
    if (!code)
        code = run_chars(r, self.size);
    for (size_t i = 0; !code && i < self.size;) {
        uint32_t c = utf8_next(self.as.text, self.size, &i);
        bool word = c == '_' || unicode_is_alpha(c) || unicode_is_numeric(c);
        n += word && !in_word;
        in_word = word;
    }
    *ret = jinja_int(n);
    return code;
}

FILTER(filter_escape)
{
    int code = value_to_string(r, self, &self);
    return code ? code : string_escape(r, self, ret);
}

FILTER(filter_forceescape)
{
    int code = value_to_string(r, self, &self);
    self.flavour = 0;
    return code ? code : string_escape(r, self, ret);
}

FILTER(filter_xmlattr)
{
    struct text t = { 0 };
    int code = 0;
    if (self.kind != JINJA_DICT)
        return run_fail(r, FAIL_FORMAT, "xmlattr needs a dict, not %s", type_name(self));
    bool space = is_absent(arg[0]) || truth(arg[0]);
    for (size_t i = 0; !code && i < self.as.dict->count; i++) {
        struct jinja_value key = self.as.dict->entries[i].key;
        struct jinja_value value = self.as.dict->entries[i].value;
        if (value.kind == JINJA_NONE || value.kind == JINJA_UNDEFINED)
            continue;
        if (!is_string(key))
            return run_fail(r, FAIL_FORMAT, "attribute names must be str, not %s", type_name(key));
        code = run_chars(r, key.size);
        for (size_t k = 0; !code && k < key.size; k++)
            if (strchr(" \t\n\r\f\v/>=", key.as.text[k]))
                return run_fail(r, FAIL_FORMAT, "Invalid character in attribute name");
        if (!code)
            code = value_to_string(r, value, &value);
        if (!code && (t.size || space))
            code = text_cstr(r, &t, " ");
        if (!code)
            code = text_escape(r, &t, key);
        if (!code)
            code = text_cstr(r, &t, "=\"");
        if (!code)
            code = text_escape(r, &t, value);
        if (!code)
            code = text_cstr(r, &t, "\"");
    }
    return code ? code : text_value(r, &t, ret);
}

static int quote(struct run *r, struct text *t, struct jinja_value v, bool query)
{
    int code = value_to_string(r, v, &v);
    if (!code)
        code = run_chars(r, v.size);
    for (size_t i = 0; !code && i < v.size; i++) {
        char hex[4];
        uint8_t c = (uint8_t)v.as.text[i];
        bool plain = (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z') ||
                     (c && strchr("_.-~", c)) || (c == '/' && !query);
        int n = plain               ? snprintf(hex, sizeof hex, "%c", c)
                : c == ' ' && query ? snprintf(hex, sizeof hex, "+")
                                    : snprintf(hex, sizeof hex, "%%%02X", c);
        code = text_put(r, t, hex, (size_t)n, taint_at(v, i));
    }
    return code;
}

FILTER(filter_urlencode)
{
    struct text t = { 0 };
    const struct jinja_value *items, *pair;
    size_t count, two;
    int code;
    if (is_string(self) || !is_iterable(self)) {
        code = quote(r, &t, self, false);
        return code ? code : text_value(r, &t, ret);
    }
    bool dict = self.kind == JINJA_DICT;
    code = value_items(r, self, &items, &count);
    for (size_t i = 0; !code && i < count; i++) {
        const struct dict_entry *entry = dict ? &self.as.dict->entries[i] : NULL;
        if (!dict) {
            code = value_items(r, items[i], &pair, &two);
            if (!code && two != 2)
                return run_fail(r, FAIL_FORMAT, "urlencode needs pairs");
        }
        if (!code && i)
            code = text_cstr(r, &t, "&");
        if (!code)
            code = quote(r, &t, dict ? entry->key : pair[0], true);
        if (!code)
            code = text_cstr(r, &t, "=");
        if (!code)
            code = quote(r, &t, dict ? entry->value : pair[1], true);
    }
    return code ? code : text_value(r, &t, ret);
}

FILTER(filter_format)
{
    struct jinja_value values;
    int code = value_to_string(r, self, &self);
    if (code)
        return code;
    if (more->count && more->keyword_count)
        return run_fail(r, FAIL_FORMAT,
                        "can't handle positional and keyword arguments at the same time");
    if (more->keyword_count) {
        code = dict_new(r, (size_t)more->keyword_count, &values);
        for (int i = 0; !code && i < more->keyword_count; i++) {
            struct jinja_value key;
            code = call_name(r, more, i, &key);
            if (!code)
                code = dict_put(r, &values, key, more->keywords[i]);
        }
    } else {
        code = list_new(r, JINJA_TUPLE, (size_t)more->count, &values);
        for (int i = 0; !code && i < more->count; i++)
            code = list_add(r, &values, more->args[i]);
    }
    return code ? code : format_percent(r, self, values, ret);
}

FILTER(filter_tojson)
{
    return value_json(r, self, arg, ret);
}

/* ---- numbers ---- */

/* Digits with single underscores between them, as Python's literals; spaces around are dropped. */
static bool trim_number(struct bytes *text)
{
    while (text->size && unicode_is_space(text->data[0]) && text->data[0] < 0x80) {
        text->data++;
        text->size--;
    }
    while (text->size && text->data[text->size - 1] < 0x80 &&
           unicode_is_space(text->data[text->size - 1]))
        text->size--;
    return text->size > 0;
}

bool text_to_int(struct bytes text, int base, int64_t *ret, bool *overflow)
{
    *overflow = false;
    if (!trim_number(&text) || base == 1 || base < 0 || base > 36)
        return false;
    size_t i = 0;
    bool minus = text.data[0] == '-', digit = false, zero = true;
    i += minus || text.data[0] == '+';
    if (text.size - i > 2 && text.data[i] == '0') {
        int c = text.data[i + 1] | 32, named = c == 'x' ? 16 : c == 'o' ? 8 : c == 'b' ? 2 : 0;
        if (named && (base == 0 || base == named)) {
            base = named;
            i += 2;
            i += text.data[i] == '_' && text.size - i > 1;
        }
    }
    bool guess = base == 0, leading = i < text.size && text.data[i] == '0';
    base = base ? base : 10;
    int64_t v = 0;
    for (; i < text.size; i++) {
        int c = text.data[i];
        if (c == '_' && digit) {
            digit = false;
            continue;
        }
        int d = c >= '0' && c <= '9'                 ? c - '0'
                : (c | 32) >= 'a' && (c | 32) <= 'z' ? (c | 32) - 87
                                                     : 99;
        if (d >= base)
            return false;
        digit = true;
        zero = zero && d == 0;
        if (__builtin_mul_overflow(v, base, &v) || __builtin_add_overflow(v, minus ? -d : d, &v))
            *overflow = true;
    }
    if (guess && leading && !zero)
        return false;
    *ret = v;
    return digit;
}

bool text_to_float(struct bytes text, double *ret)
{
    char copy[512];
    size_t n = 0;
    if (!trim_number(&text) || text.size >= sizeof(copy))
        return false;
    for (size_t i = 0; i < text.size; i++) {
        char c = (char)text.data[i];
        bool after = n > 0 && copy[n - 1] >= '0' && copy[n - 1] <= '9';
        bool before = i + 1 < text.size && text.data[i + 1] >= '0' && text.data[i + 1] <= '9';
        if (c == '_' && after && before)
            continue;
        /* Python reads no hexadecimal floats, and of words only these. */
        if ((c | 32) == 'x' || (c | 32) == 'p' || c == '(' || c == '\0')
            return false;
        copy[n++] = c;
    }
    copy[n] = '\0';
    char *end;
    *ret = strtod(copy, &end);
    return end != copy && *end == '\0';
}

static int float_to_int(struct run *r, double f, struct jinja_value *ret)
{
    if (!(fabs(f) < 0x1p63))
        return run_fail(r, FAIL_FORMAT, "integer of more than 64 bits");
    *ret = jinja_int((int64_t)f);
    return 0;
}

/* Reading a number out of a text: each digit, and what strtod does with up to 512 of them. */
static int text_work(struct run *r, struct jinja_value s)
{
    return run_step(r, 50 + s.size / 4);
}

FILTER(filter_int)
{
    int64_t v, base = is_absent(arg[1]) ? 10 : is_integral(arg[1]) ? as_int(arg[1]) : -1;
    double f;
    bool over;
    if (self.kind == JINJA_UNDEFINED)
        return undefined_fail(r, self);
    int code = is_string(self) ? text_work(r, self) : 0;
    if (code)
        return code;
    if (is_integral(self)) {
        *ret = jinja_int(as_int(self));
        return 0;
    }
    if (self.kind == JINJA_FLOAT && !isnan(self.as.real))
        return float_to_int(r, self.as.real, ret);
    if (is_string(self) && base >= 0 && base <= 36 &&
        text_to_int(string_bytes(self), (int)base, &v, &over)) {
        if (over)
            return run_fail(r, FAIL_FORMAT, "integer of more than 64 bits");
        *ret = jinja_int(v);
        return 0;
    }
    if (is_string(self) && text_to_float(string_bytes(self), &f) && isfinite(f))
        return float_to_int(r, f, ret);
    *ret = is_absent(arg[0]) ? jinja_int(0) : arg[0];
    return 0;
}

FILTER(filter_float)
{
    double f;
    if (self.kind == JINJA_UNDEFINED)
        return undefined_fail(r, self);
    int code = is_string(self) ? text_work(r, self) : 0;
    if (code)
        return code;
    if (is_number(self))
        *ret = jinja_float(as_float(self));
    else if (is_string(self) && text_to_float(string_bytes(self), &f))
        *ret = jinja_float(f);
    else
        *ret = is_absent(arg[0]) ? jinja_float(0) : arg[0];
    return 0;
}

FILTER(filter_abs)
{
    if (self.kind == JINJA_UNDEFINED)
        return undefined_fail(r, self);
    if (!is_number(self))
        return run_fail(r, FAIL_FORMAT, "bad operand type for abs(): '%s'", type_name(self));
    if (self.kind == JINJA_FLOAT)
        *ret = jinja_float(fabs(self.as.real));
    else if (as_int(self) == INT64_MIN)
        return run_fail(r, FAIL_FORMAT, "integer of more than 64 bits");
    else
        *ret = jinja_int(as_int(self) < 0 ? -as_int(self) : as_int(self));
    return 0;
}

/* Half to even at a power of ten; the digits are exact, as Python's are. */
static int round_common(struct run *r, struct jinja_value v, int64_t precision,
                        struct jinja_value *ret)
{
    char text[700];
    if (precision >= 0 && is_integral(v)) {
        *ret = jinja_int(as_int(v));
        return 0;
    }
    if (precision >= 0) {
        snprintf(text, sizeof(text), "%.*f", (int)(precision > 330 ? 330 : precision), v.as.real);
        *ret = jinja_float(isfinite(v.as.real) ? strtod(text, NULL) : v.as.real);
        return 0;
    }
    if (is_integral(v)) {
        int64_t i = as_int(v), unit = 1;
        for (; precision < 0 && unit < INT64_MAX / 10; precision++)
            unit *= 10;
        int64_t rest = i % unit, down = i - rest, size = rest < 0 ? -rest : rest;
        bool up =
            precision == 0 && (size > unit - size || (size == unit - size && (down / unit) & 1));
        if (up && __builtin_add_overflow(down, rest < 0 ? -unit : unit, &down))
            return run_fail(r, FAIL_FORMAT, "integer of more than 64 bits");
        *ret = jinja_int(precision < 0 ? 0 : down);
        return 0;
    }
    double unit = pow(10, (double)-precision), q = rint(v.as.real / unit);
    *ret = jinja_float(isinf(unit) ? 0.0 * v.as.real : q * unit);
    return 0;
}

FILTER(filter_round)
{
    int64_t precision;
    struct jinja_value method = is_absent(arg[1]) ? string_const("common") : arg[1];
    int code = integer_arg(r, arg[0], 0, &precision);
    if (code)
        return code;
    bool common = is_string(method) && bytes_equal_text(string_bytes(method), "common");
    bool ceiling = is_string(method) && bytes_equal_text(string_bytes(method), "ceil");
    bool down = is_string(method) && bytes_equal_text(string_bytes(method), "floor");
    if (!common && !ceiling && !down)
        return run_fail(r, FAIL_FORMAT, "method must be common, ceil or floor");
    if (self.kind == JINJA_UNDEFINED)
        return undefined_fail(r, self);
    if (!is_number(self))
        return run_fail(r, FAIL_FORMAT, "type %s doesn't define __round__ method", type_name(self));
    code = run_step(r, 100); /* up to 700 digits, written and read */
    if (code)
        return code;
    if (common)
        return round_common(r, self, precision, ret);
    double scale = pow(10, (double)precision), f = as_float(self) * scale;
    if (!isfinite(f))
        return run_fail(r, FAIL_FORMAT, "cannot convert float to integer");
    *ret = jinja_float((ceiling ? ceil(f) : floor(f)) / scale);
    return 0;
}

FILTER(filter_filesizeformat)
{
    static const char *const names[2][8] = { { "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB" },
                                             { "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB",
                                               "YiB" } };
    bool binary = flag(arg[0]);
    double base = binary ? 1024 : 1000, bytes = 0, unit = base;
    int code = filter_float(r, self, arg + 1, more, ret), i = 0;
    if (code)
        return code;
    bytes = ret->as.real;
    struct text t = { 0 };
    if (bytes == 1) {
        code = text_cstr(r, &t, "1 Byte");
    } else if (bytes < base) {
        code = text_printf(r, &t, "%lld Bytes", (long long)(bytes > -0x1p62 ? bytes : 0));
    } else {
        for (; i < 7 && bytes >= unit * base; i++)
            unit *= base;
        code = text_printf(r, &t, "%.1f %s", bytes / unit, names[binary][i]);
    }
    return code ? code : text_value(r, &t, ret);
}

const struct builtin jinja_text_filters[] = {
    { "upper", filter_upper, "", 0 },
    { "lower", filter_lower, "", 0 },
    { "capitalize", filter_capitalize, "", 0 },
    { "title", filter_title, "", 0 },
    { "trim", filter_trim, "chars", 0 },
    { "string", filter_string, "", 0 },
    { "safe", filter_safe, "", 0 },
    { "center", filter_center, "width", 0 },
    { "replace", filter_replace, "old new count", 2 },
    { "indent", filter_indent, "width first blank", 0 },
    { "truncate", filter_truncate, "length killwords end leeway", 0 },
    { "wordcount", filter_wordcount, "", 0 },
    { "escape", filter_escape, "", 0 },
    { "e", filter_escape, "", 0 },
    { "forceescape", filter_forceescape, "", 0 },
    { "xmlattr", filter_xmlattr, "autospace", 0 },
    { "urlencode", filter_urlencode, "", 0 },
    { "format", filter_format, "*", 0 },
    { "tojson", filter_tojson, "ensure_ascii indent separators sort_keys", 0 },
    { "int", filter_int, "default base", 0 },
    { "float", filter_float, "default", 0 },
    { "abs", filter_abs, "", 0 },
    { "round", filter_round, "precision method", 0 },
    { "filesizeformat", filter_filesizeformat, "binary", 0 },
    { NULL, NULL, NULL, 0 },
};
