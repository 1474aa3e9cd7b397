/* What the parts of the template interpreter share; for this folder only. */
#ifndef SHOAL_JINJA_INTERNAL_H
#define SHOAL_JINJA_INTERNAL_H

#include "jinja/jinja.h"

#include <stdarg.h>

/* ---- parsed templates ---- */

enum node_kind {
    NODE_CONST,
    NODE_NAME,
    NODE_LIST,
    NODE_TUPLE,
    NODE_DICT, /* list: key, value, key, value... */
    NODE_ATTRIBUTE,
    NODE_ITEM,
    NODE_SLICE, /* a, b, c: start, stop, step or NULL */
    NODE_CALL,
    NODE_FILTER,
    NODE_TEST,
    NODE_UNARY,
    NODE_BINARY,
    NODE_AND,
    NODE_OR,
    NODE_NOT,
    NODE_COMPARE, /* a, then list with op in each operand's OPERAND node */
    NODE_OPERAND,
    NODE_CONCAT,
    NODE_CONDITION, /* a if b else c */
    NODE_NAMESPACE, /* name.attribute as a target; value holds the attribute */
    /* statements */
    NODE_DATA,
    NODE_OUTPUT,
    NODE_IF,
    NODE_FOR,
    NODE_SET,
    NODE_SET_BLOCK,
    NODE_MACRO,
    NODE_CALL_BLOCK,
    NODE_FILTER_BLOCK,
    NODE_WITH,
    NODE_SCOPE,
    NODE_AUTOESCAPE,
    NODE_BLOCK,
    NODE_BREAK,
    NODE_CONTINUE,
    NODE_COUNT
};

enum op {
    OP_NONE,
    OP_ADD,
    OP_SUB,
    OP_MUL,
    OP_DIV,
    OP_FLOORDIV,
    OP_MOD,
    OP_POW,
    OP_EQ,
    OP_NE,
    OP_LT,
    OP_LE,
    OP_GT,
    OP_GE,
    OP_IN,
    OP_NOT_IN,
    OP_COUNT
};

struct node_list {
    struct node **items;
    int count;
    int capacity;
};

struct node_args {
    struct node_list positional;
    struct node_list keywords; /* each a node of its value, named by `names` */
    struct bytes *names;       /* (keywords.count) */
    struct node *dynamic;      /* *expression, or NULL */
    struct node *dynamic_keywords;
};

#define USES_CALLER 1u
#define USES_VARARGS 2u
#define USES_KWARGS 4u

struct node {
    uint8_t kind;   /* enum node_kind */
    uint8_t op;     /* enum op */
    uint8_t uses;   /* of a macro: USES_ bits */
    bool recursive; /* of a loop; of a block: scoped */
    uint32_t at;    /* byte offset in the source */
    struct bytes name;
    struct jinja_value value;
    struct node *a, *b, *c;
    struct node_list list;
    struct node_list body;
    struct node_list orelse;
    struct node_args *args;
};

struct jinja {
    struct arena arena;
    struct jinja_limits limits;
    struct bytes source; /* newlines normalised */
    struct node_list body;
};

enum token_kind {
    TOKEN_END,
    TOKEN_DATA,
    TOKEN_VARIABLE_BEGIN,
    TOKEN_VARIABLE_END,
    TOKEN_BLOCK_BEGIN,
    TOKEN_BLOCK_END,
    TOKEN_NAME,
    TOKEN_STRING, /* value: the decoded text */
    TOKEN_NUMBER, /* value: int or float */
    TOKEN_OPERATOR
};

struct token {
    uint8_t kind; /* enum token_kind */
    uint32_t at;
    struct bytes text; /* the name, the operator, the data, or the token as written */
    struct jinja_value value;
};

/* The whole template as tokens, ended by TOKEN_END. */
int jinja_lex(struct jinja *j, struct token **ret, struct error *e);

struct parser {
    struct jinja *j;
    struct arena *a;
    const struct token *token;
    struct error *e;
    int depth;
    int loops;    /* loops around the present statement, inside its macro */
    uint8_t uses; /* USES_ bits seen since the macro began */
    bool soft;    /* inside a condition: unknown filters fail only when reached */
    int result;   /* the first failure */
    struct node_list blocks;
};

