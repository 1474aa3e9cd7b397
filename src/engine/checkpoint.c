/* See checkpoint.h. */
#include "engine/checkpoint.h"

/* Positions between two checkpoints of a session: at most this many are computed again. A step
 * boundary has to fall there, so a long prefill may leave wider gaps. */
#define EVERY 64

bool checkpoint_is_due(const struct checkpoints *c, int position, int n_prompt)
{
    int last = c->n ? c->position[c->n - 1] : 0;
    bool due = position - last >= EVERY || position == n_prompt - CHECKPOINT_TAIL;
    return due && position >= CHECKPOINT_LEAST && position != last;
}

int checkpoint_nearest(const struct checkpoints *c, int position)
{
    int found = -1;
    for (int i = 0; i < c->n && c->position[i] <= position; i++)
        found = i;
    return found;
}

int checkpoint_least_useful(const struct checkpoints *c)
{
    int best = 0, gap = INT32_MAX;
    for (int i = 0; i + 1 < c->n; i++) {
        int around = c->position[i + 1] - (i ? c->position[i - 1] : 0);
        if (around < gap) {
            gap = around;
            best = i;
        }
    }
    return best;
}

void checkpoint_free(struct checkpoints *c, int index, struct commands *commands)
{
    commands_add(commands, (struct step_command){ .op = STEP_FREE, .session = c->id[index] });
    c->n--;
    for (int i = index; i < c->n; i++) {
        c->id[i] = c->id[i + 1];
        c->position[i] = c->position[i + 1];
    }
}

void checkpoint_free_beyond(struct checkpoints *c, int position, struct commands *commands)
{
    while (c->n && c->position[c->n - 1] > position)
        checkpoint_free(c, c->n - 1, commands);
}

void checkpoint_add(struct checkpoints *c, uint32_t session, uint32_t id, int position,
                    struct commands *commands)
{
    c->id[c->n] = id;
    c->position[c->n++] = position;
    commands_add(commands, (struct step_command){ STEP_CHECKPOINT, session, id, 0 });
}
