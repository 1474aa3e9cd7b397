/* See share.h. */
#include "stage/share.h"

int rank_program(const struct program *whole, const struct placement_plan *plan, int rank,
                 struct arena *arena, struct program **ret, struct error *e)
{
    const struct plan_stage *stage = &plan->stages[plan_stage_of(plan, rank)];
    struct program *part = NULL;
    int code = program_cut(whole, stage->first, stage->end, arena, &part, e);
    if (code == 0) {
        const struct rank_share share = { &plan->shares[stage->rank], stage->n_ranks,
                                          rank - stage->rank };
        code = program_shard(part, &share, arena, &part, e);
    }
    if (code == 0) {
        code = program_validate(part, e);
    }
    if (code == 0) {
        *ret = part;
    }
    return code;
}

int rank_hidden_width(const struct program *whole)
{
    return whole->hidden == PROGRAM_NONE ? 0 : whole->values[whole->hidden].width;
}

bool rank_can_truncate(const struct program *whole)
{
    for (int i = 0; i < whole->n_states; i++) {
        if (whole->states[i].kind != STATE_KV || whole->states[i].window != 0) {
            return false;
        }
    }
    return true;
}

void rank_vocab(const struct program *part, int *first, int *count)
{
    *first = 0;
    *count = 0;
    if (part->logits == PROGRAM_NONE) {
        return;
    }
    const struct value *logits = &part->values[part->logits];
    *count = logits->width;
    if (logits->layout == VALUE_SHARDED && logits->axis.range != PROGRAM_NONE) {
        *first = part->ranges[logits->axis.range].first * logits->axis.unit;
    }
}
