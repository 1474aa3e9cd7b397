/* A hash map from byte strings to int32 values. */
#ifndef SHOAL_BASE_MAP_H
#define SHOAL_BASE_MAP_H

#include "base/arena.h"

struct map_slot;

/* Keys are borrowed and must outlive the map; slots live in the arena given at birth. The hash is
 * seeded, so keys from outside can't be chosen to collide without knowing the seed. */
struct map {
    struct map_slot *slots;
    size_t capacity; /* a power of two, fixed at birth */
    size_t count;
    uint64_t seed;
};

/* Room for `expected` keys. Whoever makes a map of keys from outside gives it a seed that files and
 * peers can't know (os/entropy.h): else a file of 3 MB can keep a machine busy for 17 s.
 * FAIL_NOMEM. */
int map_init(struct map *m, struct arena *a, size_t expected, uint64_t seed, struct error *e);

/* Adds or replaces. FAIL_LIMIT when more keys come than were announced. */
int map_put(struct map *m, struct bytes key, int32_t value);

/* The value, or `missing`. */
int32_t map_get(const struct map *m, struct bytes key, int32_t missing);

#endif