/* "line L, column C: ..." before the text. Returns the code. */
int jinja_fail_at(const struct jinja *j, uint32_t at, int code, struct error *e, const char *format,
                  va_list args);
int parser_fail(struct parser *p, uint32_t at, const char *format, ...) PRINTF_LIKE(3, 4);
struct node *parser_node(struct parser *p, enum node_kind kind, uint32_t at);
bool parser_add(struct parser *p, struct node_list *list, struct node *n);
bool parser_enter(struct parser *p);
bool parser_is_operator(const struct parser *p, const char *text);
bool parser_is_name(const struct parser *p, const char *text);
bool parser_skip_operator(struct parser *p, const char *text);
bool parser_skip_name(struct parser *p, const char *text);
bool parser_expect_operator(struct parser *p, const char *text);
void parser_unexpected(struct parser *p, const char *wanted);

/* NULL after a failure, which p->result holds. */
struct node *parser_expression(struct parser *p);
struct node *parser_tuple(struct parser *p, bool with_condition, const char *end_name);
struct node *parser_target(struct parser *p, bool with_namespace, const char *end_name);
struct node *parser_name_target(struct parser *p);
struct node *parser_filters(struct parser *p, struct node *input, bool inline_first);
struct node *parser_expression_or(struct parser *p);

/* ---- values ---- */

struct jinja_list {
    struct jinja_value *items;
    size_t count;
    size_t capacity;
    size_t next;           /* of an iterator: the first item not taken yet */
    int64_t range[3];      /* of a range */
    const char *type_name; /* of an iterator, as Python would call it */
    const char *failure;   /* of an iterator: what happens to who takes its items; or NULL */
};

struct dict_entry {
    struct jinja_value key;
    struct jinja_value value;
    uint64_t hash;
};

struct jinja_dict {
    struct dict_entry *entries;
    size_t count;
    size_t capacity;
    int32_t *slots; /* (slot_count) entry + 1, or 0; NULL while small */
    size_t slot_count;
};

enum undefined_flavour { UNDEFINED_NAME, UNDEFINED_ATTRIBUTE, UNDEFINED_UNSAFE, UNDEFINED_HINT };
enum view_flavour { VIEW_KEYS, VIEW_VALUES, VIEW_ITEMS };

/* Variables of one scope, newest last. */
struct frame {
    struct frame *parent;
    struct binding *bindings;
    int count;
    int capacity;
};

struct binding {
    struct bytes name;
    struct jinja_value value;
};

struct jinja_macro {
    const struct node *node; /* of the macro, or of the call block */
    struct frame *frame;     /* where it was defined */
    struct bytes name;
};

struct jinja_loop {
    const struct node *node;
    struct frame *frame; /* around the loop, for recursion */
    const struct jinja_value *items;
    size_t count;
    size_t index; /* from 0 */
    int depth;    /* from 0 */
    struct jinja_value changed;
    struct jinja_value view; /* the loop as a template value */
};

/* What cyclers and joiners keep. */
struct jinja_cell {
    struct jinja_list *items;
    struct jinja_value separator;
    size_t position;
    bool used;
};

struct call {
    const struct jinja_value *args;
    int count;
    const struct bytes *names;
    const struct jinja_value *keywords; /* (keyword_count) */
    const uint32_t *taints; /* (keyword_count) of the names; NULL: none came from a user */
    int keyword_count;
};

/* The most parameters a builtin names. */
#define MAX_PARAMS 8

struct run;

/* arg holds the bound parameters, JINJA_ABSENT where none was given; more is the whole call, for
 * builtins that take any number. */
typedef int builtin_fn(struct run *r, struct jinja_value self, const struct jinja_value *arg,
                       const struct call *more, struct jinja_value *ret);

struct builtin {
    const char *name;
    builtin_fn *fn;
    const char *params; /* names apart by spaces; "-": positional only; "*" last: any more */
    int required;
};

/* A builtin bound to what it was taken from. */
struct jinja_function {
    const struct builtin *builtin;
    struct jinja_value self;
};

