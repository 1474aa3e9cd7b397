/* What the parts of the peer layer share. A header for this layer only.
 *
 * owner of everything here: the control thread, which runs the event loop. */
#ifndef SHOAL_PEER_INTERNAL_H
#define SHOAL_PEER_INTERNAL_H

#include "peer/peer.h"

#include <event2/util.h>

#define SECOND_NS 1000000000ull
/* A heartbeat each second; whoever is silent for longer is lost. A client is to be told within
 * five seconds. */
#define PING_NS SECOND_NS
#define SILENT_NS (4 * SECOND_NS)
/* A stranger or a half-open peer is closed after this. */
#define HANDSHAKE_NS (4500 * SECOND_NS / 1000)
/* Tickets and data connections. */
#define CONNECT_NS (15 * SECOND_NS)
/* Between two attempts to reach a peer. */
#define RETRY_NS SECOND_NS

struct data_channel;
struct data_door;
struct evconnlistener;
struct event;
struct guest;
struct link;
struct resolver;
struct security;
struct stream;

struct peer {
    struct peers *owner;
    char id[PEER_ID_TEXT];
    char name[PEER_NAME_TEXT];
    char address[ADDRESS_TEXT]; /* where its peers reach it: host:port */
    int port;                   /* that it listens on */
    int64_t run;  /* drawn at its start: a copy with the same key has another; 0: no hello yet */
    int64_t over; /* the number that it gave the last link that was open here */
    bool self, keep;
    bool joined;       /* see peer_was_joined */
    bool joined_once;  /* it had a link to this device */
    struct link *link; /* open; NULL while not connected, and for self */
    int uses;          /* links and channels that are under way to it: it is not forgotten */
    uint64_t dial_at;  /* of a kept one */
    uint64_t seen_ns;  /* when its link ended, or it was first heard of */
    void *user;
};

/* What a link does with what comes in; given by whoever stands above it. */
struct link_owner {
    /* Both ends have proved their membership; the link's peer is known by its key. */
    void (*proved)(struct link *l);
    enum peer_verdict (*message)(struct link *l, const struct message *m, struct error *e);
    /* A link for requests carries some. */
    bool (*busy)(const struct link *l);
    /* Most of what was sent has left. */
    void (*drained)(struct link *l);
    /* In a turn of its own. The link is freed afterwards. */
    void (*ended)(struct link *l, const char *why);
};

struct local_message {
    json_t *body;
    struct local_message *next;
};

struct peers {
    struct peers_options options;
    struct event_base *base;
    uint64_t now_ns;
    struct evconnlistener *listener;
    bool listener_rests; /* until the next tick */
    struct event *local, *ended;
    struct peer *table[PEERS_MAX]; /* self first */
    int n;
    struct link *links; /* all, open or not */
    const struct link_owner *link_owner;
    int64_t links_opened;      /* numbers them */
    struct data_channel *data; /* data connections under way */
    struct data_door *door;    /* for shared memory; NULL: TCP only */
    uint64_t next_ticket;
    struct stream *streams; /* requests that travel */
    uint32_t next_stream;
    uint64_t stream_turns; /* counts frames */
    struct guest *guests;  /* accepted connections that said nothing yet */
    struct local_message *first_local, *last_local;
    struct security *security;
    struct resolver *resolver;
    uint64_t join_at; /* when to dial --join again; 0: nowhere to join */
    int join_next;    /* which of its addresses */
    bool closing;
};

/* --- table.c --- */

/* As it is told by others: made fit to be shown. */
void peer_take_name(struct peer *p, const char *name);
/* Whether a device that is known was last reached there (address_source). */
bool source_is_known(const struct peers *all, const char *source);
/* Whether a device may come: it is known, or an entry is free or can be freed. */
bool table_has_room(const struct peers *all, const char *id);
int table_open(struct peers *all, const char *id, const char *name, struct error *e);
/* Frees the entries without a word to the owner. */
void table_free(struct peers *all);

/* --- peers.c --- */

/* Handles one message of a peer, as it comes over a link that is open. */
enum peer_verdict peers_dispatch(struct peers *all, struct peer *from, const struct message *m,
                                 struct error *e);
/* And what this device sent to itself. */
void peers_dispatch_local(struct peers *all);

#endif
