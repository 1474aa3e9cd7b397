/* Methods of strings. Source: Python documentation, "String Methods". */
#include "jinja/internal.h"

#define METHOD(name)                                                                               \
    static int name(struct run *r, struct jinja_value self, const struct jinja_value *arg,         \
                    const struct call *more, struct jinja_value *ret)

#define LEFT 1
#define RIGHT 2

/* A capital sigma that ends a word has its own small letter. */
static bool is_final_sigma(struct jinja_value s, size_t next, bool word)
{
    size_t i = next;
    uint32_t c = i < s.size ? utf8_next(s.as.text, s.size, &i) : 0;
    return word && !unicode_is_lower(c) && !unicode_is_upper(c) && !unicode_is_title(c);
}

int string_case(struct run *r, struct jinja_value s, enum text_case to, struct jinja_value *ret)
{
    struct text t = { 0 };
    int code = run_chars(r, s.size);
    bool word = false;
    for (size_t i = 0; !code && i < s.size;) {
        bool tainted = taint_at(s, i);
        uint32_t c = utf8_next(s.as.text, s.size, &i), out[3];
        int n = unicode_case(c, to == CASE_TITLE && word ? CASE_LOWER : to, out);
        if (c == 0x3a3 && out[0] == 0x3c3 && to != CASE_FOLD && is_final_sigma(s, i, word))
            out[0] = 0x3c2;
        word = unicode_is_lower(c) || unicode_is_upper(c) || unicode_is_title(c);
        for (int k = 0; !code && k < n; k++)
            code = text_add_point(r, &t, out[k], tainted);
    }
    return code ? code : text_value(r, &t, ret);
}

int string_capitalize(struct run *r, struct jinja_value s, struct jinja_value *ret)
{
    struct text t = { 0 };
    int code = run_chars(r, s.size);
    bool first = true;
    for (size_t i = 0; !code && i < s.size; first = false) {
        bool tainted = taint_at(s, i);
        uint32_t c = utf8_next(s.as.text, s.size, &i), out[3];
        int n = unicode_case(c, first ? CASE_TITLE : CASE_LOWER, out);
        for (int k = 0; !code && k < n; k++)
            code = text_add_point(r, &t, out[k], tainted);
    }
    return code ? code : text_value(r, &t, ret);
}

static int need_string(struct run *r, struct jinja_value v, const char *what)
{
    if (is_string(v))
        return 0;
    return run_fail(r, FAIL_FORMAT, "%s must be str, not %s", what, type_name(v));
}

static bool has_point(struct jinja_value chars, uint32_t c)
{
    if (!is_string(chars))
        return unicode_is_space(c);
    for (size_t i = 0; i < chars.size;)
        if (utf8_next(chars.as.text, chars.size, &i) == c)
            return true;
    return false;
}

int string_strip(struct run *r, struct jinja_value s, struct jinja_value chars, int sides,
                 struct jinja_value *ret)
{
    if (!is_string(chars) && !is_absent(chars) && chars.kind != JINJA_NONE)
        return run_fail(r, FAIL_FORMAT, "strip arg must be None or str");
    size_t from = 0, to = s.size, points = s.points;
    while (sides & LEFT && from < to) {
        size_t next = from;
        if (!has_point(chars, utf8_next(s.as.text, to, &next)))
            break;
        from = next;
        points--;
    }
    while (sides & RIGHT && to > from) {
        size_t last = utf8_back(s.as.text, to), next = last;
        if (!has_point(chars, utf8_next(s.as.text, to, &next)))
            break;
        to = last;
        points--;
    }
    *ret = string_range(s, from, to, points);
    uint64_t each = is_string(chars) ? chars.size : 1;
    return run_step(r, 1 + (s.size - (to - from)) * each / 2);
}

/* Where needle stands in s at or behind from; SIZE_MAX: nowhere. Each search reads the needle, so
 * many of a long one are work too. */
