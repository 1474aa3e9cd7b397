/* Control links: mutual TLS, proof of membership, then framed messages. What is said over them is
 * their owner's business (struct link_owner). owner: control thread. */
#ifndef SHOAL_PEER_LINK_H
#define SHOAL_PEER_LINK_H

#include "peer/internal.h"
#include "peer/resolve.h"
#include "peer/security.h"

struct ssl_st;

enum link_state {
    LINK_TLS,
    LINK_PROOF,
    LINK_HELLO,  /* both ends are proved */
    LINK_CHOSEN, /* by this end, which awaits a welcome of the other */
    LINK_OPEN,
    LINK_LINGER, /* refused: what was sent may still leave */
    LINK_ENDED   /* its owner hears of it in the next turn */
};

/* Connects to an address. expect: the device that must answer, "" for any member. The result shows
 * in link_owner. FAIL_BUSY while its name is looked up, FAIL_NOT_FOUND, FAIL_ARG, FAIL_NOMEM. */
int link_dial(struct peers *all, const char *address, const char *expect, struct error *e);

/* The same for a second link to a peer that is linked: for requests that travel, so that no body
 * stands before a heartbeat. */
int link_dial_requests(struct peer *to, struct error *e);
/* It is such a link; said by its opener in hello. */
bool link_is_for_requests(const struct link *l);
void link_set_for_requests(struct link *l);
/* The newest such link, made or being made, that we dialled; NULL for none. */
struct link *link_for_requests(const struct peer *to);
/* Ends those of a peer, in either direction. */
void link_end_requests(struct peer *p, const char *why);

/* "host:port" to what connects there. Never waits; errors as resolver_get's, FAIL_ARG. */
int link_address_of(struct peers *all, const char *address, struct resolved *ret, struct error *e);

/* Takes an accepted connection that speaks TLS. Owns fd. from: its address. since_ns: when it came;
 * its time to prove itself counts from there. */
void link_accept(struct peers *all, evutil_socket_t fd, const char *from, uint64_t since_ns);

/* Queue a message or data; body is released. A NULL link, or one that ended, drops it. */
void link_send(struct link *l, json_t *body);
void link_send_data(struct link *l, uint32_t stream, struct bytes data);

/* Ends it: nothing is sent or heard from then on, the owner is told in a turn of its own. */
void link_end(struct link *l, const char *why);
/* The same, with a line in the log; the peer hears why first where it is proved. */
void link_refuse(struct link *l, const char *why);

/* What the one of two links hears that is not needed. */
#define LINK_SPARE "there is another link between the two"

/* Before it is open: the peer hears why, without a line in our log. */
void link_turn_away(struct link *l, const char *why);
/* It was turned away by its peer. */
void link_refused_by_peer(struct link *l, const char *why);

/* From LINK_HELLO: no other link to this peer will be opened. */
void link_choose(struct link *l);
/* True where one to the device is chosen. */
bool link_is_chosen(const struct peers *all, const char *device_id);

/* From LINK_HELLO or LINK_CHOSEN: messages of the owner's may go. */
void link_open(struct link *l, struct peer *peer);

/* Tells the owner of links that ended, and frees them. Only at the top of a turn. */
void links_tell_ended(struct peers *all);

/* --- facts --- */

/* This device. */
struct peers *link_peers(const struct link *l);
/* How far it has come. */
enum link_state link_state(const struct link *l);
/* By us, not accepted. */
bool link_is_client(const struct link *l);
/* How it was proved. */
const struct link_proof *link_proof(const struct link *l);
/* The device at the other end: its id once it is proved, and its entry once the link is open. */
const char *link_peer_id(const struct link *l);
struct peer *link_peer(const struct link *l);
/* The device that was asked for, "" for any. */
const char *link_expected(const struct link *l);
/* As dialled or accepted; numeric once it is connected. */
const char *link_address(const struct link *l);
/* Our own number of the link that it was opened as; 0 before. */
int64_t link_number(const struct link *l);

/* Bytes not yet taken by the network. */
size_t link_waiting(const struct link *l);

/* Our own address as the peer sees it, without port; "" when unknown. A NULL link has none. */
void link_own_host(const struct link *l, char host[static ADDRESS_TEXT]);

/* The TLS object of a live link, borrowed. */
struct ssl_st *link_ssl(const struct link *l);

/* True while a control link to the device ("": to any) is being made by us. */
bool link_dialing(const struct peers *all, const char *device_id);
/* True while any link that isn't open, in either direction, is or may become one to this peer. */
bool link_named(const struct peer *p);

/* For status: a new reference. */
json_t *link_json(const struct link *l);

/* A round trip was measured. */
void link_measured(struct link *l, uint64_t rtt_ns);

/* Sends heartbeats, drops the silent and the half-open. */
void links_tick(struct peers *all);
/* Ends and frees all without telling the owner. */
void links_close(struct peers *all);

#endif
