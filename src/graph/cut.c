/* Cutting a program between layers: what is live across a cut travels, nothing else. */
#include "graph/program.h"

/* True when instruction `in` belongs to the part [first, end): what comes before layer 0 goes with
 * the first layer, what comes after the last goes with it. */
static bool belongs(const struct program *p, const struct instr *in, int first, int end)
{
    int layer = in->layer;
    if (layer < 0)
        layer = 0;
    if (layer >= p->n_layers)
        layer = p->n_layers - 1;
    return layer >= first && layer < end;
}

struct marks {
    bool *inside;  /* value is defined by an instruction of this part */
    bool *outside; /* value is used by a later part */
    bool *used;    /* value is used inside without being defined there */
};

/* A state that instructions on both sides of a cut use can't be cut: its bytes live on one side. */
static int check_states(const struct program *p, int first, int end, struct arena *arena,
                        struct error *e)
{
    int8_t *side = arena_array(arena, int8_t, p->n_states + 1);
    if (!side)
        return fail(e, FAIL_NOMEM, "cut of %d states", p->n_states);
    for (int i = 0; i < p->n_instrs; i++) {
        int s = p->instrs[i].state;
        if (s == PROGRAM_NONE)
            continue;
        int8_t here = belongs(p, &p->instrs[i], first, end) ? 1 : 2;
        if (side[s] && side[s] != here)
            return fail(e, FAIL_UNSUPPORTED,
                        "layers %d to %d can't be cut out: layer %d shares the state of layer %d",
                        first, end - 1, p->instrs[i].layer, p->states[s].layer);
        side[s] = here;
    }
    return 0;
}

static void mark(const struct program *p, int first, int end, struct marks *m)
{
    for (int i = 0; i < p->n_instrs; i++) {
        const struct instr *in = &p->instrs[i];
        bool mine = belongs(p, in, first, end);
        int layer = in->layer < 0 ? 0 : in->layer;
        for (int k = 0; k < PROGRAM_MAX_INPUTS; k++) {
            int v = in->in[k];
            if (v == PROGRAM_NONE)
                continue;
            if (mine && !m->inside[v])
                m->used[v] = true;
            if (!mine && layer >= end)
                m->outside[v] = true;
        }
        if (mine)
            m->inside[in->out] = true;
    }
}

/* Values marked, ascending, into the program's input or output list. */
static int list_values(struct program *c, const bool *a, const bool *b, int **list, int *count)
{
    *list = arena_array(c->arena, int, c->n_values + 1);
    if (!*list)
        return FAIL_NOMEM;
    *count = 0;
    for (int v = 0; v < c->n_values; v++)
        if (a[v] && b[v])
            (*list)[(*count)++] = v;
    return 0;
}

/* Drops the instructions of other parts, then the states and weights that nothing uses (their
 * indices move). */
