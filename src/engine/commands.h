/* State commands that go out with the next step. Room is asked for before something is begun that
 * will need it, so that adding never fails. owner: the head thread. */
#ifndef SHOAL_ENGINE_COMMANDS_H
#define SHOAL_ENGINE_COMMANDS_H

#include "engine/step.h"

/* With more than this waiting, a step is made for them alone. */
#define COMMANDS_MANY 1024

struct commands {
    struct step_command *list; /* (STEP_MAX_COMMANDS) */
    int n;
};

/* FAIL_NOMEM. done frees; a zeroed one is fine. */
int commands_init(struct commands *c, struct error *e);
void commands_done(struct commands *c);

/* How many more fit. */
int commands_left(const struct commands *c);

/* Adds one; there must be room. */
void commands_add(struct commands *c, struct step_command command);

/* They went out, or the executor they were for is gone. */
void commands_clear(struct commands *c);

#endif
