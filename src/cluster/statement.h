/* What a head states of the bytes of the models that it places, for the devices that hold parts
 * (cluster/check.h): found out in a thread for each placement, told as it is known. */
#ifndef SHOAL_CLUSTER_STATEMENT_H
#define SHOAL_CLUSTER_STATEMENT_H

#include "cluster/internal.h"
#include "cluster/order.h"

/* FAIL_NOMEM. close waits for the threads; all parts have been closed before. */
int statements_open(struct cluster *c, struct error *e);
void statements_close(struct cluster *c);

/* A placement of this file begins: called before its orders go out. All ranks' devices but this one
 * will hear what its bytes are. */
void statement_begin(struct cluster *c, const struct part_order *order,
                     const struct model_file *file);
void statement_end(struct cluster *c, int64_t placement, uint32_t epoch);

/* The file of a placement that this device is the head of; NULL for others. Borrowed until its
 * end. */
const struct model_file *statement_own(const struct cluster *c, int64_t placement, uint32_t epoch);

/* The digest of all of the model's bytes as hex, "" until it is known. */
void statement_root(const struct cluster *c, int64_t placement, uint32_t epoch,
                    char ret[static DIGEST_TEXT]);

/* Threads that hash a part while it is loaded: half of those that compute. */
int statement_threads(const struct cluster *c);

/* Tells what became known. */
void statements_tell(struct cluster *c);
/* The same at each tick; hashing in the background gives way while this device computes. */
void statements_tick(struct cluster *c);

#endif
