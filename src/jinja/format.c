/* Python's format specifications, "%" formatting and str.format. Source: Python documentation,
 * "printf-style String Formatting" and "Format Specification Mini-Language". */
#include "jinja/internal.h"

#include <math.h>
#include <stdio.h>

/* No text needs wider fields or more digits; beyond it a template is wrong. */
#define MAX_WIDTH 10000
#define MAX_PRECISION 300

struct spec {
    struct jinja_value fill; /* one code point */
    char align;              /* < > = ^ or 0 */
    char sign;               /* + - space or 0 */
    bool alternate;
    char group; /* , _ or 0 */
    int width;
    int precision; /* -1: none */
    char type;     /* 0: none */
};

int format_float(struct run *r, struct text *t, double f, char code, int precision, bool alternate)
{
    char out[MAX_PRECISION + 400], pattern[16];
    if (isnan(f) || isinf(f)) {
        bool upper = code >= 'A' && code <= 'Z';
        const char *text = isnan(f) ? (upper ? "NAN" : "nan") : (upper ? "INF" : "inf");
        return text_printf(r, t, "%s%s%s", f < 0 ? "-" : "", text, code == '%' ? "%" : "");
    }
    bool percent = code == '%';
    snprintf(pattern, sizeof(pattern), "%%%s.*%c", alternate ? "#" : "", percent ? 'f' : code);
    int n = snprintf(out, sizeof(out), pattern, precision, percent ? f * 100 : f);
    if (n < 0 || (size_t)n >= sizeof(out))
        return run_fail(r, FAIL_LIMIT, "a number is too long");
    int status = text_add(r, t, out, (size_t)n);
    return status || !percent ? status : text_cstr(r, t, "%");
}

/* Digits with their sign and prefix; *lead counts what stands before the digits. */
static int integer_digits(struct run *r, struct text *t, int64_t v, const struct spec *s,
                          size_t *lead)
{
    uint64_t u = v < 0 ? 0 - (uint64_t)v : (uint64_t)v;
    char digits[80], type = s->type ? s->type : 'd';
    int base = type == 'b' ? 2 : type == 'o' ? 8 : (type | 32) == 'x' ? 16 : 10, n = 0;
    const char *set = type == 'X' ? "0123456789ABCDEF" : "0123456789abcdef";
    do
        digits[n++] = set[u % (unsigned)base];
    while (u /= (unsigned)base);
    int code = v < 0            ? text_cstr(r, t, "-")
               : s->sign == '+' ? text_cstr(r, t, "+")
               : s->sign == ' ' ? text_cstr(r, t, " ")
                                : 0;
    if (!code && s->alternate && base != 10)
        code = text_printf(r, t, "0%c", type);
    *lead = t->size;
    if (!code && s->precision > n && s->precision <= MAX_PRECISION)
        code = text_fill(r, t, string_const("0"), (uint64_t)(s->precision - n));
    while (!code && n--)
        code = text_add(r, t, &digits[n], 1);
    return code;
}

/* Puts separators between the digits that follow lead. */
static int group_digits(struct run *r, struct text *t, size_t lead, const struct spec *s)
{
    if (!s->group || !t->size)
        return 0;
    size_t end = lead;
    int every = s->type == 'b' || s->type == 'o' || (s->type | 32) == 'x' ? 4 : 3;
    while (end < t->size && strchr("0123456789abcdefABCDEF", t->data[end]) &&
           !(s->type != 'x' && s->type != 'X' && (t->data[end] | 32) == 'e'))
        end++;
    struct text out = { 0 };
    int code = text_add(r, &out, t->data, lead);
    for (size_t i = lead; !code && i < end; i++) {
        if (i > lead && (end - i) % (size_t)every == 0)
            code = text_add(r, &out, &s->group, 1);
        if (!code)
            code = text_add(r, &out, t->data + i, 1);
    }
    if (!code)
        code = text_add(r, &out, t->data + end, t->size - end);
    *t = out;
    return code;
}

