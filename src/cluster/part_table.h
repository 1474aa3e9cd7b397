/* Which parts a device holds for its head, and which orders it may obey: one that comes twice, late
 * or behind its own end changes nothing. Pure. */
#ifndef SHOAL_CLUSTER_PART_TABLE_H
#define SHOAL_CLUSTER_PART_TABLE_H

#include <stdbool.h>
#include <stdint.h>

/* Parts that one device holds at once. */
#define PART_TABLE_SLOTS 16
/* Placements whose last end is remembered: the oldest is forgotten first. Orders and their ends
 * come over one ordered link, so only the newest ones can be met again. */
#define PART_TABLE_ENDS 64

struct part_table {
    struct {
        bool used;
        int64_t placement;
        uint32_t epoch;
    } slots[PART_TABLE_SLOTS];
    struct {
        int64_t placement; /* 0: none */
        uint32_t epoch;    /* the highest one that ended */
        uint64_t stamp;
    } ends[PART_TABLE_ENDS];
    uint64_t stamp;
};

enum part_verdict {
    PART_TAKE,  /* *slot is its place from now on */
    PART_KNOWN, /* *slot holds it already */
    PART_STALE, /* this epoch, or a later one, was ended before the order came */
    PART_FULL
};

/* An order to load came: what is to be made of it, and where it has its place. */
enum part_verdict part_table_order(struct part_table *t, int64_t placement, uint32_t epoch,
                                   int *slot);
/* Its slot, or -1. */
int part_table_find(const struct part_table *t, int64_t placement, uint32_t epoch);
/* The head ended it: an order for it that comes later is stale. Frees nothing. */
void part_table_end(struct part_table *t, int64_t placement, uint32_t epoch);
/* The part in a slot is freed. */
void part_table_free(struct part_table *t, int slot);

#endif
