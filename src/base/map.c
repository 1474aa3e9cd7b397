/* Open addressing with linear probing: see map.h. */
#include "base/map.h"

#include "base/hash.h"
#include "base/random.h"

struct map_slot {
    struct bytes key;
    uint32_t hash; /* 0: empty */
    int32_t value;
};

static uint32_t hash_of(const struct map *m, struct bytes key)
{
    uint32_t out = (uint32_t)hash_sip(key, m->seed, random_mix(m->seed));
    return out ? out : 1;
}

int map_init(struct map *m, struct arena *a, size_t expected, uint64_t seed, struct error *e)
{
    size_t capacity = 16;
    while (capacity < expected + expected / 2 + 1) {
        if (capacity > SIZE_MAX / 4)
            return fail(e, FAIL_NOMEM, "map of %zu keys", expected);
        capacity *= 2;
    }
    *m = (struct map){ .capacity = capacity, .seed = seed };
    m->slots = arena_array(a, struct map_slot, capacity);
    return m->slots ? 0 : fail(e, FAIL_NOMEM, "map of %zu keys", expected);
}

static struct map_slot *find(const struct map *m, struct bytes key, uint32_t hash)
{
    size_t i = hash & (m->capacity - 1);
    while (m->slots[i].hash && !(m->slots[i].hash == hash && bytes_equal(m->slots[i].key, key)))
        i = (i + 1) & (m->capacity - 1);
    return &m->slots[i];
}

int map_put(struct map *m, struct bytes key, int32_t value)
{
    uint32_t hash = hash_of(m, key);
    struct map_slot *slot = find(m, key, hash);
    if (!slot->hash) {
        if (m->count + 1 >= m->capacity)
            return FAIL_LIMIT;
        m->count++;
        slot->key = key;
        slot->hash = hash;
    }
    slot->value = value;
    return 0;
}

int32_t map_get(const struct map *m, struct bytes key, int32_t missing)
{
    if (!m->slots)
        return missing;
    const struct map_slot *slot = find(m, key, hash_of(m, key));
    return slot->hash ? slot->value : missing;
}