/* What the files that others build on call in those above them: a value may be called, and a method
 * may format a text that takes attributes of values. */
struct upcalls {
    /* Calls a macro or a call block; *ret is what it wrote. */
    int (*macro)(struct run *r, const struct jinja_macro *m, const struct call *c,
                 struct jinja_value *ret);
    /* loop(items) of a recursive loop. */
    int (*loop)(struct run *r, struct jinja_loop *loop, struct jinja_value items,
                struct jinja_value *ret);
    /* find_method. */
    const struct builtin *(*method)(struct jinja_value of, struct bytes name, bool *unsafe);
};

/* One rendering. Owner: the thread that called jinja_render. */
struct run {
    const struct jinja *j;
    struct arena arena;
    const struct jinja_value *globals;
    const struct jinja_context *context;
    const struct upcalls *calls;
    struct error *e;
    struct text *out; /* what statements write to */
    struct frame *frame;
    struct frame *top;
    uint64_t steps;
    uint64_t asked; /* steps when the context was asked last, had there been one */
    int depth;
    uint32_t at; /* of the node under evaluation */
};

/* ---- taint ----
 *
 * A string's bytes are the template's own or a user's. taint 0: all are the template's;
 * TAINT_ALL: all are a user's; else byte i is a user's if the byte at text[i + taint] isn't 0: the
 * marks stand behind the text in the same memory, so a slice keeps its string's taint as it is.
 * What copies bytes copies their taint; values without bytes (numbers, none) have none. */
#define TAINT_ALL UINT32_MAX

static inline bool taint_at(struct jinja_value s, size_t i)
{
    return s.taint && (s.taint == TAINT_ALL || s.as.text[i + s.taint]);
}

enum text_taint { TEXT_CLEAN, TEXT_TAINTED, TEXT_MIXED };

/* A growing text in the rendering's arena. */
struct text {
    char *data; /* (capacity); if mixed, the marks of its bytes follow */
    size_t size;
    size_t capacity;
    enum text_taint taint;
};

/* Records a failure at the node under evaluation; returns code. */
int run_fail(struct run *r, int code, const char *format, ...) PRINTF_LIKE(3, 4);
/* The arena's limit is reached: FAIL_LIMIT. */
int run_nomem(struct run *r);
/* How often the context is asked whether to stop: every tenth of a millisecond or so. */
#define ASK_EVERY 4096
/* Asks the context when it is time, and fails when the budget is spent. */
int run_account(struct run *r);
/* Counts n units of work, each some 20 ns; FAIL_LIMIT when the budget is spent. */
static inline int run_step(struct run *r, uint64_t n)
{
    r->steps += n;
    if (r->steps - r->asked < ASK_EVERY && r->steps <= r->j->limits.steps)
        return 0;
    return run_account(r);
}
/* Counts n bytes that are copied or compared. */
static inline int run_bytes(struct run *r, uint64_t n)
{
    return run_step(r, 1 + n / 64);
}
/* Counts n bytes that are looked at one by one. */
static inline int run_chars(struct run *r, uint64_t n)
{
    return run_step(r, 1 + n / 2);
}
int run_enter(struct run *r);
static inline void run_leave(struct run *r)
{
    r->depth--;
}

/* The text_ functions append; 0 or a recorded failure. Bytes are the template's own but where they
 * come from a value, or where `tainted` says so. */
int text_add(struct run *r, struct text *t, const void *data, size_t size);
int text_put(struct run *r, struct text *t, const void *data, size_t size, bool tainted);
/* Bytes [from, to) of a string. */
int text_part(struct run *r, struct text *t, struct jinja_value s, size_t from, size_t to);
/* A whole string. */
int text_string(struct run *r, struct text *t, struct jinja_value s);
/* Two strings, in memory of just their size. t is empty before. */
int text_join(struct run *r, struct text *t, struct jinja_value a, struct jinja_value b);
/* One code point. */
int text_add_point(struct run *r, struct text *t, uint32_t point, bool tainted);
/* A constant text. */
int text_cstr(struct run *r, struct text *t, const char *s);
/* Short formatted text, numbers above all. */
int text_printf(struct run *r, struct text *t, const char *format, ...) PRINTF_LIKE(3, 4);
/* unit, a string, times over. */
int text_fill(struct run *r, struct text *t, struct jinja_value unit, uint64_t times);
/* A whole string, escaped for HTML even if it is markup. */
int text_escape(struct run *r, struct text *t, struct jinja_value s);
/* The text as a string, which borrows it. */
int text_value(struct run *r, const struct text *t, struct jinja_value *ret);

