/* Who is there and how to reach it: links between the devices of a cluster, control messages over
 * them, data channels beside them.
 *
 * This layer knows devices by their keys and what they say of themselves as plain JSON; what is
 * placed, loaded or served is its owner's business. The owner gives a table of events and a table
 * of message types at the open. Losses are events: whatever ends a link is marked at once (sends do
 * nothing from then on) and told in a turn of the loop of its own, never within a call to this
 * interface, so that no loop over peers finds its ground taken away.
 *
 * owner of everything here: the thread that runs the event loop. Times are in the now_ns that
 * peers_tick is given (see loop_time in os/clock.h). */
#ifndef SHOAL_PEER_PEER_H
#define SHOAL_PEER_PEER_H

#include "base/bytes.h"
#include "base/error.h"
#include "peer/address.h"
#include "peer/message.h"

#include <stdbool.h>
#include <stdint.h>
#include <jansson.h>

struct channel;
struct event_base;
struct peer;
struct peer_reply;
struct peer_request;
struct peers;

#define PEER_ID_TEXT 65
#define PEER_NAME_TEXT 64
#define PEER_SHORT 8
/* "name (1a2b3c4d)" */
#define PEER_LABEL (PEER_NAME_TEXT + PEER_SHORT + 4)
/* Devices that are known at a time, this one among them; also bounds the members message. */
#define PEERS_MAX 64
/* Where peers listen unless told otherwise: the port after the endpoint's. */
#define PEER_DEFAULT_PORT 8421

/* --- what the owner is told and asked --- */

/* None may be NULL. arg: the owner's, from the options. */
struct peer_events {
    /* What this device says of itself when a link opens, and again by peers_tell_facts: an object,
     * a new reference. */
    json_t *(*facts)(void *arg);
    /* What a peer says of itself; before `joined` for the first time. An error refuses the link, or
     * ends it. */
    int (*take_facts)(void *arg, struct peer *from, const json_t *facts, struct error *e);
    /* Its link is open. */
    void (*joined)(void *arg, struct peer *peer);
    /* Its link ended. In a turn of its own. */
    void (*lost)(void *arg, struct peer *peer, const char *why);
    /* Its entry is about to be freed: it has no link, and nobody asked to keep it. */
    void (*forgotten)(void *arg, struct peer *peer);
    /* `says` tells that everybody is to reach `peer` at all times: whether that is believed, which
     * keeps it (peer_keep). */
    bool (*keep)(void *arg, struct peer *peer, struct peer *says);
    /* A request that a peer sent (peer/stream.h). It must be answered through the reply, now or
     * later. */
    void (*request)(void *arg, struct peer *from, const struct peer_request *request,
                    struct peer_reply *reply);
    /* Whether a peer may send messages of this sender (struct peer_message). */
    bool (*may_send)(void *arg, const struct peer *from, int sender);
};

/* --- messages --- */

/* What a handler made of a message. */
enum peer_verdict {
    PEER_DONE,
    PEER_REFUSED,  /* *e says why; the link stays */
    PEER_VIOLATION /* no honest peer sends this: *e says why, the link ends */
};

/* Largest struct that fields are read into. */
#define PEER_MESSAGE_STRUCT 2048

/* One type of message. Fields that are missing or out of their range are a violation. */
struct peer_message {
    const char *type;
    int sender; /* the owner's number for may_send; 0: any peer */
    const struct message_field *fields;
    int n_fields;
    size_t size; /* of the struct they are read into, at most PEER_MESSAGE_STRUCT */
    /* fields: that struct; texts in it are copies, arrays and objects are borrowed from the
     * message. */
    enum peer_verdict (*handle)(void *arg, struct peer *from, const void *fields, struct error *e);
};

/* --- data channels --- */

/* What a data channel is for, in the owner's numbers; both ends use the same. */
struct channel_purpose {
    int64_t subject; /* 1.. */
    uint32_t epoch;  /* 1.. */
    int index;       /* 0.. */
};

/* Who gets the channels that peers open to this device. */
struct channel_owner {
    /* Whether this device awaits that channel from that peer, which is told the error. *max_message
     * becomes the bytes of its largest message, the same at both ends. */
    int (*awaits)(void *arg, struct peer *from, const struct channel_purpose *purpose,
                  size_t *max_message, struct error *e);
    /* It came; channel is the owner's from then on. */
    void (*came)(void *arg, const struct channel_purpose *purpose, struct channel *channel);
    /* One that was opened here has come (owned), or there is none and the error says why. In a turn
     * of its own. */
    void (*opened)(void *arg, const struct channel_purpose *purpose, struct channel *channel,
                   const struct error *error);
};

