/* What the parts of a running device share. A header for this layer only.
 *
 * owner of everything here: the control thread, which runs the event loop. Times and deadlines are
 * in time.now_ns of the cluster. */
#ifndef SHOAL_CLUSTER_INTERNAL_H
#define SHOAL_CLUSTER_INTERNAL_H

#include "base/buffer.h"
#include "cluster/address.h"
#include "cluster/cluster.h"
#include "cluster/message.h"
#include "cluster/models.h"
#include "cluster/part_table.h"
#include "os/clock.h"
#include "plan/split.h"
#include "stage/rank.h"
#include "stage/wire.h"

#include <stdbool.h>
#include <stdint.h>

#define DEVICE_ID_TEXT 65
#define DEVICE_NAME_TEXT 64
#define DEVICE_SHORT 8

/* A home has fewer; also bounds the members message. */
#define CLUSTER_MAX_DEVICES PLAN_MAX_RANKS
/* --model given more often than this is a mistake. */
#define CLUSTER_MAX_SERVICES 16
/* Models whose parts one device holds at once. */
#define CLUSTER_MAX_PARTS PART_TABLE_SLOTS

#define SECOND_NS 1000000000ull
/* Everything that depends on time looks at it this often; see loop_time. */
#define TICK_NS (SECOND_NS / 4)
/* A heartbeat each second; whoever is silent for longer is lost. A client is to be told within
 * five seconds. */
#define PING_NS SECOND_NS
#define SILENT_NS (4 * SECOND_NS)
/* A stranger or a half-open peer is closed after this. */
#define HANDSHAKE_NS (4500 * SECOND_NS / 1000)
/* Tickets, data connections and the last step to serving. */
#define CONNECT_NS (15 * SECOND_NS)
/* A backend that computes one segment for longer hangs. */
#define HANG_NS (60 * SECOND_NS)
/* Between two attempts to place a model, or to reach a member. */
#define RETRY_NS SECOND_NS
/* Longest wait of a rank for a neighbour within a step. */
#define STEP_TIMEOUT_NS (120 * SECOND_NS)

struct link;
struct part;
struct service;
struct stream;
struct data_channel;
struct data_door;
struct evconnlistener;
struct event;
struct guest;
struct hasher;
struct retired;
struct secure_state;
struct served;
struct statement;

/* What a rank's device last said about it. */
struct part_report {
    int64_t placement;
    uint32_t epoch;
    unsigned transports; /* of the rank's channels: see part_transports */
    struct rank_facts facts;
};

/* A device of the cluster as this one knows it. */
struct device {
    char id[DEVICE_ID_TEXT];
    char name[DEVICE_NAME_TEXT];
    char address[ADDRESS_TEXT]; /* where its peers reach it: host:port */
    char isa[32];
    uint64_t memory_total, memory_usable; /* bytes */
    int cores, threads;
    int peer_port;
    int64_t run; /* drawn at its start: a copy with the same key has another; 0 before its hello */
    bool self;
    bool head;
    struct link *link;         /* NULL while not connected, and for self */
    struct model_file *models; /* owned; paths empty for other devices; bad: it turned out to be
                                * another model than the one that was asked for */
    int n_models;
    struct part_report parts[CLUSTER_MAX_PARTS];
    int n_parts;
    uint64_t dial_at; /* when to try again; 0: not ours to dial */
};

struct local_message {
    json_t *body;
    struct local_message *next;
};

struct cluster {
    struct cluster_options options; /* texts copied */
    struct event_base *base;
    struct event *tick, *wake, *local;
    struct evconnlistener *listener;
    struct link *links; /* all, open or not */
    struct device *devices[CLUSTER_MAX_DEVICES];
    int n_devices;
    struct device *self;
    struct model_list models; /* of this device's folder */
    struct models_scan *scan; /* a look at it that is under way */
    struct hasher *hasher;
    struct statement *statements; /* what this head says of its models' bytes */
    uint64_t worked;              /* steps of this device's ranks at the last look */
    struct part *parts[CLUSTER_MAX_PARTS];
    struct part_table part_table; /* by the same slots */
    struct service *services[CLUSTER_MAX_SERVICES];
    int n_services;
    int64_t next_placement;
    struct data_channel *data; /* data connections under way */
    struct data_door *door;    /* for shared memory; NULL: TCP only */
    struct stream *streams;    /* requests that travel */
    uint32_t next_stream;
    uint64_t next_ticket;
    struct guest *guests; /* accepted connections that said nothing yet */
    struct local_message *first_local, *last_local;
    struct retired *retired; /* engines whose requests are still ending */
    struct served *served;   /* what the head told a member about its models */
    struct secure_state *secure;
    struct loop_time time; /* every deadline here is in its now_ns; turned by each tick */
    unsigned join_next;    /* which address of the invitation comes next */
    uint64_t join_at;      /* when to dial --join again; 0: not now */
    uint64_t scan_at;
    uint64_t status_at;
    json_t *head_status;      /* what the head told last; NULL at the head */
    char refusal[ERROR_TEXT]; /* last one in the log, and when: repetitions are left out */
    uint64_t refusal_ns;
    bool closing;
};