static int drop_unused(struct program *c, int first, int end)
{
    int n = 0;
    for (int i = 0; i < c->n_instrs; i++)
        if (belongs(c, &c->instrs[i], first, end))
            c->instrs[n++] = c->instrs[i];
    c->n_instrs = n;
    int *weight_to = arena_array(c->arena, int, c->n_weights + 1);
    int *state_to = arena_array(c->arena, int, c->n_states + 1);
    if (!weight_to || !state_to)
        return FAIL_NOMEM;
    for (int i = 0; i < n; i++) {
        for (int k = 0; k < PROGRAM_MAX_WEIGHTS; k++)
            if (c->instrs[i].weight[k] != PROGRAM_NONE)
                weight_to[c->instrs[i].weight[k]] = 1;
        if (c->instrs[i].state != PROGRAM_NONE)
            state_to[c->instrs[i].state] = 1;
        if (c->instrs[i].op == OP_ROPE && c->ropes[c->instrs[i].rope.table].factors != PROGRAM_NONE)
            weight_to[c->ropes[c->instrs[i].rope.table].factors] = 1;
    }
    int weights = 0, states = 0;
    for (int i = 0; i < c->n_weights; i++) {
        bool keep = weight_to[i];
        weight_to[i] = keep ? weights : PROGRAM_NONE;
        if (keep)
            c->weights[weights++] = c->weights[i];
    }
    for (int i = 0; i < c->n_states; i++) {
        bool keep = state_to[i];
        state_to[i] = keep ? states : PROGRAM_NONE;
        if (keep)
            c->states[states++] = c->states[i];
    }
    c->n_weights = weights;
    c->n_states = states;
    for (int i = 0; i < n; i++) {
        struct instr *in = &c->instrs[i];
        for (int k = 0; k < PROGRAM_MAX_WEIGHTS; k++)
            if (in->weight[k] != PROGRAM_NONE)
                in->weight[k] = weight_to[in->weight[k]];
        if (in->state != PROGRAM_NONE)
            in->state = state_to[in->state];
    }
    for (int i = 0; i < c->n_ropes; i++)
        if (c->ropes[i].factors != PROGRAM_NONE)
            c->ropes[i].factors = weight_to[c->ropes[i].factors];
    return 0;
}

/* Both sides of a cut list the values in the same order. */
static void sort_values(int *list, int n)
{
    for (int i = 1; i < n; i++)
        for (int k = i; k > 0 && list[k] < list[k - 1]; k--) {
            int swap = list[k];
            list[k] = list[k - 1];
            list[k - 1] = swap;
        }
}

int program_cut(const struct program *p, int first, int end, struct arena *arena,
                struct program **ret, struct error *e)
{
    if (first < p->first_layer || end > p->end_layer || first >= end)
        return fail(e, FAIL_RANGE, "layers %d to %d of a program with layers %d to %d", first,
                    end - 1, p->first_layer, p->end_layer - 1);
    int r = check_states(p, first, end, arena, e);
    if (r)
        return r;
    struct marks m = { arena_array(arena, bool, p->n_values + 1),
                       arena_array(arena, bool, p->n_values + 1),
                       arena_array(arena, bool, p->n_values + 1) };
    struct program *c = program_clone(p, arena);
    if (!m.inside || !m.outside || !m.used || !c)
        return fail(e, FAIL_NOMEM, "cut of layers %d to %d", first, end - 1);
    mark(p, first, end, &m);
    /* What the whole program hands on, this part does too when it holds the end. */
    for (int i = 0; i < p->n_outputs; i++)
        m.outside[p->outputs[i]] = true;
    c->first_layer = first;
    c->end_layer = end;
    c->stage_first = first == 0;
    if (list_values(c, m.used, m.used, &c->inputs, &c->n_inputs) ||
        list_values(c, m.inside, m.outside, &c->outputs, &c->n_outputs) ||
        drop_unused(c, first, end))
        return fail(e, FAIL_NOMEM, "cut of layers %d to %d", first, end - 1);
    /* A value that a later part needs and an earlier part made passes through this one. */
    for (int v = 0; v < p->n_values; v++) {
        if (!m.outside[v] || m.inside[v])
            continue;
        bool made_before = false;
        for (int i = 0; i < p->n_instrs && !made_before; i++)
            made_before = p->instrs[i].out == v && p->instrs[i].layer < first;
        for (int i = 0; i < p->n_inputs && !made_before; i++)
            made_before = p->inputs[i] == v;
        if (!made_before)
            continue;
        if (!m.used[v])
            c->inputs[c->n_inputs++] = v;
        c->outputs[c->n_outputs++] = v;
    }
    sort_values(c->inputs, c->n_inputs);
    sort_values(c->outputs, c->n_outputs);
    if (p->logits != PROGRAM_NONE && !m.inside[p->logits])
        c->logits = PROGRAM_NONE;
    if (p->hidden != PROGRAM_NONE && !m.inside[p->hidden])
        c->hidden = PROGRAM_NONE;
    *ret = c;
    return 0;
}