static int find_text(struct run *r, struct jinja_value s, size_t from, struct jinja_value needle,
                     size_t *ret)
{
    const char *p = s.as.text + from;
    if (needle.size)
        p = from < s.size ? memmem(p, s.size - from, needle.as.text, needle.size) : NULL;
    *ret = p ? (size_t)(p - s.as.text) : SIZE_MAX;
    return run_step(r, 1 + ((p ? *ret : s.size) - from + needle.size) / 16);
}

/* Where needle, which is not empty, stands last in s; SIZE_MAX: nowhere. */
static int find_last(struct run *r, struct jinja_value s, struct jinja_value needle, size_t *ret)
{
    int code = run_step(r, 1 + s.size / 16);
    *ret = SIZE_MAX;
    for (size_t end = s.size < needle.size ? 0 : s.size - needle.size + 1; !code && end > 0;) {
        const char *p =
            (const char *)bytes_find_last(bytes_of(s.as.text, end), (uint8_t)needle.as.text[0]);
        if (!p)
            break;
        end = (size_t)(p - s.as.text);
        code = run_step(r, needle.size / 16);
        if (!code && memcmp(p, needle.as.text, needle.size) == 0) {
            *ret = end;
            break;
        }
    }
    return code;
}

/* The piece [from, to) of s. */
static struct jinja_value piece(struct jinja_value s, size_t from, size_t to)
{
    size_t points = to - from;
    if (s.points != s.size)
        utf8_check(bytes_of(s.as.text + from, to - from), &points);
    return string_range(s, from, to, points);
}

static int replace_empty(struct run *r, struct jinja_value s, struct jinja_value fresh,
                         int64_t count, struct jinja_value *ret)
{
    struct text t = { 0 };
    int code = run_chars(r, s.size);
    for (size_t i = 0; !code && i <= s.size;) {
        if (count-- != 0)
            code = text_string(r, &t, fresh);
        else
            count = 0;
        if (i == s.size)
            break;
        size_t start = i;
        utf8_next(s.as.text, s.size, &i);
        if (!code)
            code = text_part(r, &t, s, start, i);
    }
    return code ? code : text_value(r, &t, ret);
}

int string_replace(struct run *r, struct jinja_value s, struct jinja_value old,
                   struct jinja_value fresh, int64_t count, struct jinja_value *ret)
{
    struct text t = { 0 };
    if (!old.size)
        return replace_empty(r, s, fresh, count, ret);
    size_t i = 0, at;
    int code = 0;
    while (!code && count-- != 0) {
        code = find_text(r, s, i, old, &at);
        if (code || at == SIZE_MAX)
            break;
        code = text_part(r, &t, s, i, at);
        if (!code)
            code = text_string(r, &t, fresh);
        i = at + old.size;
    }
    if (!code)
        code = text_part(r, &t, s, i, s.size);
    return code ? code : text_value(r, &t, ret);
}

/* ---- splitting ---- */

static int split_space(struct run *r, struct jinja_value s, int64_t most, struct jinja_value *list)
{
    size_t i = 0;
    int code = 0;
    while (!code) {
        size_t from;
        for (;;) {
            from = i;
            if (i >= s.size || !unicode_is_space(utf8_next(s.as.text, s.size, &i)))
                break;
        }
        if (from >= s.size)
            break;
        if (most-- == 0)
            return list_add(r, list, piece(s, from, s.size));
        size_t to = from;
        for (i = from; i < s.size; to = i) {
            size_t next = i;
            if (unicode_is_space(utf8_next(s.as.text, s.size, &next)))
                break;
            i = next;
        }
        code = list_add(r, list, piece(s, from, to));
    }
    return code;
}

static int split_at(struct run *r, struct jinja_value s, struct jinja_value by, int64_t most,
                    struct jinja_value *list)
{
    size_t i = 0, at;
    int code = 0;
    while (!code && most-- != 0) {
        code = find_text(r, s, i, by, &at);
        if (code || at == SIZE_MAX)
            break;
        code = list_add(r, list, piece(s, i, at));
        i = at + by.size;
    }
    return code ? code : list_add(r, list, piece(s, i, s.size));
}