/* UTF-8. */
size_t utf8_encode(uint32_t point, char out[static 4]);
/* Of valid text; advances *i. */
uint32_t utf8_next(const char *text, size_t size, size_t *i);
/* The start of the code point before i. */
size_t utf8_back(const char *text, size_t i);
/* False when not UTF-8; *points counts. */
bool utf8_check(struct bytes text, size_t *points);
/* Byte offset of code point number n (n <= points). */
size_t string_offset(struct jinja_value s, size_t n);

/* Python's str.isspace, isalpha, ... of one code point. */
bool unicode_is_space(uint32_t c);
/* str.isalpha. */
bool unicode_is_alpha(uint32_t c);
/* str.isdigit. */
bool unicode_is_digit(uint32_t c);
/* str.isdecimal. */
bool unicode_is_decimal(uint32_t c);
/* str.isnumeric. */
bool unicode_is_numeric(uint32_t c);
/* str.isprintable. */
bool unicode_is_printable(uint32_t c);
/* str.isupper. */
bool unicode_is_upper(uint32_t c);
/* str.islower. */
bool unicode_is_lower(uint32_t c);
/* A title-case letter that is neither upper nor lower case. */
bool unicode_is_title(uint32_t c);
enum text_case { CASE_LOWER, CASE_UPPER, CASE_TITLE, CASE_FOLD };
/* Puts the case form, which may be several code points, into out and returns their number. */
int unicode_case(uint32_t c, enum text_case to, uint32_t out[static 3]);

static inline struct bytes string_bytes(struct jinja_value v)
{
    return bytes_of(v.as.text, v.size);
}
static inline bool is_string(struct jinja_value v)
{
    return v.kind == JINJA_STRING;
}
static inline bool is_absent(struct jinja_value v)
{
    return v.kind == JINJA_ABSENT;
}
/* A text that counts as HTML already, as the filters safe and escape make it: what joins it is
 * escaped. */
static inline bool is_markup(struct jinja_value v)
{
    return v.kind == JINJA_STRING && v.flavour;
}
/* Numbers as Python has them: a bool is an int. */
static inline bool is_integral(struct jinja_value v)
{
    return v.kind == JINJA_INT || v.kind == JINJA_BOOL;
}
static inline bool is_number(struct jinja_value v)
{
    return is_integral(v) || v.kind == JINJA_FLOAT;
}
static inline int64_t as_int(struct jinja_value v)
{
    return v.kind == JINJA_BOOL ? v.as.boolean : v.as.integer;
}
static inline double as_float(struct jinja_value v)
{
    return v.kind == JINJA_FLOAT ? v.as.real : (double)as_int(v);
}
static inline bool is_items(struct jinja_value v)
{
    return v.kind == JINJA_LIST || v.kind == JINJA_TUPLE || v.kind == JINJA_ITERATOR ||
           v.kind == JINJA_VIEW || v.kind == JINJA_RANGE;
}
/* A constant text. */
struct jinja_value string_const(const char *text);
struct jinja_value string_of(const char *text, size_t size, size_t points);
/* Bytes [from, to) of s, with these code points. */
struct jinja_value string_range(struct jinja_value s, size_t from, size_t to, size_t points);
int string_copy(struct run *r, struct bytes text, struct jinja_value *ret);
/* The name of a call's keyword number i. */
int call_name(struct run *r, const struct call *c, int i, struct jinja_value *ret);

