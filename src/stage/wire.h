/* What travels on data channels: encoded steps from the head to every rank, hidden states from
 * stage to stage, logits and errors from the ranks to the head; and which channels a plan needs.
 * Pure. */
#ifndef SHOAL_STAGE_WIRE_H
#define SHOAL_STAGE_WIRE_H

#include "base/bytes.h"
#include "base/error.h"
#include "engine/step.h"
#include "graph/program.h"
#include "plan/split.h"

#include <stdbool.h>
#include <stdint.h>

/* Bytes before the payload of every message but steps, which have their own form (step_encode). */
#define WIRE_HEADER 40
/* Payload of one logits message, unless one row alone is larger: long answers go in pieces, so
 * that no side holds them twice. */
#define WIRE_LOGITS_PIECE (1u << 20)
/* Longest text of an error message. */
#define WIRE_ERROR_TEXT 480
/* The most that an encoded step takes: see step_encode. */
#define WIRE_STEP_BYTES                                                                            \
    (64 + STEP_MAX_COMMANDS * 16 + STEP_MAX_RUNS * 12 + (size_t)STEP_MAX_ROWS * 5 + 64)

enum wire_kind {
    WIRE_HIDDEN = 1, /* the inputs of the next stage, value after value, rows contiguous */
    WIRE_LOGITS,     /* rows [first_row, first_row + n_rows) of those with logits, n_cols each */
    WIRE_DONE,       /* a step without rows of logits is done */
    WIRE_ERROR,      /* text; the rank ends with it */
    WIRE_STATES,     /* the same of rows whose hidden states are wanted: before logits and done */
    WIRE_KIND_END
};

struct wire_header {
    enum wire_kind kind;
    uint32_t epoch;
    uint64_t step;
    uint32_t first_row, n_rows;
    uint32_t first_col, n_cols; /* LOGITS: the rank's part of the vocabulary. HIDDEN: n_cols is the
                                 * sum of the inputs' widths */
    int32_t code;               /* ERROR: FAIL_ code */
    bool link;                  /* ERROR: a neighbour's channel broke, so the cause is elsewhere */
};

/* Little-endian, as wire_decode reads it. */
void wire_encode(const struct wire_header *h, uint8_t out[static WIRE_HEADER]);

/* FAIL_FORMAT says what is wrong. The payload is what follows WIRE_HEADER bytes; for HIDDEN and
 * LOGITS its size has been compared to n_rows * n_cols floats (except HIDDEN, whose inputs may
 * differ in rows: the receiver compares). */
int wire_decode(struct bytes message, struct wire_header *ret, struct error *e);

/* --- the channels of a plan --- */

#define WIRE_HEAD (-1)

enum link_kind { LINK_STEPS, LINK_HIDDEN, LINK_GROUP, LINK_KIND_COUNT };

/* One channel. `from` is a rank or WIRE_HEAD and opens it; `to` is a rank and accepts it. */
struct wire_link {
    enum link_kind kind;
    int from, to;
};

/* The head to each rank, hidden states to each rank beyond the first stage, all pairs of a group:
 * at most this many (all ranks in one group). */
#define WIRE_MAX_LINKS (2 * PLAN_MAX_RANKS + PLAN_MAX_RANKS * (PLAN_MAX_RANKS - 1) / 2)

/* Lists the plan's channels; every device finds the same list in the same order. Returns the
 * count. */
int wire_links(const struct placement_plan *plan, struct wire_link ret[static WIRE_MAX_LINKS]);

/* The rank of the stage before from which `rank` reads its inputs, or WIRE_HEAD in stage 0. */
int wire_source(const struct placement_plan *plan, int rank);

/* Bytes of the largest message of a link, the same at both ends.
 *
 * end       this end: a rank of the link, or WIRE_HEAD
 * part      what that rank computes; at the head the whole model
 * max_rows  of one step */
size_t wire_max_message(const struct wire_link *link, int end, const struct program *part,
                        int max_rows);

/* "steps", "hidden", "group". */
const char *link_kind_name(enum link_kind kind);

#endif
