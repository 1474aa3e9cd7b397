/* Data channels: a ticket over the control link; then shared memory that is handed over with it on
 * one host, or a connection of its own that opens with it. */
#ifndef SHOAL_CLUSTER_DATA_H
#define SHOAL_CLUSTER_DATA_H

#include "cluster/internal.h"
#include "transport/transport.h"

#include <event2/util.h>

/* What a data channel is for. */
struct data_purpose {
    int64_t placement;
    uint32_t epoch;
    int link; /* index in wire_links of the placement's plan */
};

/* --- messages (data_message.c). Pure. --- */

#define TICKET_HEX (2 * TICKET_BYTES)

/* What answers a request for a ticket. */
struct data_ticket {
    char ticket[TICKET_HEX + 1]; /* "" with an error */
    bool seal;                   /* over TCP */
    char shm[SHM_TOKEN];         /* "" (left out of the message): only TCP */
    char error[ERROR_TEXT];
};

/* `ticket_request`. seal: the channel must be sealed; shm: it may be shared memory. NULL without
 * memory. */
json_t *data_request_json(const struct data_purpose *p, bool seal, bool shm);
/* `ticket`. NULL without memory. */
json_t *data_ticket_json(const struct data_purpose *p, const struct data_ticket *t);

/* What either is about. FAIL_FORMAT for a field that is missing, no integer or out of bounds. */
int data_purpose_parse(const json_t *m, struct data_purpose *ret, struct error *e);
/* The rest of `ticket`; what the texts hold is not judged. FAIL_FORMAT for a field that is missing,
 * no text or too long. */
int data_ticket_parse(const json_t *m, struct data_ticket *ret, struct error *e);

/* --- channels --- */

/* Takes the channel (owned), or learns why there is none (channel NULL). */
typedef void (*data_done)(struct cluster *c, const struct data_purpose *p, struct channel *channel,
                          const struct error *error);

/* Opens a channel to a device, which must expect it; connects the control link first where there
 * is none. done is called once, later. */
void data_open(struct cluster *c, struct device *to, const struct data_purpose *p, data_done done);

/* Gives up everything under way to a device; done is told. */
void data_device_lost(struct cluster *c, struct device *d, const char *why);
/* Gives up everything under way for an epoch of a placement, without calling done. */
void data_forget(struct cluster *c, int64_t placement, uint32_t epoch);

/* A control link to d is ready: what waited for it goes on. */
void data_device_ready(struct cluster *c, struct device *d);

/* Lets processes of this host hand shared memory over, where the system can do that and nothing is
 * said against it. */
void data_listen(struct cluster *c);

/* An accepted connection on the peer port whose first byte is that of a ticket. Owns fd. */
void data_accept(struct cluster *c, evutil_socket_t fd);

/* Time-outs. */
void data_tick(struct cluster *c);
void data_close_all(struct cluster *c);

#endif
