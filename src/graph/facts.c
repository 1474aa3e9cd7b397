/* See facts.h. */
#include "graph/facts.h"

#include "graph/ops.h"
#include "graph/wants.h"

static struct layer_facts *facts_of(struct program_facts *f, int layer)
{
    if (layer < 0)
        return &f->before;
    return layer >= f->n_layers ? &f->after : &f->layers[layer];
}

static bool same_part(const struct program *p, int a, int b)
{
    bool before = a < 0 && b < 0, after = a >= p->n_layers && b >= p->n_layers;
    return before || after || a == b;
}

static bool uses(const struct program *p, int instr, const struct weight *w)
{
    for (int k = 0; k < PROGRAM_MAX_WEIGHTS; k++) {
        int other = p->instrs[instr].weight[k];
        if (other != PROGRAM_NONE && weight_same_bytes(&p->weights[other], w))
            return true;
    }
    return false;
}

/* A weight counts once in each part that uses it. Layers have their own; what comes after them may
 * use what comes before them too. */
static void add_weight(const struct program *p, struct program_facts *f, int index, int weight)
{
    const struct weight *w = &p->weights[weight];
    struct want want;
    int layer = p->instrs[index].layer;
    want_of_weight(w, &want);
    for (int i = index - 1; i >= 0 && same_part(p, p->instrs[i].layer, layer); i--)
        if (uses(p, i, w))
            return;
    facts_of(f, layer)->weight_bytes += want_bytes(&want);
    for (int i = 0; layer >= p->n_layers && i < p->n_instrs && p->instrs[i].layer < 0; i++)
        if (uses(p, i, w)) {
            f->tied_bytes += want_bytes(&want);
            return;
        }
}

static void add_instr(const struct program *p, struct program_facts *f, int index)
{
    const struct instr *in = &p->instrs[index];
    struct layer_facts *to = facts_of(f, in->layer);
    struct op_cost cost = { 0 };
    for (int k = 0; k < PROGRAM_MAX_WEIGHTS; k++)
        if (in->weight[k] != PROGRAM_NONE)
            add_weight(p, f, index, in->weight[k]);
    if (op_info(in->op)->cost)
        op_info(in->op)->cost(p, in, &cost);
    to->position_macs += cost.position_macs;
    if (cost.mats) {
        uint64_t *macs = p->values[in->out].rows == ROWS_WANTED ? to->wanted_macs : to->macs;
        macs[p->weights[in->weight[0]].type] += cost.weights * (uint64_t)cost.mats;
    }
}

static void add_states(const struct program *p, struct program_facts *f)
{
    for (int i = 0; i < p->n_states; i++) {
        const struct state *s = &p->states[i];
        struct layer_facts *to = facts_of(f, s->layer);
        to->kv_numbers += state_token_numbers(s);
        to->state_numbers += state_fixed_numbers(s);
        to->kv_window = s->window;
    }
}

/* Exchanges don't depend on how many ranks there are: those of two are counted. */
static int add_exchanges(const struct program *p, struct program_facts *f, struct arena *arena,
                         struct error *e)
{
    static const int halves[] = { 1, 1 };
    struct program *rank;
    struct error ignored = { 0 };
    int r = program_shard(p, &(struct rank_share){ halves, 2, 0 }, arena, &rank, &ignored);
    if (r)
        return r == FAIL_NOMEM ? fail(e, r, "%s", ignored.text) : 0;
    f->splits = true;
    for (int i = 0; i < rank->n_instrs; i++) {
        if (rank->instrs[i].op != OP_ALL_REDUCE)
            continue;
        struct layer_facts *to = facts_of(f, rank->instrs[i].layer);
        to->exchanges++;
        to->exchange_numbers += (uint64_t)rank->values[rank->instrs[i].out].width;
    }
    return 0;
}

/* The part of a pipeline that an instruction goes with. */
static int stage_layer(const struct program *p, const struct instr *in)
{
    int layer = in->layer < 0 ? 0 : in->layer;
    return layer >= p->n_layers ? p->n_layers - 1 : layer;
}

static void forbid(struct program_facts *f, int from, int to)
{
    for (int cut = from + 1; cut <= to; cut++)
        f->cuts[cut].legal = false;
}

/* A value lives from the layer that makes it to the last that uses it, a state from the first to
 * the last that touches it. */
static int add_cuts(const struct program *p, struct program_facts *f, struct arena *arena,
                    struct error *e)
{
    int *made = arena_array(arena, int, p->n_values + 1);
    int *used = arena_array(arena, int, p->n_values + 1);
    int *touched = arena_array(arena, int, p->n_states + 1);
    if (!made || !used || !touched)
        return fail(e, FAIL_NOMEM, "facts of %s", p->family);
    for (int i = 0; i < p->n_layers; i++)
        f->cuts[i].legal = i > 0;
    for (int i = 0; i < p->n_states; i++)
        touched[i] = PROGRAM_NONE;
    for (int i = 0; i < p->n_instrs; i++) {
        const struct instr *in = &p->instrs[i];
        int layer = stage_layer(p, in);
        made[in->out] = used[in->out] = layer;
        for (int k = 0; k < PROGRAM_MAX_INPUTS; k++)
            if (in->in[k] != PROGRAM_NONE)
                used[in->in[k]] = layer;
        if (in->state == PROGRAM_NONE)
            continue;
        if (touched[in->state] != PROGRAM_NONE)
            forbid(f, touched[in->state], layer);
        touched[in->state] = layer;
    }
    for (int v = 0; v < p->n_values; v++)
        for (int cut = made[v] + 1; cut <= used[v]; cut++)
            f->cuts[cut].numbers += (uint64_t)p->values[v].width;
    return 0;
}

int program_facts(const struct program *p, struct arena *arena, struct program_facts *ret,
                  struct error *e)
{
    struct program_facts f = { .n_layers = p->n_layers };
    if (p->n_ranks != 1 || p->first_layer != 0 || p->end_layer != p->n_layers)
        return fail(e, FAIL_STATE, "facts are those of a whole program");
    f.layers = arena_array(arena, struct layer_facts, p->n_layers);
    f.cuts = arena_array(arena, struct cut_facts, p->n_layers);
    if (!f.layers || !f.cuts)
        return fail(e, FAIL_NOMEM, "facts of %s", p->family);
    for (int i = 0; i < p->n_instrs; i++)
        add_instr(p, &f, i);
    add_states(p, &f);
    int r = add_exchanges(p, &f, arena, e);
    r = r ? r : add_cuts(p, &f, arena, e);
    if (!r)
        *ret = f;
    return r;
}
