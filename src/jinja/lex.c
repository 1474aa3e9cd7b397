/* Template text to tokens. The rules of whitespace control follow Jinja's lexer with trim_blocks
 * and lstrip_blocks: the first newline after a block or comment goes, blanks before one that
 * stands first on its line go, "-" takes all whitespace on its side, "+" keeps it. */
#include "jinja/internal.h"

#include <stdlib.h>

struct lexer {
    struct jinja *j;
    struct arena *a;
    struct error *e;
    const char *s;
    size_t size;
    size_t i;
    bool line_start; /* the text from i on starts a line */
    struct token *tokens;
    size_t count;
    size_t capacity;
    int result;
    int brackets; /* open (, [ and { in the present tag */
    char open[128];
};

static int lex_fail(struct lexer *l, size_t at, const char *format, ...) PRINTF_LIKE(3, 4);
static int lex_fail(struct lexer *l, size_t at, const char *format, ...)
{
    if (l->result)
        return l->result;
    va_list args;
    va_start(args, format);
    l->result = jinja_fail_at(l->j, (uint32_t)at, FAIL_FORMAT, l->e, format, args);
    va_end(args);
    return l->result;
}

static struct token *push(struct lexer *l, enum token_kind kind, size_t at, struct bytes text)
{
    if (l->count == l->capacity) {
        size_t capacity = l->capacity ? l->capacity * 2 : 256;
        struct token *grown = arena_array(l->a, struct token, capacity);
        if (!grown) {
            if (!l->result)
                l->result =
                    fail(l->e, FAIL_LIMIT, "the template needs more than %zu bytes", l->a->limit);
            return NULL;
        }
        if (l->count)
            memcpy(grown, l->tokens, l->count * sizeof(*grown));
        l->tokens = grown;
        l->capacity = capacity;
    }
    struct token *t = &l->tokens[l->count++];
    *t = (struct token){ .kind = (uint8_t)kind, .at = (uint32_t)at, .text = text };
    return t;
}

static bool at_text(const struct lexer *l, size_t i, const char *text)
{
    size_t n = strlen(text);
    return l->size - i >= n && memcmp(l->s + i, text, n) == 0;
}

static size_t skip_space(const struct lexer *l, size_t i)
{
    while (i < l->size) {
        size_t next = i;
        if (!unicode_is_space(utf8_next(l->s, l->size, &next)))
            break;
        i = next;
    }
    return i;
}

static bool is_word(const struct lexer *l, size_t *i)
{
    if (*i >= l->size)
        return false;
    uint32_t c = utf8_next(l->s, l->size, i);
    return c == '_' || unicode_is_alpha(c) || unicode_is_numeric(c);
}

/* The end of a block or comment at i, with what it swallows: 0 when there is none. */
static size_t match_end(const struct lexer *l, size_t i, const char *end, bool trim, bool plus)
{
    if (at_text(l, i, "-") && at_text(l, i + 1, end))
        return skip_space(l, i + 1 + strlen(end));
    if (plus && at_text(l, i, "+") && at_text(l, i + 1, end))
        return i + 1 + strlen(end);
    if (!at_text(l, i, end))
        return 0;
    i += strlen(end);
    return trim && i < l->size && l->s[i] == '\n' ? i + 1 : i;
}

/* Text before a tag: what the tag's sign and the line leave of it. */
static void push_data(struct lexer *l, size_t from, size_t to, char sign, bool variable)
{
    size_t end = to;
    if (sign == '-') {
        while (end > from) {
            size_t i = utf8_back(l->s, end), next = i;
            if (!unicode_is_space(utf8_next(l->s, l->size, &next)))
                break;
            end = i;
        }
    } else if (sign != '+' && !variable) {
        size_t line = end;
        while (line > from && l->s[line - 1] != '\n')
            line--;
        if ((line > from || l->line_start) && skip_space(l, line) >= end)
            end = line;
    }
    if (end > from)
        push(l, TOKEN_DATA, from, bytes_of(l->s + from, end - from));
}

static char sign_at(const struct lexer *l, size_t i)
{
    return i < l->size && (l->s[i] == '-' || l->s[i] == '+') ? l->s[i] : '\0';
}

