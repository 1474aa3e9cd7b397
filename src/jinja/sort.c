/* Sorting of values. */
#include "jinja/internal.h"

/* A stable merge sort of keys and values together. */
int sort_values(struct run *r, struct jinja_value *keys, struct jinja_value *values, size_t n,
                bool reverse)
{
    struct jinja_value *k2 = arena_array(&r->arena, struct jinja_value, n);
    struct jinja_value *v2 = arena_array(&r->arena, struct jinja_value, n);
    if (!k2 || !v2)
        return run_nomem(r);
    struct jinja_value *from_k = keys, *from_v = values, *to_k = k2, *to_v = v2;
    for (size_t width = 1; width < n; width *= 2) {
        for (size_t start = 0; start < n; start += 2 * width) {
            size_t a = start, mid = start + width < n ? start + width : n;
            size_t b = mid, end = mid + width < n ? mid + width : n;
            for (size_t out = start; out < end; out++) {
                bool right = a == mid;
                if (!right && b < end) {
                    int code = value_relation(r, reverse ? from_k[a] : from_k[b],
                                              reverse ? from_k[b] : from_k[a], OP_LT, &right);
                    if (code)
                        return code;
                }
                size_t take = right ? b++ : a++;
                to_k[out] = from_k[take];
                to_v[out] = from_v[take];
            }
        }
        struct jinja_value *swap_k = from_k, *swap_v = from_v;
        from_k = to_k;
        from_v = to_v;
        to_k = swap_k;
        to_v = swap_v;
    }
    if (from_k != keys && n) {
        memcpy(keys, from_k, n * sizeof(*keys));
        memcpy(values, from_v, n * sizeof(*values));
    }
    return 0;
}