/* Writes body, whose first lead bytes are sign and prefix, padded. */
static int pad_string(struct run *r, struct text *t, struct jinja_value body, size_t lead,
                      const struct spec *s, char align)
{
    uint64_t n = s->width > (int64_t)body.points ? (uint64_t)s->width - body.points : 0;
    uint64_t left = align == '>' ? n : align == '^' ? n / 2 : 0;
    int code = text_fill(r, t, s->fill, left);
    if (!code)
        code = text_part(r, t, body, 0, lead);
    if (!code && align == '=')
        code = text_fill(r, t, s->fill, n);
    if (!code)
        code = text_part(r, t, body, lead, body.size);
    if (!code && align != '=')
        code = text_fill(r, t, s->fill, n - left);
    return code;
}

static int pad_body(struct run *r, struct text *t, const struct text *body, size_t lead,
                    const struct spec *s, char align)
{
    struct jinja_value v;
    int code = text_value(r, body, &v);
    return code ? code : pad_string(r, t, v, lead, s, align);
}

static bool take_number(struct bytes spec, size_t *i, int most, int *ret)
{
    int v = 0;
    while (*i < spec.size && spec.data[*i] >= '0' && spec.data[*i] <= '9') {
        v = v * 10 + (spec.data[(*i)++] - '0');
        if (v > most)
            return false;
    }
    *ret = v;
    return true;
}

static bool is_align(uint8_t c)
{
    return c == '<' || c == '>' || c == '=' || c == '^';
}

static int parse_spec(struct run *r, struct jinja_value text, struct spec *s)
{
    struct bytes spec = string_bytes(text);
    *s = (struct spec){ .fill = string_const(" "), .precision = -1 };
    size_t i = 0, next = 0;
    if (spec.size)
        utf8_next((const char *)spec.data, spec.size, &next);
    if (next < spec.size && is_align(spec.data[next])) {
        s->fill = string_range(text, 0, next, 1);
        s->align = (char)spec.data[next];
        i = next + 1;
    } else if (spec.size && is_align(spec.data[0])) {
        s->align = (char)spec.data[i++];
    }
    if (i < spec.size && strchr("+- ", spec.data[i]))
        s->sign = (char)spec.data[i++];
    if (i < spec.size && spec.data[i] == '#') {
        s->alternate = true;
        i++;
    }
    if (i < spec.size && spec.data[i] == '0') {
        if (!s->align) {
            s->fill = string_const("0");
            s->align = '=';
        }
        i++;
    }
    if (!take_number(spec, &i, MAX_WIDTH, &s->width))
        return run_fail(r, FAIL_LIMIT, "a field wider than %d", MAX_WIDTH);
    if (i < spec.size && (spec.data[i] == ',' || spec.data[i] == '_'))
        s->group = (char)spec.data[i++];
    if (i < spec.size && spec.data[i] == '.') {
        size_t start = ++i;
        if (!take_number(spec, &i, MAX_WIDTH, &s->precision))
            return run_fail(r, FAIL_LIMIT, "a precision above %d", MAX_WIDTH);
        if (i == start)
            return run_fail(r, FAIL_FORMAT, "Format specifier missing precision");
    }
    if (i < spec.size)
        s->type = (char)spec.data[i++];
    if (i < spec.size)
        return run_fail(r, FAIL_FORMAT, "Invalid format specifier '%.*s'", BYTES_ARG(spec));
    return 0;
}

static int bad_code(struct run *r, const struct spec *s, struct jinja_value v)
{
    return run_fail(r, FAIL_FORMAT, "Unknown format code '%c' for object of type '%s'", s->type,
                    type_name(v));
}

static int spec_string(struct run *r, struct text *t, struct jinja_value v, struct spec *s)
{
    if (s->type && s->type != 's')
        return bad_code(r, s, v);
    if (s->align == '=' && s->fill.as.text[0] != '0')
        return run_fail(r, FAIL_FORMAT, "'=' alignment not allowed in string format specifier");
    size_t points =
        s->precision >= 0 && (uint32_t)s->precision < v.points ? (size_t)s->precision : v.points;
    struct jinja_value body = string_range(v, 0, string_offset(v, points), points);
    return pad_string(r, t, body, 0, s, s->align && s->align != '=' ? s->align : '<');
}