/* After "{%": the end of a raw tag, or 0. */
static size_t match_raw(const struct lexer *l, size_t i)
{
    i = skip_space(l, i + (sign_at(l, i) ? 1 : 0));
    if (!at_text(l, i, "raw"))
        return 0;
    return match_end(l, skip_space(l, i + 3), "%}", false, false);
}

static void ended_at(struct lexer *l, size_t i)
{
    l->i = i;
    l->line_start = i > 0 && l->s[i - 1] == '\n';
}

/* Jinja accepts a raw block or a comment that opens at the very end. */
static int lex_raw(struct lexer *l, size_t tag)
{
    if (l->i >= l->size)
        return 0;
    for (size_t i = l->i; i < l->size; i++) {
        if (!at_text(l, i, "{%"))
            continue;
        char sign = sign_at(l, i + 2);
        size_t word = skip_space(l, i + 2 + (sign ? 1 : 0));
        if (!at_text(l, word, "endraw"))
            continue;
        size_t end = match_end(l, skip_space(l, word + 6), "%}", true, true);
        if (!end)
            continue;
        push_data(l, l->i, i, sign, false);
        ended_at(l, end);
        return l->result;
    }
    return lex_fail(l, tag, "raw block without its endraw");
}

static int lex_comment(struct lexer *l, size_t tag)
{
    if (l->i >= l->size)
        return 0;
    for (size_t i = l->i; i < l->size; i++) {
        size_t end = match_end(l, i, "#}", true, true);
        if (end) {
            ended_at(l, end);
            return 0;
        }
    }
    return lex_fail(l, tag, "comment without its end");
}

/* One escape of a string, as Python's unicode-escape codec reads it. */
static size_t unescape(struct lexer *l, size_t i, size_t end, char *out, size_t *n)
{
    static const char plain[] = "\\\\''\"\"a\ab\bf\fn\nr\rt\tv\v";
    char c = l->s[i];
    if (c == '\n')
        return i + 1;
    for (const char *p = plain; *p; p += 2)
        if (*p == c) {
            out[(*n)++] = p[1];
            return i + 1;
        }
    int digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    uint32_t point = 0;
    if (c >= '0' && c <= '7') {
        size_t stop = i + 3 < end ? i + 3 : end;
        while (i < stop && l->s[i] >= '0' && l->s[i] <= '7')
            point = point * 8 + (uint32_t)(l->s[i++] - '0');
    } else if (digits) {
        i++;
        for (int d = 0; d < digits; d++, i++) {
            char h = i < end ? l->s[i] : 'g';
            int v = h >= '0' && h <= '9'                 ? h - '0'
                    : (h | 32) >= 'a' && (h | 32) <= 'f' ? (h | 32) - 'a' + 10
                                                         : -1;
            if (v < 0) {
                lex_fail(l, i, "truncated \\%c escape in a string", c);
                return end;
            }
            point = point << 4 | (uint32_t)v;
        }
    } else if (c == 'N') {
        lex_fail(l, i, "\\N escapes are not supported");
        return end;
    } else {
        out[(*n)++] = '\\';
        return i;
    }
    if (point > 0x10ffff || (point >= 0xd800 && point < 0xe000)) {
        lex_fail(l, i, "escape of an invalid code point in a string");
        return end;
    }
    *n += utf8_encode(point, out + *n);
    return i;
}

static int lex_string(struct lexer *l)
{
    size_t start = l->i, i = start + 1, n = 0;
    char quote = l->s[start];
    bool escapes = false;
    for (; i < l->size && l->s[i] != quote; i++)
        if (l->s[i] == '\\') {
            escapes = true;
            i++;
        }
    if (i >= l->size)
        return lex_fail(l, start, "string without its end");
    struct bytes text = bytes_of(l->s + start + 1, i - start - 1);
    if (escapes) {
        char *out = arena_alloc(l->a, text.size + 4);
        if (!out)
            return l->result = fail(l->e, FAIL_LIMIT, "the template needs too much memory");
        for (size_t k = start + 1; k < i;) {
            if (l->s[k] == '\\')
                k = unescape(l, k + 1, i, out, &n);
            else
                out[n++] = l->s[k++];
        }
        text = bytes_of(out, n);
    }
    struct token *t = push(l, TOKEN_STRING, start, text);
    if (t && jinja_string(text, &t->value, NULL))
        return lex_fail(l, start, "string is not valid");
    l->i = i + 1;
    return l->result;
}