/* --- this device among its peers --- */

/* Texts are borrowed until peers_close. */
struct peers_options {
    struct event_base *base;
    uint64_t now_ns;  /* above 0 */
    const char *home; /* keys live here; made when missing */
    const char *name; /* for people; NULL: the host's name */
    int port;         /* 0: any free one */
    const char *join; /* host or host:port of a member; NULL: as the invitation says, or nowhere */
    const char *invite;        /* invitation text that stands for the cluster key; or NULL */
    uint32_t protocol_version; /* 0: this program's; another one only in tests */
    bool seal;                 /* also data channels within this host are sealed */
    const struct peer_events *events;
    const struct peer_message *messages;
    int n_messages;
    const struct channel_owner *channels;
    void *arg;
};

/* Reads or makes the keys and opens the port. FAIL_BUSY when the port or the home is taken,
 * FAIL_IO, FAIL_FORMAT for files or an invitation that can't be read; FAIL_AUTH when it is to join
 * and has neither a key nor an invitation. */
int peers_open(struct peers **ret, const struct peers_options *options, struct error *e);

/* No new connection comes from then on, and the requests that this device sent end; links stay, so
 * that replies to others may still be sent. */
void peers_stop(struct peers *all);

/* Ends links and channels under way without telling the owner of it. NULL is fine. */
void peers_close(struct peers *all);

/* What the time brings: heartbeats, silent peers, dialling. Called each quarter of a second. */
void peers_tick(struct peers *all, uint64_t now_ns);

/* The port that peers connect to. */
int peers_port(const struct peers *all);

#define PEER_MARK_TEXT 17

/* Names the cluster without giving anything of its key away: "" before this device has one. Two
 * clusters have different ones. */
void peers_mark(const struct peers *all, char mark[static PEER_MARK_TEXT]);

/* The device that the invitation names as the cluster's head, "" for none. */
void peers_invited_by(const struct peers *all, char id[static PEER_ID_TEXT]);

/* Tells every linked peer this device's facts again. */
void peers_tell_facts(struct peers *all);

/* Tells every linked peer who is there. */
void peers_tell_members(struct peers *all);

/* --- peers: borrowed until `forgotten` --- */

/* This device itself: always there, first in the table. */
struct peer *peers_self(const struct peers *all);
int peers_count(const struct peers *all);
struct peer *peers_at(const struct peers *all, int index);
/* NULL when it is not known. */
struct peer *peers_find(const struct peers *all, const char *id);
/* The entry with this id, new where there is none; address: where it is reached unless something
 * better is known. NULL when the table is full of linked and kept ones. */
struct peer *peers_add(struct peers *all, const char *id, const char *address);

const char *peer_id(const struct peer *p);   /* hex of its key's SHA-256 */
const char *peer_name(const struct peer *p); /* fit to be shown */
/* For people, in the caller's memory. */
const char *peer_label(const struct peer *p, char text[static PEER_LABEL]);
const char *peer_address(const struct peer *p); /* "" when unknown */
/* The address under which `to` reaches p: what is loopback for us is our own address for others. */
void peer_address_for(const struct peer *p, const struct peer *to, char text[static ADDRESS_TEXT]);
bool peer_is_self(const struct peer *p);
/* It answered where a person told this device to join: at --join's address or an invitation's. */
bool peer_was_joined(const struct peer *p);
/* Linked, or this device itself. */
bool peer_alive(const struct peer *p);
/* Dials it whenever it is not linked, never forgets it, and tells others to do the same; of this
 * device itself only the last. */
void peer_keep(struct peer *p, bool keep);

/* What the owner knows about it; NULL at first. */
void *peer_user(const struct peer *p);
void peer_set_user(struct peer *p, void *user);

/* Sends a message; body (an object with "type") is released. To this device itself: handled in the
 * next turn of the loop. To a peer that is not linked: dropped, its loss is told elsewhere. */
void peer_send(struct peer *p, json_t *body);

/* The link, for status: a new reference; NULL while it is not linked, and for this device. */
json_t *peer_link_json(const struct peer *p);

/* --- data channels --- */

/* Opens a channel to a peer, which must await it; connects the link first where there is none.
 * channel_owner.opened is called once, unless the channel is forgotten before. max_message: of its
 * largest message, the same at both ends. */
void peer_channel_open(struct peer *to, const struct channel_purpose *purpose, size_t max_message);

/* Gives up every channel under way for that subject and epoch, without a word to the owner. */
void peers_channels_forget(struct peers *all, int64_t subject, uint32_t epoch);

#endif
