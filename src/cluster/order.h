/* The order to load a part of a model. Pure. */
#ifndef SHOAL_CLUSTER_ORDER_H
#define SHOAL_CLUSTER_ORDER_H

#include "cluster/models.h"
#include "peer/peer.h"
#include "plan/split.h"

#include <stdbool.h>
#include <stdint.h>
#include <jansson.h>

/* The most sessions that a head may order. */
#define PART_MAX_SESSIONS 32

/* What the head tells a rank's device in `load`. Plain data. */
struct part_order {
    int64_t placement;
    uint32_t epoch;
    uint64_t model_size;
    char model_sha256[MODEL_SHA_TEXT];
    char model_id[MODEL_ID_TEXT]; /* for people only */
    struct placement_plan plan;
    int rank;
    char devices[PLAN_MAX_RANKS][PEER_ID_TEXT];   /* by rank */
    char addresses[PLAN_MAX_RANKS][ADDRESS_TEXT]; /* by rank, as this device reaches them */
    char head[PEER_ID_TEXT];
    int max_rows, max_sessions;
    int context;           /* most positions of one session */
    uint64_t state_tokens; /* positions over all sessions, at least one context */
    bool exact;
};

/* The order as a message and back. Pure. */
json_t *part_order_json(const struct part_order *o);
int part_order_parse(const json_t *m, struct part_order *ret, struct error *e);

/* The device that holds one end of a link: a rank's, or the head's. */
const char *part_order_device(const struct part_order *o, int rank);

#endif