/* --- devices (device.c) --- */

struct device *device_find(struct cluster *c, const char *id);
/* A new entry, or the one that is there. NULL when the table is full. */
struct device *device_add(struct cluster *c, const char *id);
struct device *device_head(struct cluster *c);
bool device_alive(const struct device *d);
/* "name (1a2b3c4d)" in a static-size buffer of the caller. */
#define DEVICE_LABEL (DEVICE_NAME_TEXT + DEVICE_SHORT + 4)
const char *device_label(const struct device *d, char text[static DEVICE_LABEL]);
json_t *device_hello(struct cluster *c);
int device_take_hello(struct cluster *c, struct device *d, const json_t *m, struct error *e);
void device_free(struct device *d);
/* To any device, self included (then delivered in the next turn of the loop). body is released.
 * Sending to a device that is not connected does nothing: its loss is handled elsewhere. */
void device_send(struct cluster *c, struct device *d, json_t *body);
/* The address under which `to` reaches d: what is loopback for us is our own address for others. */
void device_address_for(const struct cluster *c, const struct device *d, const struct device *to,
                        char text[static ADDRESS_TEXT]);
/* Tells every connected device about all members. */
void members_broadcast(struct cluster *c);
/* The link to a device opened or ended. */
void device_joined(struct cluster *c, struct device *d);
void device_lost(struct cluster *c, struct device *d, const char *why);

/* Forgets what the head told about its models. */
void served_forget(struct cluster *c);

/* The head tells its members the cluster's status (status.c). */
void status_tick(struct cluster *c);

/* --- dispatch (dispatch.c) --- */

/* Handles one JSON message from a device. An error closes the link. */
int dispatch(struct cluster *c, struct device *from, const struct message *m, struct error *e);
void dispatch_local(struct cluster *c);

typedef int (*message_handler)(struct cluster *c, struct device *from, const json_t *m,
                               struct error *e);
int on_ping(struct cluster *c, struct device *from, const json_t *m, struct error *e);
int on_twin(struct cluster *c, struct device *from, const json_t *m, struct error *e);
int on_members(struct cluster *c, struct device *from, const json_t *m, struct error *e);
int on_status(struct cluster *c, struct device *from, const json_t *m, struct error *e);
int on_models(struct cluster *c, struct device *from, const json_t *m, struct error *e);
int on_load(struct cluster *c, struct device *from, const json_t *m, struct error *e);
int on_claim(struct cluster *c, struct device *from, const json_t *m, struct error *e);
int on_unload(struct cluster *c, struct device *from, const json_t *m, struct error *e);
int on_connect(struct cluster *c, struct device *from, const json_t *m, struct error *e);
int on_part_state(struct cluster *c, struct device *from, const json_t *m, struct error *e);
int on_ticket_request(struct cluster *c, struct device *from, const json_t *m, struct error *e);
int on_ticket(struct cluster *c, struct device *from, const json_t *m, struct error *e);
int on_request(struct cluster *c, struct device *from, const json_t *m, struct error *e);
int on_request_end(struct cluster *c, struct device *from, const json_t *m, struct error *e);
int on_reply(struct cluster *c, struct device *from, const json_t *m, struct error *e);
int on_reply_end(struct cluster *c, struct device *from, const json_t *m, struct error *e);
int on_cancel(struct cluster *c, struct device *from, const json_t *m, struct error *e);
int on_stream_data(struct cluster *c, struct device *from, uint32_t id, struct bytes data,
                   struct error *e);

#endif