static size_t digits_end(const struct lexer *l, size_t i, int base)
{
    size_t end = i;
    for (;;) {
        size_t k = i < l->size && l->s[i] == '_' && i > 0 && end == i ? i + 1 : i;
        char c = k < l->size ? l->s[k] : '\0';
        int v = c >= '0' && c <= '9'                 ? c - '0'
                : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 87
                                                     : 99;
        if (v >= base)
            return end;
        i = end = k + 1;
    }
}

static int push_integer(struct lexer *l, size_t start, size_t digits, size_t end, int base)
{
    struct token *t = push(l, TOKEN_NUMBER, start, bytes_of(l->s + start, end - start));
    int64_t v = 0;
    for (size_t i = digits; i < end; i++) {
        char c = l->s[i];
        if (c == '_')
            continue;
        int d = c <= '9' ? c - '0' : (c | 32) - 87;
        if (__builtin_mul_overflow(v, base, &v) || __builtin_add_overflow(v, d, &v))
            return lex_fail(l, start, "integer of more than 64 bits");
    }
    if (t)
        t->value = jinja_int(v);
    l->i = end;
    return l->result;
}

static int push_float(struct lexer *l, size_t start, size_t end)
{
    char *copy = arena_alloc(l->a, end - start + 1);
    struct token *t = push(l, TOKEN_NUMBER, start, bytes_of(l->s + start, end - start));
    if (!copy || !t)
        return l->result ? l->result : (l->result = fail(l->e, FAIL_LIMIT, "too much memory"));
    size_t n = 0;
    for (size_t i = start; i < end; i++)
        if (l->s[i] != '_')
            copy[n++] = l->s[i];
    t->value = jinja_float(strtod(copy, NULL));
    l->i = end;
    return 0;
}

static bool digit_at(const struct lexer *l, size_t i)
{
    return i < l->size && l->s[i] >= '0' && l->s[i] <= '9';
}

static int lex_number(struct lexer *l)
{
    size_t i = l->i, end = digits_end(l, i, 10), fraction = end;
    bool real = false;
    if (i == 0 || l->s[i - 1] != '.') {
        if (fraction < l->size && l->s[fraction] == '.' && digit_at(l, fraction + 1)) {
            fraction = digits_end(l, fraction + 1, 10);
            real = true;
        }
        size_t x = fraction;
        if (x < l->size && (l->s[x] | 32) == 'e') {
            x += x + 1 < l->size && (l->s[x + 1] == '+' || l->s[x + 1] == '-') ? 2 : 1;
            if (digit_at(l, x)) {
                fraction = digits_end(l, x, 10);
                real = true;
            }
        }
    }
    if (real)
        return push_float(l, i, fraction);
    if (l->s[i] == '0' && i + 1 < l->size) {
        char c = (char)(l->s[i + 1] | 32);
        int base = c == 'x' ? 16 : c == 'o' ? 8 : c == 'b' ? 2 : 0;
        size_t stop = base ? digits_end(l, i + 2, base) : 0;
        if (base && stop > i + 2)
            return push_integer(l, i, i + 2, stop, base);
        /* A number may not begin with zeros unless it is zero. */
        end = i + 1;
        while (end < l->size &&
               (l->s[end] == '0' || (l->s[end] == '_' && at_text(l, end + 1, "0"))))
            end++;
    }
    return push_integer(l, i, i, end, 10);
}

