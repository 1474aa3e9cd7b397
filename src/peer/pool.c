/* See pool.h. */
#include "peer/pool.h"

#include <string.h>

int pool_yields(const struct pool_place *places, int n)
{
    int worst = 0, worst_count = -1;
    for (int i = 0; i < n; i++) {
        const struct pool_place *p = &places[i];
        int count = 0;
        for (int k = 0; k < n; k++) {
            count += strcmp(p->source, places[k].source) == 0;
        }
        const struct pool_place *w = &places[worst];
        bool stranger = w->known && !p->known;
        bool same_kind = w->known == p->known;
        bool more = same_kind && count > worst_count;
        bool older = same_kind && count == worst_count && p->since_ns < w->since_ns;
        if (worst_count < 0 || stranger || more || older) {
            worst = i;
            worst_count = count;
        }
    }
    return worst;
}