/* From the right: pieces are found last first, then turned around. */
static int split_right(struct run *r, struct jinja_value s, struct jinja_value by, int64_t most,
                       struct jinja_value *list)
{
    size_t end = s.size;
    int code = 0;
    bool space = !is_string(by);
    for (;;) {
        while (space && end > 0) {
            size_t last = utf8_back(s.as.text, end), next = last;
            if (!unicode_is_space(utf8_next(s.as.text, end, &next)))
                break;
            end = last;
        }
        if (space && end == 0)
            break;
        size_t at = SIZE_MAX, after = 0;
        if (most == 0 && space) {
            code = list_add(r, list, piece(s, 0, end));
            break;
        }
        for (size_t i = end; most != 0 && i > 0;) {
            size_t last = utf8_back(s.as.text, i), next = last;
            bool hit =
                space ? unicode_is_space(utf8_next(s.as.text, i, &next))
                      : i >= by.size && memcmp(s.as.text + i - by.size, by.as.text, by.size) == 0;
            if (hit) {
                at = space ? last : i - by.size;
                after = i;
                break;
            }
            i = last;
        }
        if (at == SIZE_MAX) {
            code = list_add(r, list, piece(s, 0, end));
            break;
        }
        most--;
        code = list_add(r, list, piece(s, after, end));
        if (code)
            break;
        end = at;
    }
    struct jinja_list *l = list->as.list;
    for (size_t i = 0; i < l->count / 2; i++) {
        struct jinja_value swap = l->items[i];
        l->items[i] = l->items[l->count - 1 - i];
        l->items[l->count - 1 - i] = swap;
    }
    return code;
}

static int split_any(struct run *r, struct jinja_value s, const struct jinja_value *arg, bool right,
                     struct jinja_value *ret)
{
    int64_t most = -1;
    if (!is_absent(arg[1])) {
        if (!is_integral(arg[1]))
            return run_fail(r, FAIL_FORMAT, "maxsplit must be an integer, not %s",
                            type_name(arg[1]));
        most = as_int(arg[1]);
    }
    if (most < 0)
        most = -1;
    bool space = is_absent(arg[0]) || arg[0].kind == JINJA_NONE;
    if (!space && !is_string(arg[0]))
        return need_string(r, arg[0], "sep");
    if (!space && !arg[0].size)
        return run_fail(r, FAIL_FORMAT, "empty separator");
    struct jinja_value list;
    int code = list_new(r, JINJA_LIST, 0, &list);
    if (!code)
        code = run_chars(r, s.size);
    if (!code)
        code = right && !space ? run_step(r, (uint64_t)(s.size / 16) * (1 + arg[0].size / 64)) : 0;
    if (!code)
        code = right   ? split_right(r, s, arg[0], most, &list)
               : space ? split_space(r, s, most, &list)
                       : split_at(r, s, arg[0], most, &list);
    if (!code)
        *ret = list;
    return code;
}

METHOD(method_split)
{
    return split_any(r, self, arg, false, ret);
}

METHOD(method_rsplit)
{
    return split_any(r, self, arg, true, ret);
}

static bool is_line_end(uint32_t c)
{
    return (c >= 10 && c <= 13) || (c >= 0x1c && c <= 0x1e) || c == 0x85 || c == 0x2028 ||
           c == 0x2029;
}

int string_splitlines(struct run *r, struct jinja_value s, bool keep, struct jinja_value *ret)
{
    struct jinja_value list;
    int code = list_new(r, JINJA_LIST, 0, &list);
    if (!code)
        code = run_chars(r, s.size);
    size_t from = 0;
    for (size_t i = 0; !code && i < s.size;) {
        size_t end = i;
        uint32_t c = utf8_next(s.as.text, s.size, &i);
        if (!is_line_end(c))
            continue;
        if (c == '\r' && i < s.size && s.as.text[i] == '\n')
            i++;
        code = list_add(r, &list, piece(s, from, keep ? i : end));
        from = i;
    }
    if (!code && from < s.size)
        code = list_add(r, &list, piece(s, from, s.size));
    if (!code)
        *ret = list;
    return code;
}