static int lex_operator(struct lexer *l)
{
    static const char *const operators[] = { "//", "**", "==", "!=", ">=", "<=", "+", "-", "/",
                                             "*",  "%",  "~",  "[",  "]",  "(",  ")", "{", "}",
                                             ">",  "<",  "=",  ".",  ":",  "|",  ",", ";" };
    for (size_t k = 0; k < ARRAY_LEN(operators); k++) {
        const char *op = operators[k];
        if (!at_text(l, l->i, op))
            continue;
        char c = op[0];
        if (c == '(' || c == '[' || c == '{') {
            if (l->brackets == (int)sizeof(l->open))
                return lex_fail(l, l->i, "more than %zu open brackets", sizeof(l->open));
            l->open[l->brackets++] = c == '(' ? ')' : c == '[' ? ']' : '}';
        } else if (c == ')' || c == ']' || c == '}') {
            if (!l->brackets)
                return lex_fail(l, l->i, "unexpected '%c'", c);
            if (l->open[--l->brackets] != c)
                return lex_fail(l, l->i, "unexpected '%c', expected '%c'", c, l->open[l->brackets]);
        }
        push(l, TOKEN_OPERATOR, l->i, bytes_of(op, strlen(op)));
        l->i += strlen(op);
        return l->result;
    }
    size_t next = l->i;
    uint32_t point = utf8_next(l->s, l->size, &next);
    return lex_fail(l, l->i, "unexpected char U+%04X '%.*s'", (unsigned)point, (int)(next - l->i),
                    l->s + l->i);
}

/* The tokens of one {{ }} or {% %}, up to and with its end. */
static int lex_tag(struct lexer *l, size_t tag, bool block)
{
    l->brackets = 0;
    while (!l->result) {
        l->i = skip_space(l, l->i);
        if (l->i >= l->size)
            return lex_fail(l, tag, "%s without its end", block ? "block tag" : "expression");
        size_t end = l->brackets ? 0 : match_end(l, l->i, block ? "%}" : "}}", block, block);
        if (end) {
            push(l, block ? TOKEN_BLOCK_END : TOKEN_VARIABLE_END, l->i, bytes_text("end of tag"));
            ended_at(l, end);
            return l->result;
        }
        char c = l->s[l->i];
        size_t word = l->i;
        if (c >= '0' && c <= '9') {
            lex_number(l);
        } else if (c == '\'' || c == '"') {
            lex_string(l);
        } else if (is_word(l, &word)) {
            size_t start = l->i;
            for (size_t k = word; is_word(l, &k); word = k)
                ;
            push(l, TOKEN_NAME, start, bytes_of(l->s + start, word - start));
            l->i = word;
        } else {
            lex_operator(l);
        }
    }
    return l->result;
}

static int lex_next(struct lexer *l)
{
    size_t i = l->i;
    while (i < l->size && !(l->s[i] == '{' && i + 1 < l->size &&
                            (l->s[i + 1] == '{' || l->s[i + 1] == '%' || l->s[i + 1] == '#')))
        i++;
    if (i >= l->size) {
        if (l->size > l->i)
            push(l, TOKEN_DATA, l->i, bytes_of(l->s + l->i, l->size - l->i));
        l->i = l->size;
        return l->result;
    }
    char kind = l->s[i + 1], sign = sign_at(l, i + 2);
    push_data(l, l->i, i, sign, kind == '{');
    size_t raw = kind == '%' ? match_raw(l, i + 2) : 0;
    if (raw) {
        ended_at(l, raw);
        return lex_raw(l, i);
    }
    ended_at(l, i + 2 + (sign ? 1 : 0));
    if (kind == '#')
        return lex_comment(l, i);
    push(l, kind == '%' ? TOKEN_BLOCK_BEGIN : TOKEN_VARIABLE_BEGIN, i, bytes_text("tag"));
    return lex_tag(l, i, kind == '%');
}

int jinja_lex(struct jinja *j, struct token **ret, struct error *e)
{
    struct lexer l = { .j = j,
                       .a = &j->arena,
                       .e = e,
                       .s = (const char *)j->source.data,
                       .size = j->source.size,
                       .line_start = true };
    while (l.i < l.size && !l.result)
        lex_next(&l);
    if (!l.result)
        push(&l, TOKEN_END, l.size, bytes_text("end of template"));
    if (l.result)
        return l.result;
    *ret = l.tokens;
    return 0;
}
