/* Who gives way in a pool that strangers fill. Pure. */
#ifndef SHOAL_PEER_POOL_H
#define SHOAL_PEER_POOL_H

#include "peer/address.h"

#include <stdint.h>

/* One place that is taken. */
struct pool_place {
    char source[ADDRESS_TEXT]; /* address_source of whoever has it */
    bool known;                /* a device of this cluster was last seen there */
    uint64_t since_ns;
};

/* Which of n places (n > 0) gives way to a newcomer: of the sources that have most of them the one
 * that has had one longest, and its oldest. Sources of known devices give way only to each other,
 * so that nobody who fills the pool from elsewhere keeps a member out. */
int pool_yields(const struct pool_place *places, int n);

#endif
