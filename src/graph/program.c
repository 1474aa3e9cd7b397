/* Building programs: see program.h. Arrays grow by doubling inside the arena; the old copies stay
 * there until the arena goes, which for a few thousand small structs is cheaper than a list. */
#include "graph/program.h"

struct program *program_new(struct arena *arena)
{
    struct program *p = arena_alloc(arena, sizeof(*p));
    if (!p)
        return NULL;
    p->arena = arena;
    p->n_ranks = 1;
    p->logits = p->hidden = PROGRAM_NONE;
    return p;
}

/* Room for one more element in an array of n; NULL when memory ends. */
static void *grow(struct arena *a, void *array, int n, int *capacity, size_t size)
{
    if (n < *capacity)
        return array;
    int more = *capacity ? *capacity * 2 : 16;
    void *fresh = arena_alloc_array(a, (size_t)more, size);
    if (!fresh)
        return NULL;
    if (n)
        memcpy(fresh, array, (size_t)n * size);
    *capacity = more;
    return fresh;
}

#define ADD(p, field, item)                                                                        \
    do {                                                                                           \
        void *fresh =                                                                              \
            grow((p)->arena, (p)->field, (p)->n_##field, &(p)->cap_##field, sizeof(*(p)->field));  \
        if (!fresh)                                                                                \
            return PROGRAM_NONE;                                                                   \
        (p)->field = fresh;                                                                        \
        (p)->field[(p)->n_##field] = (item);                                                       \
        return (p)->n_##field++;                                                                   \
    } while (0)

int program_add_range(struct program *p, const struct range *r)
{
    struct range copy = *r;
    copy.name = arena_text(p->arena, bytes_text(r->name));
    if (!copy.name)
        return PROGRAM_NONE;
    copy.first = 0;
    copy.end = copy.count;
    ADD(p, ranges, copy);
}

int program_add_value(struct program *p, const char *name, int width, struct axis axis)
{
    struct value v = { .name = arena_text(p->arena, bytes_text(name)),
                       .width = width,
                       .axis = axis };
    if (!v.name)
        return PROGRAM_NONE;
    ADD(p, values, v);
}

int program_add_weight(struct program *p, const struct weight *w)
{
    struct weight copy = *w;
    copy.tensor = arena_text(p->arena, bytes_text(w->tensor));
    if (!copy.tensor)
        return PROGRAM_NONE;
    ADD(p, weights, copy);
}

int program_add_state(struct program *p, const struct state *s)
{
    ADD(p, states, *s);
}

int program_add_rope(struct program *p, const struct rope *r)
{
    ADD(p, ropes, *r);
}

int program_add_instr(struct program *p, const struct instr *in)
{
    ADD(p, instrs, *in);
}
#undef ADD

struct instr instr_init(enum op op, int layer)
{
    struct instr in = { .op = op, .layer = layer, .out = PROGRAM_NONE, .state = PROGRAM_NONE };
    for (int i = 0; i < PROGRAM_MAX_INPUTS; i++)
        in.in[i] = PROGRAM_NONE;
    for (int i = 0; i < PROGRAM_MAX_WEIGHTS; i++)
        in.weight[i] = PROGRAM_NONE;
    return in;
}

/* Copies n elements into a, with the capacity to match. n 0 gives a valid empty array. */
static void *copy_array(struct arena *a, const void *from, int n, size_t size)
{
    void *to = arena_alloc_array(a, (size_t)(n ? n : 1), size);
    if (to && n)
        memcpy(to, from, (size_t)n * size);
    return to;
}

struct program *program_clone(const struct program *p, struct arena *arena)
{
    struct program *c = arena_alloc(arena, sizeof(*c));
    if (!c)
        return NULL;
    *c = *p;
    c->arena = arena;
#define COPY(field)                                                                                \
    do {                                                                                           \
        c->field = copy_array(arena, p->field, p->n_##field, sizeof(*p->field));                   \
        if (!c->field)                                                                             \
            return NULL;                                                                           \
        c->cap_##field = p->n_##field;                                                             \
    } while (0)
    COPY(ranges);
    COPY(values);
    COPY(weights);
    COPY(states);
    COPY(ropes);
    COPY(instrs);
#undef COPY
    c->inputs = copy_array(arena, p->inputs, p->n_inputs, sizeof(int));
    c->outputs = copy_array(arena, p->outputs, p->n_outputs, sizeof(int));
    c->family = arena_text(arena, bytes_text(p->family));
    if (!c->inputs || !c->outputs || !c->family)
        return NULL;
    for (int i = 0; i < c->n_values; i++)
        if (!(c->values[i].name = arena_text(arena, bytes_text(p->values[i].name))))
            return NULL;
    for (int i = 0; i < c->n_weights; i++)
        if (!(c->weights[i].tensor = arena_text(arena, bytes_text(p->weights[i].tensor))))
            return NULL;
    for (int i = 0; i < c->n_ranges; i++)
        if (!(c->ranges[i].name = arena_text(arena, bytes_text(p->ranges[i].name))))
            return NULL;
    return c;
}

int program_segments(const struct program *p, struct arena *arena, struct segment **ret)
{
    int n = 1;
    for (int i = 0; i < p->n_instrs; i++)
        n += p->instrs[i].op == OP_ALL_REDUCE;
    struct segment *s = arena_array(arena, struct segment, n);
    if (!s)
        return FAIL_NOMEM;
    int at = 0, first = 0;
    for (int i = 0; i < p->n_instrs; i++) {
        if (p->instrs[i].op != OP_ALL_REDUCE)
            continue;
        s[at++] = (struct segment){ .first = first, .end = i, .exchange = i };
        first = i + 1;
    }
    s[at++] = (struct segment){ .first = first, .end = p->n_instrs, .exchange = PROGRAM_NONE };
    *ret = s;
    return at;
}