static int spec_number(struct run *r, struct text *t, struct jinja_value v, struct spec *s)
{
    struct text body = { 0 };
    size_t lead = 0;
    int code;
    bool whole = is_integral(v) && (!s->type || strchr("bcdoxXn", s->type));
    if (s->precision > MAX_PRECISION)
        return run_fail(r, FAIL_LIMIT, "a precision above %d", MAX_PRECISION);
    if (whole && s->type == 'c') {
        int64_t c = as_int(v);
        if (c < 0 || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
            return run_fail(r, FAIL_FORMAT, "%%c arg not in range(0x110000)");
        code = text_add_point(r, &body, (uint32_t)c, false);
    } else if (whole) {
        if (s->precision >= 0)
            return run_fail(r, FAIL_FORMAT, "Precision not allowed in integer format specifier");
        if (s->type == 'n')
            s->type = 'd';
        code = integer_digits(r, &body, as_int(v), s, &lead);
    } else if (s->type && !strchr("eEfFgGn%", s->type)) {
        return bad_code(r, s, v);
    } else {
        double f = as_float(v);
        if (!signbit(f) && (s->sign == '+' || s->sign == ' '))
            text_add(r, &body, &s->sign, 1);
        char type = s->type == 'n' ? 'g' : s->type;
        int precision = s->precision < 0 ? 6 : s->precision;
        lead = body.size;
        if (!type && s->precision < 0)
            code = float_repr(r, &body, f);
        else
            code = format_float(r, &body, f, type ? type : 'g', precision, s->alternate);
        if (lead < body.size && body.data[lead] == '-')
            lead++;
    }
    if (!code)
        code = group_digits(r, &body, lead, s);
    return code ? code : pad_body(r, t, &body, lead, s, s->align ? s->align : '>');
}

int format_spec(struct run *r, struct text *t, struct jinja_value v, struct jinja_value spec)
{
    struct spec s;
    if (!spec.size)
        return value_str(r, t, v);
    int code = run_step(r, 10);
    if (!code)
        code = parse_spec(r, spec, &s);
    if (code)
        return code;
    if (is_string(v))
        return spec_string(r, t, v, &s);
    if (is_number(v))
        return spec_number(r, t, v, &s);
    return run_fail(r, FAIL_FORMAT, "unsupported format string passed to %s.__format__",
                    type_name(v));
}

/* ---- % ---- */

struct percent {
    struct run *r;
    struct text t;
    struct jinja_value values;
    size_t used;
    bool markup; /* values are escaped */
};

static int next_value(struct percent *p, struct jinja_value *ret)
{
    bool tuple = p->values.kind == JINJA_TUPLE;
    size_t count = tuple ? p->values.as.list->count : 1;
    if (p->used >= count)
        return run_fail(p->r, FAIL_FORMAT, "not enough arguments for format string");
    *ret = tuple ? p->values.as.list->items[p->used] : p->values;
    p->used++;
    return 0;
}

static int star_or_number(struct percent *p, struct bytes s, size_t *i, int most, int *ret)
{
    if (*i < s.size && s.data[*i] == '*') {
        struct jinja_value v;
        int code = next_value(p, &v);
        if (code)
            return code;
        if (!is_integral(v) || as_int(v) > most || as_int(v) < -most)
            return run_fail(p->r, FAIL_FORMAT, "* wants int");
        *ret = (int)as_int(v);
        (*i)++;
        return 0;
    }
    if (!take_number(s, i, most, ret))
        return run_fail(p->r, FAIL_LIMIT, "a field wider than %d", most);
    return 0;
}

static int percent_number(struct percent *p, struct jinja_value v, struct spec *s,
                          struct text *body, size_t *lead)
{
    struct run *r = p->r;
    if (v.kind == JINJA_UNDEFINED)
        return undefined_fail(r, v);
    if (s->precision > MAX_PRECISION)
        return run_fail(r, FAIL_LIMIT, "a precision above %d", MAX_PRECISION);
    bool whole = strchr("diuoxX", s->type);
    if (!is_number(v) || (v.kind == JINJA_FLOAT && strchr("oxX", s->type)))
        return run_fail(r, FAIL_FORMAT, "%%%c format: a%s number is required, not %s", s->type,
                        whole ? "n integer or real" : " real", type_name(v));
    if (!whole) {
        double f = as_float(v);
        if (!signbit(f) && s->sign)
            text_add(r, body, &s->sign, 1);
        *lead = body->size + (signbit(f) ? 1 : 0);
        return format_float(r, body, f, s->type, s->precision < 0 ? 6 : s->precision, s->alternate);
    }
    if (s->type == 'i' || s->type == 'u')
        s->type = 'd';
    if (v.kind == JINJA_FLOAT) {
        if (!(fabs(v.as.real) < 0x1p63))
            return run_fail(r, FAIL_FORMAT, "integer of more than 64 bits");
        v = jinja_int((int64_t)v.as.real);
    }
    return integer_digits(r, body, as_int(v), s, lead);
}

static int percent_text(struct percent *p, struct jinja_value v, struct spec *s, struct text *body)
{
    struct run *r = p->r;
    int code;
    if (s->type == 'c') {
        if (is_string(v) && v.points == 1)
            return text_string(r, body, v);
        if (!is_integral(v) || as_int(v) < 0 || as_int(v) > 0x10ffff)
            return run_fail(r, FAIL_FORMAT, "%%c requires int or char");
        return text_add_point(r, body, (uint32_t)as_int(v), false);
    }
    code = s->type == 's' ? value_str(r, body, v) : value_repr(r, body, v);
    struct jinja_value text;
    if (!code && p->markup && !is_markup(v)) {
        code = text_value(r, body, &text);
        if (!code)
            code = string_escape(r, text, &text);
        *body = (struct text){ 0 };
        if (!code)
            code = text_string(r, body, text);
    }
    if (!code && s->precision >= 0) {
        code = text_value(r, body, &text);
        if (!code && (uint32_t)s->precision < text.points)
            body->size = string_offset(text, (size_t)s->precision);
    }
    return code;
}

/* "(key)" of a conversion, if there is one. */
static int conversion_key(struct percent *p, struct bytes s, size_t *i, struct jinja_value *v,
                          bool *named)
{
    struct run *r = p->r;
    *named = *i < s.size && s.data[*i] == '(';
    if (!*named)
        return 0;
    size_t start = ++*i;
    for (int open = 1; *i < s.size; ++*i) {
        open += s.data[*i] == '(' ? 1 : s.data[*i] == ')' ? -1 : 0;
        if (!open)
            break;
    }
    if (*i >= s.size)
        return run_fail(r, FAIL_FORMAT, "incomplete format key");
    struct bytes key = bytes_of(s.data + start, (*i)++ - start);
    if (p->values.kind != JINJA_DICT)
        return run_fail(r, FAIL_FORMAT, "format requires a mapping");
    const struct jinja_value *found;
    int code = dict_find_text(r, p->values.as.dict, key, &found);
    if (code)
        return code;
    if (!found)
        return run_fail(r, FAIL_FORMAT, "no key '%.*s' in the mapping", BYTES_ARG(key));
    *v = *found;
    return 0;
}

/* Flags, width and precision. align becomes '<' for "-", '=' for "0". */
static int conversion_flags(struct percent *p, struct bytes s, size_t *i, struct spec *spec)
{
    bool left = false, zero = false;
    for (; *i < s.size && s.data[*i] && strchr("#0- +", s.data[*i]); ++*i) {
        char c = (char)s.data[*i];
        left = left || c == '-';
        zero = zero || c == '0';
        spec->alternate = spec->alternate || c == '#';
        if (c == '+' || (c == ' ' && !spec->sign))
            spec->sign = c;
    }
    int code = star_or_number(p, s, i, MAX_WIDTH, &spec->width);
    if (spec->width < 0) {
        left = true;
        spec->width = -spec->width;
    }
    if (!code && *i < s.size && s.data[*i] == '.') {
        ++*i;
        code = star_or_number(p, s, i, MAX_WIDTH, &spec->precision);
        if (spec->precision < 0)
            spec->precision = 0;
    }
    while (*i < s.size && s.data[*i] && strchr("hlL", s.data[*i]))
        ++*i;
    spec->align = left ? '<' : zero ? '=' : '>';
    if (!code && *i >= s.size)
        code = run_fail(p->r, FAIL_FORMAT, "incomplete format");
    return code;
}

/* One conversion; i stands behind the "%". */
static int conversion(struct percent *p, struct bytes s, size_t *i)
{
    struct spec spec = { .fill = string_const(" "), .precision = -1 };
    struct run *r = p->r;
    struct jinja_value v;
    bool named;
    int code = conversion_key(p, s, i, &v, &named);
    if (!code)
        code = conversion_flags(p, s, i, &spec);
    if (code)
        return code;
    spec.type = (char)s.data[(*i)++];
    if (spec.type == '%')
        return text_cstr(r, &p->t, "%");
    bool number = spec.type && strchr("diouxXeEfFgG", spec.type);
    if (!number && (!spec.type || !strchr("crsa", spec.type)))
        return run_fail(r, FAIL_FORMAT, "unsupported format character U+%02X",
                        (unsigned)(uint8_t)spec.type);
    if (!named)
        code = next_value(p, &v);
    struct text body = { 0 };
    size_t lead = 0;
    if (!code)
        code =
            number ? percent_number(p, v, &spec, &body, &lead) : percent_text(p, v, &spec, &body);
    if (code)
        return code;
    if (spec.align == '=' && number)
        spec.fill = string_const("0");
    return pad_body(r, &p->t, &body, lead, &spec, spec.align == '=' && !number ? '>' : spec.align);
}

int format_percent(struct run *r, struct jinja_value pattern, struct jinja_value values,
                   struct jinja_value *ret)
{
    struct percent p = { .r = r, .values = values, .markup = is_markup(pattern) };
    struct bytes s = string_bytes(pattern);
    int code = run_bytes(r, s.size);
    for (size_t i = 0; !code && i < s.size;) {
        const uint8_t *at = memchr(s.data + i, '%', s.size - i);
        size_t end = at ? (size_t)(at - s.data) : s.size;
        code = run_step(r, 10); /* a number may have hundreds of digits */
        if (!code)
            code = text_part(r, &p.t, pattern, i, end);
        i = end + 1;
        if (!code && at)
            code = conversion(&p, s, &i);
    }
    if (code)
        return code;
    /* A mapping, a list or any other object with items may stay unused. */
    bool loose = values.kind == JINJA_DICT || values.kind == JINJA_LIST;
    size_t count = values.kind == JINJA_TUPLE ? values.as.list->count : loose ? 0 : 1;
    if (p.used < count && !(values.kind == JINJA_UNDEFINED))
        return run_fail(r, FAIL_FORMAT, "not all arguments converted during string formatting");
    code = text_value(r, &p.t, ret);
    if (!code)
        ret->flavour = p.markup;
    return code;
}

/* ---- str.format ---- */

struct braces {
    struct run *r;
    const struct call *call;
    int next; /* automatic numbering; -1 once numbers were given */
};

static int braces_argument(struct braces *b, struct bytes name, struct jinja_value *ret)
{
    struct run *r = b->r;
    bool digits = true;
    int64_t index = 0;
    for (size_t i = 0; i < name.size; i++) {
        digits = digits && name.data[i] >= '0' && name.data[i] <= '9' && i < 6;
        index = digits ? index * 10 + (name.data[i] - '0') : 0;
    }
    if (!name.size) {
        if (b->next < 0)
            return run_fail(r, FAIL_FORMAT,
                            "cannot switch from manual field specification to "
                            "automatic field numbering");
        index = b->next++;
    } else if (digits) {
        if (b->next > 0)
            return run_fail(r, FAIL_FORMAT,
                            "cannot switch from automatic field numbering to "
                            "manual field specification");
        b->next = -1;
    } else {
        int code = run_step(r, 1 + (uint64_t)b->call->keyword_count * (1 + name.size / 64) / 8);
        if (code)
            return code;
        for (int i = 0; i < b->call->keyword_count; i++)
            if (bytes_equal(b->call->names[i], name)) {
                *ret = b->call->keywords[i];
                return 0;
            }
        return run_fail(r, FAIL_FORMAT, "str.format has no argument '%.*s'", BYTES_ARG(name));
    }
    if (index >= b->call->count)
        return run_fail(r, FAIL_FORMAT,
                        "Replacement index %lld out of range for positional args tuple",
                        (long long)index);
    *ret = b->call->args[index];
    return 0;
}

/* A field's name with its .attributes and [items], which the sandbox guards as any other. */
static int braces_field(struct braces *b, struct bytes field, struct jinja_value *ret)
{
    size_t i = 0;
    while (i < field.size && field.data[i] != '.' && field.data[i] != '[')
        i++;
    int code = braces_argument(b, bytes_of(field.data, i), ret);
    while (!code && i < field.size) {
        bool item = field.data[i] == '[';
        size_t start = ++i;
        while (i < field.size &&
               (item ? field.data[i] != ']' : field.data[i] != '.' && field.data[i] != '['))
            i++;
        struct bytes name = bytes_of(field.data + start, i - start);
        struct jinja_value key = string_of((const char *)name.data, name.size, name.size);
        if (item && i++ >= field.size)
            return run_fail(b->r, FAIL_FORMAT, "Missing ']' in format string");
        code = item ? get_path(b->r, *ret, key, NULL, ret) : get_attribute(b->r, *ret, name, ret);
    }
    return code;
}

static int braces_text(struct braces *b, struct text *t, struct jinja_value pattern, int depth);

static int replacement(struct braces *b, struct text *t, struct jinja_value pattern, int depth)
{
    struct jinja_value v, how_shown = string_const("");
    struct text spec = { 0 };
    struct bytes s = string_bytes(pattern);
    size_t i = 0;
    while (i < s.size && s.data[i] != ':' && s.data[i] != '!')
        i++;
    int code = braces_field(b, bytes_of(s.data, i), &v);
    if (code)
        return code;
    if (i < s.size && s.data[i] == '!') {
        char how = i + 1 < s.size ? (char)s.data[i + 1] : '\0';
        struct text shown = { 0 };
        if (how != 'r' && how != 's' && how != 'a')
            return run_fail(b->r, FAIL_FORMAT, "Unknown conversion specifier");
        code = how == 's' ? value_str(b->r, &shown, v) : value_repr(b->r, &shown, v);
        if (!code)
            code = text_value(b->r, &shown, &v);
        i += 2;
    }
    if (!code && i < s.size && s.data[i] != ':')
        return run_fail(b->r, FAIL_FORMAT, "expected ':' after conversion specifier");
    if (!code && i < s.size)
        code = braces_text(b, &spec, string_range(pattern, i + 1, s.size, 0), depth + 1);
    if (!code)
        code = text_value(b->r, &spec, &how_shown);
    return code ? code : format_spec(b->r, t, v, how_shown);
}

/* pattern's code points are not counted. */
static int braces_text(struct braces *b, struct text *t, struct jinja_value pattern, int depth)
{
    struct bytes s = string_bytes(pattern);
    if (depth > 2)
        return run_fail(b->r, FAIL_FORMAT, "Max string recursion exceeded");
    int code = run_chars(b->r, s.size);
    for (size_t i = 0; !code && i < s.size; i++) {
        uint8_t c = s.data[i];
        if (c != '{' && c != '}') {
            code = text_part(b->r, t, pattern, i, i + 1);
            continue;
        }
        if (i + 1 < s.size && s.data[i + 1] == c) {
            code = text_part(b->r, t, pattern, i, i + 1);
            i++;
            continue;
        }
        size_t start = ++i;
        if (c == '}')
            return run_fail(b->r, FAIL_FORMAT, "Single '}' encountered in format string");
        for (int open = 1; i < s.size; i++) {
            open += s.data[i] == '{' ? 1 : s.data[i] == '}' ? -1 : 0;
            if (!open)
                break;
        }
        if (i >= s.size)
            return run_fail(b->r, FAIL_FORMAT, "expected '}' before end of string");
        code = replacement(b, t, string_range(pattern, start, i, 0), depth);
    }
    return code;
}

int format_braces(struct run *r, struct jinja_value pattern, const struct call *c,
                  struct jinja_value *ret)
{
    struct braces b = { .r = r, .call = c };
    struct text t = { 0 };
    int code = braces_text(&b, &t, pattern, 0);
    return code ? code : text_value(r, &t, ret);
}