METHOD(method_splitlines)
{
    if (!is_absent(arg[0]) && !is_number(arg[0]))
        return run_fail(r, FAIL_FORMAT, "keepends must be a number, not %s", type_name(arg[0]));
    return string_splitlines(r, self, !is_absent(arg[0]) && truth(arg[0]), ret);
}

static int partition(struct run *r, struct jinja_value s, struct jinja_value by, bool right,
                     struct jinja_value *ret)
{
    int code = need_string(r, by, "sep");
    if (code)
        return code;
    if (!by.size)
        return run_fail(r, FAIL_FORMAT, "empty separator");
    size_t at;
    code = right ? find_last(r, s, by, &at) : find_text(r, s, 0, by, &at);
    if (code)
        return code;
    struct jinja_value part[3] = { s, string_const(""), string_const("") }, list;
    if (at == SIZE_MAX && right) {
        part[2] = s;
        part[0] = string_const("");
    } else if (at != SIZE_MAX) {
        part[0] = piece(s, 0, at);
        part[1] = piece(s, at, at + by.size); /* whose text it is, the template's or a user's */
        part[2] = piece(s, at + by.size, s.size);
    }
    code = list_new(r, JINJA_TUPLE, 3, &list);
    for (int i = 0; !code && i < 3; i++)
        code = list_add(r, &list, part[i]);
    if (!code)
        *ret = list;
    return code;
}

METHOD(method_partition)
{
    return partition(r, self, arg[0], false, ret);
}

METHOD(method_rpartition)
{
    return partition(r, self, arg[0], true, ret);
}

/* ---- searching ---- */

/* The part of self that start and end (points, as a slice has them) leave. False: an empty part
 * beyond the end, where nothing is found, not even "". */
static int search_window(struct run *r, struct jinja_value self, const struct jinja_value *range,
                         struct jinja_value *part, int64_t *first, bool *inside)
{
    int64_t bound[2] = { 0, self.points }, n = self.points;
    for (int i = 0; i < 2; i++) {
        if (is_absent(range[i]) || range[i].kind == JINJA_NONE)
            continue;
        if (!is_integral(range[i]))
            return run_fail(r, FAIL_FORMAT, "slice indices must be integers or None, not %s",
                            type_name(range[i]));
        int64_t v = as_int(range[i]);
        bound[i] = v < -n ? 0 : v < 0 ? v + n : v > n && i ? n : v;
    }
    int code = run_step(r, 1 + (self.points == self.size ? 0 : self.size / 8));
    *inside = bound[0] <= bound[1];
    *first = bound[0];
    if (!code && *inside)
        *part = piece(self, string_offset(self, (size_t)bound[0]),
                      string_offset(self, (size_t)bound[1]));
    return code;
}

static int find_index(struct run *r, struct jinja_value self, const struct jinja_value *arg,
                      bool right, int64_t *ret)
{
    struct jinja_value part;
    int64_t first;
    bool inside;
    int code = need_string(r, arg[0], "the text to find");
    if (!code)
        code = search_window(r, self, arg + 1, &part, &first, &inside);
    *ret = -1;
    if (code || !inside)
        return code;
    size_t at;
    if (right && !arg[0].size)
        at = part.size;
    else
        code = right ? find_last(r, part, arg[0], &at) : find_text(r, part, 0, arg[0], &at);
    if (!code && at != SIZE_MAX)
        *ret = first + piece(part, 0, at).points;
    return code;
}

METHOD(method_find)
{
    int64_t at;
    int code = find_index(r, self, arg, false, &at);
    if (!code)
        *ret = jinja_int(at);
    return code;
}

