/* When a channel's next message is likely to come.
 *
 * A stage of a pipeline waits for the others for about the same time at every token: too long to
 * spin through, and a processor that slept needs a while to be itself again. So a waiting thread
 * sleeps until shortly before the usual time, and spins from there to shortly after it. Measured
 * with two stages on two virtual cores, 1.2 B in Q4_0, beside one process's decoding: asleep 0.89
 * to 0.94, so 0.90 to 0.97; spinning all the time gains no more that can be told from noise, and
 * takes a core. Pure: times come in. */
#ifndef SHOAL_TRANSPORT_RHYTHM_H
#define SHOAL_TRANSPORT_RHYTHM_H

#include <stdint.h>

/* Longer waits are pauses, not a rhythm. */
#define RHYTHM_LONGEST_NS ((uint64_t)250 * 1000 * 1000)
/* Spinning begins and ends an eighth of the usual wait around its end, at most this much. */
#define RHYTHM_MARGIN_NS ((uint64_t)2 * 1000 * 1000)
/* Until news, however long. */
#define RHYTHM_FOREVER UINT64_MAX

/* All zero at first. */
struct rhythm {
    uint64_t last[2];   /* waits for the latest two messages */
    uint64_t before_ns; /* of the wait under way, in calls that met their deadline */
};

/* A message came after waiting so long in this call. */
void rhythm_came(struct rhythm *r, uint64_t waited_ns);

/* The call's deadline came first. */
void rhythm_paused(struct rhythm *r, uint64_t waited_ns);

/* How long to sleep (unless there is news) after waiting so long in this call: 0 to spin, whole
 * milliseconds, or RHYTHM_FOREVER. spin_ns: what is spun in any case. */
uint64_t rhythm_sleep(const struct rhythm *r, uint64_t waited_ns, uint64_t spin_ns);

#endif
