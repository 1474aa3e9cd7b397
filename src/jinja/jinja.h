/* Chat templates: an interpreter of the Jinja language as chat templates use it.
 *
 * It behaves as Jinja2's ImmutableSandboxedEnvironment with trim_blocks, lstrip_blocks and loop
 * controls does, with the filters and functions that chat templates are given beside it (tojson
 * without HTML escaping, raise_exception, strftime_now, generation blocks). Nothing is loaded,
 * nothing is escaped, values are never changed in place. Source: Jinja 3.1 documentation,
 * "Template Designer Documentation"; transformers documentation, "Chat templates".
 *
 * Differences that stay: integers have 64 bits (an overflow is an error), `random` and `lipsum`
 * do not exist, include, import and extends are refused by name. */
#ifndef SHOAL_JINJA_JINJA_H
#define SHOAL_JINJA_JINJA_H

#include "base/arena.h"
#include "base/buffer.h"
#include "base/bytes.h"
#include "base/error.h"
#include "base/spans.h"

#include <stdbool.h>
#include <stdint.h>

enum jinja_kind {
    JINJA_UNDEFINED,
    JINJA_NONE,
    JINJA_BOOL,
    JINJA_INT,
    JINJA_FLOAT,
    JINJA_STRING,
    JINJA_LIST,
    JINJA_TUPLE,
    JINJA_DICT,
    /* Made by templates only. */
    JINJA_ITERATOR,
    JINJA_VIEW,
    JINJA_RANGE,
    JINJA_NAMESPACE,
    JINJA_MACRO,
    JINJA_FUNCTION,
    JINJA_LOOP,
    JINJA_CYCLER,
    JINJA_JOINER,
    JINJA_ABSENT, /* an argument that was not given; never seen by a template */
    JINJA_KIND_COUNT
};

struct jinja_list;
struct jinja_dict;
struct jinja_macro;
struct jinja_function;
struct jinja_loop;
struct jinja_cell;

/* One value; copied freely, what it points at is borrowed from the arena it was made in (text of
 * strings: from the caller of jinja_string). */
struct jinja_value {
    uint8_t kind;    /* enum jinja_kind */
    uint8_t flavour; /* of an undefined or a view: which one; of a string: markup */
    uint32_t points; /* of a string: its code points; of an undefined: the kind it was asked of */
    uint32_t size;   /* of a string: its bytes */
    uint32_t taint;  /* of a string: which bytes are a user's; see internal.h, 0: none */
    union {
        bool boolean;
        int64_t integer;
        double real;
        const char *text; /* valid UTF-8, not NUL-terminated */
        struct jinja_list *list;
        struct jinja_dict *dict;
        struct jinja_macro *macro;
        const struct jinja_function *function;
        struct jinja_loop *loop;
        struct jinja_cell *cell;
    } as;
};

static inline struct jinja_value jinja_none(void)
{
    return (struct jinja_value){ .kind = JINJA_NONE };
}

static inline struct jinja_value jinja_bool(bool b)
{
    return (struct jinja_value){ .kind = JINJA_BOOL, .as.boolean = b };
}

static inline struct jinja_value jinja_int(int64_t i)
{
    return (struct jinja_value){ .kind = JINJA_INT, .as.integer = i };
}

static inline struct jinja_value jinja_float(double f)
{
    return (struct jinja_value){ .kind = JINJA_FLOAT, .as.real = f };
}

/* The text is borrowed for as long as the value lives. FAIL_FORMAT when it is not UTF-8,
 * FAIL_LIMIT at 4 GiB. */
int jinja_string(struct bytes text, struct jinja_value *ret, struct error *e);

/* The same of a user's text: it is tainted, and so is whatever a template makes of its bytes
 * (joined, replaced, split, sliced, filtered, as JSON). jinja_render says where they came out. */
int jinja_user_string(struct bytes text, struct jinja_value *ret, struct error *e);

/* An empty list in the arena; capacity is a hint. FAIL_NOMEM. */
int jinja_list_new(struct arena *a, size_t capacity, struct jinja_value *ret, struct error *e);
int jinja_list_add(struct arena *a, struct jinja_value *list, struct jinja_value item,
                   struct error *e);

/* An empty dict in the arena, ordered by insertion. FAIL_NOMEM. */
int jinja_dict_new(struct arena *a, size_t capacity, struct jinja_value *ret, struct error *e);
/* Adds or replaces; the key's text is borrowed. FAIL_NOMEM, FAIL_FORMAT (not UTF-8). */
int jinja_dict_set(struct arena *a, struct jinja_value *dict, struct bytes key,
                   struct jinja_value value, struct error *e);
/* The same; the key is a user's text. */
int jinja_dict_set_user(struct arena *a, struct jinja_value *dict, struct bytes key,
                        struct jinja_value value, struct error *e);

/* Bounds of one parse and one rendering; 0 takes the default. */
struct jinja_limits {
    size_t source;  /* bytes of template text; default 1 MiB, the largest real ones have 40 KiB */
    size_t memory;  /* bytes of a parsed template, and again of one rendering; 256 MiB */
    size_t output;  /* bytes rendered; 64 MiB, more than any context window holds */
    uint64_t steps; /* work: evaluated nodes, visited items, bytes by what they cost; 50 million,
                     * a second or two */
    int nesting;    /* of the template's text; 100 */
    int depth;      /* of evaluation, macro calls included; 500, about 400 KiB of stack */
    int64_t range;  /* items of one range(); 100000, as Jinja's sandbox */
};

/* The time a template may ask for, already in the reader's time zone. */
struct jinja_clock {
    int64_t local_s; /* seconds since 1970-01-01 00:00:00 local time */
    int microsecond;
};

struct jinja;

/* Parses source (copied). limits may be NULL. FAIL_FORMAT with line and column for what the
 * language refuses, FAIL_LIMIT, FAIL_NOMEM. */
int jinja_parse(struct jinja **ret, struct bytes source, const struct jinja_limits *limits,
                struct error *e);
void jinja_close(struct jinja *j);

/* What one rendering is given beside its variables. Borrowed. */
struct jinja_context {
    const struct jinja_clock *now; /* what strftime_now formats; NULL: asking for it is an error */
    /* Asked every few thousand steps: true ends the rendering with FAIL_LIMIT. NULL: nobody asks.
     * How time is bounded, since templates know no clock. */
    bool (*stop)(void *arg);
    void *stop_arg;
};

/* Renders into out (appended; untouched on failure).
 *
 * globals  a dict of the template's variables, or NULL; only read
 * context  or NULL: no time, no end but the limits
 * tainted  the ranges of out that are a user's text are added; NULL: nobody wants to know.
 *          Untouched on failure
 *
 * Every error names line and column. FAIL_ARG: the template itself called raise_exception, so the
 * conversation is at fault; FAIL_FORMAT: any other failure of the template; FAIL_LIMIT: a bound.
 * Any thread; several may render one template at once. */
int jinja_render(const struct jinja *j, const struct jinja_value *globals,
                 const struct jinja_context *context, struct buffer *out, struct spans *tainted,
                 struct error *e);

#endif