METHOD(method_rfind)
{
    int64_t at;
    int code = find_index(r, self, arg, true, &at);
    if (!code)
        *ret = jinja_int(at);
    return code;
}

METHOD(method_index)
{
    int code = method_find(r, self, arg, more, ret);
    if (!code && ret->as.integer < 0)
        code = run_fail(r, FAIL_FORMAT, "substring not found");
    return code;
}

METHOD(method_rindex)
{
    int code = method_rfind(r, self, arg, more, ret);
    if (!code && ret->as.integer < 0)
        code = run_fail(r, FAIL_FORMAT, "substring not found");
    return code;
}

METHOD(method_count)
{
    struct jinja_value part;
    int64_t first, n = 0;
    bool inside;
    int code = need_string(r, arg[0], "the text to count");
    if (!code)
        code = search_window(r, self, arg + 1, &part, &first, &inside);
    if (code)
        return code;
    if (inside && !arg[0].size)
        n = (int64_t)part.points + 1;
    else if (inside)
        for (size_t at = 0; !(code = find_text(r, part, at, arg[0], &at)) && at != SIZE_MAX;
             at += arg[0].size)
            n++;
    *ret = jinja_int(n);
    return code;
}

static int affix(struct run *r, struct jinja_value self, const struct jinja_value *arg, bool end,
                 struct jinja_value *ret)
{
    struct jinja_value part;
    int64_t first;
    bool inside, hit = false;
    const struct jinja_value *options = arg;
    size_t count = 1;
    if (arg[0].kind == JINJA_TUPLE) {
        options = arg[0].as.list->items;
        count = arg[0].as.list->count;
    }
    int code = search_window(r, self, arg + 1, &part, &first, &inside);
    for (size_t i = 0; !code && i < count; i++) {
        code = need_string(r, options[i], end ? "endswith first arg" : "startswith first arg");
        if (!code)
            code = run_bytes(r, options[i].size);
        if (!code && inside && options[i].size <= part.size)
            hit = hit || memcmp(part.as.text + (end ? part.size - options[i].size : 0),
                                options[i].as.text, options[i].size) == 0;
    }
    if (!code)
        *ret = jinja_bool(hit);
    return code;
}

METHOD(method_startswith)
{
    return affix(r, self, arg, false, ret);
}

METHOD(method_endswith)
{
    return affix(r, self, arg, true, ret);
}

METHOD(method_removeprefix)
{
    int code = need_string(r, arg[0], "the prefix");
    bool hit =
        !code && arg[0].size <= self.size && memcmp(self.as.text, arg[0].as.text, arg[0].size) == 0;
    *ret = hit ? piece(self, arg[0].size, self.size) : self;
    return code ? code : run_bytes(r, self.size);
}

METHOD(method_removesuffix)
{
    int code = need_string(r, arg[0], "the suffix");
    bool hit = !code && arg[0].size <= self.size &&
               memcmp(self.as.text + self.size - arg[0].size, arg[0].as.text, arg[0].size) == 0;
    *ret = hit ? piece(self, 0, self.size - arg[0].size) : self;
    return code ? code : run_bytes(r, self.size);
}

/* ---- case, blanks, joining ---- */

METHOD(method_upper)
{
    return string_case(r, self, CASE_UPPER, ret);
}

METHOD(method_lower)
{
    return string_case(r, self, CASE_LOWER, ret);
}

METHOD(method_casefold)
{
    return string_case(r, self, CASE_FOLD, ret);
}

METHOD(method_title)
{
    return string_case(r, self, CASE_TITLE, ret);
}

METHOD(method_capitalize)
{
    return string_capitalize(r, self, ret);
}

