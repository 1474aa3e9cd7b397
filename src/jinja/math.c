/* Arithmetic as Python does it, with integers of 64 bits. */
#include "jinja/internal.h"

#include <math.h>

static const char *const op_names[OP_COUNT] = {
    [OP_ADD] = "+",       [OP_SUB] = "-", [OP_MUL] = "*",          [OP_DIV] = "/",
    [OP_FLOORDIV] = "//", [OP_MOD] = "%", [OP_POW] = "** or pow()"
};

static int overflow(struct run *r)
{
    return run_fail(r, FAIL_FORMAT, "integer of more than 64 bits");
}

static int mismatch(struct run *r, enum op op, struct jinja_value a, struct jinja_value b)
{
    if (a.kind == JINJA_UNDEFINED || b.kind == JINJA_UNDEFINED)
        return undefined_fail(r, a.kind == JINJA_UNDEFINED ? a : b);
    return run_fail(r, FAIL_FORMAT, "unsupported operand type(s) for %s: '%s' and '%s'",
                    op_names[op], type_name(a), type_name(b));
}

static int power(struct run *r, int64_t base, int64_t exponent, struct jinja_value *ret)
{
    int64_t result = 1;
    while (exponent) {
        if (exponent & 1 && __builtin_mul_overflow(result, base, &result))
            return overflow(r);
        exponent >>= 1;
        if (exponent && __builtin_mul_overflow(base, base, &base))
            return overflow(r);
    }
    *ret = jinja_int(result);
    return 0;
}

static int integers(struct run *r, enum op op, int64_t a, int64_t b, struct jinja_value *ret)
{
    int64_t out = 0;
    bool over = false;
    if ((op == OP_FLOORDIV || op == OP_MOD) && b == 0)
        return run_fail(r, FAIL_FORMAT, "integer division or modulo by zero");
    switch (op) {
    case OP_ADD:
        over = __builtin_add_overflow(a, b, &out);
        break;
    case OP_SUB:
        over = __builtin_sub_overflow(a, b, &out);
        break;
    case OP_MUL:
        over = __builtin_mul_overflow(a, b, &out);
        break;
    case OP_FLOORDIV:
        over = a == INT64_MIN && b == -1;
        if (!over)
            out = a / b - (a % b != 0 && (a % b < 0) != (b < 0));
        break;
    case OP_MOD:
        out = b == -1 ? 0 : a % b;
        if (out && (out < 0) != (b < 0))
            out += b;
        break;
    default:
        return power(r, a, b, ret);
    }
    if (over)
        return overflow(r);
    *ret = jinja_int(out);
    return 0;
}

static double float_mod(double a, double b)
{
    double m = fmod(a, b);
    if (m != 0)
        return (m < 0) != (b < 0) ? m + b : m;
    return copysign(0.0, b);
}

/* Python's float floor division, which agrees with its modulo. */
static double float_floordiv(double a, double b)
{
    double m = fmod(a, b), d = (a - m) / b;
    if (m != 0 && (m < 0) != (b < 0))
        d -= 1;
    if (d == 0)
        return copysign(0.0, a / b);
    double f = floor(d);
    return d - f > 0.5 ? f + 1 : f;
}

static int floats(struct run *r, enum op op, double a, double b, struct jinja_value *ret)
{
    double out = 0;
    if (b == 0 && (op == OP_DIV || op == OP_FLOORDIV || op == OP_MOD))
        return run_fail(r, FAIL_FORMAT,
                        op == OP_DIV ? "division by zero" : "float division or modulo by zero");
    switch (op) {
    case OP_ADD:
        out = a + b;
        break;
    case OP_SUB:
        out = a - b;
        break;
    case OP_MUL:
        out = a * b;
        break;
    case OP_DIV:
        out = a / b;
        break;
    case OP_FLOORDIV:
        out = float_floordiv(a, b);
        break;
    case OP_MOD:
        out = float_mod(a, b);
        break;
    default:
        if (a == 0 && b < 0)
            return run_fail(r, FAIL_FORMAT, "0.0 cannot be raised to a negative power");
        out = pow(a, b);
        if (isnan(out) && !isnan(a) && !isnan(b))
            return run_fail(r, FAIL_FORMAT, "complex numbers are not supported");
        if (isinf(out) && !isinf(a) && !isinf(b))
            return run_fail(r, FAIL_FORMAT, "float result too large");
    }
    *ret = jinja_float(out);
    return 0;
}

static int repeat(struct run *r, struct jinja_value v, int64_t times, struct jinja_value *ret)
{
    if (times < 0)
        times = 0;
    if (is_string(v)) {
        struct text t = { 0 };
        int code = text_fill(r, &t, v, (uint64_t)times);
        if (!code)
            code = text_value(r, &t, ret);
        if (!code)
            ret->flavour = v.flavour;
        return code;
    }
    const struct jinja_list *l = v.as.list;
    struct jinja_value out;
    int code = list_new(r, v.kind, 0, &out);
    for (int64_t i = 0; !code && l->count && i < times; i++)
        for (size_t k = 0; !code && k < l->count; k++)
            code = list_add(r, &out, l->items[k]);
    if (!code)
        *ret = out;
    return code;
}

static int join(struct run *r, struct jinja_value a, struct jinja_value b, struct jinja_value *ret)
{
    if (is_string(a)) {
        bool markup = is_markup(a) || is_markup(b);
        int code = markup ? string_escape(r, a, &a) : 0;
        if (!code && markup)
            code = string_escape(r, b, &b);
        if (code)
            return code;
        struct text t = { 0 };
        code = text_join(r, &t, a, b);
        if (!code)
            code = text_value(r, &t, ret);
        if (!code)
            ret->flavour = markup;
        return code;
    }
    struct jinja_value out;
    int code = list_new(r, a.kind, a.as.list->count + b.as.list->count, &out);
    for (size_t i = 0; !code && i < a.as.list->count; i++)
        code = list_add(r, &out, a.as.list->items[i]);
    for (size_t i = 0; !code && i < b.as.list->count; i++)
        code = list_add(r, &out, b.as.list->items[i]);
    if (!code)
        *ret = out;
    return code;
}

static bool is_sequence(struct jinja_value v)
{
    return is_string(v) || v.kind == JINJA_LIST || v.kind == JINJA_TUPLE;
}

int binary_op(struct run *r, enum op op, struct jinja_value a, struct jinja_value b,
              struct jinja_value *ret)
{
    if (is_number(a) && is_number(b)) {
        bool whole =
            is_integral(a) && is_integral(b) && op != OP_DIV && !(op == OP_POW && as_int(b) < 0);
        if (whole)
            return integers(r, op, as_int(a), as_int(b), ret);
        return floats(r, op, as_float(a), as_float(b), ret);
    }
    if (op == OP_MOD && is_string(a))
        return format_percent(r, a, b, ret);
    if (op == OP_ADD && a.kind == b.kind && is_sequence(a))
        return join(r, a, b, ret);
    if (op == OP_ADD && is_sequence(a) && b.kind != JINJA_UNDEFINED)
        return run_fail(r, FAIL_FORMAT, "can only concatenate %s (not \"%s\") to %s", type_name(a),
                        type_name(b), type_name(a));
    if (op == OP_MUL && is_sequence(a) && is_integral(b))
        return repeat(r, a, as_int(b), ret);
    if (op == OP_MUL && is_sequence(b) && is_integral(a))
        return repeat(r, b, as_int(a), ret);
    return mismatch(r, op, a, b);
}
