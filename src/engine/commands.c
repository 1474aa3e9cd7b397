/* See commands.h. */
#include "engine/commands.h"

#include <assert.h>
#include <stdlib.h>

int commands_init(struct commands *c, struct error *e)
{
    *c = (struct commands){ .list = calloc(STEP_MAX_COMMANDS, sizeof(*c->list)) };
    return c->list ? 0 : fail(e, FAIL_NOMEM, "room for %d state commands", STEP_MAX_COMMANDS);
}

void commands_done(struct commands *c)
{
    free(c->list);
    *c = (struct commands){ 0 };
}

int commands_left(const struct commands *c)
{
    return STEP_MAX_COMMANDS - c->n;
}

void commands_add(struct commands *c, struct step_command command)
{
    assert(c->n < STEP_MAX_COMMANDS); /* whoever adds asked for room when it began */
    c->list[c->n++] = command;
}

void commands_clear(struct commands *c)
{
    c->n = 0;
}