METHOD(method_swapcase)
{
    struct text t = { 0 };
    int code = run_chars(r, self.size);
    for (size_t i = 0; !code && i < self.size;) {
        bool tainted = taint_at(self, i);
        uint32_t c = utf8_next(self.as.text, self.size, &i), out[3] = { c };
        int n = unicode_is_upper(c)   ? unicode_case(c, CASE_LOWER, out)
                : unicode_is_lower(c) ? unicode_case(c, CASE_UPPER, out)
                                      : 1;
        for (int k = 0; !code && k < n; k++)
            code = text_add_point(r, &t, out[k], tainted);
    }
    return code ? code : text_value(r, &t, ret);
}

METHOD(method_strip)
{
    return string_strip(r, self, arg[0], LEFT | RIGHT, ret);
}

METHOD(method_lstrip)
{
    return string_strip(r, self, arg[0], LEFT, ret);
}

METHOD(method_rstrip)
{
    return string_strip(r, self, arg[0], RIGHT, ret);
}

METHOD(method_replace)
{
    int code = need_string(r, arg[0], "replace() argument 1");
    if (!code)
        code = need_string(r, arg[1], "replace() argument 2");
    if (!code && !is_absent(arg[2]) && !is_integral(arg[2]))
        code = run_fail(r, FAIL_FORMAT, "replace() argument 3 must be an integer");
    if (code)
        return code;
    int64_t count = is_absent(arg[2]) || as_int(arg[2]) < 0 ? -1 : as_int(arg[2]);
    return string_replace(r, self, arg[0], arg[1], count, ret);
}

METHOD(method_join)
{
    const struct jinja_value *items;
    size_t count;
    struct text t = { 0 };
    if (!is_iterable(arg[0]))
        return run_fail(r, FAIL_FORMAT, "can only join an iterable");
    int code = value_items(r, arg[0], &items, &count);
    for (size_t i = 0; !code && i < count; i++) {
        if (!is_string(items[i]))
            return run_fail(r, FAIL_FORMAT, "sequence item %zu: expected str instance, %s found", i,
                            type_name(items[i]));
        if (i)
            code = text_string(r, &t, self);
        struct jinja_value item = items[i];
        if (!code && is_markup(self))
            code = string_escape(r, item, &item);
        if (!code)
            code = run_step(r, 1);
        if (!code)
            code = text_string(r, &t, item);
    }
    return code ? code : text_value(r, &t, ret);
}

/* Pads to arg[0] points with arg[1]; more of the padding goes left as Python's center has it. */
static int pad(struct run *r, struct jinja_value self, const struct jinja_value *arg, int sides,
               struct jinja_value *ret)
{
    if (!is_integral(arg[0]))
        return run_fail(r, FAIL_FORMAT, "the width must be an integer, not %s", type_name(arg[0]));
    struct jinja_value fill = is_absent(arg[1]) ? string_const(" ") : arg[1];
    if (!is_string(fill) || fill.points != 1)
        return run_fail(r, FAIL_FORMAT, "the fill character must be exactly one character long");
    int64_t width = as_int(arg[0]), n = width - self.points;
    if (n <= 0) {
        *ret = self;
        return 0;
    }
    int64_t left = sides == LEFT ? n : sides == RIGHT ? 0 : n / 2 + (n & width & 1);
    struct text t = { 0 };
    int code = text_fill(r, &t, fill, (uint64_t)left);
    if (!code)
        code = text_string(r, &t, self);
    if (!code)
        code = text_fill(r, &t, fill, (uint64_t)(n - left));
    return code ? code : text_value(r, &t, ret);
}

METHOD(method_center)
{
    return pad(r, self, arg, LEFT | RIGHT, ret);
}

METHOD(method_ljust)
{
    return pad(r, self, arg, RIGHT, ret);
}

METHOD(method_rjust)
{
    return pad(r, self, arg, LEFT, ret);
}

