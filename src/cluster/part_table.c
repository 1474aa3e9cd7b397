/* See part_table.h. */
#include "cluster/part_table.h"

int part_table_find(const struct part_table *t, int64_t placement, uint32_t epoch)
{
    for (int i = 0; i < PART_TABLE_SLOTS; i++) {
        if (t->slots[i].used && t->slots[i].placement == placement && t->slots[i].epoch == epoch) {
            return i;
        }
    }
    return -1;
}

enum part_verdict part_table_order(struct part_table *t, int64_t placement, uint32_t epoch,
                                   int *slot)
{
    for (int i = 0; i < PART_TABLE_ENDS; i++) {
        if (t->ends[i].placement == placement && epoch <= t->ends[i].epoch) {
            return PART_STALE;
        }
    }
    *slot = part_table_find(t, placement, epoch);
    if (*slot >= 0) {
        return PART_KNOWN;
    }
    for (int i = 0; i < PART_TABLE_SLOTS; i++) {
        if (!t->slots[i].used) {
            t->slots[i].used = true;
            t->slots[i].placement = placement;
            t->slots[i].epoch = epoch;
            *slot = i;
            return PART_TAKE;
        }
    }
    return PART_FULL;
}

void part_table_end(struct part_table *t, int64_t placement, uint32_t epoch)
{
    int at = 0;
    for (int i = 0; i < PART_TABLE_ENDS; i++) {
        if (t->ends[i].placement == placement) {
            at = i;
            break;
        }
        at = t->ends[i].stamp < t->ends[at].stamp ? i : at;
    }
    if (t->ends[at].placement != placement) {
        t->ends[at].placement = placement;
        t->ends[at].epoch = 0;
    }
    t->ends[at].epoch = epoch > t->ends[at].epoch ? epoch : t->ends[at].epoch;
    t->ends[at].stamp = ++t->stamp;
}

void part_table_free(struct part_table *t, int slot)
{
    t->slots[slot].used = false;
}
