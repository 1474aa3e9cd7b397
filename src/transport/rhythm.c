/* See rhythm.h. */
#include "transport/rhythm.h"

#include "os/clock.h"

/* The next turn begins a new spin. */
static void end_spin(struct rhythm *r)
{
    r->turn_ns = 0;
    r->wanted = false;
}

void rhythm_came(struct rhythm *r, uint64_t waited_ns)
{
    r->last[1] = r->last[0];
    r->last[0] = r->before_ns + waited_ns;
    r->before_ns = 0;
    end_spin(r);
}

void rhythm_paused(struct rhythm *r, uint64_t waited_ns)
{
    r->before_ns += waited_ns;
    end_spin(r);
}

uint64_t rhythm_sleep(struct rhythm *r, uint64_t waited_ns, uint64_t spin_ns)
{
    r->wanted = r->wanted || (r->turn_ns > 0 && waited_ns - r->turn_ns > RHYTHM_TURN_NS);
    r->turn_ns = waited_ns;
    if (waited_ns < spin_ns) {
        return 0;
    }
    /* The shorter of two: a message that is late costs a little spinning, one that finds a sleeper
     * costs everybody's time. */
    uint64_t usual = r->last[0] < r->last[1] ? r->last[0] : r->last[1];
    uint64_t waited = r->before_ns + waited_ns;
    uint64_t margin = usual / 8 < RHYTHM_MARGIN_NS ? usual / 8 : RHYTHM_MARGIN_NS;
    if (usual > RHYTHM_LONGEST_NS || waited >= usual + margin) {
        return RHYTHM_FOREVER;
    }
    bool stays = r->computes && !r->wanted && usual <= RHYTHM_AWAKE_NS;
    uint64_t early = stays ? 0 : usual - margin;
    return waited < early ? (early - waited) / CLOCK_NS_PER_MS * CLOCK_NS_PER_MS : 0;
}
