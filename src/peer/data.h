/* Data channels: a ticket over the control link; then shared memory that is handed over with it on
 * one host, or a connection of its own that opens with it. owner: control thread. */
#ifndef SHOAL_PEER_DATA_H
#define SHOAL_PEER_DATA_H

#include "peer/internal.h"
#include "secure/ticket.h"
#include "transport/transport.h"

/* --- messages (data_message.c). Pure. --- */

#define TICKET_HEX (2 * TICKET_BYTES)
/* Most channels of one subject. */
#define CHANNEL_MAX_INDEX (1 << 16)

struct ticket_request {
    int64_t subject, epoch;
    int index;
    bool shm; /* it may be shared memory */
};

/* What answers it. */
struct ticket_answer {
    int64_t subject, epoch;
    int index;
    char ticket[TICKET_HEX + 1]; /* "" with an error */
    char shm[SHM_TOKEN];         /* "" (left out of the message): only TCP */
    char error[ERROR_TEXT];
};

#define TICKET_REQUEST_FIELDS 4
extern const struct message_field ticket_request_fields[TICKET_REQUEST_FIELDS];
#define TICKET_ANSWER_FIELDS 6
extern const struct message_field ticket_answer_fields[TICKET_ANSWER_FIELDS];

/* Both as messages. NULL without memory. */
json_t *ticket_request_json(const struct ticket_request *r);
json_t *ticket_answer_json(const struct ticket_answer *a);

/* --- channels --- */

/* Handlers of the two messages. */
enum peer_verdict on_ticket_request(void *arg, struct peer *from, const void *fields,
                                    struct error *e);
/* The answer. */
enum peer_verdict on_ticket(void *arg, struct peer *from, const void *fields, struct error *e);

/* A control link to the peer is open: what waited for it goes on. */
void data_peer_ready(struct peers *all, struct peer *p);
/* Its link ended: everything under way to it is given up. */
void data_peer_lost(struct peers *all, struct peer *p, const char *why);
/* No link to it could be made: what waited for one is given up. */
void data_peer_unreached(struct peers *all, struct peer *p, const char *why);

/* Tells the owner of what was given up. Only at the top of a turn. */
void data_tell_failed(struct peers *all);

/* Lets processes of this host hand shared memory over, where the system can do that and nothing is
 * said against it. */
void data_listen(struct peers *all);

/* An accepted connection on the peer port whose first byte is that of a ticket. Owns fd. from: its
 * address, for the log. */
void data_accept(struct peers *all, evutil_socket_t fd, const char *from);

/* Time-outs. */
void data_tick(struct peers *all);
void data_close_all(struct peers *all);

#endif