METHOD(method_zfill)
{
    bool sign = self.size && (self.as.text[0] == '-' || self.as.text[0] == '+');
    if (!is_integral(arg[0]))
        return run_fail(r, FAIL_FORMAT, "the width must be an integer, not %s", type_name(arg[0]));
    int64_t n = as_int(arg[0]) - self.points;
    struct text t = { 0 };
    int code = text_part(r, &t, self, 0, sign);
    if (!code)
        code = text_fill(r, &t, string_const("0"), n > 0 ? (uint64_t)n : 0);
    if (!code)
        code = text_part(r, &t, self, sign, self.size);
    return code ? code : text_value(r, &t, ret);
}

METHOD(method_expandtabs)
{
    int64_t size = is_absent(arg[0]) ? 8 : is_integral(arg[0]) ? as_int(arg[0]) : 8, column = 0;
    struct text t = { 0 };
    int code = run_chars(r, self.size);
    for (size_t i = 0; !code && i < self.size;) {
        bool tainted = taint_at(self, i);
        uint32_t c = utf8_next(self.as.text, self.size, &i);
        if (c == '\t') {
            int64_t n = size > 0 ? size - column % size : 0;
            code = text_fill(r, &t, string_const(" "), (uint64_t)n);
            column += n;
            continue;
        }
        column = c == '\n' || c == '\r' ? 0 : column + 1;
        code = text_add_point(r, &t, c, tainted);
    }
    return code ? code : text_value(r, &t, ret);
}

METHOD(method_format)
{
    return format_braces(r, self, more, ret);
}

METHOD(method_format_map)
{
    if (arg[0].kind != JINJA_DICT)
        return run_fail(r, FAIL_FORMAT, "format_map takes a dict");
    const struct jinja_dict *d = arg[0].as.dict;
    struct call c = { 0 };
    struct bytes *names = arena_array(&r->arena, struct bytes, d->count);
    struct jinja_value *values = arena_array(&r->arena, struct jinja_value, d->count);
    if (!names || !values)
        return run_nomem(r);
    int code = run_step(r, d->count);
    for (size_t i = 0; !code && i < d->count; i++) {
        if (!is_string(d->entries[i].key))
            continue;
        names[c.keyword_count] = string_bytes(d->entries[i].key);
        values[c.keyword_count++] = d->entries[i].value;
    }
    c.names = names;
    c.keywords = values;
    return code ? code : format_braces(r, self, &c, ret);
}

const struct builtin jinja_string_methods[] = {
    { "upper", method_upper, "", 0 },
    { "lower", method_lower, "", 0 },
    { "casefold", method_casefold, "", 0 },
    { "title", method_title, "", 0 },
    { "capitalize", method_capitalize, "", 0 },
    { "swapcase", method_swapcase, "", 0 },
    { "strip", method_strip, "-", 0 },
    { "lstrip", method_lstrip, "-", 0 },
    { "rstrip", method_rstrip, "-", 0 },
    { "split", method_split, "sep maxsplit", 0 },
    { "rsplit", method_rsplit, "sep maxsplit", 0 },
    { "splitlines", method_splitlines, "keepends", 0 },
    { "partition", method_partition, "-", 1 },
    { "rpartition", method_rpartition, "-", 1 },
    { "find", method_find, "- - -", 1 },
    { "rfind", method_rfind, "- - -", 1 },
    { "index", method_index, "- - -", 1 },
    { "rindex", method_rindex, "- - -", 1 },
    { "count", method_count, "- - -", 1 },
    { "startswith", method_startswith, "- - -", 1 },
    { "endswith", method_endswith, "- - -", 1 },
    { "removeprefix", method_removeprefix, "-", 1 },
    { "removesuffix", method_removesuffix, "-", 1 },
    { "replace", method_replace, "- - -", 2 },
    { "join", method_join, "-", 1 },
    { "center", method_center, "- -", 1 },
    { "ljust", method_ljust, "- -", 1 },
    { "rjust", method_rjust, "- -", 1 },
    { "zfill", method_zfill, "-", 1 },
    { "expandtabs", method_expandtabs, "tabsize", 0 },
    { "format", method_format, "*", 0 },
    { "format_map", method_format_map, "-", 1 },
    { NULL, NULL, NULL, 0 },
};
