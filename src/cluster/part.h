/* This device's part in a placement: the model file, the rank, its channels. */
#ifndef SHOAL_CLUSTER_PART_H
#define SHOAL_CLUSTER_PART_H

#include "cluster/internal.h"
#include "cluster/order.h"

/* Looks at all ranks after a wake-up or a tick: tells the head what changed. */
void parts_poll(struct cluster *c);

/* Ends and frees every part (the head was lost). */
void parts_drop_all(struct cluster *c, const char *why);

/* Ends and frees every part and waits for their threads. */
void parts_close(struct cluster *c);

/* A data channel for one of a placement's links came in or was opened. Owns channel. */
void part_channel(struct cluster *c, int64_t placement, uint32_t epoch, int link,
                  struct channel *channel);

/* A channel that was opened here for one of a placement's links, or why there is none; owns it
 * where it returns true: the part is here. */
bool part_opened(struct cluster *c, const struct channel_purpose *purpose, struct channel *channel,
                 const struct error *error);

/* For a ticket request: this device has the accepting end of that link, the device with id `from`
 * has the other. *max_message becomes the link's largest message.
 * FAIL_NOT_FOUND, FAIL_AUTH, FAIL_STATE before the model's file is open. */
int part_expects(struct cluster *c, const char *from, const struct channel_purpose *purpose,
                 size_t *max_message, struct error *e);

/* Names of a report's transports: a new array of texts. */
json_t *part_transports(unsigned transports);

/* For the heartbeat. */
json_t *parts_report(struct cluster *c);
/* The same into d's own list, for status. */
void part_reports_own(struct cluster *c, struct device *d);
int part_take_report(const json_t *m, struct part_report *ret, struct error *e);

#endif