/* An undefined value that explains itself with this constant text. */
struct jinja_value undefined_hint(const char *hint);
/* A variable that does not exist; the name is borrowed. */
struct jinja_value undefined_name(struct bytes name);
/* An attribute or item that `of` does not have; the name is borrowed. */
struct jinja_value undefined_attribute(struct jinja_value of, struct bytes name);
/* Fails with what an undefined value says of itself. */
int undefined_fail(struct run *r, struct jinja_value v);

/* What Python calls the value's type. */
const char *type_name(struct jinja_value v);
/* Python's truth of a value. */
bool truth(struct jinja_value v);
/* a == b. */
int value_equal(struct run *r, struct jinja_value a, struct jinja_value b, bool *ret);
/* *ret below, equal to or above 0; NaN makes *ret 2 (unordered). */
int value_compare(struct run *r, struct jinja_value a, struct jinja_value b, enum op op, int *ret);
int value_relation(struct run *r, struct jinja_value a, struct jinja_value b, enum op op,
                   bool *ret);
int value_contains(struct run *r, struct jinja_value in, struct jinja_value item, bool *ret);
int value_length(struct run *r, struct jinja_value v, int64_t *ret);
/* The items that iteration gives; an iterator is used up by it. */
int value_items(struct run *r, struct jinja_value v, const struct jinja_value **items,
                size_t *count);
bool is_iterable(struct jinja_value v);

/* An empty list, or tuple, range or view, in the rendering's arena; capacity is a hint. */
int list_new(struct run *r, enum jinja_kind kind, size_t capacity, struct jinja_value *ret);
/* Appends; only to lists that no template has seen yet. */
int list_add(struct run *r, struct jinja_value *list, struct jinja_value item);
/* What Python would give as an iterator: used up by the first loop over it. */
int iterator_new(struct run *r, const char *name, size_t capacity, struct jinja_value *ret);
/* Ends the filling of an iterator: what failed in it is kept until somebody takes its items, as
 * Python's generators have it. */
int iterator_done(struct run *r, int code, struct jinja_value made, struct jinja_value *ret);
/* A pair. */
int tuple_of(struct run *r, struct jinja_value a, struct jinja_value b, struct jinja_value *ret);
/* An empty dict in the rendering's arena. */
int dict_new(struct run *r, size_t capacity, struct jinja_value *ret);
/* Adds or replaces; an unhashable key fails as in Python. */
int dict_put(struct run *r, struct jinja_value *dict, struct jinja_value key,
             struct jinja_value value);
/* *ret is NULL when absent; unhashable keys are never found. */
int dict_find(struct run *r, const struct jinja_dict *d, struct jinja_value key,
              const struct jinja_value **ret);
int dict_find_text(struct run *r, const struct jinja_dict *d, struct bytes key,
                   const struct jinja_value **ret);
/* Fails unless v can be a key. */
int need_hashable(struct run *r, struct jinja_value v);

/* Writes what print and ~ show, or what repr() shows. */
int value_str(struct run *r, struct text *t, struct jinja_value v);
int value_repr(struct run *r, struct text *t, struct jinja_value v);
int value_to_string(struct run *r, struct jinja_value v, struct jinja_value *ret);
int float_repr(struct run *r, struct text *t, double f);
int value_json(struct run *r, struct jinja_value v, const struct jinja_value *arg,
               struct jinja_value *ret);

/* ---- evaluation ---- */

/* The value of an expression. */
int eval(struct run *r, const struct node *n, struct jinja_value *ret);
/* Runs statements; *flow tells of a break or continue, which ends them early. */
int exec_body(struct run *r, const struct node_list *body, int *flow);
/* Runs a body in a scope of its own; *ret is what it wrote. */
int run_capture(struct run *r, const struct node_list *body, struct jinja_value *ret);
/* The arguments of a call, evaluated; first, where given, goes before them. args may be NULL. */
int eval_args(struct run *r, const struct node_args *args, const struct jinja_value *first,
              struct call *ret);
/* Calls anything that can be called. */
int call_value(struct run *r, struct jinja_value f, const struct call *c, struct jinja_value *ret);
/* Binds the arguments to the builtin's parameters and calls it. */
int call_builtin(struct run *r, const struct builtin *b, struct jinja_value self,
                 const struct call *c, struct jinja_value *ret);
