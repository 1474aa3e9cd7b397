/* What the head of a placement says of its model's bytes, as messages to the devices of its ranks:
 * digests of all tensors (store/chunks.h) over a selection of their chunks. Pure. */
#ifndef SHOAL_CLUSTER_CLAIM_H
#define SHOAL_CLUSTER_CLAIM_H

#include "base/error.h"
#include "store/digest.h"

#include <stdbool.h>
#include <stdint.h>
#include <jansson.h>

/* Tensors in one message: 64 KiB of text, which is never long before a heartbeat. */
#define CLAIM_PIECE 1024

enum claim_kind {
    CLAIM_SAMPLE, /* over one chunk of each tensor, drawn by the head */
    CLAIM_SHARE,  /* over the chunks that the rank's part reads; nothing of the other tensors */
    CLAIM_WHOLE,  /* over all chunks */
    CLAIM_KINDS
};

struct claim {
    int tensors;      /* that it is over; 0: nothing has come of it yet */
    int have;         /* whose digests have come: all, then it is complete */
    uint8_t *digests; /* (tensors, DIGEST_BYTES); owned */
};

/* All that a head has said of one placement. Zero it at first. */
struct claims {
    struct claim kinds[CLAIM_KINDS];
    uint64_t seed;           /* of the sample */
    bool share_follows;      /* the head knows all of the model: the share is to be compared too */
    char failed[ERROR_TEXT]; /* why the head can't say anything; "" */
};

/* Frees the digests. */
void claims_done(struct claims *c);
/* Whether all of one kind has come. */
bool claim_complete(const struct claims *c, enum claim_kind kind);

/* What a message carries of a claim, from tensor `first` on (at most CLAIM_PIECE of them). Borrowed
 * for the call. */
struct claim_piece {
    int64_t placement;
    uint32_t epoch;
    enum claim_kind kind;
    uint64_t seed;
    bool share_follows;
    int tensors, first;
    const uint8_t *digests; /* (tensors, DIGEST_BYTES): of all */
};
/* A new reference; NULL without memory. */
json_t *claim_json(const struct claim_piece *piece);
/* The head's file can't be read any more: why. */
json_t *claim_failed_json(int64_t placement, uint32_t epoch, const char *why);

/* Adds a message to what has come: pieces of one kind come in order. FAIL_FORMAT, FAIL_NOMEM; the
 * claims are untouched then. */
int claims_take(struct claims *c, const json_t *m, struct error *e);

/* The first tensor in which a complete claim differs from these digests (n), or -1. n must be the
 * claim's number of tensors. */
int claim_difference(const struct claim *claim, const uint8_t *digests, int n);

#endif
