/* When a channel's next message is likely to come.
 *
 * A stage of a pipeline waits for the others for about the same time at every token. A processor
 * that slept needs a while to be itself again (caches, clock; a virtual one has to be called back
 * first), so whoever waits in a rhythm is awake when the message comes:
 *
 * - A compute thread spins through the wait, since its next step is what everybody waits for, as
 *   long as nobody else wants its core (a turn of its spin then takes long).
 * - Others, and those whose core is wanted, sleep until shortly before the usual time and spin from
 *   there to shortly after it.
 *
 * Figures: docs/decisions.md, "Waits have a rhythm". Pure: times come in. */
#ifndef SHOAL_TRANSPORT_RHYTHM_H
#define SHOAL_TRANSPORT_RHYTHM_H

#include <stdbool.h>
#include <stdint.h>

/* Longer waits are pauses, not a rhythm. */
#define RHYTHM_LONGEST_NS ((uint64_t)250 * 1000 * 1000)
/* Spinning begins and ends an eighth of the usual wait around its end, at most this much. */
#define RHYTHM_MARGIN_NS ((uint64_t)2 * 1000 * 1000)
/* The longest usual waits that a compute thread spins through: of longer ones waking is no part. */
#define RHYTHM_AWAKE_NS ((uint64_t)100 * 1000 * 1000)
/* A turn of a spin that takes longer has let somebody else run. */
#define RHYTHM_TURN_NS ((uint64_t)200 * 1000)
/* Until news, however long. */
#define RHYTHM_FOREVER UINT64_MAX

/* All zero at first. */
struct rhythm {
    bool computes;      /* set by the owner: a compute thread waits here */
    bool wanted;        /* others wanted its core during this wait */
    uint64_t turn_ns;   /* the last turn of this call's spin */
    uint64_t last[2];   /* waits for the latest two messages */
    uint64_t before_ns; /* of the wait under way, in calls that met their deadline */
};

/* A message came after waiting so long in this call. */
void rhythm_came(struct rhythm *r, uint64_t waited_ns);

/* The call's deadline came first. */
void rhythm_paused(struct rhythm *r, uint64_t waited_ns);

/* How long to sleep (unless there is news) after waiting so long in this call: 0 to spin a turn and
 * ask again, whole milliseconds, or RHYTHM_FOREVER. spin_ns: what is spun in any case. */
uint64_t rhythm_sleep(struct rhythm *r, uint64_t waited_ns, uint64_t spin_ns);

#endif
