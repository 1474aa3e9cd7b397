/* Bodies of requests: bytes to JSON. */
#include "api/body.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"

/* The largest double, and how much longer than "1e400" its text is. */
#define LARGEST "1.7976931348623157e308"
#define GROWTH 6
/* Digits of a double's largest integer. */
#define MAX_DIGITS 308
/* Letters of every 64-bit integer. */
#define MAX_INTEGER 20
#define REPLACEMENT "\\ufffd"

static bool is_number_letter(uint8_t c)
{
    return (c >= '0' && c <= '9') || c == '-' || c == '+' || c == '.' || c == 'e' || c == 'E';
}

static void replace_number(struct buffer *out, size_t start)
{
    bool negative = out->data[start] == '-';
    out->size = start;
    buffer_text(out, negative ? "-" LARGEST : LARGEST);
}

/* Copies a number, or what looks like one; returns its size. */
static size_t copy_number(struct bytes in, struct buffer *out)
{
    size_t n = 0, start = out->size;
    bool integer = true;
    while (n < in.size && is_number_letter(in.data[n])) {
        integer = integer && (in.data[n] == '-' || (in.data[n] >= '0' && in.data[n] <= '9'));
        n++;
    }
    if (buffer_append(out, bytes_of(in.data, n)) != 0) {
        return n;
    }
    const char *text = buffer_cstr(out) + start; /* ends with the number */
    errno = 0;
    if (!integer) {
        if (isinf(strtod(text, NULL))) {
            replace_number(out, start);
        }
    } else if (n > MAX_DIGITS) {
        replace_number(out, start);
    } else if (n > MAX_INTEGER || (strtoll(text, NULL, 10) != 0 && errno == ERANGE)) {
        buffer_text(out, ".0");
    }
    return n;
}

/* The code unit of "\uXXXX"; -1 when there is none. */
static int code_unit(struct bytes in)
{
    int unit = 0;
    if (in.size < 6 || in.data[0] != '\\' || in.data[1] != 'u') {
        return -1;
    }
    for (int i = 2; i < 6; i++) {
        uint8_t c = in.data[i];
        uint8_t small = c | 0x20;
        int digit = c >= '0' && c <= '9'           ? c - '0'
                    : small >= 'a' && small <= 'f' ? small - 'a' + 10
                                                   : -1;
        if (digit < 0) {
            return -1;
        }
        unit = unit * 16 + digit;
    }
    return unit;
}

/* Copies an escape; returns its size. */
static size_t copy_escape(struct bytes in, struct buffer *out)
{
    int unit = code_unit(in);
    size_t n = unit >= 0 ? 6 : in.size >= 2 ? 2 : 1;
    bool high = unit >= 0xd800 && unit < 0xdc00, low = unit >= 0xdc00 && unit < 0xe000;
    if (high) {
        int next = code_unit(bytes_of(in.data + 6, in.size - 6));
        high = next < 0xdc00 || next >= 0xe000;
        n = high ? 6 : 12;
    }
    if (high || low) {
        buffer_text(out, REPLACEMENT);
    } else {
        buffer_append(out, bytes_of(in.data, n));
    }
    return n;
}

/* Copies a text with what jansson can't hold replaced; whether it is JSON doesn't matter here. */
static void soften(struct bytes in, struct buffer *out)
{
    bool in_string = false;
    while (in.size > 0) {
        uint8_t c = in.data[0];
        size_t n = 1;
        if (in_string && c == '\\') {
            n = copy_escape(in, out);
        } else if (!in_string && (c == '-' || (c >= '0' && c <= '9'))) {
            n = copy_number(in, out);
        } else {
            in_string = in_string != (c == '"');
            buffer_u8(out, c);
        }
        in = bytes_of(in.data + n, in.size - n);
    }
}

static json_t *load(struct bytes text, json_error_t *why)
{
    return json_loadb((const char *)text.data, text.size, JSON_ALLOW_NUL, why);
}

json_t *body_parse(struct bytes body, struct api_problem *p)
{
    json_error_t why, ignored;
    json_t *root = load(body, &why);
    enum json_error_code code = root == NULL ? json_error_code(&why) : json_error_unknown;
    if (root == NULL &&
        (code == json_error_numeric_overflow || code == json_error_invalid_syntax)) {
        struct buffer soft;
        buffer_init(&soft, body.size * GROWTH);
        soften(body, &soft);
        root = soft.failed ? NULL : load(buffer_bytes(&soft), &ignored);
        buffer_done(&soft);
    }
    if (root == NULL) {
        problem_set(p, 400, "invalid_json", NULL,
                    "We could not parse the JSON body of your request: %.160s (line %d, "
                    "column %d).",
                    body.size == 0 ? "it is empty" : why.text, why.line, why.column);
    } else if (!json_is_object(root)) {
        json_decref(root);
        root = NULL;
        problem_set(p, 400, "invalid_type", NULL,
                    "The JSON body of your request must be an object.");
    }
    return root;
}

bool body_text_is(const json_t *value, const char *text)
{
    return json_is_string(value) &&
           bytes_equal_text(bytes_of(json_string_value(value), json_string_length(value)), text);
}

bool body_integer(const json_t *value, json_int_t *ret)
{
    if (json_is_integer(value)) {
        *ret = json_integer_value(value);
        return true;
    }
    double x = json_real_value(value);
    if (!json_is_real(value) || x != floor(x)) {
        return false;
    }
    *ret = x >= 0x1p63 ? INT64_MAX : x < -0x1p63 ? INT64_MIN : (json_int_t)x;
    return true;
}