/* The filter of this name applied to input. */
int apply_filter(struct run *r, struct bytes name, struct jinja_value input, const struct call *c,
                 struct jinja_value *ret);
/* The test of this name applied to input. */
int apply_test(struct run *r, struct bytes name, struct jinja_value input, const struct call *c,
               bool *ret);
/* Sets a variable of one scope; the name is borrowed. */
int frame_set(struct run *r, struct frame *f, struct bytes name, struct jinja_value value);
/* A new scope inside parent; NULL after a failure, which is recorded. */
struct frame *frame_push(struct run *r, struct frame *parent);
/* The variable, global or function of this name, or undefined. */
int name_lookup(struct run *r, struct bytes name, struct jinja_value *ret);

/* a op b for the arithmetic operators. */
int binary_op(struct run *r, enum op op, struct jinja_value a, struct jinja_value b,
              struct jinja_value *ret);
/* of.name: methods and fields before items. */
int get_attribute(struct run *r, struct jinja_value of, struct bytes name, struct jinja_value *ret);
/* of[key]: items before methods and fields. */
int get_item(struct run *r, struct jinja_value of, struct jinja_value key, struct jinja_value *ret);
/* of[start:stop:step], each none where not given. */
int get_slice(struct run *r, struct jinja_value of, const struct jinja_value part[static 3],
              struct jinja_value *ret);
/* A dotted path or an index, as filters take it. missing, where given, stands for each part that
 * is undefined. */
int get_path(struct run *r, struct jinja_value of, struct jinja_value path,
             const struct jinja_value *missing, struct jinja_value *ret);

/* A method of a string, list, tuple, dict, loop... or NULL. */
const struct builtin *find_method(struct jinja_value of, struct bytes name, bool *unsafe);
int bind_method(struct run *r, const struct builtin *b, struct jinja_value self,
                struct jinja_value *ret);
/* In a table that ends with a row without a name; NULL when it isn't there. */
const struct builtin *find_builtin(const struct builtin *table, struct bytes name);
const struct builtin *find_filter(struct bytes name);
const struct builtin *find_test(struct bytes name);
const struct builtin *find_global(struct bytes name);
extern const struct builtin jinja_text_filters[];
extern const struct builtin jinja_list_filters[];
extern const struct builtin jinja_string_methods[];
extern const struct builtin jinja_string_predicates[];

/* "%" of a string, and the string method format. */
int format_percent(struct run *r, struct jinja_value pattern, struct jinja_value values,
                   struct jinja_value *ret);
int format_braces(struct run *r, struct jinja_value pattern, const struct call *c,
                  struct jinja_value *ret);
/* Python's format specification applied to a value. */
int format_spec(struct run *r, struct text *t, struct jinja_value v, struct jinja_value spec);
/* A float as Python's format code f, e, g or % has it. */
int format_float(struct run *r, struct text *t, double f, char code, int precision, bool alternate);
int format_time(struct run *r, struct jinja_value format, const struct jinja_clock *now,
                struct jinja_value *ret);

/* The text as markup, escaped unless it is. */
int string_escape(struct run *r, struct jinja_value s, struct jinja_value *ret);
/* Shared by methods and filters. */
int string_case(struct run *r, struct jinja_value s, enum text_case to, struct jinja_value *ret);
int string_capitalize(struct run *r, struct jinja_value s, struct jinja_value *ret);
int string_strip(struct run *r, struct jinja_value s, struct jinja_value chars, int sides,
                 struct jinja_value *ret);
int string_replace(struct run *r, struct jinja_value s, struct jinja_value old,
                   struct jinja_value fresh, int64_t count, struct jinja_value *ret);
int string_splitlines(struct run *r, struct jinja_value s, bool keep, struct jinja_value *ret);
/* Python's int() and float() of a text; false where they raise. */
bool text_to_int(struct bytes text, int base, int64_t *ret, bool *overflow);
bool text_to_float(struct bytes text, double *ret);
int sort_values(struct run *r, struct jinja_value *keys, struct jinja_value *values, size_t n,
                bool reverse);

#endif
